// put, rm, notify: bring news to identities, or let them run again.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "dmm/cli/bulk.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

using namespace std::chrono_literals;

constexpr const char* kGroup = "Change";
constexpr auto kLookInterval = 100ms;
constexpr double kWaitSecondsMax = 1e6;

// Looks until the identity is settled (or gone), parked, or the time is up; says so if it is not
// settled, and returns the exit code.
int await_settled(Inspector& inspector, const Identity& identity, double seconds) {
  StopOnInterrupt interrupt;
  std::mutex mutex;
  std::condition_variable_any changed;
  const auto deadline =
      std::chrono::steady_clock::now() +
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(seconds));
  for (;;) {
    const auto matter = inspector.get(identity);
    if (!matter || matter->phase == Phase::settled) return exit_code::ok;
    const std::string why = matter->error_code.empty()
                                ? ""
                                : ": " + matter->error_code + " " + printable(matter->error);
    if (matter->phase == Phase::parked) {
      write_error(fmt::format("dmm: {} is parked{}\n", name_of(identity), why));
      return exit_code::failed;
    }
    if (interrupt.token().stop_requested()) {
      throw Interrupted("waiting was interrupted; the run follows all the same");
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      write_error(fmt::format(
          "dmm: {}: {} is still {} after {} s{}\n     See with `dmm leases` "
          "whether a worker runs; it goes on by itself.\n",
          code::timed_out.id, name_of(identity), to_string(matter->phase), seconds, why));
      return exit_code::timed_out;
    }
    std::unique_lock lock(mutex);
    changed.wait_for(lock, interrupt.token(), kLookInterval, [] { return false; });
  }
}

// What verbs that name one identity share.
struct OneOptions {
  Identity identity;
  double wait_s = 0;
};

void add_one(CLI::App* verb, OneOptions& options, bool id_required) {
  verb->add_option("type", options.identity.type, "Type")->required()->type_name("TYPE");
  CLI::Option* id = verb->add_option("id", options.identity.id, "Id, as its owner spells it");
  id->type_name("ID");
  if (id_required) id->required();
  verb->add_option("--wait", options.wait_s, "Wait until it is settled, this long at most")
      ->check(CLI::Range(0.0, kWaitSecondsMax))
      ->type_name("SECONDS");
}

int finish(Session& session, Bucket& bucket, const OneOptions& options, std::string_view done) {
  const bool waits = options.wait_s > 0;
  const int result =
      waits ? await_settled(bucket.inspect(), options.identity, options.wait_s) : exit_code::ok;
  const bool settled = waits && result == exit_code::ok;
  if (session.json()) {
    nlohmann::json document{
        {"type", options.identity.type}, {"id", options.identity.id}, {"done", done}};
    if (waits) document["settled"] = settled;
    session.show(document);
  } else {
    session.say(
        fmt::format("{}: {}{}", name_of(options.identity), done, settled ? ", settled" : ""));
  }
  return result;
}

struct PutOptions : OneOptions {
  std::optional<std::string> json;
};

int put(Session& session, const PutOptions& options) {
  check(options.identity);
  const nlohmann::json value = parse_json(session.text_argument(options.json)).value();
  require(value.is_object(), code::wrong_shape,
          fmt::format("a cache value is a JSON object, and this is of type {}", value.type_name()));
  Bucket bucket = session.open();
  bucket.notify(options.identity, value);
  return finish(session, bucket, options, "notified");
}

struct RemoveOptions : OneOptions {
  bool purge = false;
};

int remove(Session& session, const RemoveOptions& options) {
  check(options.identity);
  Bucket bucket = session.open();
  const std::string name = name_of(options.identity);
  if (!bucket.inspect().get(options.identity)) {
    throw Error(code::not_found, fmt::format("{} is not in namespace {}", name, bucket.ns()));
  }
  const bool agreed =
      session.confirm(options.purge ? fmt::format("Forget {} without tearing anything down?", name)
                                    : fmt::format("Remove {} and what it stands for?", name));
  if (!agreed) {
    session.warn("nothing was removed");
    return exit_code::failed;
  }
  if (options.purge) {
    bucket.inspect().purge(options.identity);
  } else {
    bucket.remove(options.identity);
  }
  OneOptions one = options;
  if (options.purge) one.wait_s = 0;
  return finish(session, bucket, one, options.purge ? "purged" : "removal notified");
}

struct NotifyOptions : OneOptions {
  bool parked = false;
  bool failing = false;
  bool all = false;
  bool dry_run = false;
};

std::string selection_of(const NotifyOptions& options) {
  if (options.all) return "";
  if (options.parked && options.failing) return "parked or failing ";
  return options.parked ? "parked " : "failing ";
}

// What would be done, and to which of them.
int show_only(Session& session, const NotifyOptions& options, const std::vector<Matter>& matters,
              std::string_view what) {
  if (session.json()) {
    auto ids = nlohmann::json::array();
    for (const Matter& matter : matters) ids.push_back(matter.identity.id);
    session.show({{"type", options.identity.type}, {"would_notify", std::move(ids)}});
    return exit_code::ok;
  }
  for (const Matter& matter : matters) session.out().write(name_of(matter.identity) + "\n");
  session.say(fmt::format("{}: {} {} would be notified", options.identity.type,
                          human_count(matters.size()), what));
  return exit_code::ok;
}

int notify_many(Session& session, const NotifyOptions& options) {
  check_name(options.identity.type, "type");
  Bucket bucket = session.open();
  std::vector<Matter> matters = bucket.inspect().list(options.identity.type);
  std::erase_if(matters, [&](const Matter& matter) {
    return !options.all && !(options.parked && matter.phase == Phase::parked) &&
           !(options.failing && matter.phase == Phase::failing);
  });
  const std::string what =
      fmt::format("{}{}", selection_of(options), matters.size() == 1 ? "identity" : "identities");
  if (options.dry_run) return show_only(session, options, matters, what);
  const std::string count = human_count(matters.size());
  if (!matters.empty() && !session.confirm(fmt::format("Run {} {} of type {} again?", count, what,
                                                       options.identity.type))) {
    session.warn("nothing was notified");
    return exit_code::failed;
  }
  const std::size_t failed = do_to_all(session, "notified", matters,
                                       [&](const Matter& matter) { bucket.poke(matter.identity); });
  if (session.json()) {
    session.show({{"type", options.identity.type},
                  {"notified", matters.size() - failed},
                  {"failed", failed}});
  } else {
    session.say(fmt::format("{}: {} {} notified{}", options.identity.type,
                            human_count(matters.size() - failed), what,
                            failed == 0 ? "" : fmt::format(", {} failed", human_count(failed))));
  }
  return failed == 0 ? exit_code::ok : exit_code::failed;
}

int notify(Session& session, const NotifyOptions& options, bool id_given) {
  const bool many = options.parked || options.failing || options.all;
  if (many && id_given) throw UsageError("give an id, or --parked, --failing, --all; not both");
  if (!many && !id_given) throw UsageError("give an id, or one of --parked, --failing, --all");
  if (options.dry_run && !many) throw UsageError("--dry-run goes with --parked, --failing, --all");
  if (many && options.wait_s > 0) throw UsageError("--wait goes with one id");
  if (many) return notify_many(session, options);
  check(options.identity);
  Bucket bucket = session.open();
  bucket.poke(options.identity);
  return finish(session, bucket, options, "notified");
}

}  // namespace

void add_change_commands(Program& program) {
  auto put_options = std::make_shared<PutOptions>();
  CLI::App* one = program.add_verb(
      "put", "Bring news: replace the cache of an identity and have it run", kGroup,
      {"dmm put player kitchen '{\"current_song\":\"A\"}'",
       "dmm put player kitchen - < player.json",
       "dmm put player kitchen '{}' --wait 10    a zeroed cache; wait until it has settled"},
      [put_options](Session& session) { return put(session, *put_options); });
  add_one(one, *put_options, true);
  one->add_option("json", put_options->json, "JSON object; \"-\" or nothing: standard input")
      ->type_name("JSON");

  auto remove_options = std::make_shared<RemoveOptions>();
  CLI::App* rm = program.add_verb(
      "rm", "Remove an identity: materialize tears down, then the entry goes", kGroup,
      {"dmm rm player kitchen              asks first",
       "dmm rm player kitchen --yes        does not ask",
       "dmm rm player kitchen --purge      forget entry, token and status without a run"},
      [remove_options](Session& session) { return remove(session, *remove_options); });
  add_one(rm, *remove_options, true);
  rm->add_flag("--purge", remove_options->purge, "Without a run: nothing is torn down");

  auto notify_options = std::make_shared<NotifyOptions>();
  auto id_given = std::make_shared<std::function<bool()>>();
  CLI::App* poke = program.add_verb(
      "notify", "Have identities run again, without news", kGroup,
      {"dmm notify player kitchen         run one again, now",
       "dmm notify player --parked        give all that were given up another chance",
       "dmm notify player --all --yes     run every player again"},
      [notify_options, id_given](Session& session) {
        return notify(session, *notify_options, (*id_given)());
      });
  add_one(poke, *notify_options, false);
  *id_given = [poke] { return poke->get_option("id")->count() > 0; };
  poke->add_flag("--parked", notify_options->parked, "All of the type that were given up");
  poke->add_flag("--failing", notify_options->failing, "All of the type whose last run failed");
  poke->add_flag("--all", notify_options->all, "All of the type");
  poke->add_flag("--dry-run", notify_options->dry_run, "Only show which");
}

}  // namespace dmm::cli
