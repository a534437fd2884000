#pragma once

// Errors of dmm. Each has a code with a page in docs/reference/errors/, a kind that tells the
// catcher what to do, a message with the values, and the chain of what was being done.
//
// Expected outcomes are values (std::optional, Result, Outcome); an Error is thrown for the rest.

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

namespace dmm {

/// What the one who catches an Error should do.
enum class Kind : std::uint8_t {
  retry,        ///< passing trouble: do the same again later
  overloaded,   ///< back off, then do the same again
  conflict,     ///< someone else wrote first: read again, decide again
  in_doubt,     ///< sent but not answered: look before doing it again
  not_found,    ///< it is not there
  invalid,      ///< the caller's data or arguments are wrong: repeating does not help
  corrupt,      ///< stored data is damaged: leave this key, go on with the others
  unsupported,  ///< this server, version or build cannot do it
  cancelled,    ///< asked to stop
  bug,          ///< a defect of dmm
};

/// The kind's name as it is printed and stored, for example "in_doubt".
std::string_view to_string(Kind kind) noexcept;

/// A stable error code with its documentation. All of them stand in error_catalogue().
struct Code {
  std::string_view id;      ///< "DMM-0101"
  Kind kind;                ///< what the catcher should do
  std::string_view title;   ///< what happened, in general
  std::string_view remedy;  ///< what the user can do
};

namespace code {
// 01xx: connection and server.
extern const Code unreachable;
extern const Code access_denied;
extern const Code timed_out;
extern const Code no_jetstream;
extern const Code in_doubt;
extern const Code server_refused;
extern const Code stream_missing;
extern const Code closed;
extern const Code bad_answer;
extern const Code postgres_unreachable;
extern const Code postgres_denied;
extern const Code postgres_refused;
extern const Code postgres_unsupported;
extern const Code store_full;
extern const Code right_lost;
// 02xx: data from outside.
extern const Code bad_identity;
extern const Code too_large;
extern const Code not_json;
extern const Code too_deep;
extern const Code bad_text;
extern const Code bad_number;
extern const Code duplicate_key;
extern const Code bad_spelling;
extern const Code corrupt_entry;
extern const Code wrong_shape;
extern const Code newer_format;
extern const Code wrong_lane;
extern const Code foreign_subject;
// 03xx: runs.
extern const Code materialize_failed;
extern const Code materialize_timed_out;
extern const Code parked_by_outcome;
extern const Code attempts_used_up;
extern const Code run_cancelled;
extern const Code write_conflict;
extern const Code lease_lost;
extern const Code observe_failed;
extern const Code worker_crashed;
extern const Code observer_crashed;
// 04xx: use of the library and of the tools.
extern const Code type_unknown;
extern const Code type_taken;
extern const Code bad_namespace;
extern const Code bad_option;
extern const Code not_found;
extern const Code bug;
extern const Code table_missing;
extern const Code no_table_key;
extern const Code table_not_watched;
extern const Code outbox_missing;
extern const Code outbox_newer;
extern const Code table_unfit;
// 05xx: pipelines.
extern const Code bad_yaml;
extern const Code bad_pipeline;
extern const Code not_evaluated;
extern const Code step_failed;
extern const Code bad_state;
extern const Code modes_differ;
// 06xx: views.
extern const Code bad_view;
extern const Code row_twice;
extern const Code row_without_key;
extern const Code entry_of_other_view;
extern const Code nothing_held;
extern const Code no_earlier_release;
extern const Code release_unknown_here;
// 07xx: the way down to devices.
extern const Code device_offline;
extern const Code no_reply;
extern const Code command_refused;
extern const Code bad_reply;
extern const Code no_downlink;
// 08xx: resources.
extern const Code resource_missing;
extern const Code resource_state;
extern const Code bad_resource;
extern const Code resources_not_migrated;
extern const Code resources_newer;
extern const Code resource_work_failed;
extern const Code inform_failed;
extern const Code inform_incomplete;
extern const Code too_many_missing;
extern const Code resource_taken_over;
extern const Code other_home;
extern const Code kind_unknown;
}  // namespace code

/// Every code there is, in the order of their ids.
std::span<const Code* const> error_catalogue() noexcept;

/// The code with this id ("DMM-0101"), or nullptr.
const Code* find_code(std::string_view id) noexcept;

/// The root of everything that dmm throws.
class Error : public std::runtime_error {
 public:
  /// code      one of dmm::code; gives the kind and the remedy.
  /// message   what happened, with the values; no full stop at the end.
  Error(const Code& code, std::string message);

  Kind kind() const noexcept { return code_->kind; }
  const Code& code() const noexcept { return *code_; }
  std::string_view remedy() const noexcept { return code_->remedy; }

  /// The message without the code, followed by what was being done: "... (while ...)".
  const std::string& message() const noexcept { return message_; }

  /// The same error with one more link of context, for example "while opening namespace music".
  Error with_context(std::string_view context) const;

 private:
  const Code* code_;
  std::string message_;
};

/// Throws Error{invalid} with `code` unless `condition` holds: for mistakes of the caller.
inline void require(bool condition, const Code& code, std::string_view message) {
  if (!condition) throw Error(code, std::string(message));
}

namespace internal {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}  // namespace internal

}  // namespace dmm

/// Aborts with the expression and its place: for what only a defect of dmm can cause. Always on.
#define DMM_ASSERT(expression) \
  ((expression) ? void(0)      \
                : ::dmm::internal::assertion_failed(#expression, __FILE__, __LINE__))
