#include "dmm/testing/nats_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "dmm/error.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/wait_for.h"

namespace dmm::testing {

namespace {

constexpr int kStartTries = 5;  // another program may take a free port before the server does
constexpr std::size_t kLogTailBytes = 2'000;

// A text as the configuration file wants it; nlohmann is not needed for two escapes.
std::string in_quotes(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += c;
  }
  return result + '"';
}

std::string listed(const std::vector<std::string>& texts) {
  std::string result = "[";
  for (const std::string& text : texts) {
    if (result.size() > 1) result += ", ";
    result += in_quotes(text);
  }
  return result + "]";
}

std::string user_block(const NatsUser& user) {
  std::string block = user.nkey.empty()
                          ? fmt::format("    {{ user: {}, password: {}", in_quotes(user.user),
                                        in_quotes(user.password))
                          : fmt::format("    {{ nkey: {}", in_quotes(user.nkey));
  if (!user.publish.empty() || !user.subscribe.empty()) {
    block += ", permissions: {";
    if (!user.publish.empty()) block += fmt::format(" publish: {}", listed(user.publish));
    if (!user.publish.empty() && !user.subscribe.empty()) block += ",";
    if (!user.subscribe.empty()) {
      block += fmt::format(" subscribe: {}", listed(user.subscribe));
    }
    block += " }";
  }
  return block + " }\n";
}

// The first bytes that the server sends to whoever connects; empty if nobody listens.
std::string greeting(std::uint16_t port) {
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket < 0) return {};
  const timeval patience{1, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string text;
  if (::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    char buffer[64];
    const ssize_t n = ::recv(socket, buffer, sizeof buffer, 0);
    if (n > 0) text.assign(buffer, static_cast<std::size_t>(n));
  }
  ::close(socket);
  return text;
}

}  // namespace

std::string find_nats_server() {
  const char* named = std::getenv("DMM_NATS_SERVER");
  if (named != nullptr && *named != '\0') {
    if (const auto path = find_program(named)) return *path;
    throw Error(
        code::not_found,
        fmt::format("DMM_NATS_SERVER names {}, which is not a program that can be run", named));
  }
  if (const auto path = find_program("nats-server", {"/usr/sbin", "/usr/local/bin"})) return *path;
  throw Error(code::not_found,
              "there is no nats-server in PATH, /usr/sbin or /usr/local/bin; install the Debian "
              "package nats-server (apt-get install nats-server), or name the program in "
              "DMM_NATS_SERVER");
}

NatsServer::NatsServer(NatsServerOptions options)
    : options_(std::move(options)), program_(find_nats_server()), directory_("dmm-nats") {
  if (options_.store_directory.empty()) options_.store_directory = directory_ / "store";
  if (options_.log_file.empty()) options_.log_file = directory_ / "nats-server.log";
  const bool choose_port = options_.port == 0;
  const bool choose_mqtt_port = options_.mqtt_port == 0;
  for (int left = kStartTries;; --left) {
    if (choose_port) options_.port = free_port();
    if (choose_mqtt_port && options_.mqtt) options_.mqtt_port = free_port();
    try {
      start();
      return;
    } catch (const Error&) {
      const bool taken = log().find("address already in use") != std::string::npos;
      if (!choose_port || !taken || left <= 1) throw;
    }
  }
}

NatsServer::~NatsServer() {
  // By SIGKILL (in ChildProcess): whoever wants its files in order calls stop().
  process_.reset();
}

std::string NatsServer::configuration() const {
  std::string text = fmt::format("server_name: \"dmm-{}\"\nlisten: \"127.0.0.1:{}\"\n",
                                 options_.port, options_.port);
  if (options_.jetstream) {
    text += fmt::format("jetstream {{ store_dir: {} }}\n",
                        in_quotes(options_.store_directory.string()));
  }
  if (options_.mqtt) {
    text += fmt::format("mqtt {{ listen: \"127.0.0.1:{}\" }}\n", options_.mqtt_port);
  }
  if (options_.payload_bytes_max != 0) {
    text += fmt::format("max_payload: {}\n", options_.payload_bytes_max);
  }
  if (!options_.token.empty()) {
    text += fmt::format("authorization {{ token: {} }}\n", in_quotes(options_.token));
  } else if (!options_.users.empty()) {
    text += "authorization {\n  users = [\n";
    for (const NatsUser& user : options_.users) text += user_block(user);
    text += "  ]\n}\n";
  }
  if (!options_.tls.cert.empty()) {
    text += fmt::format("tls {{\n  cert_file: {}\n  key_file: {}\n", in_quotes(options_.tls.cert),
                        in_quotes(options_.tls.key));
    if (!options_.tls.ca.empty())
      text += fmt::format("  ca_file: {}\n", in_quotes(options_.tls.ca));
    if (options_.tls.verify_clients) text += "  verify: true\n";
    text += "  timeout: 5\n}\n";
  }
  return text + options_.extra + "\n";
}

void NatsServer::launch() {
  const std::filesystem::path file = directory_ / "nats-server.conf";
  write_file(file, configuration());
  ChildOptions child;
  child.arguments = {"-c", file.string()};
  child.log_file = options_.log_file;
  child.own_process_group = true;
  process_ = std::make_unique<ChildProcess>(program_, std::move(child));
}

void NatsServer::start() {
  if (running()) return;
  launch();
  // JetStream and MQTT are up before the server greets its first client.
  const bool answered = becomes_true(
      [this] { return !process_->running() || greeting(options_.port).starts_with("INFO "); },
      options_.start_deadline);
  if (answered && process_->running()) return;
  const std::string how =
      process_->running()
          ? fmt::format("does not answer after {} ms", options_.start_deadline.count())
          : fmt::format("ended with {}", to_string(process_->stop()));
  process_.reset();
  throw Error(code::unreachable, fmt::format("{} on 127.0.0.1:{} {}; the end of its log:\n{}",
                                             program_, options_.port, how, tail_of_log()));
}

void NatsServer::stop() {
  if (!process_) return;
  resume();  // a stopped process would not see SIGTERM
  process_->kill(SIGTERM);
  const auto status = process_->wait(std::chrono::seconds(20));
  process_.reset();
  if (!status) {
    throw Error(code::timed_out, fmt::format("{} did not end within 20 s of SIGTERM; the end of "
                                             "its log:\n{}",
                                             program_, tail_of_log()));
  }
}

void NatsServer::kill() {
  process_.reset();
}

void NatsServer::pause() {
  if (process_) process_->kill(SIGSTOP);
}

void NatsServer::resume() {
  if (process_) process_->kill(SIGCONT);
}

bool NatsServer::running() {
  return process_ && process_->running();
}

pid_t NatsServer::pid() const noexcept {
  return process_ ? process_->pid() : 0;
}

std::string NatsServer::url() const {
  return fmt::format("{}://127.0.0.1:{}", options_.tls.cert.empty() ? "nats" : "tls",
                     options_.port);
}

std::string NatsServer::log() const {
  return read_file(options_.log_file);
}

std::string NatsServer::tail_of_log() const {
  const std::string text = log();
  return text.size() <= kLogTailBytes ? text : text.substr(text.size() - kLogTailBytes);
}

}  // namespace dmm::testing
