#pragma once

// A Snapshot is what an owner of a view had read, kept by it for its next beginning: the documents
// of the inputs with up to where they were read, and what it knew of the entries of the cache. What
// follows from that, the engine's state and the rows, is computed again.
//
// Whatever speaks against a snapshot makes it void; then everything is read from the streams.

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dmm/source.h"
#include "dmm/view/difference.h"
#include "dmm/view/snapshot_codec.h"

namespace dmm::view {

/// What stands before the documents.
struct SnapshotHead {
  std::string ns;
  std::string view;
  std::string release;  ///< hash: what is kept of a document depends on the pipeline
  std::chrono::system_clock::time_point saved_at;
  std::uint64_t history = 0;  ///< see ViewInfo
  std::uint64_t digest = 0;   ///< of the rows
  std::uint64_t rows = 0;
  std::uint32_t decoder = 0;       ///< engine::kDecoderVersion
  std::vector<SourceMark> inputs;  ///< in the order of the view
  /// Of each input: what its documents were reduced to, as text. Which fields a pipeline reads is
  /// what the version of the engine finds out.
  std::vector<std::string> fields;
  std::optional<KnownEntries> entries;  ///< nothing: they have to be read whole
};

void write_head(SnapshotWriter& writer, const SnapshotHead& head);
/// Check reader.ok() behind it.
SnapshotHead read_head(SnapshotReader& reader);

/// Why a snapshot is not to be used; empty if it is. `wanted` says which one would be, and when.
std::string misfit(const SnapshotHead& found, const SnapshotHead& wanted,
                   std::chrono::milliseconds age_max);

}  // namespace dmm::view
