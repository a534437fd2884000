#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dmm/testing/faults.h"
#include "dmm/transport/stream.h"

namespace dmm::testing {

/// The part that a stream plays in its namespace, by its name; Part::any for a stream of others.
Part part_of_stream(std::string_view stream_name) noexcept;

/// What becomes of one call.
struct Verdict {
  enum class Fate : std::uint8_t {
    none,
    refused,       ///< not done, answered by an error
    in_doubt,      ///< done, answered by an error
    request_lost,  ///< not done, answered by an error when `patience` is over
    answer_lost    ///< done, answered likewise
  };
  Fate fate = Fate::none;
  std::chrono::milliseconds patience{0};
  std::chrono::microseconds there{0};  ///< how much longer the request is on its way
  std::chrono::microseconds back{0};   ///< and the answer
  bool held = false;
  bool twice = false;
};

/// The faults that are in force on a connection, and the answers that they hold back. Thread-safe.
class FaultBook final {
 public:
  enum class Kind : std::uint8_t { refuse, in_doubt, drop, delay, lag, hold, duplicate };
  using Answer = std::function<void()>;

  /// announce   the seed was drawn: print it when chance first has a part.
  FaultBook(std::uint64_t seed, bool announce) : seed_(seed), announce_(announce) {}

  /// Chance has a part.
  void announce_seed();
  void add(Kind kind, Which which, std::chrono::milliseconds time = {});
  /// Ends all; returns the answers that were held back.
  std::vector<Answer> clear();

  Verdict judge(Part part, Call call, std::string_view subject);
  /// How much later readers of `part` are given a message.
  std::chrono::microseconds lag_of(Part part, const transport::Message& message);

  void keep(Part part, Call call, Answer answer);
  std::vector<Answer> let_go(Part part, Call call);
  std::size_t held(Part part, Call call) const;

  std::uint64_t struck() const;
  std::uint64_t seed() const noexcept { return seed_; }
  std::string to_string() const;

 private:
  struct Rule {
    Kind kind;
    Which which;
    std::chrono::milliseconds time;
    std::uint64_t number;  ///< of all that were ever added
  };
  struct Held {
    Part part;
    Call call;
    Answer answer;
  };

  double toss(const Rule& rule, std::uint64_t what, std::uint64_t salt) const noexcept;
  void announce();

  const std::uint64_t seed_;
  mutable std::mutex mutex_;
  bool announce_;
  std::vector<Rule> rules_;
  std::uint64_t added_ = 0;
  std::unordered_map<std::string, std::uint64_t> calls_;  ///< by kind and subject
  std::vector<Held> held_;
  std::uint64_t struck_ = 0;
};

}  // namespace dmm::testing
