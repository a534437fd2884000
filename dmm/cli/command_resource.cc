// resource: look at resources of a database, and act on them.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/cli/table.h"
#include "dmm/json.h"
#include "dmm/resource/client.h"
#include "dmm/resource/events.h"
#include "dmm/resource/migrations.h"

namespace dmm::cli {

namespace {

using resource::AnyResource;
using resource::Client;
using resource::Key;
using resource::State;

struct ResourceOptions {
  std::string connection;
  std::string kind;
  std::string id;
  std::string tenant;
  std::vector<std::string> states;
  std::vector<std::string> tags;
  std::string prefix;
  bool missing = false;
  std::size_t limit = 100;
  std::string after;
  std::string action;
  std::optional<int> to;
  std::string event;
  std::uint64_t since = 0;
  bool follow = false;
  bool full = false;
  bool accept_missing = false;
  bool process_existing = false;
  std::vector<std::string> labels;
  std::size_t list_limit = 0;
  std::string reason;
  bool all = false;
};

nlohmann::json time_of(const std::optional<Time>& time) {
  return time ? nlohmann::json(rfc3339(*time)) : nlohmann::json();
}

nlohmann::json document_of(const AnyResource& found) {
  nlohmann::json errors = nlohmann::json::array();
  for (const auto& error : found.errors) {
    errors.push_back({{"at", error.at},
                      {"attempt", error.attempt},
                      {"error", error.error},
                      {"trace", error.trace}});
  }
  return {{"namespace", found.key.ns},
          {"kind", found.key.kind},
          {"id", found.key.id},
          {"number", found.number},
          {"generation", found.generation},
          {"state", to_string(found.state)},
          {"object", found.content},
          {"attempt", found.attempt},
          {"tries", found.tries},
          {"max_attempts", found.max_attempts},
          {"metadata", found.metadata},
          {"tags", found.tags},
          {"errors", errors},
          {"created_at", rfc3339(found.created_at)},
          {"external_created_at", time_of(found.external_created_at)},
          {"state_at", time_of(found.state_at)},
          {"attempted_at", time_of(found.attempted_at)},
          {"synced_at", time_of(found.synced_at)},
          {"retry_at", time_of(found.retry_at)},
          {"missing_since", time_of(found.missing_since)}};
}

nlohmann::json document_of(const resource::Event& event) {
  return {{"event", event.name},
          {"namespace", event.key.ns},
          {"kind", event.key.kind},
          {"id", event.key.id},
          {"event_id", event.id},
          {"generation", event.generation},
          {"attempt", event.attempt},
          {"state", event.state},
          {"reason", event.reason},
          {"at", rfc3339(event.at)},
          {"position", event.position.value}};
}

Color color_of(State state) {
  switch (state) {
    case State::synced:
      return Color::green;
    case State::failing:
      return Color::yellow;
    case State::degraded:
      return Color::red;
    default:
      return Color::none;
  }
}

std::optional<std::string> given(const std::string& text) {
  return text.empty() ? std::nullopt : std::optional(text);
}

resource::Filter filter_of(const ResourceOptions& options) {
  resource::Filter filter;
  filter.ns = given(options.tenant);
  filter.kind = given(options.kind);
  filter.prefix = given(options.prefix);
  filter.tags = options.tags;
  filter.missing = options.missing;
  for (const std::string& name : options.states) {
    const auto state = resource::parse_state(name);
    if (!state) {
      throw UsageError(
          fmt::format("\"{}\" is no state: scheduled, running, synced, expired, "
                      "failing, degraded, deleted",
                      printable(name, 50)));
    }
    filter.states.push_back(*state);
  }
  return filter;
}

Key key_of(const ResourceOptions& options) {
  return {options.kind, options.id,
          options.tenant.empty() ? resource::kDefaultNamespace : options.tenant};
}

std::string shown(const Key& key) {
  return fmt::format("{} {}{}", key.kind, printable(key.id),
                     key.ns == resource::kDefaultNamespace ? "" : " of " + key.ns);
}

int list(Session& session, const ResourceOptions& options) {
  Client client(options.connection);
  const resource::Page page = client.list(filter_of(options), options.after, options.limit);
  if (session.json()) {
    nlohmann::json documents = nlohmann::json::array();
    for (const AnyResource& found : page.resources) documents.push_back(document_of(found));
    session.show({{"resources", documents}, {"next", page.next}});
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  Table table({{.title = "NAMESPACE"},
               {.title = "KIND"},
               {.title = "ID", .flexible = true},
               {.title = "STATE"},
               {.title = "SINCE"},
               {.title = "ATTEMPT", .number = true},
               {.title = "LAST ERROR", .flexible = true}});
  for (const AnyResource& found : page.resources) {
    const bool unwell = found.state == State::failing || found.state == State::degraded ||
                        found.state == State::deleted;
    table.add({{found.key.ns},
               {found.key.kind},
               {found.key.id},
               {std::string(to_string(found.state)) + (found.missing() ? " (missing)" : ""),
                color_of(found.state)},
               {human_age(found.state_at, now)},
               {human_count(static_cast<std::uint64_t>(found.attempt))},
               {unwell && !found.errors.empty() ? found.errors.back().error : ""}});
  }
  if (!table.empty()) session.out().write(table.render(session.terminal()));
  if (!page.next.empty()) {
    session.say(fmt::format("more: --after '{}'", page.next));
  } else if (page.resources.empty() && session.terminal().interactive) {
    session.say("no resources");
  }
  return exit_code::ok;
}

int get(Session& session, const ResourceOptions& options) {
  Client client(options.connection);
  const auto found = client.get(key_of(options));
  if (!found) {
    throw Error(code::resource_missing, fmt::format("there is no {}", shown(key_of(options))));
  }
  if (session.json()) {
    session.show(document_of(*found));
    return exit_code::ok;
  }
  const Time now = std::chrono::system_clock::now();
  session.say(fmt::format("{}: {} since {}, generation {}, attempt {}{}", shown(found->key),
                          to_string(found->state), human_age(found->state_at, now),
                          found->generation, found->attempt,
                          found->missing() ? ", missing in the last full list" : ""));
  if (found->retry_at) session.say("tried again " + human_age(found->retry_at, now));
  if (!found->tags.empty()) session.say(fmt::format("tags: {}", fmt::join(found->tags, ", ")));
  if (!found->metadata.empty()) session.say("metadata: " + printable(found->metadata.dump()));
  session.out().write(found->content, true);
  for (const auto& error : found->errors) {
    session.say(fmt::format("{} attempt {} of {}: {}", error.at, error.attempt, found->max_attempts,
                            printable(error.error)));
    if (!error.trace.empty()) session.say("  " + printable(error.trace));
  }
  return exit_code::ok;
}

int retry(Session& session, const ResourceOptions& options) {
  Client client(options.connection);
  if (options.all) {
    if (!options.id.empty()) throw UsageError("either an id or --all");
    const std::size_t count = client.retry_all(filter_of(options));
    if (session.json()) session.show({{"retried", count}});
    session.say(counted(count, "resource is tried again", "resources are tried again"));
    return exit_code::ok;
  }
  if (options.id.empty()) throw UsageError("an id, or --all for every failing and degraded one");
  client.retry(key_of(options));
  if (session.json()) session.show({{"retried", 1}});
  session.say(shown(key_of(options)) + " is tried again");
  return exit_code::ok;
}

int invalidate(Session& session, const ResourceOptions& options) {
  Client(options.connection).invalidate(key_of(options));
  if (session.json()) session.show({{"invalidated", 1}});
  session.say(shown(key_of(options)) + " is worked again");
  return exit_code::ok;
}

int forget(Session& session, const ResourceOptions& options) {
  const Key key = key_of(options);
  if (!session.confirm(fmt::format("Forget {} and all that is known of it?", shown(key)))) {
    return exit_code::failed;
  }
  const bool was = Client(options.connection).forget(key);
  if (session.json()) session.show({{"forgotten", was}});
  session.say(was ? shown(key) + " is forgotten" : "there was no " + shown(key));
  return was ? exit_code::ok : exit_code::not_found;
}

int kinds(Session& session, const ResourceOptions& options) {
  const auto kinds = Client(options.connection).kinds();
  constexpr State kShown[] = {State::scheduled, State::running,  State::synced, State::expired,
                              State::failing,   State::degraded, State::deleted};
  nlohmann::json documents = nlohmann::json::array();
  Table table({{.title = "KIND"},
               {.title = "WAITING", .number = true},
               {.title = "RUNNING", .number = true},
               {.title = "SYNCED", .number = true},
               {.title = "FAILING", .number = true},
               {.title = "DEGRADED", .number = true},
               {.title = "DELETED", .number = true},
               {.title = "PAUSED", .flexible = true}});
  for (const auto& kind : kinds) {
    nlohmann::json counts;
    for (const State state : kShown) {
      const auto found = kind.counts.find(state);
      counts[std::string(to_string(state))] = found == kind.counts.end() ? 0 : found->second;
    }
    documents.push_back({{"kind", kind.name},
                         {"counts", counts},
                         {"paused_at", time_of(kind.paused_at)},
                         {"paused_because", kind.paused_because}});
    const auto count = [&](std::string_view state) {
      return counts[std::string(state)].get<std::uint64_t>();
    };
    table.add({{kind.name},
               {human_count(count("scheduled") + count("expired"))},
               {human_count(count("running"))},
               {human_count(count("synced"))},
               {human_count(count("failing"))},
               {human_count(count("degraded")), count("degraded") > 0 ? Color::red : Color::none},
               {human_count(count("deleted"))},
               {kind.paused_at ? "paused " + kind.paused_because : "", Color::yellow}});
  }
  if (session.json()) {
    session.show(documents);
  } else if (!table.empty()) {
    session.out().write(table.render(session.terminal()));
  }
  return exit_code::ok;
}

nlohmann::json document_of(const resource::InformInfo& run) {
  return {{"id", run.id},
          {"kind", run.kind},
          {"origin", run.origin},
          {"requested_at", rfc3339(run.requested_at)},
          {"next_try_at", rfc3339(run.next_try_at)},
          {"tries", run.tries},
          {"error", run.error},
          {"running", run.running},
          {"checkpoint", run.checkpoint},
          {"counts", run.counts}};
}

int informers(Session& session, const ResourceOptions& options) {
  Client client(options.connection);
  const Time now = std::chrono::system_clock::now();
  nlohmann::json documents{{"informers", nlohmann::json::array()},
                           {"runs", nlohmann::json::array()}};
  Table table({{.title = "KIND"},
               {.title = "SCHEDULE", .flexible = true},
               {.title = "NEXT"},
               {.title = "FULL LIST", .flexible = true},
               {.title = "NEXT"},
               {.title = "CURSOR"},
               {.title = "LAST RUN", .flexible = true}});
  for (const auto& kind : client.kinds()) {
    if (!kind.informs) continue;
    documents["informers"].push_back({{"kind", kind.name},
                                      {"schedule", kind.schedule},
                                      {"next_inform_at", time_of(kind.next_inform_at)},
                                      {"full_schedule", kind.full_schedule},
                                      {"next_full_at", time_of(kind.next_full_at)},
                                      {"cursor", time_of(kind.cursor)},
                                      {"last_run", kind.last_run}});
    table.add({{kind.name},
               {kind.schedule},
               {human_age(kind.next_inform_at, now)},
               {kind.full_schedule},
               {human_age(kind.next_full_at, now)},
               {human_age(kind.cursor, now)},
               {kind.last_run.is_null() ? "" : kind.last_run.dump()}});
  }
  Table runs({{.title = "RUN", .number = true},
              {.title = "KIND"},
              {.title = "ORIGIN"},
              {.title = "STATE"},
              {.title = "TRY", .number = true},
              {.title = "ERROR", .flexible = true}});
  for (const auto& run : client.informs()) {
    documents["runs"].push_back(document_of(run));
    runs.add({{std::to_string(run.id)},
              {run.kind},
              {run.origin},
              {run.running ? "running" : "due " + human_age(run.next_try_at, now)},
              {std::to_string(run.tries)},
              {run.error, Color::red}});
  }
  if (session.json()) {
    session.show(documents);
    return exit_code::ok;
  }
  if (!table.empty()) session.out().write(table.render(session.terminal()));
  if (!runs.empty()) session.out().write(runs.render(session.terminal()));
  return exit_code::ok;
}

int inform(Session& session, const ResourceOptions& options) {
  resource::InformRequest request;
  request.full = options.full;
  request.accept_missing = options.accept_missing;
  request.process_existing = options.process_existing;
  request.limit = options.list_limit;
  for (const std::string& label : options.labels) {
    const auto equals = label.find('=');
    if (equals == std::string::npos) throw UsageError("a label is NAME=VALUE");
    request.labels[label.substr(0, equals)] = label.substr(equals + 1);
  }
  const std::int64_t id = Client(options.connection).schedule_inform(options.kind, request);
  if (session.json()) session.show({{"run", id}});
  session.say(fmt::format("run {} of the informer of {} is asked for", id, options.kind));
  return exit_code::ok;
}

int pause(Session& session, const ResourceOptions& options) {
  Client(options.connection).pause(options.kind, options.reason);
  if (session.json()) session.show({{"paused", options.kind}});
  session.say("no work of kind " + options.kind + " begins until it is resumed");
  return exit_code::ok;
}

int resume(Session& session, const ResourceOptions& options) {
  const bool was = Client(options.connection).resume(options.kind);
  if (session.json()) session.show({{"resumed", options.kind}, {"was_paused", was}});
  session.say(was ? "kind " + options.kind + " is worked again"
                  : "kind " + options.kind + " was not paused");
  return exit_code::ok;
}

void show_event(Session& session, const resource::Event& event) {
  if (session.json()) {
    session.out().write(document_of(event), false);
  } else {
    session.out().write(fmt::format("{} {:<9} {}{}{}\n", clock_time(event.at), event.name,
                                    shown(event.key), event.reason.empty() ? "" : ": ",
                                    printable(event.reason)));
  }
}

int events(Session& session, const ResourceOptions& options) {
  Bucket bucket = session.open();
  resource::Events events(bucket);
  const resource::EventFilter filter{given(options.kind), given(options.event),
                                     given(options.tenant)};
  const Sequence since{options.since};
  if (!options.follow) {
    for (const auto& event : events.read(filter, since, options.limit)) show_event(session, event);
    return exit_code::ok;
  }
  StopOnInterrupt interrupt;
  events.follow(filter, since, interrupt.token(), [&](const resource::Event& event) {
    show_event(session, event);
    session.out().flush();
  });
  return interrupt.interrupted() ? exit_code::interrupted : exit_code::ok;
}

int migrate(Session& session, const ResourceOptions& options) {
  if (options.action == "print") {
    session.out().write(resource::migration_script());
    return exit_code::ok;
  }
  if (options.action == "status") {
    const auto status = resource::migration_status(options.connection);
    if (session.json()) session.show({{"version", status.version}, {"newest", status.newest}});
    session.say(fmt::format("the tables of resources have version {} of {}", status.version,
                            status.newest));
    return exit_code::ok;
  }
  const bool down = options.action == "down";
  const int to =
      options.to.value_or(down ? 0 : resource::migration_status(options.connection).newest);
  if (down && !session.confirm(fmt::format("Take the tables of resources back to version {}{}?", to,
                                           to == 0 ? ", with all resources" : ""))) {
    return exit_code::failed;
  }
  const int before = resource::migrate(options.connection, to);
  if (session.json()) session.show({{"before", before}, {"version", to}});
  session.say(before == to
                  ? fmt::format("the tables of resources have version {} already", to)
                  : fmt::format("the tables of resources went from version {} to {}", before, to));
  return exit_code::ok;
}

using Verb = int (*)(Session&, const ResourceOptions&);

/// What most verbs of the family have in common.
class Family {
 public:
  Family(Program& program, std::shared_ptr<ResourceOptions> options)
      : program_(program),
        options_(std::move(options)),
        family_(program.add_family("resource", "Look at resources of a database, and act on them",
                                   "Resources",
                                   {"dmm resource migrate up", "dmm resource ls --state degraded",
                                    "dmm resource retry user u1"})) {}

  CLI::App* add(const char* name, const char* description, const std::vector<std::string>& examples,
                Verb verb) {
    CLI::App* added = program_.add_verb_to(
        *family_, name, description, examples,
        [options = options_, verb](Session& session) { return verb(session, *options); });
    added
        ->add_option("--postgres", options_->connection,
                     "Connection for libpq; what it leaves out comes from PGHOST and the like")
        ->envname("DMM_POSTGRES")
        ->type_name("URL");
    return added;
  }
  void kind(CLI::App* verb, bool required = true) {
    verb->add_option("kind", options_->kind, "Kind of resources")
        ->required(required)
        ->type_name("KIND");
  }
  void id(CLI::App* verb, bool required = true) {
    verb->add_option("id", options_->id, "Id, as it was informed")
        ->required(required)
        ->type_name("ID");
  }
  void tenant(CLI::App* verb) {
    verb->add_option("--tenant", options_->tenant,
                     "Namespace of the resource; not the one of NATS, which is -n")
        ->type_name("NAME");
  }
  void filter(CLI::App* verb) {
    tenant(verb);
    verb->add_option("--state", options_->states, "Only in these states")
        ->delimiter(',')
        ->type_name("STATE,...");
    verb->add_option("--tag", options_->tags, "Only with all of these tags")
        ->delimiter(',')
        ->type_name("TAG,...");
    verb->add_option("--prefix", options_->prefix, "Only ids that begin so")->type_name("TEXT");
    verb->add_flag("--missing", options_->missing, "Only those that a full list left out");
  }

 private:
  Program& program_;
  std::shared_ptr<ResourceOptions> options_;
  CLI::App* family_;
};

void add_looks(Family& family, ResourceOptions& options) {
  CLI::App* ls = family.add("ls", "List resources",
                            {"dmm resource ls user --state failing,degraded",
                             "dmm resource ls --tenant crm --tag billing -o json"},
                            list);
  family.kind(ls, false);
  family.filter(ls);
  ls->add_option("--limit", options.limit, "At most so many")
      ->check(CLI::Range(std::size_t{1}, limits::resource_list_max))
      ->type_name("N");
  ls->add_option("--after", options.after, "Go on behind the page that said so")->type_name("NEXT");
  CLI::App* one = family.add("get", "Show a resource with its object and its errors",
                             {"dmm resource get user u1", "dmm resource get user u1 -o json"}, get);
  family.kind(one);
  family.id(one);
  family.tenant(one);
  family.add("kinds", "Count the resources of each kind by state", {"dmm resource kinds"}, kinds);
  family.add("informers", "Show the schedules of informers, and their runs that are not over",
             {"dmm resource informers", "dmm resource informers -o json | jq .runs"}, informers);
  CLI::App* told = family.add(
      "events", "Show what happened to resources, from the stream of events",
      {"dmm resource events user --follow", "dmm resource events --event degraded -o json"},
      events);
  family.kind(told, false);
  family.tenant(told);
  told->add_option("--event", options.event,
                   "Only synced, failing, degraded, recovered, deleted, expired or skipped")
      ->type_name("EVENT");
  told->add_option("--since", options.since, "Only behind this position")->type_name("N");
  told->add_option("--limit", options.limit, "At most so many, unless followed")->type_name("N");
  told->add_flag("--follow", options.follow, "Go on until Ctrl-C");
}

void add_acts(Family& family, ResourceOptions& options) {
  CLI::App* again = family.add("retry", "Try failing, degraded or deleted resources again now",
                               {"dmm resource retry user u1",
                                "dmm resource retry user --all    every failing and degraded one"},
                               retry);
  family.kind(again);
  family.id(again, false);
  family.filter(again);
  again->add_flag("--all", options.all, "All that the filter names");
  CLI::App* stale = family.add("invalidate", "Have a synced resource worked again",
                               {"dmm resource invalidate user u1"}, invalidate);
  family.kind(stale);
  family.id(stale);
  family.tenant(stale);
  CLI::App* gone = family.add("forget", "Remove a resource and all that is known of it",
                              {"dmm resource forget user u1 --yes"}, forget);
  family.kind(gone);
  family.id(gone);
  family.tenant(gone);
  CLI::App* asked = family.add(
      "inform", "Ask an informer for a run now",
      {"dmm resource inform user", "dmm resource inform user --full    finds what is missing"},
      inform);
  family.kind(asked);
  asked->add_flag("--full", options.full, "List everything");
  asked->add_flag("--accept-missing", options.accept_missing, "However many it leaves out");
  asked->add_flag("--process-existing", options.process_existing, "Work what is unchanged, too");
  asked->add_option("--label", options.labels, "For the informer")->type_name("NAME=VALUE");
  asked->add_option("--limit", options.list_limit, "For the informer")->type_name("N");
  CLI::App* held = family.add("pause", "Begin no work of a kind until it is resumed",
                              {"dmm resource pause user --reason 'their API is down'"}, pause);
  family.kind(held);
  held->add_option("--reason", options.reason, "For people")->type_name("TEXT");
  family.kind(
      family.add("resume", "Let a paused kind be worked", {"dmm resource resume user"}, resume));
}

}  // namespace

void add_resource_commands(Program& program) {
  auto options = std::make_shared<ResourceOptions>();
  Family family(program, options);
  add_looks(family, *options);
  add_acts(family, *options);
  CLI::App* tables =
      family.add("migrate", "Make, update, remove or look at the tables of resources",
                 {"dmm resource migrate up", "dmm resource migrate status",
                  "dmm resource migrate print > resources.sql    for other tools",
                  "dmm resource migrate down    removes them"},
                 migrate);
  tables->add_option("action", options->action, "up, down, status or print")
      ->required()
      ->check(CLI::IsMember({"up", "down", "status", "print"}))
      ->type_name("ACTION");
  tables->add_option("--to", options->to, "Version")->type_name("N");
}

}  // namespace dmm::cli
