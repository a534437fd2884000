#pragma once

// Where the inputs of a view come from: anything that holds rows by key, can tell them all, and
// then tells what changes. dmm brings report streams, KV buckets, the caches of other views
// (dmm/view.h) and PostgreSQL tables (dmm/postgres/table.h).

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/error.h"

namespace dmm {

/// A row of a source as it is now.
struct SourceRow {
  std::string key;                      ///< names the row within its source
  std::optional<std::string> document;  ///< a JSON object as text; none: it was said to be deleted
  /// Grows with every change that the source tells; for freshness and for people, for example the
  /// sequence of a message or a PostgreSQL snapshot.
  std::string position;
  std::chrono::system_clock::time_point changed_at;  ///< by the source's clock
  std::string traceparent = {};                      ///< of what led to the change; empty: not said
  /// Why this program cannot read the document. What its reader remembers of the row stays, and a
  /// person is told.
  std::optional<Error> refused = {};
};

/// What a reading tells its owner; called in order, by one thread at a time, which is not the
/// owner's. It copies what it needs, hands it over and returns.
class SourceSink {
 public:
  virtual ~SourceSink() = default;
  virtual void on_row(SourceRow row) noexcept = 0;
  /// Every row that was there when reading began has been told, unless it has changed since and is
  /// told later.
  virtual void on_loaded() noexcept = 0;
  /// Every row there is has been told: from now on a row that was not told is not there. Behind
  /// on_loaded(), mostly at once. A view begins with it, or without it a few seconds after
  /// on_loaded(); it removes nothing before.
  virtual void on_complete() noexcept = 0;
  /// Rows may be missing that nobody deleted one by one: history was lost, the table was truncated,
  /// fewer rows are there than should be. Nothing is removed on the strength of their absence until
  /// a person approves. Reading goes on.
  virtual void on_doubt(std::string reason) noexcept = 0;
  /// The source begins anew, because it cannot tell what changed since: all that was told is void.
  /// Every row is told again, then on_loaded() and on_complete(). Comes with a doubt of its own
  /// where there is one.
  virtual void on_restart(std::string reason) noexcept = 0;
};

/// A source that is being read. Destroying it stops it; nothing is told after.
class SourceReading {
 public:
  virtual ~SourceReading() = default;
  /// Allows `rows` more rows to be told. None is told before the first grant.
  virtual void grant(std::size_t rows) = 0;
  /// What the next reading has to know to find out whether rows were lost meanwhile; kept by the
  /// view, a few hundred bytes. null: not known yet. May ask the server, and tell a doubt about
  /// what it answers. Any thread. Throws Error{retry}.
  virtual nlohmann::json baseline() const = 0;
};

/// Up to where a source was read.
struct SourceMark {
  std::string position;     ///< of the last row that was taken
  nlohmann::json baseline;  ///< of that reading, when it was asked for
};

/// What a source can do for a reader that has kept all rows up to a mark.
enum class Resume : std::uint8_t {
  whole,   ///< tell every row again
  behind,  ///< tell what changed behind the mark, deletions included; then it can list its keys
  lost     ///< it lost what it would have to tell: what the reader kept is void
};

/// What a source holds that a reader has not been told.
struct Backlog {
  std::uint64_t rows = 0;
  std::optional<std::chrono::system_clock::time_point> oldest;
};

class Source {
 public:
  virtual ~Source() = default;
  /// For people: "reports of player", "table songs".
  virtual std::string description() const = 0;
  /// The members of a view's file that name this source (docs/reference/views.md), without secrets.
  /// The default can be named, but not be opened by another program.
  virtual nlohmann::json definition() const { return {{"source", description()}}; }
  /// What there is behind `position` of a row that was told. Nothing if the source cannot tell.
  /// Blocks. Throws Error{retry}.
  virtual std::optional<Backlog> backlog(const std::string& position) {
    static_cast<void>(position);
    return std::nullopt;
  }
  /// Begins to read. Survives the loss and return of the server behind it.
  /// baseline   of the last reading that was fully loaded, or null.
  /// sink       outlives the reading.
  /// Throws Error{retry} if the server cannot be reached now; {invalid} for what cannot heal.
  virtual std::unique_ptr<SourceReading> read(const nlohmann::json& baseline, SourceSink& sink) = 0;
  /// What resume() would do now. Blocks. Throws as read().
  virtual Resume can_resume(const SourceMark& mark) {
    static_cast<void>(mark);
    return Resume::whole;
  }
  /// The keys of all rows that are there, in any order and perhaps repeated; a deleted one may be
  /// among them as long as its deletion is still told. A row that a reader has kept up to a mark
  /// and that is neither listed nor told as deleted went without a word, so what was kept is void.
  /// For sources that resume `behind`. Any thread, beside the other calls. Blocks. Throws
  /// Error{retry}.
  virtual std::vector<std::string> keys() { return {}; }
  /// True if keys() would list this one now. As keys().
  virtual bool holds(const std::string& key) {
    static_cast<void>(key);
    return false;
  }
  /// Begins to read behind `mark`, after can_resume() said so. If the source finds by then that it
  /// lost something, it tells a restart.
  virtual std::unique_ptr<SourceReading> resume(const SourceMark& mark,
                                                const nlohmann::json& baseline, SourceSink& sink) {
    static_cast<void>(mark);
    return read(baseline, sink);
  }
};

}  // namespace dmm
