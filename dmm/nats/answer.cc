#include "dmm/nats/answer.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <utility>

#include "dmm/json.h"

namespace dmm::nats {

namespace {

using transport::Message;

constexpr std::size_t kQuoted = 120;  ///< bytes of an answer that a message quotes

Error nonsense(std::string_view what, std::string_view why) {
  return Error(code::bad_answer, fmt::format("{}: {}", what, why));
}

/// The members of an answer; asking for one that is not there in its type throws nonsense().
class Members {
 public:
  Members(const nlohmann::json& object, std::string_view what) : object_(object), what_(what) {}

  const nlohmann::json& at(const char* pointer) const {
    const nlohmann::json* member = find(pointer);
    if (member == nullptr) throw nonsense(what_, fmt::format("the answer has no {}", pointer));
    return *member;
  }

  std::uint64_t count(const char* pointer) const {
    const nlohmann::json& member = at(pointer);
    if (!member.is_number_unsigned()) refuse(pointer, member, "no count");
    return member.get<std::uint64_t>();
  }
  std::uint64_t count_or(const char* pointer, std::uint64_t other) const {
    return find(pointer) == nullptr ? other : count(pointer);
  }
  /// -1: without limit.
  std::int64_t limit_or(const char* pointer, std::int64_t other) const {
    const nlohmann::json* member = find(pointer);
    if (member == nullptr) return other;
    constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
    const bool fits = member->is_number_integer() &&
                      (!member->is_number_unsigned() || member->get<std::uint64_t>() <= kMax);
    if (!fits) refuse(pointer, *member, "no limit");
    return member->get<std::int64_t>();
  }
  std::string text(const char* pointer) const {
    const nlohmann::json& member = at(pointer);
    if (!member.is_string()) refuse(pointer, member, "no text");
    return member.get<std::string>();
  }
  std::string text_or(const char* pointer, std::string_view other) const {
    return find(pointer) == nullptr ? std::string(other) : text(pointer);
  }
  std::string base64_or_empty(const char* pointer) const {
    if (find(pointer) == nullptr) return {};
    auto decoded = decode_base64(text(pointer));
    if (!decoded) refuse(pointer, at(pointer), "no base64");
    return *std::move(decoded);
  }
  std::chrono::system_clock::time_point time(const char* pointer) const {
    const auto time = parse_time(text(pointer));
    if (!time) refuse(pointer, at(pointer), "no time");
    return *time;
  }

 private:
  const nlohmann::json* find(const char* pointer) const {
    const nlohmann::json::json_pointer path(pointer);
    return object_.contains(path) ? &object_.at(path) : nullptr;
  }
  [[noreturn]] void refuse(const char* pointer, const nlohmann::json& member,
                           std::string_view why) const {
    throw nonsense(what_, fmt::format("{} of the answer is {}: {}", pointer, why,
                                      printable(dump_json(member), kQuoted)));
  }

  const nlohmann::json& object_;
  std::string_view what_;
};

/// read(members) of an answer that is an object and no error, or what is wrong with it.
template <class Read>
auto read_answer(const Result<Incoming>& answer, std::string_view what, Read read)
    -> Result<decltype(read(std::declval<const Members&>()))> {
  const Result<nlohmann::json> parsed = parse_answer(answer, what);
  if (!parsed.ok()) return parsed.error();
  try {
    return read(Members(parsed.value(), what));
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& e) {
    return nonsense(what, e.what());
  }
}

/// The Error that an error of the server means.
Error meaning_of(const nlohmann::json& error, std::string_view what) {
  const auto number_at = [&error](const char* key) -> std::optional<int> {
    const auto found = error.find(key);
    if (found == error.end() || !found->is_number_unsigned()) return std::nullopt;
    const auto number = found->get<std::uint64_t>();
    if (number > std::numeric_limits<int>::max()) return std::nullopt;
    return static_cast<int>(number);
  };
  std::optional<int> number;
  std::string words;
  if (error.is_object()) {
    number = error.contains("err_code") ? number_at("err_code") : number_at("code");
    const auto found = error.find("description");
    words =
        found != error.end() && found->is_string() ? found->get<std::string>() : "no reason given";
  }
  if (!number) {
    return nonsense(what, fmt::format("the server gives an error without a number: {}",
                                      printable(dump_json(error), kQuoted)));
  }
  const Code* code = &code::server_refused;
  if (*number == js::kStreamNotFound) code = &code::stream_missing;
  if (*number == js::kWrongLastSequence) code = &code::write_conflict;
  const bool nothing_there = *number == js::kNoMessage || *number == js::kSequenceNotFound ||
                             *number == js::kMessageDeleteFailed;
  if (nothing_there) code = &code::not_found;
  if (*number == js::kNotEnabled || *number == js::kNotEnabledForAccount) {
    code = &code::no_jetstream;
  }
  const bool full = *number == js::kAccountExceeded || *number == js::kInsufficientResources ||
                    *number == js::kMemoryExceeded || *number == js::kStorageExceeded ||
                    (*number == js::kStoreFailed && (words.find("exceeded") != words.npos ||
                                                     words.find("no space") != words.npos));
  if (full) code = &code::store_full;
  return Error(*code, fmt::format("{}: {} ({})", what, printable(words), *number));
}

}  // namespace

Result<nlohmann::json> parse_answer(const Result<Incoming>& answer, std::string_view what) {
  if (!answer.ok()) return answer.error().with_context(what);
  const Incoming& message = answer.value();
  if (message.status == 503) {
    return Error(code::no_jetstream,
                 fmt::format("{}: nobody answers for JetStream on this server or account", what));
  }
  // As long as the server lets a message be.
  Result<nlohmann::json> parsed =
      parse_json(message.payload, {.bytes_max = std::numeric_limits<std::size_t>::max()});
  if (!parsed.ok()) {
    return nonsense(what, fmt::format("the answer is not JSON: {}", parsed.error().message()));
  }
  if (!parsed.value().is_object()) {
    return nonsense(what, fmt::format("the answer is not a JSON object: {}",
                                      printable(message.payload, kQuoted)));
  }
  const auto error = parsed.value().find("error");
  if (error != parsed.value().end() && !error->is_null()) return meaning_of(*error, what);
  return parsed;
}

std::optional<Sequence> find_acknowledged(std::string_view answer) noexcept {
  constexpr std::string_view kField = "\"seq\":";
  const std::size_t at = answer.find(kField);
  if (!answer.starts_with('{') || at == std::string_view::npos ||
      answer.find("\"error\"") != std::string_view::npos) {
    return std::nullopt;
  }
  std::string_view digits = answer.substr(at + kField.size());
  while (digits.starts_with(' ')) digits.remove_prefix(1);
  Sequence sequence;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), sequence.value);
  const std::size_t length = static_cast<std::size_t>(end - digits.data());
  const bool whole = length < digits.size() && (*end == ',' || *end == '}' || *end == ' ');
  if (error != std::errc() || !whole || sequence.value == 0) return std::nullopt;
  return sequence;
}

Result<Sequence> parse_acknowledgement(const Incoming& answer, std::string_view what) {
  if (answer.status == 503) {
    return Error(code::stream_missing, fmt::format("{}: no stream takes it", what));
  }
  if (const auto sequence = find_acknowledged(answer.payload)) return *sequence;
  return read_answer(answer, what, [what](const Members& members) {
    const Sequence sequence{members.count("/seq")};
    if (!sequence) throw nonsense(what, "the answer acknowledges message 0");
    return sequence;
  });
}

Result<transport::StreamState> parse_stream_info(const Result<Incoming>& answer,
                                                 std::string_view what) {
  return read_answer(answer, what, [what](const Members& members) {
    transport::StreamState state;
    state.name = members.text("/config/name");
    state.created = members.text("/created");
    if (state.created.empty()) throw nonsense(what, "the answer says of no time of creation");
    state.first = Sequence{members.count("/state/first_seq")};
    state.last = Sequence{members.count("/state/last_seq")};
    state.messages = members.count("/state/messages");
    state.bytes = members.count("/state/bytes");
    state.consumers = members.count("/state/consumer_count");
    const std::uint64_t replicas = members.count("/config/num_replicas");
    constexpr std::uint64_t kReplicasMax = 1'000;
    if (replicas > kReplicasMax) throw nonsense(what, "the answer has too many replicas");
    state.replicas = static_cast<int>(replicas);
    return state;
  });
}

Result<StreamSubjects> parse_subjects(const Result<Incoming>& answer, std::string_view what) {
  return read_answer(answer, what, [what](const Members& members) {
    StreamSubjects found;
    found.created = members.text("/created");
    const nlohmann::json& state = members.at("/state");
    const auto subjects = state.find("subjects");
    if (subjects == state.end() || subjects->is_null()) return found;
    if (!subjects->is_object()) throw nonsense(what, "/state/subjects of the answer is no object");
    for (const auto& [subject, count] : subjects->items()) found.subjects.push_back(subject);
    return found;
  });
}

Result<ConsumerInfo> parse_consumer_info(const Result<Incoming>& answer, std::string_view what) {
  return read_answer(answer, what, [what](const Members& members) {
    ConsumerInfo info{members.text("/name"), members.count("/num_pending"),
                      members.count("/delivered/consumer_seq"), members.time("/created")};
    if (info.name.empty()) throw nonsense(what, "the answer names no consumer");
    return info;
  });
}

Result<std::vector<transport::ConsumerState>> parse_consumers(const Result<Incoming>& answer,
                                                              std::string_view what) {
  return read_answer(answer, what, [what](const Members& members) {
    const nlohmann::json& list = members.at("/consumers");
    std::vector<transport::ConsumerState> found;
    if (list.is_null()) return found;
    if (!list.is_array()) throw nonsense(what, "/consumers of the answer is no list");
    for (const nlohmann::json& one : list) {
      const Members consumer(one, what);
      found.push_back({consumer.text("/name"), consumer.count("/num_pending"),
                       consumer.count("/num_waiting"),
                       Sequence{consumer.count("/delivered/stream_seq")}});
    }
    return found;
  });
}

Result<std::optional<Message>> parse_stored(const Result<Incoming>& answer, std::string_view what) {
  auto found = read_answer(answer, what, [](const Members& members) {
    Message message;
    message.subject = members.text("/message/subject");
    message.sequence = Sequence{members.count("/message/seq")};
    message.headers = parse_header_block(members.base64_or_empty("/message/hdrs"));
    message.payload = members.base64_or_empty("/message/data");
    message.stored_at = members.time("/message/time");
    return std::optional<Message>(std::move(message));
  });
  const bool none = !found.ok() && &found.error().code() == &code::not_found;
  return none ? std::optional<Message>() : std::move(found);
}

Result<std::optional<Message>> parse_direct(Result<Incoming> answer, std::string_view subject) {
  const auto what = [subject] { return fmt::format("reading {}", printable(subject, 300)); };
  if (!answer.ok()) return answer.error().with_context(what());
  Incoming incoming = std::move(answer).value();
  Message message;
  bool timed = false;
  // What the server adds stands behind what whoever published the message gave it.
  for (auto& [name, value] : incoming.headers) {
    if (name == "Nats-Subject") {
      message.subject = std::move(value);
    } else if (name == "Nats-Sequence") {
      message.sequence = Sequence{};
      const char* const end = value.data() + value.size();
      if (std::from_chars(value.data(), end, message.sequence.value).ptr != end) {
        message.sequence = Sequence{};
      }
    } else if (name == "Nats-Time-Stamp") {
      const auto time = parse_time(value);
      timed = time.has_value();
      if (time) message.stored_at = *time;
    } else if (name != "Nats-Stream" && name != "Nats-Last-Sequence") {
      message.headers.emplace_back(std::move(name), std::move(value));
    }
  }
  // A message may have a header "Status" of its own; that it is one is seen by what the server
  // adds.
  if (!message.sequence && message.subject.empty() && incoming.status != 0) {
    if (incoming.status == 404) return std::optional<Message>();
    return Error(code::timed_out, fmt::format("{}: {} {}", what(), incoming.status,
                                              printable(incoming.description)));
  }
  if (!message.sequence || message.subject != subject || !timed) {
    return nonsense(what(), "the answer is no message of this subject");
  }
  message.payload = std::move(incoming.payload);
  return std::optional<Message>(std::move(message));
}

Result<bool> parse_erased(const Result<Incoming>& answer, Sequence sequence) {
  const bool plain = answer.ok() &&
                     answer.value().payload.find("\"success\":true") != std::string::npos &&
                     answer.value().payload.find("\"error\"") == std::string::npos;
  if (plain) return true;
  const std::string what = fmt::format("deleting message {}", sequence.value);
  if (answer.ok() && answer.value().status == 503) {
    return Error(code::timed_out, what + ": nobody answers for the stream");
  }
  auto erased = read_answer(answer, what, [&what](const Members& members) {
    const nlohmann::json& success = members.at("/success");
    if (!success.is_boolean()) throw nonsense(what, "/success of the answer is no truth");
    return success.get<bool>();
  });
  if (!erased.ok() && &erased.error().code() == &code::not_found) return false;
  return erased;
}

Result<transport::ServerFacts> parse_account(const Result<Incoming>& answer,
                                             transport::ServerFacts facts, std::string_view what) {
  return read_answer(answer, what, [&facts](const Members& members) {
    facts.jetstream = true;
    facts.memory_bytes_max = members.limit_or("/limits/max_memory", -1);
    facts.storage_bytes_max = members.limit_or("/limits/max_storage", -1);
    facts.storage_bytes = members.count_or("/storage", 0);
    facts.streams = members.count_or("/streams", 0);
    facts.consumers = members.count_or("/consumers", 0);
    return std::move(facts);
  });
}

void read_server_info(const nlohmann::json& info, transport::ServerFacts& facts) {
  if (!info.is_object()) return;
  const auto take = [&info](const char* key, std::string& text) {
    const auto found = info.find(key);
    if (found != info.end() && found->is_string()) text = found->get<std::string>();
  };
  take("version", facts.version);
  take("cluster", facts.cluster);
  take("server_name", facts.name);
}

}  // namespace dmm::nats
