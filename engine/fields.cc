#include "engine/fields.h"

namespace dmm::engine {

void Fields::add(const std::vector<std::string>& path) {
  memo_.plan.reset();
  Fields* at = this;
  for (const std::string& name : path) {
    if (at->whole_) return;
    at = &at->members_.try_emplace(name, Fields(false)).first->second;
  }
  at->whole_ = true;
  at->members_.clear();
}

void Fields::add(const Fields& other) {
  memo_.plan.reset();
  if (whole_) return;
  if (other.whole_) {
    whole_ = true;
    members_.clear();
    return;
  }
  for (const auto& [name, below] : other.members_)
    members_.try_emplace(name, Fields(false)).first->second.add(below);
}

const Fields* Fields::member(std::string_view name) const {
  if (whole_) return this;
  const auto it = members_.find(name);
  return it == members_.end() ? nullptr : &it->second;
}

void Fields::append_paths(const std::string& prefix, std::string& out) const {
  if (whole_) {
    if (!out.empty()) out += ", ";
    out += prefix.empty() ? "*" : prefix;
    return;
  }
  for (const auto& [name, below] : members_)
    below.append_paths(prefix.empty() ? name : prefix + "." + name, out);
}

std::string Fields::text() const {
  std::string out;
  append_paths("", out);
  return out;
}

Value Fields::pick(ValueRef document) const {
  if (whole_ || document.kind != Kind::object) return Value(document);
  if (!memo_.plan || memo_.plan->from.get() != &document.shape()) {
    auto plan = std::make_shared<Plan>();
    plan->from = ShapePtr::share(document.shape());
    std::vector<Value> keys;
    for (std::size_t i = 0, n = document.size(); i < n; ++i) {
      const Fields* below = member(document.key(i));
      if (below == nullptr) continue;
      keys.push_back(document.shape().keys()[i]);
      plan->kept.emplace_back(i, below);
    }
    const bool all = keys.size() == document.size();
    plan->everything = all;
    for (const auto& [index, below] : plan->kept)
      plan->everything = plan->everything && below->whole_;
    plan->to = all ? plan->from : ShapePtr(Shape::make(std::move(keys)));
    memo_.plan = std::move(plan);
  }
  if (memo_.plan->everything) return Value(document);
  const std::shared_ptr<Plan> plan = memo_.plan;
  return Value::object_of(*plan->to, [&](std::size_t i) {
    const auto& [index, below] = plan->kept[i];
    return below->pick(document.at(index));
  });
}

}  // namespace dmm::engine
