// Uses an installed dmm as a stranger would. Exits with 0 only if the library behaves.

#include <cstdio>
#include <string>

#include "dmm/bucket.h"
#ifdef WITH_POSTGRES
#include "dmm/postgres/migrations.h"
#include "dmm/postgres/table.h"
#endif
#ifdef WITH_RESOURCE
#include "dmm/resource/host.h"
#include "dmm/resource/migrations.h"
#endif
#ifdef WITH_SERVICE
#include "dmm/service/service.h"
#endif
#ifdef WITH_ENGINE_AND_TESTING
#include "dmm/testing/free_port.h"
#include "dmm/testing/world.h"
#include "engine/version.h"
#endif

namespace {

struct Lamp {
  std::string id;
  bool on = false;

  std::string identity() const { return id; }
  void materialize(dmm::Context&) { on = true; }
  NLOHMANN_DEFINE_TYPE_INTRUSIVE_WITH_DEFAULT(Lamp, id, on)
};
static_assert(dmm::Materializer<Lamp>);

int fail(const char* what) {
  std::fprintf(stderr, "consumer: %s\n", what);
  return 1;
}

}  // namespace

int main() {
  if (dmm::key_of({"lamp", "a.b"}) != "lamp.a=2Eb") return fail("key_of spells an id wrongly");
  try {
    dmm::Bucket::open("no such namespace");
    return fail("a namespace with spaces was accepted");
  } catch (const dmm::Error& error) {
    if (error.code().id != "DMM-0403") return fail(error.what());
  }
#ifdef WITH_SERVICE
  char name[] = "consumer";
  char flag[] = "--version";
  char* arguments[] = {name, flag, nullptr};
  const auto setup = [](dmm::Bucket&, const dmm::ServiceConfig&) {};
  if (dmm::Service("consumer").run(2, arguments, setup) != 0) return fail("a service has no version");
#endif
#ifdef WITH_POSTGRES
  if (dmm::postgres::migrations().empty()) return fail("the outbox has no migrations");
  try {
    dmm::postgres::table({.connection = "host=nowhere"});
    return fail("a table without a name was accepted");
  } catch (const dmm::Error& error) {
    if (error.code().id != "DMM-0404") return fail(error.what());
  }
#endif
#ifdef WITH_RESOURCE
  if (dmm::resource::migration_script().empty()) return fail("resources have no migrations");
  try {
    dmm::resource::Client("no = connection =");
    return fail("a connection string that makes no sense was accepted");
  } catch (const dmm::Error& error) {
    if (error.code().id != "DMM-0404") return fail(error.what());
  }
#endif
#ifdef WITH_ENGINE_AND_TESTING
  if (dmm::engine::version().empty()) return fail("the engine has no version");
  if (dmm::testing::free_port() == 0) return fail("no free port");
  dmm::testing::World world({.seed = 1});
  world.bucket().register_type<Lamp>("lamp", dmm::testing::quick());
  world.faults().in_doubt({.share = 0.1});
  world.work();
  world.outside().notify({"lamp", "hall"}, {{"id", "hall"}});
  if (!world.settle().empty()) return fail("a lamp was parked");
  if (world.outside().matter({"lamp", "hall"})["on"] != true) return fail("the lamp is off");
#endif
  std::puts("consumer: works");
  return 0;
}
