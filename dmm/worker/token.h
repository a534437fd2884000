#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "dmm/identity.h"
#include "dmm/result.h"
#include "dmm/transport/stream.h"
#include "dmm/types.h"

namespace dmm::worker {

/// A token may wait so long after it was stored; a date beyond that is a mistake, such as one of
/// another unit.
inline constexpr std::chrono::hours kNotBeforeMax{366 * 24};

/// A work token, read and checked.
struct Token {
  Identity identity;
  std::string key;  ///< "<type>.<encoded id>"
  Sequence sequence;
  std::chrono::system_clock::time_point stored_at;
  std::string news;  ///< empty: a poke
  /// Not empty: the news are the fields of this view's row, to be laid over the entry; the value of
  /// the header Dmm-View.
  std::string view;
  bool deleted = false;  ///< a tombstone
  Sequence entry;        ///< revision of the entry that the news were compared with; 0: with none
  std::uint64_t losses = 0;  ///< of news or caches that whoever told it knew of
  /// Run no earlier than this; a zero time if at once.
  std::chrono::system_clock::time_point not_before;
  /// But wait no longer than this from when it is seen: the clock of who dated it may be wrong.
  std::chrono::milliseconds delay_max = kNotBeforeMax;
  /// It was there before this worker owned the lane, so someone else may have worked on it.
  bool inherited = false;
  std::string traceparent = {};  ///< of what brought the news; empty: they belong to no trace
};

/// Errors: DMM-0201 a type that is none, 0202 too large, 0206 Dmm-Not-Before is no date up to
/// kNotBeforeMax, 0207 another spelling of the id (the message has the right one), 0210 newer
/// format, 0211 wrong lane (the message has the right one), 0212 not a token.
Result<Token> read_token(transport::Message message);

}  // namespace dmm::worker
