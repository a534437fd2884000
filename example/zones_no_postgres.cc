#include "dmm/error.h"
#include "example/zones.h"

namespace example {

std::unique_ptr<Zones> open_postgres_zones(const std::string&) {
  throw dmm::Error(dmm::code::bad_option,
                   "this program was built without dmm::postgres; use --desired kv");
}

}  // namespace example
