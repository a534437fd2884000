#pragma once

// The Relay tells NATS what the outbox of resources holds: a token for each resource to be worked,
// and events. A line leaves the outbox in the transaction that saw its message stored, so none is
// lost; a token that is told twice is one run too many, and an event that is told twice is found to
// be there.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/internal/streams.h"
#include "dmm/log.h"
#include "dmm/postgres/session.h"

namespace dmm::resource::internal {

/// The type of the materializer that runs the informer of a kind. Kinds have no upper-case letters.
std::string informer_type(std::string_view kind);

/// The stream of events; made if it is missing.
std::shared_ptr<transport::Stream> open_events(const dmm::internal::Streams& streams);
/// dmm.<ns>.resource.<kind>.<event>.<namespace>.<seq>; "*" where nothing is given.
std::string event_subject(std::string_view ns, std::string_view kind, std::string_view event,
                          std::string_view of_namespace, std::string_view seq);

/// One thread, which calls run().
class Relay final {
 public:
  /// told   counts the lines.
  Relay(const dmm::internal::Streams& streams, std::string connection, Logger log,
        std::atomic<std::uint64_t>& told);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  /// Until `stop`. Does not throw: what fails is logged and tried again.
  void run(const std::stop_token& stop) noexcept;

 private:
  struct Line;
  void connect();
  std::size_t pass();
  void tell(const std::vector<Line>& lines);
  std::optional<transport::Publication> publication_of(const Line& line) const;
  void wait(const std::stop_token& stop, bool failed);

  const dmm::internal::Streams& streams_;
  const std::string connection_;
  const Logger log_;
  const int wake_;  ///< an eventfd: stop
  std::shared_ptr<transport::Stream> events_;
  std::unique_ptr<postgres::internal::Session> session_;
  std::atomic<std::uint64_t>& told_;
};

}  // namespace dmm::resource::internal
