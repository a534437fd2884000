#include "engine/operators/operators.h"

namespace dmm::engine {

void StepContext::report(ValueRef document, std::string_view reason, Weight weight) {
  if (!shape_)
    shape_ = ShapePtr(
        Shape::make({Value::string("document"), Value::string("error"), Value::string("node")}));
  const Value members[] = {Value(document), Value::string(reason), Value::string(node)};
  errors.push_back(Row{Value::object(*shape_, members), weight});
}

}  // namespace dmm::engine
