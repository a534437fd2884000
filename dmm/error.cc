#include "dmm/error.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

namespace dmm {

namespace code {
const Code unreachable{"DMM-0101", Kind::retry, "the NATS server cannot be reached",
                       "Start nats-server, or name the right one with --server or DMM_SERVER. "
                       "`dmm dev` starts a local one."};
const Code access_denied{"DMM-0102", Kind::invalid, "the NATS server refused the credentials",
                         "Check user, password, token, creds or nkey file, TLS certificates and "
                         "the permissions of that user."};
const Code timed_out{"DMM-0103", Kind::retry, "the server did not answer in time",
                     "Look at the load and health of nats-server with `dmm doctor`; the call can "
                     "be repeated."};
const Code no_jetstream{"DMM-0104", Kind::unsupported, "JetStream is not enabled",
                        "Start nats-server with -js, or enable JetStream for this account."};
const Code in_doubt{"DMM-0105", Kind::in_doubt, "a write was sent but not answered",
                    "Read the value back before writing it again."};
const Code server_refused{"DMM-0106", Kind::retry, "the server refused a request",
                          "The server's own words stand in the message; `dmm doctor` shows its "
                          "limits."};
const Code stream_missing{"DMM-0107", Kind::not_found, "a stream of the namespace does not exist",
                          "Create the namespace with `dmm init`."};
const Code closed{"DMM-0108", Kind::cancelled, "the bucket is closed",
                  "Do not use a bucket after close()."};
const Code bad_answer{"DMM-0109", Kind::corrupt, "the server gave an answer that makes no sense",
                      "Check that the address is that of a nats-server with JetStream, and that "
                      "nobody else answers on its subjects."};
const Code postgres_unreachable{"DMM-0110", Kind::retry, "PostgreSQL cannot be reached",
                                "Start PostgreSQL, or name the right server in the connection "
                                "string; a reading goes on by itself."};
const Code postgres_denied{"DMM-0111", Kind::invalid, "PostgreSQL refused access",
                           "Check user, password, database and the role's rights; "
                           "docs/how-to/desired-state-in-postgresql.md lists those it needs."};
const Code postgres_refused{"DMM-0112", Kind::retry, "PostgreSQL refused a statement",
                            "The server's own words and the SQLSTATE stand in the message."};
const Code postgres_unsupported{"DMM-0113", Kind::unsupported, "PostgreSQL is too old",
                                "Use PostgreSQL 13 or newer."};
const Code store_full{"DMM-0114", Kind::retry, "the store of JetStream is full",
                      "Make room: raise max_file_store or the limits of the account, or remove "
                      "streams that nobody needs. Everything goes on by itself then."};
const Code right_lost{"DMM-0115", Kind::retry, "the server no longer allows what it allowed",
                      "Give the user back the right to the subject in the message, and reload the "
                      "server. Everything goes on by itself then."};
const Code bad_identity{"DMM-0201", Kind::invalid, "a type, id, kind or device name is not allowed",
                        "Types and kinds are 1 to 64 of A-Z a-z 0-9 _ -; ids and devices are up "
                        "to 255 bytes."};
const Code too_large{"DMM-0202", Kind::invalid, "a value is too large",
                     "Keep values under the limit named in the message; put large data elsewhere "
                     "and refer to it."};
const Code not_json{"DMM-0203", Kind::invalid, "a value is not valid JSON",
                    "Send one JSON document in UTF-8 and nothing else."};
const Code too_deep{"DMM-0204", Kind::invalid, "a JSON value is nested too deeply",
                    "Flatten the value to the depth named in the message."};
const Code bad_text{"DMM-0205", Kind::invalid, "a JSON text holds a byte that is not allowed",
                    "Send valid UTF-8 without U+0000."};
const Code bad_number{"DMM-0206", Kind::invalid, "a number is out of range",
                      "Keep integers of JSON within 64 bits, other numbers within a double, and "
                      "dates within what the message says."};
const Code duplicate_key{"DMM-0213", Kind::invalid, "a JSON object names a key twice",
                         "Send every key once."};
const Code bad_spelling{"DMM-0207", Kind::invalid, "an id is not in its one spelling",
                        "Use the spelling that the message gives: A-Z a-z 0-9 _ - stay, every "
                        "other byte is =XX in upper-case hex."};
const Code corrupt_entry{"DMM-0208", Kind::corrupt, "a cache entry cannot be read",
                         "Run `dmm notify TYPE ID`: the next run starts from an empty cache and "
                         "writes a sound entry."};
const Code wrong_shape{"DMM-0209", Kind::invalid, "a JSON value does not fit its type",
                       "Send the fields that the message names in the form that the type reads."};
const Code newer_format{"DMM-0210", Kind::unsupported, "written by a newer version of dmm",
                        "Upgrade this program."};
const Code wrong_lane{"DMM-0211", Kind::invalid, "a token was published on the wrong lane",
                      "Use the lane that the message gives: FNV-1a-32 of TYPE.ID modulo 64."};
const Code foreign_subject{"DMM-0212", Kind::invalid, "a message stands on a subject of no meaning",
                           "Publish on the subjects of docs/reference/wire-format.md."};
const Code materialize_failed{"DMM-0301", Kind::retry, "materialize failed",
                              "Read the message of the handler; it is tried again by itself."};
const Code materialize_timed_out{"DMM-0302", Kind::retry, "materialize ran out of time",
                                 "Make it faster, let it watch its stop token, or raise the "
                                 "timeout of the type."};
const Code parked_by_outcome{"DMM-0303", Kind::invalid, "materialize asked to be parked",
                             "Mend the cause, then `dmm notify TYPE ID`."};
const Code attempts_used_up{"DMM-0304", Kind::invalid, "all attempts are used up",
                            "Mend the cause, then `dmm notify TYPE ID`."};
const Code run_cancelled{"DMM-0305", Kind::cancelled, "a run was cancelled",
                         "Nothing to do: another run follows."};
const Code write_conflict{"DMM-0306", Kind::conflict, "someone else wrote first",
                          "Read again, decide again."};
const Code lease_lost{"DMM-0307", Kind::cancelled, "the lease was lost",
                      "Nothing to do: the work is done by the next holder. If it happens often, "
                      "look for pauses of the process or of the server."};
const Code observe_failed{"DMM-0308", Kind::retry, "an observe handler failed",
                          "Read the message of the handler; the report is given again."};
const Code worker_crashed{"DMM-0309", Kind::retry, "a worker ended while it ran this identity",
                          "Look at the worker's last log lines and core dump; mend the handler, "
                          "then `dmm notify TYPE ID`."};
const Code observer_crashed{"DMM-0310", Kind::invalid,
                            "workers ended while they handled this report",
                            "Look at the worker's last log lines and core dump and mend the "
                            "handler; a report of the device is tried every five minutes."};
const Code type_unknown{"DMM-0401", Kind::invalid, "a type is not registered",
                        "Call bucket.register_type<M>(\"type\") first."};
const Code type_taken{"DMM-0402", Kind::invalid, "a type or kind is registered twice",
                      "Register each type and each kind once in a process."};
const Code bad_namespace{"DMM-0403", Kind::invalid, "a namespace name is not allowed",
                         "Use 1 to 32 of A-Z a-z 0-9 _ -."};
const Code bad_option{"DMM-0404", Kind::invalid, "an option has a value that is not allowed",
                      "Use a value that the message names."};
const Code not_found{"DMM-0405", Kind::not_found, "it does not exist",
                     "List what exists with `dmm ls`."};
const Code bug{"DMM-0406", Kind::bug, "a defect of dmm", "Please report it with the message."};
const Code table_missing{
    "DMM-0407", Kind::not_found, "a table does not exist",
    "Name schema and table as PostgreSQL spells them, without quotes; `\\d` in "
    "psql lists them."};
const Code no_table_key{"DMM-0408", Kind::invalid, "a table has no key that names its rows",
                        "Give it a primary key that is not deferrable, or name the columns of such "
                        "a unique index with --key."};
const Code table_not_watched{"DMM-0409", Kind::invalid, "a table is not watched",
                             "Run `dmm postgres watch SCHEMA.TABLE` once."};
const Code outbox_missing{"DMM-0410", Kind::invalid, "the outbox is missing or too old",
                          "Run `dmm postgres migrate` once."};
const Code outbox_newer{"DMM-0411", Kind::unsupported, "the outbox is newer than this program",
                        "Upgrade this program."};
const Code table_unfit{"DMM-0412", Kind::invalid, "a table cannot be watched",
                       "Watch an ordinary, logged table that the owner of the schema dmm may read "
                       "in full."};

const Code bad_yaml{"DMM-0501", Kind::invalid, "a text is not YAML that dmm accepts",
                    "Mend the place that the message names; quote texts that begin with @ or $."};
const Code bad_pipeline{"DMM-0502", Kind::invalid, "a pipeline cannot be compiled",
                        "Mend what the message names and see with `dmm pipeline check FILE`; the "
                        "language: docs/reference/pipeline-language.md."};
const Code not_evaluated{"DMM-0503", Kind::invalid, "a document cannot be evaluated",
                         "Mend the document, or let the pipeline expect it: @exists, @definedOr, a "
                         "@select before."};
const Code step_failed{"DMM-0504", Kind::invalid, "a step of a pipeline failed",
                       "Look at the weights of the step; nothing of it has happened."};
const Code bad_state{"DMM-0505", Kind::corrupt, "a saved state cannot be loaded",
                     "Run the pipeline from the start of its input, without --load-state."};
const Code modes_differ{"DMM-0506", Kind::bug, "changes and whole collections give different rows",
                        "Please report it with the pipeline and the input up to this step."};
const Code bad_view{"DMM-0601", Kind::invalid, "a view is not declared as it must be",
                    "Correct the member that the message names; docs/reference/views.md has them "
                    "all."};
const Code row_twice{"DMM-0602", Kind::invalid, "two rows of a view have the same key",
                     "Make the pipeline give one row for each key, for example by grouping; until "
                     "then the identity is not notified."};
const Code row_without_key{"DMM-0603", Kind::invalid, "a row of a view has no key",
                           "Give every row the key field of the view, as a text or an integer."};
const Code entry_of_other_view{"DMM-0604", Kind::invalid, "a cache entry belongs to another view",
                               "Let one view alone declare an identity: change the key of one of "
                               "them, or remove the entry if its view is gone."};
const Code nothing_held{"DMM-0605", Kind::not_found, "no removals wait for approval",
                        "See what is held with `dmm view show VIEW`; it may have changed since."};
const Code no_earlier_release{"DMM-0606", Kind::not_found, "a view has no earlier release",
                              "Bring the pipeline that you want with `dmm view apply FILE`."};
const Code release_unknown_here{"DMM-0607", Kind::invalid,
                                "a release of a view cannot be kept by this program",
                                "Keep the view with a program that declares its inputs, or go back "
                                "with `dmm view rollback VIEW`."};
const Code device_offline{"DMM-0701", Kind::not_found, "a device is not connected",
                          "See whether the device is on and what it listens to; an identity that "
                          "waits for it runs with its next report."};
const Code no_reply{"DMM-0702", Kind::in_doubt, "a device did not answer a command in time",
                    "Look at what the device reports before you command it again; give it more "
                    "time if it is slow."};
const Code command_refused{"DMM-0703", Kind::conflict, "a device refused a command",
                           "The device's own words stand in the message."};
const Code bad_reply{"DMM-0704", Kind::corrupt, "the answer of a device cannot be read",
                     "Let the device answer with one JSON document within the limits."};
const Code no_downlink{"DMM-0705", Kind::unsupported, "devices cannot be commanded here",
                       "Use a transport with a messenger, as that of NATS."};
const Code resource_missing{"DMM-0801", Kind::not_found, "a resource does not exist",
                            "See which there are with `dmm resource ls`; namespace, kind and id "
                            "have to be spelled as they were informed."};
const Code resource_state{"DMM-0802", Kind::conflict, "a resource is not in a state for this",
                          "Look at it with `dmm resource get KIND ID`; it may have changed since."};
const Code bad_resource{"DMM-0803", Kind::invalid, "a resource cannot be informed as it is",
                        "Correct what the message names: kind, id, namespace, tags, metadata or "
                        "the object itself."};
const Code resources_not_migrated{"DMM-0804", Kind::invalid,
                                  "the tables of resources are missing or too old",
                                  "Run `dmm resource migrate up` once."};
const Code resources_newer{"DMM-0805", Kind::unsupported,
                           "the tables of resources are newer than this program",
                           "Upgrade this program."};
const Code resource_work_failed{"DMM-0806", Kind::retry, "the work on a resource failed",
                                "Read the message of the controller in `dmm resource get KIND ID`; "
                                "it is tried again by itself until its attempts are used up."};
const Code inform_failed{"DMM-0807", Kind::retry, "an inform failed",
                         "Read the message of the controller; it goes on behind its last "
                         "checkpoint by itself."};
const Code inform_incomplete{"DMM-0808", Kind::retry, "an inform ended without being complete",
                             "Have inform() return Listed::complete() only when everything was "
                             "put; it is tried again."};
const Code too_many_missing{"DMM-0809", Kind::conflict,
                            "a full list leaves out more resources than it may",
                            "Look whether the other side tells all it has. If those are really "
                            "gone: `dmm resource inform KIND --full --accept-missing`."};
const Code resource_taken_over{"DMM-0810", Kind::cancelled,
                               "a resource was taken over by another worker",
                               "Nothing to do: the result of the worker that was replaced is "
                               "dropped."};
const Code other_home{"DMM-0811", Kind::invalid,
                      "the resources of a database belong to another namespace",
                      "Give the host the namespace that the message names, or another database."};
const Code kind_unknown{"DMM-0812", Kind::not_found, "a kind is not known to the database",
                        "Start the program that hosts its controller once; `dmm resource kinds` "
                        "lists those that are known."};
}  // namespace code

namespace {

constexpr const Code* kCatalogue[] = {
    &code::unreachable,
    &code::access_denied,
    &code::timed_out,
    &code::no_jetstream,
    &code::in_doubt,
    &code::server_refused,
    &code::stream_missing,
    &code::closed,
    &code::bad_answer,
    &code::postgres_unreachable,
    &code::postgres_denied,
    &code::postgres_refused,
    &code::postgres_unsupported,
    &code::store_full,
    &code::right_lost,
    &code::bad_identity,
    &code::too_large,
    &code::not_json,
    &code::too_deep,
    &code::bad_text,
    &code::bad_number,
    &code::bad_spelling,
    &code::corrupt_entry,
    &code::wrong_shape,
    &code::newer_format,
    &code::wrong_lane,
    &code::foreign_subject,
    &code::duplicate_key,
    &code::materialize_failed,
    &code::materialize_timed_out,
    &code::parked_by_outcome,
    &code::attempts_used_up,
    &code::run_cancelled,
    &code::write_conflict,
    &code::lease_lost,
    &code::observe_failed,
    &code::worker_crashed,
    &code::observer_crashed,
    &code::type_unknown,
    &code::type_taken,
    &code::bad_namespace,
    &code::bad_option,
    &code::not_found,
    &code::bug,
    &code::table_missing,
    &code::no_table_key,
    &code::table_not_watched,
    &code::outbox_missing,
    &code::outbox_newer,
    &code::table_unfit,
    &code::bad_yaml,
    &code::bad_pipeline,
    &code::not_evaluated,
    &code::step_failed,
    &code::bad_state,
    &code::modes_differ,
    &code::bad_view,
    &code::row_twice,
    &code::row_without_key,
    &code::entry_of_other_view,
    &code::nothing_held,
    &code::no_earlier_release,
    &code::release_unknown_here,
    &code::device_offline,
    &code::no_reply,
    &code::command_refused,
    &code::bad_reply,
    &code::no_downlink,
    &code::resource_missing,
    &code::resource_state,
    &code::bad_resource,
    &code::resources_not_migrated,
    &code::resources_newer,
    &code::resource_work_failed,
    &code::inform_failed,
    &code::inform_incomplete,
    &code::too_many_missing,
    &code::resource_taken_over,
    &code::other_home,
    &code::kind_unknown,
};

}  // namespace

std::string_view to_string(Kind kind) noexcept {
  switch (kind) {
    case Kind::retry:
      return "retry";
    case Kind::overloaded:
      return "overloaded";
    case Kind::conflict:
      return "conflict";
    case Kind::in_doubt:
      return "in_doubt";
    case Kind::not_found:
      return "not_found";
    case Kind::invalid:
      return "invalid";
    case Kind::corrupt:
      return "corrupt";
    case Kind::unsupported:
      return "unsupported";
    case Kind::cancelled:
      return "cancelled";
    case Kind::bug:
      return "bug";
  }
  return "bug";
}

std::span<const Code* const> error_catalogue() noexcept {
  return kCatalogue;
}

const Code* find_code(std::string_view id) noexcept {
  for (const Code* candidate : kCatalogue) {
    if (candidate->id == id) return candidate;
  }
  return nullptr;
}

Error::Error(const Code& code, std::string message)
    : std::runtime_error(fmt::format("{}: {}", code.id, message)),
      code_(&code),
      message_(std::move(message)) {}

Error Error::with_context(std::string_view context) const {
  return Error(*code_, fmt::format("{} (while {})", message_, context));
}

namespace internal {

void assertion_failed(const char* expression, const char* file, int line) noexcept {
  std::fprintf(stderr, "dmm: assertion failed: %s at %s:%d\n", expression, file, line);
  std::abort();
}

}  // namespace internal

}  // namespace dmm
