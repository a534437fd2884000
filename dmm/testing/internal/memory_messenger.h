#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "dmm/testing/internal/courier.h"
#include "dmm/transport/messenger.h"

namespace dmm::testing {

class MemoryConnection;

/// Passes messages on to whoever listens, on a thread of its own: a handler may wait for a stream.
class MemoryMessenger final : public transport::Messenger {
 public:
  explicit MemoryMessenger(MemoryConnection& connection) : connection_(connection) {}

  void send(const transport::Note& note) override;
  std::unique_ptr<transport::Subscription> subscribe(const std::string& subject,
                                                     const std::string& group,
                                                     transport::NoteHandler handler) override;
  std::shared_ptr<void> on_reconnect(std::function<void()> listener) override;
  void close() override;

  /// For the connection: calls the listeners, later.
  void reconnected();

 private:
  /// Those who are told of a reconnect. They are called with the mutex held.
  struct Listeners {
    std::mutex mutex;
    std::vector<const std::function<void()>*> all;
  };
  void require_link();
  std::shared_ptr<Courier> courier();

  MemoryConnection& connection_;
  std::mutex mutex_;
  std::shared_ptr<Courier> courier_;  ///< none before the first who listens
  bool closed_ = false;
  const std::shared_ptr<Listeners> listeners_ = std::make_shared<Listeners>();
};

}  // namespace dmm::testing
