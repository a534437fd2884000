#pragma once

// Looks at the server as nobody in a fleet can: is what was said done, and what was left behind?

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/testing/memory_server.h"
#include "tests/simulation/journal.h"

namespace dmm::simulation {

/// What is known of an identity from outside.
struct Known {
  std::uint64_t news = 0;          ///< the newest that was said
  std::uint64_t acknowledged = 0;  ///< the newest that was acknowledged
  bool gone = false;               ///< as last said
};

/// How an identity of namespace "sim" is not as it should be, in words; empty: it is.
/// doomed   it cannot succeed, so it has to be parked if there is something to do.
std::string differs(const testing::MemoryServer& server, const std::string& key, const Known& known,
                    bool doomed);

/// Who lives on a server, and who ever did.
struct Household {
  std::size_t workers = 0;
  std::size_t types = 0;
  std::size_t lives = 0;
};

/// What they left on the server when all is done.
void check_left(testing::MemoryServer& server, const Household& household,
                std::vector<Violation>& found);
void check_most(std::string_view what, std::size_t count, std::size_t most,
                std::vector<Violation>& found);

/// The number in a member of a value; 0: there is none.
std::uint64_t number_in(const std::string& payload, const char* member);

}  // namespace dmm::simulation
