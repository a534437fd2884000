#include "dmm/postgres/session.h"

#include <fmt/format.h>
#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

namespace dmm::postgres::internal {

namespace {

constexpr int kOldestServer = 130000;

struct Parameter {
  std::string name;
  std::string value;
};

// What the user wrote, as a list. libpq's own defaults and the environment are not in it.
std::vector<Parameter> parse_connection(const std::string& text) {
  require(text.find('\0') == std::string::npos, code::bad_option,
          "the connection string of PostgreSQL holds a NUL byte");
  char* problem = nullptr;
  const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption*)> options(
      PQconninfoParse(text.c_str(), &problem), &PQconninfoFree);
  if (options == nullptr) {
    // The words of libpq may quote the text, and with it a password.
    PQfreemem(problem);
    throw Error(code::bad_option,
                "the connection string of PostgreSQL is neither a list of name=value nor "
                "postgresql://...");
  }
  std::vector<Parameter> parameters;
  for (const PQconninfoOption* option = options.get(); option->keyword != nullptr; ++option) {
    if (option->val != nullptr) parameters.push_back({option->keyword, option->val});
  }
  return parameters;
}

bool has(const std::vector<Parameter>& parameters, std::string_view name) {
  return std::any_of(parameters.begin(), parameters.end(),
                     [&](const Parameter& parameter) { return parameter.name == name; });
}

std::string quoted(std::string_view value) {
  std::string text = "'";
  for (const char c : value) {
    if (c == '\'' || c == '\\') text += '\\';
    text += c;
  }
  return text + "'";
}

// A dead server or network is found out within half a minute, and of several hosts the one that
// can be written to is taken, unless the user says otherwise.
std::string completed(const std::string& connection, const SessionOptions& options) {
  std::vector<Parameter> parameters = parse_connection(connection);
  const auto fill = [&](const char* name, const std::string& value) {
    if (!has(parameters, name)) parameters.push_back({name, value});
  };
  fill("connect_timeout", "10");
  fill("keepalives_idle", "10");
  fill("keepalives_interval", "5");
  fill("keepalives_count", "3");
  fill("tcp_user_timeout", "30000");
  fill("target_session_attrs", "read-write");
  fill("fallback_application_name", options.application);
  fill("client_encoding", "UTF8");
  std::string text;
  for (const Parameter& parameter : parameters) {
    text += parameter.name + "=" + quoted(parameter.value) + " ";
  }
  return text;
}

// What libpq and the server say, on one line.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (c != '\n') {
      line += c;
    } else if (!line.empty() && !line.ends_with("; ")) {
      line += "; ";
    }
  }
  if (line.ends_with("; ")) line.resize(line.size() - 2);
  return line;
}

bool says_denied(std::string_view text) {
  constexpr std::array kWords = {"authentication failed", "pg_hba.conf",
                                 "no password supplied",  "does not exist",
                                 "permission denied",     "is not permitted"};
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](const char* words) { return text.find(words) != std::string_view::npos; });
}

// The functions of the schema dmm raise these.
const Code* code_of_state(std::string_view state) {
  if (state == "DM408") return &code::no_table_key;
  if (state == "DM412") return &code::table_unfit;
  return nullptr;
}

}  // namespace

std::string describe_connection(const std::string& connection) {
  std::string text;
  for (const Parameter& parameter : parse_connection(connection)) {
    for (const char* shown : {"host", "hostaddr", "port", "dbname", "user", "service"}) {
      if (parameter.name != shown) continue;
      text += fmt::format("{}{}={}", text.empty() ? "" : " ", parameter.name, parameter.value);
    }
  }
  return text.empty() ? "the default database" : text;
}

void check_connection_string(const std::string& connection) {
  parse_connection(connection);
}

Error current_error(std::string_view doing) {
  try {
    throw;
  } catch (const Error& error) {
    return error;
  } catch (const pqxx::broken_connection& error) {
    return Error(code::postgres_unreachable, fmt::format("{}: {}", doing, one_line(error.what())));
  } catch (const pqxx::insufficient_privilege& error) {  // libpqxx 6 drops its SQLSTATE
    return Error(code::postgres_denied, fmt::format("{}: {}", doing, one_line(error.what())));
  } catch (const pqxx::sql_error& error) {
    const std::string& state = error.sqlstate();
    if (const Code* known = code_of_state(state)) {
      return Error(*known, fmt::format("{}: {}", doing, one_line(error.what())));
    }
    return Error(code::postgres_refused, fmt::format("{}: {}{}{}", doing, one_line(error.what()),
                                                     state.empty() ? "" : ", SQLSTATE ", state));
  } catch (const std::exception& error) {
    return Error(code::postgres_refused, fmt::format("{}: {}", doing, one_line(error.what())));
  }
}

void wait_readable(int file, std::chrono::milliseconds timeout) {
  pollfd waited{file, POLLIN, 0};
  if (::poll(&waited, 1, static_cast<int>(timeout.count())) < 0 && errno != EINTR) {
    throw std::system_error(errno, std::generic_category(), "poll");
  }
}

class Session::Ear final : public pqxx::notification_receiver {
 public:
  using pqxx::notification_receiver::notification_receiver;
  void operator()(const std::string&, int) override { heard_ = true; }
  bool take() { return std::exchange(heard_, false); }

 private:
  bool heard_ = false;
};

Session::Session(const std::string& connection, const SessionOptions& options) {
  const std::string doing =
      fmt::format("connecting to PostgreSQL, {}", describe_connection(connection));
  try {
    connection_ = std::make_unique<pqxx::connection>(completed(connection, options));
  } catch (const pqxx::broken_connection& error) {
    throw Error(says_denied(error.what()) ? code::postgres_denied : code::postgres_unreachable,
                fmt::format("{}: {}", doing, one_line(error.what())));
  } catch (...) {
    throw current_error(doing);
  }
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  connection_->inhibit_reactivation(true);
#pragma GCC diagnostic pop
  backend_ = connection_->backendpid();
  guarded(doing, [&] {
    require(connection_->server_version() >= kOldestServer, code::postgres_unsupported,
            fmt::format("PostgreSQL there has version {}, and 13 is the oldest that works",
                        connection_->server_version() / 10000));
    // Documents must look the same in every session; a role may have other defaults. And nothing
    // is told that a crash could undo.
    pqxx::nontransaction setup(*connection_);
    setup.exec(fmt::format(
        "SET search_path = pg_catalog; SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD';"
        "SET IntervalStyle = 'postgres'; SET bytea_output = 'hex'; SET extra_float_digits = 1;"
        "SET lc_monetary = 'C'; SET row_security = off; SET client_min_messages = warning;"
        "SET standard_conforming_strings = on; SET default_transaction_read_only = off;"
        "SET statement_timeout = {}; SET lock_timeout = {};"
        "SET default_transaction_isolation = 'read committed';"
        "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN"
        " ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout');"
        "SELECT set_config('synchronous_commit', 'on', false)"
        " WHERE current_setting('synchronous_commit') IN ('off', 'local')",
        options.statement_timeout.count(), options.lock_timeout.count()));
  });
}

Session::~Session() = default;

pqxx::connection& Session::connection() {
  if (!connection_->is_open() || connection_->backendpid() != backend_) {
    throw Error(code::postgres_unreachable, "the connection to PostgreSQL was lost");
  }
  return *connection_;
}

void Session::listen(const std::string& channel) {
  guarded("listening for notifications of PostgreSQL",
          [&] { ear_ = std::make_unique<Ear>(connection(), channel); });
}

bool Session::wait(int wake, std::chrono::milliseconds timeout) {
  return guarded("waiting for notifications of PostgreSQL", [&] {
    connection().get_notifs();  // some came along with the answers to statements
    if (ear_ != nullptr && ear_->take()) return true;
    std::array<pollfd, 2> files{{{connection_->sock(), POLLIN, 0}, {wake, POLLIN, 0}}};
    const int ready = ::poll(files.data(), files.size(), static_cast<int>(timeout.count()));
    if (ready < 0 && errno != EINTR) {
      throw std::system_error(errno, std::generic_category(), "poll");
    }
    if (ready > 0 && files[0].revents != 0) connection().get_notifs();
    return ear_ != nullptr && ear_->take();
  });
}

}  // namespace dmm::postgres::internal
