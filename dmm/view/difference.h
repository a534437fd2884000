#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include <nlohmann/json.hpp>

#include "dmm/internal/streams.h"
#include "dmm/view/rows.h"

namespace dmm::view {

/// The value of the Dmm-View header: which view, and which pipeline of it.
std::string view_header(std::string_view name, std::string_view pipeline_hash);

/// Up to where tokens and entries were read.
struct CacheMark {
  nlohmann::json work;  ///< marks of the streams, see stream_mark.h
  nlohmann::json cache;
};

/// What an owner knows of the entries.
struct KnownEntries {
  CacheMark mark;  ///< up to here
  /// Ids of which it does not know whether their entry says the row.
  std::vector<std::string> open;
};

/// Compares the rows with the effective caches of their type: `told` of each slot becomes the row
/// where the cache says the same, null where it does not; an identity of this view that has no row
/// gets a slot that was told what lies in the cache; one of another view is marked as foreign.
/// Blocks while tokens and entries are read. Throws Error{retry}.
/// differs   called for each row whose identity has an effective cache that says something else.
/// Returns up to where it read; open are the identities that have an entry of this view, but no
/// row, and no slot because their token says that they go, or is another view's: should that token
/// be dropped, their removal is to be told.
using Differs = std::function<void(const std::string& id, const engine::Value& effective)>;
KnownEntries compare_with_cache(const internal::Streams& streams, const std::string& view,
                                const std::string& type, Rows& rows, const Differs& differs = {});

/// The same, but reads only the tokens, the entries behind what is known, and those of open ids.
/// The slots of all others say by `told` what their entry says. Nothing, and anything may stand in
/// the slots, if what is known is of no use: a stream lost its history, or too many are open.
std::optional<KnownEntries> compare_behind(const internal::Streams& streams,
                                           const std::string& view, const std::string& type,
                                           Rows& rows, const KnownEntries& known);

/// Reads the entries behind `mark` and notes which of them say what was told (Slot::proven).
/// removed   ids that were told as removed: those whose entry is gone leave it; such as have an
///           entry but no slot are added.
/// Returns up to where it read; `mark` itself if there are more than `entries_max` to read; nothing
/// if the stream lost its history.
std::optional<CacheMark> prove_entries(const internal::Streams& streams, const std::string& view,
                                       const std::string& type, Rows& rows, const CacheMark& mark,
                                       std::size_t entries_max,
                                       std::unordered_set<std::string>& removed);

}  // namespace dmm::view
