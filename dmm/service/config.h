#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "dmm/connection_options.h"
#include "dmm/log.h"

namespace dmm {

/// An option of a program's own. It is a flag --name, the environment variable, and a key of the
/// file, in which dashes are underscores.
struct ServiceOption {
  std::string name;        ///< "players-url"
  std::string help;        ///< one line
  std::string value = {};  ///< the default
  std::string shows =
      "TEXT";  ///< what the help calls its value; empty: it takes none, it is a flag
  std::string environment = {};           ///< "PLAYERS_URL"; empty: none
  std::vector<std::string> choices = {};  ///< the values that it may have; empty: any
  char letter = 0;                        ///< of the short form; 0: none
};

/// What a service was told. The options of the program are read with text() and its like.
struct ServiceConfig {
  std::string ns = "default";
  int generation = 1;
  bool create = true;  ///< streams that are missing
  ConnectionOptions connection;
  std::chrono::milliseconds connect_timeout{0};  ///< for the server, at the start
  std::string snapshots;      ///< directory of the snapshots of views; empty: none
  std::string run_directory;  ///< of the workers of this machine; empty: none
  Level log_level = Level::info;
  std::string http;                    ///< "address:port" of metrics and health; empty: none
  std::chrono::milliseconds grace{0};  ///< from the first signal to the end by force
  std::string traces;                  ///< URL of a collector (OTLP over HTTP); empty: none
  double traces_sampled = 1;           ///< share of the traces that begin here
  std::string file;                    ///< that was read; empty: none
  Logger log;                          ///< of the service

  /// The value of an option of the program. Throws Error{bug} DMM-0406 for one that was not added.
  const std::string& text(std::string_view option) const;
  /// Throw Error{invalid} DMM-0404, with the name, for text that is none.
  std::int64_t number(std::string_view option) const;
  bool is_on(std::string_view option) const;
  /// "500ms", "30s", "5min", "2h".
  std::chrono::milliseconds duration(std::string_view option) const;

  std::map<std::string, std::string, std::less<>> own;  ///< of the program, by name
};

}  // namespace dmm
