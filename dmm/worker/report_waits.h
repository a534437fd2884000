#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>

#include "dmm/internal/streams.h"
#include "dmm/worker/mailbox.h"

namespace dmm::worker {

/// Which identities wait for the next report of which device. While somebody waits for a device of
/// a kind, the reports of the kind are read, without their payloads; nothing is read otherwise.
///
/// Owner only, as the mailbox runs it; what close_... names, on the owner's own thread, because a
/// reader must not be destroyed by what it called.
class ReportWaits final {
 public:
  /// heard   called for an identity when its device has reported; it waits no longer.
  ReportWaits(const internal::Streams& streams, Mailbox& mailbox,
              std::function<void(const std::string& key)> heard);
  ~ReportWaits();

  /// key      of the identity; what it waited for before is replaced.
  /// device   as spelled on the wire.
  /// after    a report counts if its sequence is higher.
  void add(const std::string& key, const std::string& kind, const std::string& device,
           Sequence after);
  void forget(const std::string& key);
  void forget_all();

  /// Ends the readers that nobody has needed for limits::report_reader_idle.
  void close_idle();
  void close_all();

  std::size_t size() const noexcept { return waiting_.size(); }

 private:
  class KindReader;
  struct Wait {
    KindReader* reader;
    std::string device;
    std::uint64_t number;
  };
  void heard_of(const std::string& key, std::uint64_t number);

  const internal::Streams& streams_;
  Mailbox& mailbox_;
  const std::function<void(const std::string& key)> heard_;
  std::uint64_t number_ = 0;                       ///< of the last wait
  std::unordered_map<std::string, Wait> waiting_;  ///< by key of the identity
  std::unordered_map<std::string, std::unique_ptr<KindReader>> readers_;  ///< by kind
};

}  // namespace dmm::worker
