#pragma once

// From the options of a service to its configuration.

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "dmm/service/config.h"
#include "dmm/service/options.h"

namespace dmm::service {

/// What the help says beside the options.
struct Description {
  std::string name;
  std::string about;
  std::vector<std::pair<std::string, std::string>> examples;  ///< a call, and what it does
};

/// dmm's own options, with their defaults.
Options standard_options();
Option own_option(const ServiceOption& option);

/// Takes flags, environment and the file that they name into `options`.
/// Throws Error{invalid} DMM-0404, 0501 (a file that is no YAML), 0202.
void take_all(Options& options, std::span<const std::string> arguments,
              const std::function<const char*(const char*)>& variable);

/// Throws Error{invalid} DMM-0404, 0403. The log is left as it is.
ServiceConfig config_of(const Options& options);

std::string help(const Description& description, const Options& options);
/// Every option, its value and where that came from, as YAML that could be the file.
std::string show(const Options& options);

/// Reads a file of options. Throws as take_all().
nlohmann::json read_file(const std::string& path);

}  // namespace dmm::service
