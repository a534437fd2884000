#pragma once

#include <string>

#include "tests/nemesis/nemesis.h"
#include "tests/nemesis/world.h"

namespace dmm::nemesis {

/// A line on standard error that says how things stand; nothing where that is no terminal.
class Progress final {
 public:
  explicit Progress(int seconds);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// What is going on while there is no nemesis.
  void say(const std::string& what);
  /// How things stand; a few times a second at most.
  void show(World& world, const Nemesis& nemesis);
  void clear();

 private:
  void put(const std::string& line);

  const int seconds_;
  const bool on_;
  Nanoseconds began_ = 0;
  Nanoseconds next_ = 0;
};

}  // namespace dmm::nemesis
