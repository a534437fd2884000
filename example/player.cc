#include "example/player.h"

#include "dmm/json.h"

#include <fmt/format.h>
#include <httplib.h>

#include <stdexcept>

namespace example {
namespace {

httplib::Client client_for(const std::string& base_url) {
  httplib::Client client(base_url);
  client.set_connection_timeout(kPlayerTimeout);
  client.set_read_timeout(kPlayerTimeout);
  client.set_write_timeout(kPlayerTimeout);
  return client;
}

std::string body_of(const httplib::Result& result, const char* method, const std::string& base_url,
                    const std::string& path) {
  if (!result) {
    throw std::runtime_error(fmt::format("{} {}{}: no answer ({})", method, base_url, path,
                                         httplib::to_string(result.error())));
  }
  if (result->status != 200) {
    throw std::runtime_error(fmt::format("{} {}{}: answered {} {}", method, base_url, path,
                                         result->status, result->body.substr(0, 200)));
  }
  return result->body;
}

}  // namespace

std::string http_get(const std::string& base_url, const std::string& path) {
  return body_of(client_for(base_url).Get(path), "GET", base_url, path);
}

std::string http_post(const std::string& base_url, const std::string& path,
                      const std::string& body) {
  return body_of(client_for(base_url).Post(path, body, "text/plain; charset=utf-8"), "POST",
                 base_url, path);
}

void check_player_name(const std::string& name) {
  const bool sound = !name.empty() && name.size() <= 64 &&
                     name.find_first_not_of(
                         "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                         "0123456789_-") == std::string::npos;
  if (!sound) {
    throw std::runtime_error(
        fmt::format("'{}' cannot be the name of a player: use 1 to 64 of letters, digits, _ and -",
                    dmm::printable(name, 80)));
  }
}

}  // namespace example
