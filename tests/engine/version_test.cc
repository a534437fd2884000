#include "engine/version.h"

#include <catch2/catch.hpp>

TEST_CASE("version: the engine says the version that the build was given", "[engine][unit]") {
  CHECK_FALSE(dmm::engine::version().empty());
}
