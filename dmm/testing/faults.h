#pragma once

// Faults: what goes wrong between one program and its server, said by a test.
//
//     memory->faults().in_doubt({.stream = Part::work, .share = 0.1});
//     memory->faults().refuse({.call = Call::erase, .next = 3});
//     memory->faults().partition();
//
// A fault is what a program gets to see when the transport has given up trying, so that no test has
// to wait until it does. Where several faults are in force, the one that was switched on first and
// strikes decides what becomes of a call; delays and holds come on top of it.
//
// Chance is drawn from a seed: whether a call is struck depends on the seed, the fault, the kind of
// the call, its subject and how many of the kind that subject had before, but not on which thread
// was faster. So a program that does the same meets the same. Where the seed was not given it is
// printed, once, when chance first has a part.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace dmm::testing {

class MemoryConnection;

/// The streams of a namespace.
enum class Part : std::uint8_t {
  any,  ///< all of them, and every other stream
  work,
  cache,
  reports,
  status,
  leases,
  shadows
};

/// The calls of a transport.
enum class Call : std::uint8_t {
  any,
  publish,
  last,
  erase,
  ask  ///< what blocks: Stream::state() and subjects(), Transport::open() and remove()
};

/// Which calls a fault strikes: those that all fields fit.
struct Which {
  Part stream = Part::any;
  Call call = Call::any;
  double share = 1;                                                ///< of those calls, from 0 to 1
  std::uint64_t next = std::numeric_limits<std::uint64_t>::max();  ///< after so many it ends
};

/// The faults of one connection. Thread-safe.
class Faults final {
 public:
  explicit Faults(MemoryConnection& connection) : connection_(connection) {}
  Faults(const Faults&) = delete;
  Faults& operator=(const Faults&) = delete;

  // Each of these stays in force until clear(), or until Which::next are used up. They throw
  // Error{invalid} DMM-0404 for a share that is none.

  /// Not done, and answered by DMM-0103.
  void refuse(Which which = {});

  /// Done, and answered by an error: DMM-0105 for a publish, DMM-0103 for an erase. Strikes no
  /// other calls.
  void in_doubt(Which which = {});

  /// Stored twice, as when a publisher repeats itself later than the server remembers. Strikes only
  /// publishes; one that has a condition is stored once, as its condition holds once.
  void duplicate(Which which = {});

  /// Lost on the way there or on the way back, as chance has it, and never answered: the caller
  /// hears DMM-0105 of a publish, DMM-0103 of a read or an erase, when its time is over.
  /// after   that time; a publish has a deadline of its own, which may be sooner. Call::ask keeps
  ///         its caller waiting for so long.
  void drop(Which which = {}, std::chrono::milliseconds after = std::chrono::seconds(2));

  /// On its way for up to `most` longer, there or back, so that answers overtake each other. Does
  /// not strike Call::ask.
  void delay(Which which, std::chrono::milliseconds most);

  /// Readers of `stream` are given each message up to `most` later, in order.
  void lag(Part stream, std::chrono::milliseconds most);

  /// Done, and not answered before let_go(). Does not strike Call::ask.
  void hold(Which which = {});
  /// Ends what hold() began for these streams and calls, and answers what was held back, in order.
  void let_go(Part stream = Part::any, Call call = Call::any);
  /// Answers that are held back now.
  std::size_t held(Part stream = Part::any, Call call = Call::any) const;

  /// Ends all of the above; what is held back is answered. A partition stays.
  void clear();

  /// The server cannot be reached from here: a publish waits until it is healed, or its deadline
  /// has passed; other calls end with DMM-0101; readers and subscriptions are given nothing.
  void partition();
  /// The connection is there again: readers go on behind the last message that they were given, or
  /// say that history was lost. partition() and heal() together are a reconnect.
  void heal();

  /// Calls that were struck so far.
  std::uint64_t struck() const;
  std::uint64_t seed() const;
  /// The faults in force and the seed, for messages: "in_doubt work publish 10 %; seed 7".
  std::string to_string() const;

 private:
  MemoryConnection& connection_;
};

}  // namespace dmm::testing
