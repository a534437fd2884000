#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "dmm/inspect.h"
#include "dmm/log.h"
#include "dmm/trace.h"
#include "dmm/transport/stream.h"
#include "dmm/views.h"
#include "dmm/wire.h"

namespace dmm::downlink {
class Downlink;
}

namespace dmm::worker {
class LifeLocks;
}

namespace dmm::internal {

class History;

/// The open streams of a namespace: what every part of a bucket works on. Shared by the parts; all
/// members are set once, before the first part starts.
struct Streams {
  wire::Names names;
  std::shared_ptr<transport::Transport> transport;
  std::shared_ptr<transport::Stream> work;
  std::shared_ptr<transport::Stream> cache;
  std::shared_ptr<transport::Stream> reports;
  std::shared_ptr<transport::Stream> status;
  std::shared_ptr<transport::Stream> leases;
  Logger log;
  std::shared_ptr<transport::Stream> shadows;  ///< null where an older dmm made the namespace
  std::shared_ptr<downlink::Downlink> downlink;  ///< null in tests of parts
  std::shared_ptr<History> history = nullptr;    ///< null in tests of parts
  std::shared_ptr<SpanSink> spans = nullptr;     ///< null: nothing is recorded
  std::shared_ptr<const worker::LifeLocks> life_locks = nullptr;  ///< null: no run directory
};

/// The effective cache of an identity: the token if one waits and is not covered by the entry's
/// Dmm-Done, else the entry. Read in that order, because the entry is stored before the token goes.
struct Effective {
  std::optional<transport::Message> token;  ///< the waiting one; none if covered
  std::optional<transport::Message> entry;  ///< none if removed
  Sequence token_sequence;                  ///< of the last message on the token's subject, or 0
};
Effective read_effective(const Streams& streams, const Identity& identity);

/// Error{unsupported} DMM-0210 if a message is of a format version that this program does not know.
std::optional<Error> newer(const transport::Message& message, std::string_view what);

/// The text of the effective cache; nothing if there is none. A token of a view is laid over the
/// entry field by field, any other token with a value replaces it, a poke leaves it.
/// Throws Error{corrupt} or {invalid} if a value that has to be merged cannot be read, {unsupported}
/// DMM-0210 if token or entry are of a newer format.
std::optional<std::string> effective_text(const Effective& effective);

/// `news` laid over `entry`: its top-level fields replace those of the entry.
std::string lay_over(std::string_view entry, std::string_view news);

std::unique_ptr<Inspector> make_inspector(const Streams& streams);
std::unique_ptr<Views> make_views(const Streams& streams);

}  // namespace dmm::internal
