#include "dmm/service/http.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::service {

namespace {

/// Without the port, and without the brackets of an IPv6 address.
std::string host_of(std::string host) {
  if (host.starts_with('[')) return host.substr(1, host.find(']') - 1);
  return host.substr(0, host.find(':'));
}

}  // namespace

struct HttpServer::Impl {
  httplib::Server server;
  Handler handler;
  int port = 0;
  std::mutex mutex;
  std::condition_variable changed;
  bool ended = false;
  std::thread thread;

  void answer(const httplib::Request& request, httplib::Response& response) const {
    HttpAnswer answer;
    try {
      answer = handler(
          {request.method, request.path, host_of(request.get_header_value("Host")), request.body});
    } catch (const std::exception& e) {
      answer = {500, fmt::format("{}\n", e.what())};
    }
    response.status = answer.status;
    response.set_header("Cache-Control", "no-store");
    response.set_header("X-Content-Type-Options", "nosniff");
    response.set_content(answer.body, answer.type);
  }
};

HttpServer::HttpServer(const std::string& address, int port, Handler handler,
                       std::size_t body_bytes_max)
    : impl_(std::make_unique<Impl>()) {
  httplib::Server& server = impl_->server;
  impl_->handler = std::move(handler);
  server.new_task_queue = [] { return new httplib::ThreadPool(limits::http_threads); };
  server.set_payload_max_length(body_bytes_max);
  server.set_read_timeout(limits::http_timeout);
  server.set_write_timeout(limits::http_timeout);
  // A kept connection would keep one of the few threads.
  server.set_keep_alive_max_count(1);
  // The library's own choice lets two programs listen on one port, and each gets some requests.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  const auto handle = [impl = impl_.get()](const httplib::Request& request,
                                           httplib::Response& response) {
    impl->answer(request, response);
  };
  server.Get(".*", handle).Put(".*", handle).Post(".*", handle);
  const std::string host = address.starts_with('[') ? host_of(address) : address;
  impl_->port = port;
  const bool bound = port == 0 ? (impl_->port = server.bind_to_any_port(host)) > 0
                               : server.bind_to_port(host, port);
  if (!bound) {
    throw Error(code::bad_option, fmt::format("cannot listen on {}:{}", printable(address), port));
  }
  impl_->thread = std::thread([impl = impl_.get()] {
    impl->server.listen_after_bind();
    const std::lock_guard lock(impl->mutex);
    impl->ended = true;
    impl->changed.notify_one();
  });
}

HttpServer::~HttpServer() {
  // A stop that comes before the server has begun is not heard, so it is said until it is.
  std::unique_lock lock(impl_->mutex);
  do {
    impl_->server.stop();
  } while (!impl_->changed.wait_for(lock, std::chrono::milliseconds(10),
                                    [this] { return impl_->ended; }));
  lock.unlock();
  impl_->thread.join();
}

int HttpServer::port() const noexcept {
  return impl_->port;
}

struct HttpPoster::Impl {
  std::unique_ptr<httplib::Client> client;
  std::string path;
};

HttpPoster::HttpPoster(const std::string& url, std::chrono::milliseconds timeout)
    : impl_(std::make_unique<Impl>()) {
  const std::size_t scheme = url.find("://");
  const std::size_t slash = scheme == std::string::npos ? scheme : url.find('/', scheme + 3);
  const std::size_t end = std::min(slash, url.size());
  require(scheme != std::string::npos && end > scheme + 3, code::bad_option,
          "the URL of the collector names no host");
  impl_->path = slash == std::string::npos ? "/" : url.substr(slash);
  impl_->client = std::make_unique<httplib::Client>(url.substr(0, slash));
  require(impl_->client->is_valid(), code::bad_option, "the URL of the collector is no URL");
  impl_->client->set_connection_timeout(timeout);
  impl_->client->set_read_timeout(timeout);
  impl_->client->set_write_timeout(timeout);
  impl_->client->set_keep_alive(true);
}

HttpPoster::~HttpPoster() = default;

std::string HttpPoster::post(const std::string& json) noexcept {
  try {
    const httplib::Result result = impl_->client->Post(impl_->path, json, "application/json");
    if (!result) return httplib::to_string(result.error());
    if (result->status / 100 == 2) return {};
    return fmt::format("it answered {}", result->status);
  } catch (const std::exception& e) {
    return e.what();
  }
}

void HttpPoster::cancel() noexcept {
  impl_->client->stop();
}

}  // namespace dmm::service
