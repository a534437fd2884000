#pragma once

#include <memory>
#include <string>

#include "dmm/log.h"
#include "dmm/nats/connection.h"
#include "dmm/transport/stream.h"

namespace dmm::nats {

/// What a reader needs of the stream it reads.
struct ReaderSource {
  std::shared_ptr<Connection> connection;
  std::string stream;
  bool replicated = false;  ///< then one answer alone proves no loss: see LossDoubt
  /// Called when the stream turns out to be gone; creates it again if that is allowed. Runs on the
  /// timer thread and must not block: it sends, and the reader looks again later.
  std::function<void()> recreate;
  Logger log;
};

/// Reads by an ephemeral pull consumer without acknowledgements; the cursor is the reader's own.
/// See transport::Reader. source: reference of JetStream's pull consumers, ADR-13.
std::unique_ptr<transport::Reader> make_reader(ReaderSource source, transport::ReadOptions options,
                                               transport::ReaderSink& sink);

}  // namespace dmm::nats
