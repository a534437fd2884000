#include "dmm/worker/status_store.h"

#include <catch2/catch.hpp>

#include <string>

#include "dmm/testing/wait_for.h"
#include "tests/dmm/memory_namespace.h"

namespace dmm::worker {

using namespace std::chrono_literals;
using testing::Call;
using testing::Part;

TEST_CASE("status store: an answer that comes when the lane is another's writes nothing",
          "[worker][unit]") {
  testing::MemoryNamespace space;
  Mailbox mailbox;
  bool mine = true;
  StatusStore statuses(space.streams, mailbox, [&](const std::string&) { return mine; });
  const auto pump = [&](const std::string& what, const std::function<bool()>& done) {
    testing::wait_for(what, [&] {
      mailbox.run_until(Mailbox::Clock::now() + 5ms);
      return done();
    });
  };
  const std::string subject = space.streams.names.status_subject("player.kitchen");
  internal::Status status;
  status.phase = "failing";
  // The first write is not answered, so that the second one looks first what lies there.
  space.transport->faults().refuse({.stream = Part::status, .call = Call::publish, .next = 1});
  space.status->hold(Call::last);
  statuses.put("player.kitchen", status);
  statuses.put("player.kitchen", status);
  pump("the look", [&] { return space.status->held(Call::last) == 1; });
  mine = false;
  space.status->let_go(Call::last);
  pump("the answer", [&] { return statuses.in_flight() == 0; });
  CHECK_FALSE(space.status->look(subject));
  mine = true;
  statuses.turn(Mailbox::Clock::now() + 1s);
  pump("the status", [&] { return space.status->look(subject).has_value(); });
  // Its answer finds the mailbox still there.
  pump("its answer", [&] { return statuses.in_flight() == 0; });
}

}  // namespace dmm::worker
