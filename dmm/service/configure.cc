#include "dmm/service/configure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/text/yaml.h"
#include "dmm/wire.h"

namespace dmm {

const std::string& ServiceConfig::text(std::string_view option) const {
  const auto found = own.find(option);
  if (found == own.end()) {
    throw Error(code::bug, fmt::format("the service has no option \"{}\"", option));
  }
  return found->second;
}

std::int64_t ServiceConfig::number(std::string_view option) const {
  const std::string& value = text(option);
  std::int64_t number = 0;
  const char* end = value.data() + value.size();
  const auto read = std::from_chars(value.data(), end, number);
  if (read.ec != std::errc() || read.ptr != end) {
    throw Error(code::bad_option,
                fmt::format("--{}: \"{}\" is no whole number", option, printable(value, 100)));
  }
  return number;
}

bool ServiceConfig::is_on(std::string_view option) const {
  return text(option) == "true";
}

std::chrono::milliseconds ServiceConfig::duration(std::string_view option) const {
  const auto duration = service::parse_duration(text(option));
  if (!duration) {
    throw Error(code::bad_option, fmt::format("--{}: \"{}\" is no duration; write 500ms, 30s, 5min",
                                              option, printable(text(option), 100)));
  }
  return *duration;
}

namespace service {

namespace {

constexpr const char* kServer = "Namespace and server";
constexpr const char* kWork = "Work";
constexpr const char* kLogs = "Logs, metrics, traces";
constexpr const char* kOther = "Other";
constexpr const char* kLevels[] = {"debug", "info", "warn", "error"};

void check_duration(const std::string& value) {
  require(parse_duration(value).has_value(), code::bad_option,
          fmt::format("\"{}\" is no duration; write 500ms, 30s, 5min, 2h", printable(value, 100)));
}

void check_share(const std::string& value) {
  double share = 0;
  const char* end = value.data() + value.size();
  const auto read = std::from_chars(value.data(), end, share);
  require(read.ec == std::errc() && read.ptr == end && share >= 0 && share <= 1, code::bad_option,
          fmt::format("\"{}\" is no share from 0 to 1", printable(value, 100)));
}

void check_generation(const std::string& value) {
  int generation = 0;
  const char* end = value.data() + value.size();
  const auto read = std::from_chars(value.data(), end, generation);
  require(read.ec == std::errc() && read.ptr == end && generation >= 1, code::bad_option,
          fmt::format("\"{}\" is no number from 1", printable(value, 100)));
}

void check_address(const std::string& value) {
  if (value == "off") return;
  const std::size_t colon = value.rfind(':');
  unsigned port = 0;
  const char* end = value.data() + value.size();
  const char* begin = colon == std::string::npos ? end : value.data() + colon + 1;
  const auto read = std::from_chars(begin, end, port);
  require(read.ec == std::errc() && read.ptr == end && port <= 65'535 && colon > 0,
          code::bad_option,
          fmt::format("\"{}\" is no address:port, and not \"off\"", printable(value, 100)));
}

void check_url(const std::string& value) {
  require(value.empty() || value.starts_with("http://") || value.starts_with("https://"),
          code::bad_option, fmt::format("\"{}\" is no http URL", printable(value, 100)));
}

/// The file is read whenever the connection is made; that it can be is said by the option's name.
std::string secret_file(const std::string& path, std::string_view option) {
  if (path.empty()) return path;
  try {
    static_cast<void>(read_secret_file(path));
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("--{}: {}", option, error.message()));
  }
  return path;
}

/// What was given by one origin.
ConnectionOptions connection_of(const Options& options, Origin origin) {
  const auto given = [&](const char* name) {
    const Option& option = options.at(name);
    return option.origin == origin ? option.value : std::string();
  };
  ConnectionOptions connection;
  std::string servers = given("server");
  while (!servers.empty()) {
    const std::size_t comma = std::min(servers.find(','), servers.size());
    if (comma > 0) connection.servers.push_back(servers.substr(0, comma));
    servers.erase(0, comma + 1);
  }
  connection.user = given("user");
  connection.password_file = secret_file(given("password-file"), "password-file");
  connection.token_file = secret_file(given("token-file"), "token-file");
  connection.creds_file = given("creds");
  connection.nkey_seed_file = given("nkey");
  connection.tls_ca = given("tls-ca");
  connection.tls_cert = given("tls-cert");
  connection.tls_key = given("tls-key");
  return connection;
}

/// Flags, environment, file, and then the file of the command line tool.
ConnectionOptions connection_of(const Options& options) {
  ConnectionOptions connection = connection_of(options, Origin::flag);
  ConnectionOptions environment = ConnectionOptions::from_environment();
  environment.fill_from(connection_of(options, Origin::environment));
  connection.fill_from(environment);
  connection.fill_from(connection_of(options, Origin::file));
  connection.fill_from(ConnectionOptions::load());
  connection.check();
  return connection;
}

void add_server_options(Options& options) {
  options.add({"namespace",
               "Namespace to work in",
               "default",
               "NAME",
               "DMM_NAMESPACE",
               {},
               'n',
               kServer,
               [](const std::string& value) { wire::Names{value}; }});
  options.add({"generation",
               "Generation of its streams",
               "1",
               "NUMBER",
               "DMM_GENERATION",
               {},
               0,
               kServer,
               check_generation});
  options.add({"create",
               "Create streams that are missing",
               "true",
               "BOOL",
               "",
               {"true", "false"},
               0,
               kServer});
  options.add(
      {"server", "URLs of the NATS servers, with commas", "", "URL", "DMM_SERVER", {}, 0, kServer});
  options.add(
      {"user", "User; the password comes from a file", "", "NAME", "DMM_USER", {}, 0, kServer});
  options.add({"password-file", "File with the password", "", "FILE", "", {}, 0, kServer});
  options.add({"token-file", "File with a token", "", "FILE", "", {}, 0, kServer});
  options.add(
      {"creds", "Credentials file, as nsc writes it", "", "FILE", "DMM_CREDS", {}, 0, kServer});
  options.add({"nkey", "File with an nkey seed", "", "FILE", "DMM_NKEY_SEED", {}, 0, kServer});
  options.add({"tls-ca", "Certificates to trust", "", "FILE", "DMM_TLS_CA", {}, 0, kServer});
  options.add(
      {"tls-cert", "Certificate of this client", "", "FILE", "DMM_TLS_CERT", {}, 0, kServer});
  options.add({"tls-key", "Its key", "", "FILE", "DMM_TLS_KEY", {}, 0, kServer});
}

void add_work_options(Options& options) {
  options.add({"connect-timeout",
               "Time to wait for the server at the start",
               "30s",
               "DURATION",
               "DMM_CONNECT_TIMEOUT",
               {},
               0,
               kServer,
               check_duration});
  options.add({"grace",
               "Time to finish after the first SIGTERM, before it ends by force",
               fmt::format("{}s", limits::service_grace.count()),
               "DURATION",
               "DMM_GRACE",
               {},
               0,
               kWork,
               check_duration});
  options.add({"snapshots",
               "Directory where views keep what they read",
               "",
               "DIR",
               "DMM_SNAPSHOTS",
               {},
               0,
               kWork});
  options.add({"run-directory",
               "Directory in which workers of this machine see at once that one of them died",
               "",
               "DIR",
               "DMM_RUN_DIRECTORY",
               {},
               0,
               kWork});
}

void add_log_options(Options& options) {
  options.add(
      {"log-level",
       "debug, info, warn or error; also changed by a reload, over HTTP and by `dmm log-level`",
       "info",
       "LEVEL",
       "DMM_LOG_LEVEL",
       {std::begin(kLevels), std::end(kLevels)},
       0,
       kLogs});
  options.add({"log-format",
               "auto: for people on a terminal, else JSON",
               "auto",
               "FORMAT",
               "DMM_LOG_FORMAT",
               {"auto", "json"},
               0,
               kLogs});
  options.add({"http",
               "Where metrics and health are served; port 0: any; or \"off\"",
               "127.0.0.1:9464",
               "ADDRESS:PORT",
               "DMM_HTTP",
               {},
               0,
               kLogs,
               check_address});
  options.add({"traces",
               "Collector that takes OTLP over HTTP; empty: none",
               "",
               "URL",
               "DMM_TRACES",
               {},
               0,
               kLogs,
               check_url});
  options.add({"traces-sampled",
               "Share of the traces that begin here",
               "1",
               "SHARE",
               "DMM_TRACES_SAMPLED",
               {},
               0,
               kLogs,
               check_share});
}

void add_other_options(Options& options) {
  Option config{
      "config", "File of options (YAML or JSON)", "", "FILE", "DMM_SERVICE_CONFIG", {}, 'c',
      kOther};
  config.only_flag = true;
  options.add(std::move(config));
  for (auto [name, what] :
       {std::pair("help", "Show this"),
        {"version", "Show the version of dmm"},
        {"show-config", "Show every option, its value and where it came from"}}) {
    Option option{name, what, "false", "", "", {}, 0, kOther};
    option.only_flag = true;
    if (option.name == "help") option.letter = 'h';
    options.add(std::move(option));
  }
}

}  // namespace

Options standard_options() {
  Options options;
  add_server_options(options);
  add_work_options(options);
  add_log_options(options);
  add_other_options(options);
  return options;
}

Option own_option(const ServiceOption& option) {
  Option own{option.name,        option.help,    option.value,  option.shows,
             option.environment, option.choices, option.letter, ""};
  if (own.is_flag() && own.value.empty()) own.value = "false";
  return own;
}

nlohmann::json read_file(const std::string& path) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (file) {
    text.resize(limits::config_file_bytes_max + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(file.gcount()));
  }
  if (!file && !file.eof()) {
    throw Error(code::bad_option, fmt::format("{} cannot be read: {}", printable(path),
                                              std::strerror(errno != 0 ? errno : EIO)));
  }
  require(text.size() <= limits::config_file_bytes_max, code::too_large,
          fmt::format("{} has more than {} bytes", printable(path), limits::config_file_bytes_max));
  if (text.find_first_not_of(" \t\r\n") == std::string::npos) return nullptr;
  try {
    return text::parse_yaml(text);  // JSON is YAML
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", printable(path), error.message()));
  }
}

void take_all(Options& options, std::span<const std::string> arguments,
              const std::function<const char*(const char*)>& variable) {
  options.take_flags(arguments);
  options.take_environment(variable);
  const std::string path = options.at("config").value;
  if (!path.empty()) options.take_file(read_file(path), printable(path));
}

ServiceConfig config_of(const Options& options) {
  ServiceConfig config;
  const auto value = [&](const char* name) -> const std::string& { return options.at(name).value; };
  config.ns = value("namespace");
  config.generation = std::stoi(value("generation"));
  config.create = value("create") == "true";
  const Option& server = options.at("server");
  require(server.origin != Origin::flag || redact_url(server.value) == server.value,
          code::bad_option,
          "--server holds a password, which everybody on the machine can read there; put it into "
          "DMM_SERVER, or a file with --password-file or --creds");
  config.connection = connection_of(options);
  config.connect_timeout = *parse_duration(value("connect-timeout"));
  config.grace = *parse_duration(value("grace"));
  config.snapshots = value("snapshots");
  config.run_directory = value("run-directory");
  config.log_level = level_of(value("log-level")).value_or(Level::info);
  config.http = value("http") == "off" ? "" : value("http");
  config.traces = value("traces");
  std::from_chars(value("traces-sampled").data(),
                  value("traces-sampled").data() + value("traces-sampled").size(),
                  config.traces_sampled);
  config.file = value("config");
  for (const Option& option : options.all()) {
    if (option.group.empty()) config.own[option.name] = option.value;
  }
  return config;
}

std::string help(const Description& description, const Options& options) {
  constexpr std::size_t kIndent = 30;
  std::string text =
      fmt::format("{}{}\n\nUsage: {} [OPTIONS]\n", description.name,
                  description.about.empty() ? "" : ": " + description.about, description.name);
  std::vector<std::string> groups = {kServer, kWork, kLogs, kOther};
  const bool own =
      std::ranges::any_of(options.all(), [](const Option& o) { return o.group.empty(); });
  if (own) groups.insert(groups.begin(), "");
  for (const std::string& group : groups) {
    text += fmt::format("\n{}\n", group.empty() ? "Of " + description.name : group);
    for (const Option& option : options.all()) {
      if (option.group != group) continue;
      std::string left = option.letter != 0 ? fmt::format("  -{}, ", option.letter) : "      ";
      left += fmt::format("--{}{}{}", option.name, option.is_flag() ? "" : " ", option.shows);
      left += left.size() + 2 > kIndent ? "\n" + std::string(kIndent, ' ')
                                        : std::string(kIndent - left.size(), ' ');
      text += left + option.help;
      if (!option.environment.empty()) text += fmt::format(" [{}]", option.environment);
      if (!option.is_flag() && !option.value.empty())
        text += fmt::format(" (default: {})", option.value);
      text += "\n";
    }
  }
  text +=
      "\nA flag comes before the environment, that before the file of --config, that before the\n"
      "connection in ~/.config/dmm/dmm.toml. In the file, dashes of names are underscores.\n";
  if (!description.examples.empty()) text += "\nExamples\n";
  for (const auto& [call, what] : description.examples) {
    text += fmt::format("  {}\n      {}\n", call, what);
  }
  text +=
      "\nSignals: SIGTERM or SIGINT ends it when what runs is finished, a second one at once;\n"
      "SIGHUP reads the file again.\n"
      "Exit codes: 0 ended as told; 1 failed; 2 wrong options; 3 the server does not let it in;\n"
      "6 ended by force while something still ran.\n";
  return text;
}

std::string show(const Options& options) {
  std::string text;
  for (const Option& option : options.all()) {
    if (option.only_flag) continue;
    // A URL may carry a password.
    const std::string value = option.name == "server" || option.name == "traces"
                                  ? redact_url(option.value)
                                  : option.value;
    text +=
        fmt::format("{}: {}  # {}\n", option.key(), nlohmann::json(value).dump(),
                    option.origin == Origin::environment ? option.environment
                                                         : std::string(to_string(option.origin)));
  }
  return text;
}

}  // namespace service
}  // namespace dmm
