#pragma once

namespace dmm::service {

/// What this process takes of its machine. Times are seconds.
struct ProcessUse {
  double cpu = 0;
  double resident_bytes = 0;
  double open_fds = 0;
  double max_fds = 0;
  double started_at = 0;  ///< Unix time

  /// As it is now; a member that the system does not tell is 0. Any thread.
  static ProcessUse read();
};

}  // namespace dmm::service
