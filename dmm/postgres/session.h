#pragma once

// A Session is one connection to PostgreSQL, set up as dmm needs it, and never another one: libpqxx
// 6 would reconnect behind our back and lose LISTEN and settings; here a lost connection throws,
// and its owner opens a new Session. Used by one thread.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <pqxx/pqxx>

#include "dmm/error.h"

namespace dmm::postgres::internal {

/// The parts of a connection string that may be shown: "host=db port=5432 dbname=music user=app".
std::string describe_connection(const std::string& connection);

/// Throws Error{invalid} DMM-0404 if libpq cannot read `connection`.
void check_connection_string(const std::string& connection);

/// The Error for the exception that is being handled, in which an Error stays as it is.
/// doing   for example "reading table public.songs".
Error current_error(std::string_view doing);

/// Runs `work` and throws an Error instead of what libpqxx throws.
template <class Work>
auto guarded(std::string_view doing, Work&& work) {
  try {
    return work();
  } catch (...) {
    throw current_error(doing);
  }
}

/// Waits until `file` can be read, or for the timeout.
void wait_readable(int file, std::chrono::milliseconds timeout);

struct SessionOptions {
  std::string application;  ///< application_name, unless the connection names one
  std::chrono::milliseconds statement_timeout = std::chrono::seconds(60);
  std::chrono::milliseconds lock_timeout{0};  ///< 0: none
};

class Session final {
 public:
  /// Connects and sets the session up. Throws Error as postgres::table() says.
  Session(const std::string& connection, const SessionOptions& options);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  /// Throws Error{retry} DMM-0110 if this is not the connection that was opened.
  pqxx::connection& connection();

  /// From now on notifications of `channel` end wait().
  void listen(const std::string& channel);
  /// Waits for a notification, for `wake` (a file descriptor) to be readable, or for the timeout.
  /// returns   whether there was a notification. Throws if the connection is lost.
  bool wait(int wake, std::chrono::milliseconds timeout);

 private:
  class Ear;

  std::unique_ptr<pqxx::connection> connection_;
  std::unique_ptr<Ear> ear_;  // before the connection goes
  int backend_ = 0;
};

}  // namespace dmm::postgres::internal
