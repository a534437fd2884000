#include "engine/operators/join_internal.h"

namespace dmm::engine {
namespace {

class Join final : public internal::JoinBase {
 public:
  using JoinBase::JoinBase;
  std::string_view type() const noexcept override {
    return spec().left.keys.empty() ? "cartesian" : "equi_join";
  }
  OperatorPtr clone() const override { return copy_of(std::make_unique<Join>(spec())); }

 private:
  bool fold(Entry& entry, const Row& row, bool left, Emit* emit) override {
    if (emit != nullptr) {
      const Zset& others = left ? entry.right : entry.left;
      for (std::size_t i = 0; i < others.size(); ++i) {
        const Row& other = others.row(i);
        const bool ok = left ? emit_pair(*emit, row.value, other.value, row.weight, other.weight)
                             : emit_pair(*emit, other.value, row.value, row.weight, other.weight);
        if (!ok) return false;
      }
    }
    if ((left ? entry.left : entry.right).add(row.value, row.weight)) return true;
    return emit == nullptr || emit->context.overflow();
  }
};

}  // namespace

OperatorPtr make_join(JoinSpec spec) {
  return std::make_unique<Join>(std::move(spec));
}

}  // namespace dmm::engine
