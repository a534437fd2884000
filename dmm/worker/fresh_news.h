#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "dmm/internal/streams.h"
#include "dmm/limits.h"
#include "dmm/worker/mailbox.h"

namespace dmm::worker {

/// Reads the tokens that come from now on, beside the reader that works through those that wait:
/// news that come now need not wait until a large backlog was read. The other reader comes upon
/// them, too, if they are still there then. Made and destroyed on the owner's own thread, used on
/// the owner.
class FreshNews final : private transport::ReaderSink {
 public:
  /// taken   called on the owner for each token.
  FreshNews(const internal::Streams& streams, Mailbox& mailbox, const std::string& type,
            std::function<void(transport::Message)> taken)
      : mailbox_(mailbox),
        taken_(std::move(taken)),
        reader_(streams.work->read(
            {.filter = streams.names.token_filter(type), .after = {}, .only_new = true}, *this)) {
    reader_->grant(limits::read_batch);
  }

  /// Allows as many more as were taken.
  void go_on() {
    if (consumed_ > 0) reader_->grant(std::exchange(consumed_, 0));
  }

 private:
  void on_message(transport::Message message) noexcept override {
    mailbox_.post([this, alive = std::weak_ptr<int>(alive_), message = std::move(message)] {
      if (alive.expired()) return;
      ++consumed_;
      taken_(message);
    });
  }
  void on_caught_up() noexcept override {}
  void on_history_lost(std::string) noexcept override {}  // the other reader tells

  Mailbox& mailbox_;
  const std::function<void(transport::Message)> taken_;
  std::size_t consumed_ = 0;                                    ///< since the last grant
  const std::shared_ptr<int> alive_ = std::make_shared<int>();  ///< for what is in the mailbox
  std::unique_ptr<transport::Reader> reader_;                   ///< last: it ends first
};

}  // namespace dmm::worker
