#pragma once

// The little HTTP that a service needs; the only place that knows the library behind it.

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "dmm/limits.h"

namespace dmm::service {

struct HttpRequest {
  std::string method;
  std::string path;
  std::string host;  ///< the header, without the port
  std::string body;
};

struct HttpAnswer {
  int status = 200;
  std::string body;
  std::string type = "text/plain; charset=utf-8";
};

/// Serves until destroyed, on few threads; a connection serves one request.
class HttpServer final {
 public:
  /// Called on several threads at a time. What it throws is an answer 500.
  using Handler = std::function<HttpAnswer(const HttpRequest&)>;

  /// address   "127.0.0.1", "[::1]", "0.0.0.0", "localhost".
  /// port      0: any.
  /// body_bytes_max   of a request; a longer one is answered 413.
  /// Throws Error{invalid} DMM-0404 if it cannot listen there.
  HttpServer(const std::string& address, int port, Handler handler,
             std::size_t body_bytes_max = limits::http_body_bytes_max);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  int port() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Posts JSON to one URL, over a connection that is kept. One thread.
class HttpPoster final {
 public:
  /// Throws Error{invalid} DMM-0404 for a URL that is none.
  HttpPoster(const std::string& url, std::chrono::milliseconds timeout);
  HttpPoster(const HttpPoster&) = delete;
  HttpPoster& operator=(const HttpPoster&) = delete;
  ~HttpPoster();

  /// Empty if it was taken, else why not. Does not throw.
  std::string post(const std::string& json) noexcept;
  /// Ends a post that is under way; any thread.
  void cancel() noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace dmm::service
