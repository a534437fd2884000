#pragma once

// Singles inform one object a call, in few statements and commits however many callers there are.
// What is stored is compared on the thread of the caller. Thread-safe.

#include <chrono>
#include <optional>
#include <string>

#include "dmm/resource/gathering.h"
#include "dmm/resource/rows.h"

namespace dmm::resource::internal {

class Singles final {
 public:
  Singles(const std::string& connection, std::chrono::milliseconds statement_timeout);

  /// What became of it; nothing: it has to be brought in a transaction of its own, because another
  /// one holds it, or comes between again and again. Throws as Client::inform().
  std::optional<Informed> inform(const AnyObject& object);

 private:
  Gathering reads_;
  Gathering informs_;
};

}  // namespace dmm::resource::internal
