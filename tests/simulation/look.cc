#include "tests/simulation/look.h"

#include <fmt/format.h>

#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/testing/internal/backstage.h"
#include "dmm/wire.h"

namespace dmm::simulation {

namespace {

std::string text_in(const std::string& payload, const char* member) {
  const auto value = parse_json(payload);
  if (!value.ok() || !value.value().is_object()) return {};
  const auto found = value.value().find(member);
  return found != value.value().end() && found->is_string() ? found->get<std::string>() : "";
}

/// Its newest token is.
bool parked(const testing::MemoryServer& server, const Identity& identity) {
  const wire::Names names("sim");
  const auto token = server.look(names.token_subject(identity));
  const auto status = server.look(names.status_subject(key_of(identity)));
  return token && status && text_in(status->payload, "phase") == "parked" &&
         number_in(status->payload, "token") == token->sequence.value;
}

}  // namespace

std::uint64_t number_in(const std::string& payload, const char* member) {
  const auto value = parse_json(payload);
  if (!value.ok() || !value.value().is_object()) return 0;
  return value.value().value(member, std::uint64_t{0});
}

std::string differs(const testing::MemoryServer& server, const std::string& key, const Known& known,
                    bool doomed) {
  const wire::Names names("sim");
  const auto identity = parse_key(key);
  if (identity && doomed && server.look(names.token_subject(*identity))) {
    return parked(server, *identity) ? "" : fmt::format("{} cannot succeed and is not parked", key);
  }
  const auto entry = server.look(names.entry_subject(key));
  const bool there = entry && !wire::is_removed(*entry);
  // What was said last may have been stored though nobody said so.
  if (known.acknowledged == 0) return {};
  if (!there) {
    if (known.gone) return {};
    return fmt::format("{} has no entry, and {} was acknowledged", key, known.acknowledged);
  }
  const std::uint64_t news = number_in(entry->payload, "news");
  const std::uint64_t done = number_in(entry->payload, "done");
  if (known.gone && known.acknowledged == known.news) {
    return fmt::format("{} was removed by {}, and its entry is {}", key, known.news,
                       entry->payload);
  }
  if (news >= known.acknowledged && done == news) return {};
  return fmt::format("the entry of {} is {}, and {} was acknowledged", key, entry->payload,
                     known.acknowledged);
}

void check_most(std::string_view what, std::size_t count, std::size_t most,
                std::vector<Violation>& found) {
  if (count <= most) return;
  found.push_back(
      {"bounded", fmt::format("{} {} are left, at most {} were expected", count, what, most)});
}

void check_left(testing::MemoryServer& server, const Household& household,
                std::vector<Violation>& found) {
  testing::MemoryCore& core = testing::Backstage::of(server);
  const wire::Names names("sim");
  const std::size_t each = household.workers * household.types;
  const auto readers = [&](std::string_view what, const std::string& stream, std::size_t most) {
    check_most(what, core.readers(stream), most, found);
  };
  readers("readers of the work", names.work(1).name, each + 1);
  readers("readers of the cache", names.cache(1).name, 0);
  // An observer that lost its lease keeps its place in the reports, should it get it back.
  readers("readers of the reports", names.reports(1).name, household.workers);
  readers("readers of the leases", names.leases(1).name, each);
  readers("readers of the status", names.status(1).name, each + 1);
  for (const char* type : {"job", "valve"}) {
    for (const std::string& subject :
         core.subjects(names.status(1).name, names.status_filter(type))) {
      const auto status = server.look(subject);
      found.push_back({"bounded", fmt::format("a status is left: {} {}", subject,
                                              status ? status->payload : "")});
    }
  }
  const auto leases = core.state(names.leases(1).name);
  // Lanes, also of an epoch that is over and whose end was not heard, and the group of each type,
  // its seats and beats, those of the dead for a minute, and what else is leased.
  check_most(
      "messages of leases", leases ? leases->messages : 0,
      household.types * (2 * limits::lanes + 6) + household.lives * (household.types * 2 + 4) + 10,
      found);
}

}  // namespace dmm::simulation
