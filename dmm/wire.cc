#include "dmm/wire.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

#include "dmm/error.h"
#include "dmm/internal/runtime.h"
#include "dmm/limits.h"

namespace dmm::wire {

namespace {

bool is_plain_name(std::string_view name) {
  for (char c : name) {
    if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' ||
          c == '-')) {
      return false;
    }
  }
  return !name.empty();
}

/// Cuts the next token off `rest`.
std::string_view next_token(std::string_view& rest) {
  const std::size_t dot = rest.find('.');
  const std::string_view token = rest.substr(0, dot);
  rest = dot == std::string_view::npos ? std::string_view() : rest.substr(dot + 1);
  return token;
}

}  // namespace

Names::Names(std::string ns, int generation) : ns_(std::move(ns)) {
  if (!is_plain_name(ns_) || ns_.size() > limits::namespace_bytes_max) {
    throw Error(code::bad_namespace,
                fmt::format("namespace \"{}\" is not 1 to {} characters of A-Z a-z 0-9 _ -",
                            encode_id(ns_.substr(0, 80)), limits::namespace_bytes_max));
  }
  require(generation >= 1 && generation <= 1'000'000, code::bad_option,
          "the generation is not from 1 to 1000000");
  if (generation > 1) suffix_ = fmt::format("_g{}", generation);
}

std::string Names::stream(std::string_view what) const {
  return fmt::format("DMM_{}_{}{}", ns_, what, suffix_);
}

transport::StreamConfig Names::work(int replicas) const {
  return {stream("WORK"),
          {fmt::format("dmm.{}.work.*.*.*", ns_)},
          replicas,
          false,
          "dmm: outstanding work, one token an identity"};
}

transport::StreamConfig Names::reports(int replicas) const {
  return {stream("REPORTS"),
          {fmt::format("dmm.{}.report.*.*", ns_)},
          replicas,
          false,
          "dmm: the last report of each device"};
}

transport::StreamConfig Names::leases(int replicas) const {
  return {stream("LEASE"),
          {fmt::format("dmm.{}.lease.>", ns_), fmt::format("dmm.{}.beat.*", ns_)},
          replicas,
          false,
          "dmm: leases and heartbeats"};
}

transport::StreamConfig Names::cache(int replicas) const {
  return {fmt::format("KV_dmm_{}{}", ns_, suffix_),
          {fmt::format("$KV.dmm_{}{}.>", ns_, suffix_)},
          replicas,
          true,
          "dmm: cache objects"};
}

transport::StreamConfig Names::status(int replicas) const {
  return {fmt::format("KV_dmm_{}_status{}", ns_, suffix_),
          {fmt::format("$KV.dmm_{}_status{}.>", ns_, suffix_)},
          replicas,
          true,
          "dmm: what is failing or parked"};
}

transport::StreamConfig Names::shadows(int replicas) const {
  return {stream("SHADOW"),
          {fmt::format("dmm.{}.shadow.*.*", ns_)},
          replicas,
          false,
          "dmm: the desired document of each device"};
}

std::string Names::token_subject(const Identity& identity) const {
  const std::string id = encode_id(identity.id);
  return fmt::format("dmm.{}.work.{}.{}.{}", ns_, identity.type,
                     lane_of_key(fmt::format("{}.{}", identity.type, id)), id);
}

std::string Names::token_filter(std::string_view type) const {
  return type.empty() ? fmt::format("dmm.{}.work.*.*.*", ns_)
                      : fmt::format("dmm.{}.work.{}.*.*", ns_, type);
}

std::string Names::report_subject(std::string_view kind, std::string_view device) const {
  return fmt::format("dmm.{}.report.{}.{}", ns_, kind, encode_id(device));
}

std::string Names::report_filter(std::string_view kind) const {
  return kind.empty() ? fmt::format("dmm.{}.report.*.*", ns_)
                      : fmt::format("dmm.{}.report.{}.*", ns_, kind);
}

std::string Names::shadow_subject(std::string_view kind, std::string_view device) const {
  return fmt::format("dmm.{}.shadow.{}.{}", ns_, kind, encode_id(device));
}

std::string Names::shadow_filter(std::string_view kind) const {
  return fmt::format("dmm.{}.shadow.{}.*", ns_, kind.empty() ? "*" : kind);
}

std::string Names::desired_subject(std::string_view kind, std::string_view device) const {
  return fmt::format("dmm.{}.desired.{}.{}", ns_, kind, encode_id(device));
}

std::string Names::ask_subject(std::string_view kind, std::string_view device) const {
  return fmt::format("dmm.{}.ask.{}.{}", ns_, kind, encode_id(device));
}

std::string Names::ask_filter() const {
  return fmt::format("dmm.{}.ask.*.*", ns_);
}

std::string Names::command_subject(std::string_view kind, std::string_view device,
                                   std::string_view call) const {
  return fmt::format("dmm.{}.command.{}.{}.{}", ns_, kind, encode_id(device), call);
}

std::string Names::reply_subject(std::string_view kind, std::string_view device,
                                 std::string_view call) const {
  return fmt::format("dmm.{}.reply.{}.{}.{}", ns_, kind, encode_id(device), call);
}

std::string Names::reply_filter(std::string_view caller) const {
  return fmt::format("dmm.{}.reply.*.*.{}.>", ns_, caller);
}

std::string Names::parked_subject(std::string_view key) const {
  return fmt::format("dmm.{}.event.parked.{}", ns_, key);
}

std::string Names::parked_filter(std::string_view type) const {
  return fmt::format("dmm.{}.event.parked.{}.*", ns_, type.empty() ? "*" : type);
}

std::string Names::refused_event_subject(std::string_view what) const {
  return fmt::format("dmm.{}.event.refused.{}", ns_, what);
}

std::string Names::roll_call_subject() const {
  return fmt::format("dmm.{}.workers.ask", ns_);
}

std::string Names::roll_answer_subject(std::string_view call) const {
  return fmt::format("dmm.{}.workers.answer.{}", ns_, call);
}

std::string Names::roll_order_subject() const {
  return fmt::format("dmm.{}.workers.tell", ns_);
}

std::string Names::entry_subject(std::string_view key) const {
  return fmt::format("$KV.dmm_{}{}.{}", ns_, suffix_, key);
}

std::string Names::entry_filter(std::string_view type) const {
  return type.empty() ? entry_subject(">") : entry_subject(fmt::format("{}.>", type));
}

std::string Names::status_subject(std::string_view key) const {
  return fmt::format("$KV.dmm_{}_status{}.{}", ns_, suffix_, key);
}

std::string Names::status_filter(std::string_view type) const {
  return type.empty() ? status_subject(">") : status_subject(fmt::format("{}.>", type));
}

std::string Names::lease_subject(std::string_view name, Epoch epoch) const {
  return fmt::format("dmm.{}.lease.{}.{}", ns_, name, epoch.value);
}

std::string Names::lease_filter(std::string_view name) const {
  return name.empty() ? fmt::format("dmm.{}.lease.>", ns_)
                      : fmt::format("dmm.{}.lease.{}.*", ns_, name);
}

std::string Names::beat_subject(std::string_view holder) const {
  return fmt::format("dmm.{}.beat.{}", ns_, holder);
}

std::string Names::lane_subject(std::string_view type, std::uint32_t lane, Epoch epoch) const {
  return fmt::format("dmm.{}.lease.work.{}.{}.{}", ns_, type, lane, epoch.value);
}

std::string Names::seat_subject(std::string_view type, std::string_view holder) const {
  return fmt::format("dmm.{}.lease.seat.{}.{}", ns_, type, holder);
}

std::string Names::lanes_filter(std::string_view type) const {
  return fmt::format("dmm.{}.lease.*.{}.>", ns_, type);
}

std::string_view Names::lease_name(std::string_view subject) const {
  const std::size_t prefix = 4 + ns_.size() + 7;  // "dmm." ... ".lease."
  return subject.size() > prefix ? subject.substr(prefix) : std::string_view();
}

std::string_view Names::entry_key(std::string_view subject) const {
  const std::size_t prefix = 8 + ns_.size() + suffix_.size() + 1;  // "$KV.dmm_" ... "."
  return subject.size() > prefix ? subject.substr(prefix) : std::string_view();
}

std::string_view Names::status_key(std::string_view subject) const {
  const std::size_t prefix = 8 + ns_.size() + 7 + suffix_.size() + 1;  // "$KV.dmm_" "_status" "."
  return subject.size() > prefix ? subject.substr(prefix) : std::string_view();
}

std::optional<TokenSubject> split_token(std::string_view subject) {
  std::string_view rest = subject;
  if (next_token(rest) != "dmm") return std::nullopt;
  next_token(rest);  // the namespace: the stream takes only its own
  if (next_token(rest) != "work") return std::nullopt;
  TokenSubject parts;
  parts.type = next_token(rest);
  parts.lane = next_token(rest);
  parts.id = rest;
  if (parts.id.empty() || parts.id.find('.') != std::string_view::npos) return std::nullopt;
  return parts;
}

std::optional<ReportSubject> split_report(std::string_view subject) {
  return split_device(subject, "report");
}

std::optional<ReportSubject> split_device(std::string_view subject, std::string_view word) {
  std::string_view rest = subject;
  if (next_token(rest) != "dmm") return std::nullopt;
  next_token(rest);
  if (next_token(rest) != word) return std::nullopt;
  ReportSubject parts;
  parts.kind = next_token(rest);
  parts.device = rest;
  if (parts.device.empty() || parts.device.find('.') != std::string_view::npos) return std::nullopt;
  return parts;
}

std::string format_done(const Done& done) {
  return fmt::format("{} {}", done.created, done.sequence.value);
}

std::optional<Done> parse_done(std::string_view text) {
  const std::size_t space = text.rfind(' ');
  if (space == std::string_view::npos) return std::nullopt;
  Done done{std::string(text.substr(0, space)), {}};
  const std::string_view digits = text.substr(space + 1);
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), done.sequence.value);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return done;
}

std::string_view view_of(std::string_view header) noexcept {
  return header.substr(0, header.find(';'));
}

bool is_removed(const transport::Message& message) noexcept {
  const auto operation = message.header(kKvOperation);
  return operation && (*operation == "DEL" || *operation == "PURGE");
}

std::optional<int> format_version(const transport::Headers& headers) {
  const auto text = transport::find_header(headers, kVersion);
  if (!text) return kFormatVersion;
  int version = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), version);
  if (error != std::errc() || end != text->data() + text->size() || version < 1)
    return std::nullopt;
  return version;
}

std::string unique_id() {
  // 22 characters of 62: 131 bits. No coordination, no clock.
  constexpr std::string_view kDigits =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  std::string id;
  id.reserve(22);
  for (int half = 0; half < 2; ++half) {
    std::uint64_t bits = internal::random_bits();
    for (int i = 0; i < 11; ++i, bits /= kDigits.size()) id += kDigits[bits % kDigits.size()];
  }
  return id;
}

}  // namespace dmm::wire
