#pragma once

// What people and tools do with the views of a namespace: see where they stand, compare a pipeline
// with what is cached, ask why a row is as it is, and change a pipeline safely.
//
// A view is kept by whoever holds its lease. What is kept under its name is its release: data in
// the namespace, so that all who may keep the view keep the same one. A program that declares a
// view which the release has not met yet makes a new release; one whose declaration was replaced
// keeps the release that replaced it. So two versions of a program beside one another do not take
// turns.

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/view.h"

namespace dmm {

/// How a new release is told to the materializers.
struct Rollout {
  std::uint64_t per_minute = 0;    ///< notifies; 0: no limit
  std::uint64_t failures_max = 0;  ///< told identities that may fail before it stops; 0: no limit
};

/// What is kept under the name of a view. Times are Unix milliseconds.
struct ViewRelease {
  std::uint64_t number = 0;           ///< grows by one with each
  std::string hash;                   ///< of the view
  nlohmann::json view;                ///< in its file form
  nlohmann::json previous;            ///< what it replaced; null: it is the first
  std::vector<std::string> replaced;  ///< hashes of earlier releases, the newest last
  std::string by;                     ///< "declared", "applied", "rolled back"
  std::int64_t at = 0;
  Rollout rollout;
};

/// One identity whose row is not what is cached.
struct RowDifference {
  enum class Kind : std::uint8_t { added, changed, removed };
  Kind kind = Kind::added;
  std::string id;
  nlohmann::json row;     ///< as the pipeline makes it; null if removed
  nlohmann::json cached;  ///< the effective cache; null if added
};
std::string_view to_string(RowDifference::Kind kind) noexcept;

struct CompareOptions {
  /// Differences are looked at twice, this far apart, and only those that stay are told: what the
  /// owner of the view is about to tell is no difference.
  std::chrono::milliseconds settle{2'000};
  /// How long live changes are followed after that, to see what the pipeline costs.
  std::chrono::milliseconds follow{0};
  std::size_t samples_max = 10;  ///< of each kind
  std::stop_token stop;
  /// Rows of inputs read so far. May be empty.
  std::function<void(std::uint64_t rows)> on_progress;
};

/// A pipeline beside what is cached.
struct ViewComparison {
  std::uint64_t input_rows = 0;
  std::uint64_t rows = 0;
  std::uint64_t added = 0;
  std::uint64_t changed = 0;
  std::uint64_t removed = 0;
  std::uint64_t foreign = 0;  ///< rows of identities that belong to another view
  std::uint64_t twice = 0;
  std::uint64_t without_key = 0;
  std::uint64_t left_out = 0;             ///< documents that cannot be read or evaluated
  std::vector<std::string> left_out_why;  ///< the first of them, with place and reason
  std::vector<RowDifference> samples;
  /// Whether the owner of the view has the very same rows; nothing if inputs kept changing, or
  /// nobody keeps the view.
  std::optional<bool> same_as_owner;
  std::chrono::milliseconds loading{0};  ///< reading the inputs and computing the rows
  std::chrono::milliseconds followed{0};
  std::uint64_t live_changes = 0;          ///< rows of inputs that changed while followed
  std::uint64_t live_rows = 0;             ///< rows of the view that changed by them
  std::chrono::microseconds live_time{0};  ///< of this thread, computing them

  std::uint64_t differences() const noexcept { return added + changed + removed; }
};

/// A row of an input that a row of a view rests on.
struct InputRow {
  std::string input;
  std::string key;
  nlohmann::json document;  ///< the fields that the pipeline reads
  std::string position;
  std::int64_t changed_at = 0;  ///< Unix milliseconds
};

/// What an operator made on the way to a row, or where a row ended.
struct OperatorRows {
  std::string node;
  std::string what;  ///< the operator in words
  std::vector<nlohmann::json> rows;
};

/// Why a row of a view is as it is. An input row belongs to it if the row would be another one
/// without it (so-called why-provenance, found by taking it away).
struct RowExplanation {
  std::string id;
  std::vector<nlohmann::json> rows;  ///< one, none, or several with one key
  std::vector<InputRow> inputs;      ///< the newest change first
  std::vector<OperatorRows> operators;
  /// If there is no row: the input rows of that key, and as far as `operators` they came.
  bool absent = false;
  std::uint64_t input_rows = 0;  ///< that were looked at
};

/// How far the owner of a view is behind one of its inputs.
struct InputLag {
  std::string input;
  std::string description;
  std::string position;         ///< of the newest change taken
  std::int64_t changed_at = 0;  ///< when that was made; Unix milliseconds
  /// Changes that were not taken, and since when the oldest of them waits; nothing if the source
  /// cannot tell.
  std::optional<std::uint64_t> behind;
  std::int64_t oldest_at = 0;
};

/// Thread-safe. Methods block and throw Error{retry} when the server does not answer.
class Views {
 public:
  virtual ~Views() = default;

  /// The views of the namespace, by name.
  virtual std::vector<ViewInfo> list() = 0;
  /// Where one stands. Throws Error{not_found} DMM-0405.
  virtual ViewInfo find(std::string_view name) = 0;
  /// What is kept under a name. Throws Error{not_found} DMM-0405.
  virtual ViewRelease release(std::string_view name) = 0;
  /// How far the owner is behind the inputs of `view`.
  virtual std::vector<InputLag> lag(const View& view) = 0;

  /// Lets at most `removals` go that a view holds; its owner hears of it. Throws Error{not_found}
  /// DMM-0605 if it holds none, or more.
  virtual void approve(std::string_view name, std::uint64_t removals) = 0;
  /// Has the owner compute the view anew from its inputs, and notify what differs from the caches.
  virtual void rebuild(std::string_view name) = 0;

  /// Computes a view beside the live one, from the same inputs, and compares it with what is
  /// cached. Changes nothing. Throws Error{invalid} DMM-0502, DMM-0601.
  virtual ViewComparison compare(const View& view, const CompareOptions& options) = 0;
  /// Computes a view and finds out what the row of `id` rests on; reads all inputs. Throws as
  /// compare().
  virtual RowExplanation explain(const View& view, std::string_view id,
                                 const CompareOptions& options) = 0;

  /// Makes `view` the release that is kept under its name; its owner turns to it at once and tells
  /// the difference within the limits of `rollout`. The same view again goes on where a rollout
  /// stopped. Returns the release. Throws Error{invalid} DMM-0502, DMM-0601.
  virtual ViewRelease apply(const View& view, const Rollout& rollout) = 0;
  /// Makes the release before the present one the release again. Throws Error{not_found} DMM-0606
  /// if there is none.
  virtual ViewRelease roll_back(std::string_view name, const Rollout& rollout) = 0;
};

}  // namespace dmm
