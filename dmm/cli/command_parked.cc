// parked: what was given up or refused, and what becomes of it.

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "dmm/cli/bulk.h"
#include "dmm/cli/documents.h"
#include "dmm/cli/error_pattern.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/cli/selection.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr const char* kGroup = "Look";

// Which of what is parked is meant; nothing given: all of it.
struct ParkedOptions {
  std::string type;
  std::string id;
  std::string code;
  std::string error;
  double older_than_s = 0;
  bool refused = false;
  bool dry_run = false;
};

class Filter {
 public:
  explicit Filter(const ParkedOptions& selection) : selection_(selection), error_(selection.error) {
    if (!selection.type.empty()) check_name(selection.type, "type");
  }

  bool takes(const Matter& matter) const {
    return matter.phase == Phase::parked &&
           (selection_.id.empty() || matter.identity.id == selection_.id) &&
           takes(matter.error_code, matter.error, matter.failed_at);
  }
  bool takes(const Refused& refused) const {
    return selection_.id.empty() &&
           (selection_.type.empty() || name_in(refused) == selection_.type) &&
           takes(refused.error_code, refused.error, refused.at);
  }

 private:
  bool takes(const std::string& error_code, const std::string& error,
             const std::optional<Time>& at) const {
    const std::chrono::duration<double> age(selection_.older_than_s);
    return (selection_.code.empty() || selection_.code == error_code) &&
           (selection_.older_than_s == 0 || (at && std::chrono::system_clock::now() - *at > age)) &&
           error_.matches(error);
  }

  const ParkedOptions& selection_;
  const ErrorPattern error_;
};

struct Parked {
  std::vector<Matter> matters;
  std::vector<Refused> refused;
};

Parked find(Bucket& bucket, const ParkedOptions& selection) {
  const Filter filter(selection);
  Parked parked{bucket.inspect().list(selection.type), bucket.inspect().refused()};
  std::erase_if(parked.matters, [&](const Matter& matter) { return !filter.takes(matter); });
  std::erase_if(parked.refused, [&](const Refused& refused) { return !filter.takes(refused); });
  return parked;
}

void show(Session& session, const Parked& parked) {
  if (session.json()) {
    nlohmann::json document{{"identities", nlohmann::json::array()},
                            {"refused", nlohmann::json::array()}};
    for (const Matter& matter : parked.matters) {
      document["identities"].push_back(document_of(matter, false));
    }
    for (const Refused& one : parked.refused) document["refused"].push_back(document_of(one));
    session.show(document);
    return;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "WHAT"},
               {.title = "WHO", .flexible = true},
               {.title = "SINCE"},
               {.title = "CODE"},
               {.title = "REASON", .flexible = true}});
  for (const Matter& matter : parked.matters) {
    table.add({{"identity", Color::red},
               {name_of(matter.identity)},
               {human_age(matter.failed_at, now)},
               {matter.error_code},
               {matter.error}});
  }
  for (const Refused& one : parked.refused) {
    table.add({{one.what, Color::yellow},
               {one.subject},
               {human_age(one.at, now)},
               {one.error_code},
               {one.error}});
  }
  session.out().write(table.render(session.terminal()));
}

int list(Session& session, const ParkedOptions& selection) {
  Bucket bucket = session.open();
  const Parked parked = find(bucket, selection);
  if (!session.json() && parked.matters.empty() && parked.refused.empty()) {
    if (session.terminal().interactive) session.say("nothing is parked");
    return exit_code::ok;
  }
  show(session, parked);
  if (session.terminal().interactive && !session.json() && !parked.matters.empty()) {
    session.say("");
    session.say("Mend the cause, then `dmm parked retry`, with a type or --error to choose some.");
  }
  return exit_code::ok;
}

// Asks, then does `one` or `other` to each, which say whether it was there. what: "Retry", done:
// "notified".
int do_to_parked(Session& session, const ParkedOptions& selection, Parked parked,
                 const std::string& what, const std::string& done,
                 const std::function<bool(const Matter&)>& one,
                 const std::function<bool(const Refused&)>& other) {
  if (selection.dry_run) {
    show(session, parked);
    return exit_code::ok;
  }
  const std::size_t count = parked.matters.size() + parked.refused.size();
  if (count > 0 && !session.confirm(fmt::format("{} {}?", what,
                                                counted(count, "parked item", "parked items")))) {
    session.warn(fmt::format("nothing was {}", done));
    return exit_code::failed;
  }
  std::size_t failed = do_to_all(session, done, parked.matters, [&](const Matter& matter) {
    if (!one(matter)) throw Error(code::not_found, "it is not parked any more");
  });
  for (const Refused& refused : parked.refused) {
    try {
      if (other(refused)) continue;
      session.warn(fmt::format("{} is not there any more", printable(refused.subject, 300)));
      ++failed;
    } catch (const Error& error) {
      if (error.kind() == Kind::retry) throw;
      complain(error, printable(refused.subject, 300));
      ++failed;
    }
  }
  if (session.json()) {
    session.show({{done, count - failed}, {"failed", failed}});
  } else {
    session.say(fmt::format("{} {}{}", human_count(count - failed), done,
                            failed == 0 ? "" : fmt::format(", {} failed", human_count(failed))));
  }
  return failed == 0 ? exit_code::ok : exit_code::failed;
}

int retry(Session& session, const ParkedOptions& selection) {
  Bucket bucket = session.open();
  Parked parked = find(bucket, selection);
  parked.refused.clear();  // what cannot be read once cannot be read twice
  return do_to_parked(session, selection, std::move(parked), "Retry", "notified",
                      [&](const Matter& matter) {
                        bucket.poke(matter.identity);
                        return true;
                      },
                      {});
}

int drop(Session& session, const ParkedOptions& selection) {
  Bucket bucket = session.open();
  Parked parked = find(bucket, selection);
  if (selection.refused) {
    parked.matters.clear();
    std::erase_if(parked.refused, [](const Refused& one) { return one.what == "view"; });
  } else {
    parked.refused.clear();
  }
  return do_to_parked(
      session, selection, std::move(parked), "Give up for good", "dropped",
      [&](const Matter& matter) { return bucket.inspect().drop(matter.identity); },
      [&](const Refused& refused) { return bucket.inspect().drop(refused); });
}

std::string describe(const Matter& matter, const Terminal& terminal) {
  const Time now = std::chrono::system_clock::now();
  std::string text = terminal.paint(name_of(matter.identity), Color::bold) + "\n";
  const auto line = [&](std::string_view name, std::string_view what) {
    if (what.empty()) return;
    const std::string all = fmt::format("{:<10} {}", name, printable(what, 4'000));
    text += wrap(all, terminal.width, 11) + "\n";
  };
  line("parked", human_age(matter.failed_at, now));
  line("code", matter.error_code);
  line("reason", matter.error);
  if (const Code* known = find_code(matter.error_code)) line("remedy", known->remedy);
  line("attempts", std::to_string(matter.attempts));
  if (matter.crashes > 0) line("crashes", std::to_string(matter.crashes));
  line(matter.deleted ? "removal" : "news",
       fmt::format("token {}, {}: {}", matter.token.value, human_age(matter.notified_at, now),
                   !matter.news           ? "gone"
                   : matter.news->empty() ? "a poke, which carries nothing"
                                          : *matter.news));
  line("entry", matter.stored ? fmt::format("revision {}, {}: {}", matter.revision.value,
                                            human_age(matter.stored_at, now), *matter.stored)
                              : "none: no run has succeeded");
  line("view", matter.view);
  line("damage", matter.damage);
  return text;
}

int show_one(Session& session, const Identity& identity) {
  check(identity);
  Bucket bucket = session.open();
  const auto matter = bucket.inspect().get(identity);
  if (!matter || matter->phase != Phase::parked) {
    throw Error(code::not_found, fmt::format("{} is not parked", name_of(identity)));
  }
  if (session.json()) {
    session.show(document_of(*matter, true));
    return exit_code::ok;
  }
  session.out().write(describe(*matter, session.terminal()));
  Table failures({{.title = "FAILED"},
                  {.title = "TOKEN"},
                  {.title = "ATTEMPT"},
                  {.title = "CODE"},
                  {.title = "ERROR", .flexible = true}});
  const Time now = std::chrono::system_clock::now();
  for (const Failure& one : matter->failures) {
    failures.add({{human_age(one.at, now)},
                  {std::to_string(one.token.value)},
                  {std::to_string(one.attempt)},
                  {one.error_code},
                  {one.error}});
  }
  if (!matter->failures.empty()) session.out().write(failures.render(session.terminal()));
  return exit_code::ok;
}

struct Watching {
  std::string type;
  std::uint64_t count = 0;
};

// One line: time, what, who, code, reason.
std::string line_of(const Change& change, const Terminal& terminal) {
  const nlohmann::json document = document_of(change);
  const nlohmann::json& said = document["value"];
  const auto text = [&](const char* member) {
    const bool there = said.is_object() && said.contains(member) && said[member].is_string();
    return there ? said[member].get<std::string>() : std::string();
  };
  const std::string who = change.what == "refused"
                              ? text("subject")
                              : fmt::format("{}/{}", document["type"].get<std::string>(),
                                            document["id"].get<std::string>());
  std::string line =
      fmt::format("{} {:<8} ", clock_time(change.at), change.what) +
      printable(fmt::format("{} {} {}", who, text("error_code"), text("error")), 4'000);
  if (terminal.width != 0) line = clip(line, terminal.width, terminal.unicode);
  return terminal.paint(line, change.what == "parked" ? Color::red : Color::yellow) + "\n";
}

int watch(Session& session, const Watching& options) {
  if (!options.type.empty()) check_name(options.type, "type");
  Bucket bucket = session.open();
  StopOnInterrupt interrupt;
  std::uint64_t seen = 0;
  if (session.error_terminal().interactive) {
    session.warn(fmt::format("watching namespace {}; end with Ctrl-C", bucket.ns()));
  }
  bucket.inspect().watch_parked(options.type, interrupt.token(), [&](const Change& change) {
    if (options.count != 0 && seen >= options.count) return;
    if (session.json()) {
      session.out().write(document_of(change), false);
    } else {
      session.out().write(line_of(change, session.terminal()));
    }
    session.out().flush();
    if (++seen == options.count) interrupt.stop();
  });
  return interrupt.interrupted() ? exit_code::interrupted : exit_code::ok;
}

void add_selection(CLI::App* verb, const std::shared_ptr<ParkedOptions>& selection, bool acts) {
  verb->add_option("type", selection->type, "Only this type")->type_name("TYPE");
  verb->add_option("id", selection->id, "Only this one")->type_name("ID");
  verb->add_option("--code", selection->code, "Only with this code")->type_name("DMM-0303");
  verb->add_option("--error", selection->error, "Only with a reason like this, in any case")
      ->type_name("REGEX");
  add_older_than(*verb, selection->older_than_s);
  if (acts) verb->add_flag("--dry-run", selection->dry_run, "Only show which");
}

}  // namespace

void add_parked_commands(Program& program) {
  auto selection = std::make_shared<ParkedOptions>();
  CLI::App* family = program.add_family(
      "parked", "What was given up or refused, why, and what becomes of it", kGroup,
      {"dmm parked                              identities, reports and tokens, with reasons",
       "dmm parked -o json | jq .refused",
       "dmm parked ls player --error 'timed? out' --older-than 1h",
       "dmm parked show player kitchen          reason, news, entry, and the last failures",
       "dmm parked retry player --yes           after the cause is mended"});
  program.set_default(*family, [selection](Session& session) { return list(session, *selection); });
  add_selection(
      program.add_verb_to(*family, "ls", "List them", {"dmm parked ls player --code DMM-0303"},
                          [selection](Session& session) { return list(session, *selection); }),
      selection, false);
  auto identity = std::make_shared<Identity>();
  CLI::App* one = program.add_verb_to(
      *family, "show", "Show one parked identity: reason, news, entry, last failures",
      {"dmm parked show player kitchen"},
      [identity](Session& session) { return show_one(session, *identity); });
  one->add_option("type", identity->type, "Type")->required()->type_name("TYPE");
  one->add_option("id", identity->id, "Id, as its owner spells it")->required()->type_name("ID");
  auto watching = std::make_shared<Watching>();
  CLI::App* events = program.add_verb_to(
      *family, "watch", "Tell what is parked or refused as it happens, until Ctrl-C",
      {"dmm parked watch", "dmm parked watch player -o json | jq -c .value"},
      [watching](Session& session) { return watch(session, *watching); });
  events->add_option("type", watching->type, "Only identities of this type")->type_name("TYPE");
  events->add_option("--count", watching->count, "End after so many")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
      ->type_name("N");
  add_selection(
      program.add_verb_to(*family, "retry", "Run parked identities again",
                          {"dmm parked retry player --error refused --dry-run    which ones",
                           "dmm parked retry player kitchen"},
                          [selection](Session& session) { return retry(session, *selection); }),
      selection, true);
  CLI::App* let_go = program.add_verb_to(
      *family, "drop", "Give up the news of parked identities: their last success stays",
      {"dmm parked drop player --older-than 86400 --dry-run",
       "dmm parked drop --refused               what could not be read"},
      [selection](Session& session) { return drop(session, *selection); });
  add_selection(let_go, selection, true);
  let_go->add_flag("--refused", selection->refused, "Reports and tokens that could not be read");
}

}  // namespace dmm::cli
