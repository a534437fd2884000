#pragma once

// What dmm needs to talk to devices: messages that are passed on to whoever listens at that moment
// and are stored nowhere.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "dmm/transport/stream.h"

namespace dmm::transport {

/// A message that is passed on.
struct Note {
  std::string subject;
  std::string reply = {};  ///< where an answer is expected; empty: nowhere
  Headers headers = {};
  std::string payload = {};
  /// Comes back at `reply` instead of an answer: nobody listens on the subject.
  bool unheard = false;

  std::optional<std::string_view> header(std::string_view name) const noexcept {
    return find_header(headers, name);
  }
};

/// Called on a thread of the transport, one note at a time. The same rule as for completions: it
/// neither blocks nor throws.
using NoteHandler = std::function<void(Note)>;

/// Ends when destroyed: no call to its handler happens after. Not to be destroyed by its handler.
class Subscription {
 public:
  virtual ~Subscription() = default;
};

/// Thread-safe.
class Messenger {
 public:
  virtual ~Messenger() = default;

  /// Sends to whoever listens.
  /// Throws Error{retry} DMM-0101 not connected; {invalid} DMM-0202 too large for the server;
  /// {cancelled} DMM-0108.
  virtual void send(const Note& note) = 0;

  /// Listens; survives reconnects. When it returns the server knows.
  /// subject   may hold wildcards.
  /// group     not empty: one of those that listen under this name gets each note.
  virtual std::unique_ptr<Subscription> subscribe(const std::string& subject,
                                                  const std::string& group,
                                                  NoteHandler handler) = 0;

  /// Calls `listener` after every reconnect, until the returned token is destroyed, which waits for
  /// a call that is under way.
  virtual std::shared_ptr<void> on_reconnect(std::function<void()> listener) = 0;

  /// Sends what is buffered and disconnects; no handler is called after.
  virtual void close() = 0;
};

}  // namespace dmm::transport
