#include "dmm/testing/internal/fault_book.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "dmm/error.h"

namespace dmm::testing {

namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr std::array kParts = {"any", "work", "cache", "reports", "status", "leases", "shadows"};
constexpr std::array kCalls = {"any", "publish", "last", "erase", "ask"};
constexpr std::array kKinds = {"refuse", "in_doubt", "drop", "delay", "lag", "hold", "duplicate"};

template <class Names, class Value>
std::string_view name_of(const Names& names, Value value) {
  return names.at(static_cast<std::size_t>(value));
}

/// SplitMix64: each bit of the result depends on every bit of the input.
std::uint64_t mix(std::uint64_t value) noexcept {
  value += 0x9E3779B97F4A7C15u;
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9u;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EBu;
  return value ^ (value >> 31);
}

/// FNV-1a, so that the same seed means the same with every standard library.
std::uint64_t hash_of(std::string_view text) noexcept {
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : text) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211u;
  }
  return hash;
}

template <class Value>
bool fits(Value wanted, Value given) noexcept {
  return wanted == Value::any || wanted == given;
}

/// Whether faults of a kind can strike calls of a kind.
bool strikes(FaultBook::Kind kind, Call call) noexcept {
  switch (kind) {
    case FaultBook::Kind::refuse:
    case FaultBook::Kind::drop:
      return true;
    case FaultBook::Kind::in_doubt:
      return call == Call::publish || call == Call::erase;
    case FaultBook::Kind::delay:
    case FaultBook::Kind::hold:
      return call != Call::ask;
    case FaultBook::Kind::duplicate:
      return call == Call::publish;
    case FaultBook::Kind::lag:
      return false;
  }
  return false;
}

microseconds part_of(milliseconds whole, double share) {
  return microseconds(static_cast<std::int64_t>(
      static_cast<double>(duration_cast<microseconds>(whole).count()) * share));
}

}  // namespace

Part part_of_stream(std::string_view name) noexcept {
  // DMM_<ns>_WORK, KV_dmm_<ns>, KV_dmm_<ns>_status; behind it "_g<generation>" from the second on.
  const std::string_view start = name.substr(0, name.find_last_not_of("0123456789") + 1);
  if (start.size() < name.size() && start.ends_with("_g")) name = start.substr(0, start.size() - 2);
  if (name.starts_with("KV_dmm_")) return name.ends_with("_status") ? Part::status : Part::cache;
  if (!name.starts_with("DMM_")) return Part::any;
  if (name.ends_with("_WORK")) return Part::work;
  if (name.ends_with("_REPORTS")) return Part::reports;
  if (name.ends_with("_LEASE")) return Part::leases;
  if (name.ends_with("_SHADOW")) return Part::shadows;
  return Part::any;
}

void FaultBook::add(Kind kind, Which which, milliseconds time) {
  require(which.share >= 0 && which.share <= 1, code::bad_option,
          fmt::format("the share {} of a fault is not from 0 to 1", which.share));
  const std::lock_guard lock(mutex_);
  rules_.push_back({kind, which, time, ++added_});
  if (which.share < 1 || kind == Kind::delay || kind == Kind::lag || kind == Kind::drop) announce();
}

void FaultBook::announce_seed() {
  const std::lock_guard lock(mutex_);
  announce();
}

/// Under the mutex.
void FaultBook::announce() {
  if (!std::exchange(announce_, false)) return;
  std::fprintf(stderr, "dmm::testing: faults are drawn from DMM_SEED=%llu\n",
               static_cast<unsigned long long>(seed_));
}

std::vector<FaultBook::Answer> FaultBook::clear() {
  {
    const std::lock_guard lock(mutex_);
    rules_.clear();
  }
  return let_go(Part::any, Call::any);
}

/// From 0 to below 1.
double FaultBook::toss(const Rule& rule, std::uint64_t what, std::uint64_t salt) const noexcept {
  const std::uint64_t drawn = mix(mix(mix(seed_ ^ rule.number) ^ what) ^ salt);
  return static_cast<double>(drawn >> 11) / static_cast<double>(std::uint64_t{1} << 53);
}

Verdict FaultBook::judge(Part part, Call call, std::string_view subject) {
  const std::lock_guard lock(mutex_);
  Verdict verdict;
  if (rules_.empty()) return verdict;
  const std::string kind = fmt::format("{} {}", name_of(kCalls, call), subject);
  const std::uint64_t what = mix(hash_of(kind)) + ++calls_[kind];
  bool struck = false;
  for (Rule& rule : rules_) {
    const bool decides =
        rule.kind != Kind::delay && rule.kind != Kind::hold && rule.kind != Kind::duplicate;
    if (decides && verdict.fate != Verdict::Fate::none) continue;
    if (!strikes(rule.kind, call) || !fits(rule.which.stream, part) ||
        !fits(rule.which.call, call) || rule.which.next == 0 ||
        toss(rule, what, 1) >= rule.which.share) {
      continue;
    }
    --rule.which.next;
    struck = true;
    const double chance = toss(rule, what, 2);
    switch (rule.kind) {
      case Kind::refuse:
        verdict.fate = Verdict::Fate::refused;
        break;
      case Kind::in_doubt:
        verdict.fate = Verdict::Fate::in_doubt;
        break;
      case Kind::drop:
        verdict.fate = chance < 0.5 ? Verdict::Fate::request_lost : Verdict::Fate::answer_lost;
        verdict.patience = rule.time;
        break;
      case Kind::delay:
        (chance < 0.5 ? verdict.there : verdict.back) += part_of(rule.time, toss(rule, what, 3));
        break;
      case Kind::hold:
        verdict.held = true;
        break;
      case Kind::duplicate:
        verdict.twice = true;
        break;
      case Kind::lag:
        break;
    }
  }
  if (struck) ++struck_;
  std::erase_if(rules_, [](const Rule& rule) { return rule.which.next == 0; });
  return verdict;
}

microseconds FaultBook::lag_of(Part part, const transport::Message& message) {
  const std::lock_guard lock(mutex_);
  microseconds lag{0};
  for (const Rule& rule : rules_) {
    if (rule.kind != Kind::lag || !fits(rule.which.stream, part)) continue;
    lag += part_of(rule.time, toss(rule, hash_of(message.subject) + message.sequence.value, 4));
  }
  return lag;
}

void FaultBook::keep(Part part, Call call, Answer answer) {
  const std::lock_guard lock(mutex_);
  held_.push_back({part, call, std::move(answer)});
}

std::vector<FaultBook::Answer> FaultBook::let_go(Part part, Call call) {
  const std::lock_guard lock(mutex_);
  std::erase_if(rules_, [&](const Rule& rule) {
    return rule.kind == Kind::hold && fits(part, rule.which.stream) && fits(call, rule.which.call);
  });
  std::vector<Answer> answers;
  std::erase_if(held_, [&](Held& held) {
    if (!fits(part, held.part) || !fits(call, held.call)) return false;
    answers.push_back(std::move(held.answer));
    return true;
  });
  return answers;
}

std::size_t FaultBook::held(Part part, Call call) const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::ranges::count_if(
      held_, [&](const Held& held) { return fits(part, held.part) && fits(call, held.call); }));
}

std::uint64_t FaultBook::struck() const {
  const std::lock_guard lock(mutex_);
  return struck_;
}

std::string FaultBook::to_string() const {
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const Rule& rule : rules_) {
    text += fmt::format("{} {} {} {:.3g} %; ", name_of(kKinds, rule.kind),
                        name_of(kParts, rule.which.stream), name_of(kCalls, rule.which.call),
                        rule.which.share * 100);
  }
  return text + fmt::format("seed {}", seed_);
}

}  // namespace dmm::testing
