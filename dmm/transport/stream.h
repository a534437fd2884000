#pragma once

// What dmm needs of a log and of a key-value store, as one interface: a Stream. A key-value bucket
// is a stream that keeps one message per subject, a key being the end of the subject, so the work,
// the cache, the reports, the status and the leases are all read and written through this.
//
// Calls are asynchronous: the completion is called exactly once, on a thread of the transport. It
// must neither block nor throw; it copies what it needs and hands it to its owner's mailbox. The
// synchronous forms at the end of this file wait for the completion.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "dmm/result.h"
#include "dmm/types.h"

namespace dmm::transport {

/// Message headers in order; names are case-sensitive and may repeat (the first one counts).
using Headers = std::vector<std::pair<std::string, std::string>>;

/// The value of the first header called `name`, or nothing.
std::optional<std::string_view> find_header(const Headers& headers, std::string_view name) noexcept;

/// A message as it lies in a stream.
struct Message {
  std::string subject;
  Headers headers;
  std::string payload;
  Sequence sequence;
  std::chrono::system_clock::time_point stored_at;  ///< the server's clock

  std::optional<std::string_view> header(std::string_view name) const noexcept {
    return find_header(headers, name);
  }
};

/// A message to be stored.
struct Publication {
  std::string subject;
  Headers headers = {};
  std::string payload = {};

  /// If set, the message is stored only if the last one on its subject has this sequence; zero
  /// means that there must be none.
  std::optional<Sequence> expected_last = {};

  /// Told as urgent, the message leaves at once; otherwise it may wait up to a millisecond for
  /// others. For the latency path, not for bulk.
  bool urgent = false;
};

/// How a stream is laid out. Field by field what JetStream calls it.
struct StreamConfig {
  std::string name;
  std::vector<std::string> subjects;
  int replicas = 1;
  bool key_value = false;  ///< marked and laid out as NATS clients expect of a KV bucket
  std::string description;
  /// Messages that are older, or more than these, go, the oldest first; zero: all stay. A server in
  /// memory keeps all.
  std::chrono::seconds age = std::chrono::seconds(0);
  std::int64_t messages_max = 0;
};

/// What a stream is and holds.
struct StreamState {
  std::string name;
  std::string created;  ///< the server's creation time; another one is another stream
  Sequence first;
  Sequence last;
  std::uint64_t messages = 0;
  std::uint64_t bytes = 0;
  std::uint64_t consumers = 0;
  int replicas = 1;
};

template <class T>
using Completion = std::function<void(Result<T>)>;

/// What a Reader tells its owner; called in order on one thread of the transport. The same rule as
/// for completions: copy, hand over, return.
class ReaderSink {
 public:
  virtual ~ReaderSink() = default;
  /// The next message, in the order of the stream.
  virtual void on_message(Message message) noexcept = 0;
  /// What was in the stream when reading began has been given, but for subjects that hold a newer
  /// message since: those are given later.
  virtual void on_caught_up() noexcept = 0;
  /// Every subject has been given: there was a moment with nothing left to give. In a storm that
  /// the reader does not keep up with, it comes long after on_caught_up(), else with it.
  virtual void on_complete() noexcept {}
  /// The stream is another one, or has lost its tail; reading goes on from its first message.
  virtual void on_history_lost(std::string reason) noexcept = 0;
};

struct ReadOptions {
  std::string filter;         ///< subject, may hold wildcards
  Sequence after;             ///< the first message given is the next one after this
  bool only_new = false;      ///< begin behind the last message, whatever `after` says
  bool headers_only = false;  ///< leave payloads out
  /// Creation time of the stream that `after` was read of; another one is a loss of history. Empty:
  /// whichever it is.
  std::string created = {};
};

/// Reads a stream from a cursor of its own, without acknowledgements: ephemeral, so nothing is left
/// on the server. Survives reconnects, restarts of the server and loss of its consumer by reading
/// on after the last message given. Destroying it stops it; no call to the sink happens after.
class Reader {
 public:
  virtual ~Reader() = default;
  /// Allows `count` more messages to be given. Nothing is given before the first grant.
  virtual void grant(std::size_t count) = 0;
};

/// A stream of the server. Thread-safe.
class Stream {
 public:
  virtual ~Stream() = default;

  /// Stores a message; the completion gets its sequence.
  ///
  /// Tried again, under one message id, until answered or until `deadline` has passed.
  /// errors   conflict DMM-0306 the expectation did not hold; in_doubt DMM-0105 sent and never
  ///          answered; retry DMM-0101/0103 could not be sent; invalid DMM-0202 too large.
  virtual void publish(Publication publication, std::chrono::milliseconds deadline,
                       Completion<Sequence> done) = 0;

  /// Reads the last message of a subject without wildcards; nothing if there is none.
  virtual void last(std::string subject, Completion<std::optional<Message>> done) = 0;

  /// Removes exactly the message with this sequence. True if it was there. Repeating it is safe.
  virtual void erase(Sequence sequence, Completion<bool> done) = 0;

  /// Begins to read. `sink` outlives the reader.
  virtual std::unique_ptr<Reader> read(ReadOptions options, ReaderSink& sink) = 0;

  /// What the stream is now. Blocks. Throws Error{not_found} DMM-0107, {retry} DMM-0103.
  virtual StreamState state() = 0;

  /// The subjects under `filter` that hold a message. Blocks. For narrow filters.
  virtual std::vector<std::string> subjects(std::string_view filter) = 0;

  /// Creation time as last seen by any call; empty if never seen.
  virtual std::string created() const = 0;
};

/// Facts of the server that decide what an acknowledgement is worth.
struct ServerFacts {
  std::string url;      ///< without credentials
  std::string version;  ///< empty if the server does not say
  std::string name;
  std::string cluster;  ///< empty if it is no cluster
  std::uint64_t payload_bytes_max = 0;
  bool jetstream = false;
  std::int64_t memory_bytes_max = -1;  ///< of the account; -1 without limit
  std::int64_t storage_bytes_max = -1;
  std::uint64_t storage_bytes = 0;
  std::uint64_t streams = 0;
  std::uint64_t consumers = 0;
  std::chrono::microseconds round_trip{0};
};

/// Somebody who reads a stream.
struct ConsumerState {
  std::string name;
  std::uint64_t pending = 0;  ///< messages that were not delivered yet
  std::uint64_t waiting = 0;  ///< its requests for messages that wait; 0: it does not read just now
  Sequence delivered;         ///< of the last message that was
};

class Messenger;  // dmm/transport/messenger.h

/// A connection to a server, from which streams are opened. Thread-safe.
class Transport {
 public:
  virtual ~Transport() = default;

  /// Opens the stream; creates it if it is missing and `create` says so. Blocks.
  /// Throws Error{not_found} DMM-0107 it is missing; {unsupported} DMM-0104; {retry} DMM-0101/0103.
  virtual std::shared_ptr<Stream> open(const StreamConfig& config, bool create) = 0;

  /// Removes a stream and all it holds. False if there was none.
  virtual bool remove(std::string_view stream_name) = 0;

  /// Passes messages on without storing them; null if this transport cannot.
  virtual std::shared_ptr<Messenger> messenger() { return nullptr; }

  virtual ServerFacts facts() = 0;
  /// Who reads a stream, the first 256 of them; nothing if this transport cannot tell. Blocks.
  /// Throws Error{retry}, also where the server does not allow to ask.
  virtual std::vector<ConsumerState> consumers(std::string_view /*stream_name*/) { return {}; }
  /// How far the server's clock is ahead of this machine's, give or take half a round trip; nothing
  /// if it cannot be told. Blocks. Throws Error{retry}.
  virtual std::optional<std::chrono::milliseconds> clock_ahead(std::string_view /*stream_name*/) {
    return std::nullopt;
  }
  virtual bool connected() const = 0;
  /// What keeps this connection from its work, in words: why it cannot be made, or a right that the
  /// server took away; empty if there is nothing.
  virtual std::string trouble() const { return {}; }
  /// How often the connection was made again since it was opened.
  virtual std::uint64_t reconnects() const = 0;
  /// Sends what is buffered, waits for it, and closes. Called once; nothing is used after.
  virtual void close() = 0;
};

/// The synchronous forms: block until the completion, throw its error.
Sequence publish(Stream& stream, Publication publication, std::chrono::milliseconds deadline);
std::optional<Message> last(Stream& stream, std::string subject);
bool erase(Stream& stream, Sequence sequence);

/// Calls `visit` for each message that is in the stream now and that the options name, in its
/// order, and returns their number.
std::size_t scan(Stream& stream, ReadOptions options, const std::function<void(Message)>& visit);
/// Of all messages under `filter`.
std::size_t scan(Stream& stream, std::string filter, const std::function<void(Message)>& visit,
                 bool headers_only = false);

}  // namespace dmm::transport
