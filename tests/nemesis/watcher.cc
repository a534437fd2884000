#include "tests/nemesis/watcher.h"

#include "dmm/identity.h"
#include "dmm/json.h"
#include "dmm/nats/nats_transport.h"
#include "dmm/wire.h"

#include <algorithm>
#include <charconv>

namespace dmm::nemesis {

namespace {

constexpr std::size_t kGrant = 100'000;

ConnectionOptions connection_to(const std::vector<std::string>& servers) {
  ConnectionOptions options;
  options.servers = servers;
  options.name = "nemesis watcher";
  return options;
}

}  // namespace

Watcher::Watcher(const std::vector<std::string>& servers, int replicas)
    : transport_(nats::connect(connection_to(servers), Logger())) {
  const wire::Names names(kNamespace);
  cache_ = transport_->open(names.cache(replicas), false);
  work_ = transport_->open(names.work(replicas), false);
  filter_ = names.entry_filter(kType);
  reader_ = cache_->read({.filter = filter_, .after = {}}, *this);
  keep_reading();
}

Watcher::~Watcher() = default;

void Watcher::keep_reading() {
  if (seen_ + kGrant / 2 < granted_) return;
  granted_ += kGrant;
  reader_->grant(kGrant);
}

void Watcher::on_message(transport::Message message) noexcept {
  try {
    take(message);
  } catch (const std::exception&) {
    ++strange_;
  }
  ++seen_;
}

void Watcher::take(const transport::Message& message) {
  const wire::Names names(kNamespace);
  const auto identity = parse_key(names.entry_key(message.subject));
  const std::int64_t number = identity ? number_of(identity->id) : -1;
  const auto value = parse_json(message.payload);
  if (number < 0 || number >= kIdentitiesMax || !value.ok() || !value.value().is_object()) {
    ++strange_;
    return;
  }
  Entry entry;
  entry.at = now_ns();
  entry.identity = static_cast<std::uint32_t>(number);
  entry.revision = message.sequence.value;
  entry.news = value.value().value("news", std::uint64_t{0});
  if (const auto epoch = message.header(wire::kEpoch)) {
    std::from_chars(epoch->data(), epoch->data() + epoch->size(), entry.epoch);
  }
  if (const auto done = wire::parse_done(message.header(wire::kDone).value_or(""))) {
    done_[entry.identity] = done->sequence.value;
  }
  latest_[lane_of(entry.identity)] = entry.at;
  const std::lock_guard lock(mutex_);
  history_.push_back(entry);
}

void Watcher::on_history_lost(std::string) noexcept {
  ++history_losses_;
}

std::size_t Watcher::lanes_since(Nanoseconds time) const {
  return static_cast<std::size_t>(
      std::ranges::count_if(latest_, [&](const auto& latest) { return latest > time; }));
}

Watcher::Tokens Watcher::tokens() {
  Tokens tokens;
  if (work_->state().messages == 0) return tokens;
  const auto look = [&](const transport::Message& message) {
    const auto parts = wire::split_token(message.subject);
    const auto id = parts ? decode_id(parts->id) : std::nullopt;
    const std::int64_t number = id ? number_of(*id) : -1;
    const bool known = number >= 0 && number < kIdentitiesMax;
    const bool done =
        known && message.sequence.value <= done_[static_cast<std::size_t>(number)].load();
    ++(done ? tokens.done : tokens.outstanding);
  };
  transport::scan(*work_, wire::Names(kNamespace).token_filter(kType), look, true);
  return tokens;
}

std::uint64_t Watcher::readers() {
  return work_->state().consumers;
}

std::vector<Entry> Watcher::stop() {
  reader_.reset();
  transport::scan(*cache_, filter_, [this](transport::Message message) { take(message); });
  return std::move(history_);
}

}  // namespace dmm::nemesis
