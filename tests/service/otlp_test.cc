// Goal: spans reach a collector as OTLP says, and a collector that is dead, slow or full of
// refusals costs nothing but the spans. Method: a collector of the test's own, and none at all.

#include <catch2/catch.hpp>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "dmm/error.h"
#include "dmm/limits.h"
#include "dmm/service/http.h"
#include "dmm/service/otlp.h"
#include "dmm/testing/free_port.h"
#include "dmm/testing/wait_for.h"

namespace {

using dmm::Span;
using dmm::TraceContext;
using dmm::service::HttpAnswer;
using dmm::service::HttpRequest;
using dmm::service::HttpServer;
using dmm::service::OtlpExporter;
using json = nlohmann::json;
using namespace std::chrono_literals;

Span span_called(std::string name) {
  Span span;
  span.context = TraceContext::begin(true);
  span.name = std::move(name);
  span.begun = std::chrono::system_clock::time_point(1'700'000'000s);
  span.took = 1'500us;
  return span;
}

/// Listens; the system makes the connections, and nobody ever reads from them.
class BlackHole {
 public:
  BlackHole() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(socket_, 16) == 0);
    socklen_t length = sizeof address;
    REQUIRE(::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    port_ = ntohs(address.sin_port);
  }
  ~BlackHole() { ::close(socket_); }
  BlackHole(const BlackHole&) = delete;
  BlackHole& operator=(const BlackHole&) = delete;
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  /// Somebody connected.
  bool reached() const {
    pollfd waiting{socket_, POLLIN, 0};
    return ::poll(&waiting, 1, 0) == 1;
  }

 private:
  int socket_;
  std::uint16_t port_ = 0;
};

class Collector {
 public:
  explicit Collector(int status = 200)
      : server_(
            "127.0.0.1", 0,
            [this, status](const HttpRequest& request) -> HttpAnswer {
              const std::lock_guard lock(mutex_);
              requests_.push_back(request);
              return {status, "{}", "application/json"};
            },
            1'000'000) {}
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_.port()); }
  std::vector<HttpRequest> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<HttpRequest> requests_;
  HttpServer server_;
};

}  // namespace

TEST_CASE("otlp: a span is written with everything that it has", "[service][otlp][unit]") {
  Span span = span_called("materialize player");
  span.role = Span::Role::consumer;
  span.parent = TraceContext::begin(true);
  span.attributes = {{"dmm.id", "kit\xff chen"}};
  span.links = {TraceContext::begin(true)};
  span.failed = true;
  span.error = "no";
  const json all = dmm::service::otlp_json({span}, "players", "music");
  const json& resource = all.at("resourceSpans").at(0);
  CHECK(resource.at("resource").at("attributes").at(0).at("value").at("stringValue") == "players");
  const json& scope = resource.at("scopeSpans").at(0);
  CHECK(scope.at("scope").at("name") == "dmm");
  const json& one = scope.at("spans").at(0);
  CHECK(one.at("traceId") == span.context.trace_id());
  CHECK(one.at("spanId") == span.context.span_id());
  CHECK(one.at("parentSpanId") == span.parent->span_id());
  CHECK(one.at("kind") == 5);
  CHECK(one.at("startTimeUnixNano") == "1700000000000000000");
  CHECK(one.at("endTimeUnixNano") == "1700000000001500000");
  CHECK(one.at("attributes").at(0).at("key") == "dmm.id");
  CHECK(one.at("links").at(0).at("traceId") == span.links[0].trace_id());
  CHECK(one.at("status").at("code") == 2);
}

TEST_CASE("otlp: spans reach the collector and what waits is sent at the end",
          "[service][otlp][unit]") {
  const Collector collector;
  {
    OtlpExporter exporter(collector.url(), 1, "players", "music", dmm::Logger());
    CHECK(exporter.sample());
    exporter.record(span_called("one"));
    dmm::testing::wait_for("the span", [&] { return exporter.sent() == 1; });
    exporter.record(span_called("two"));
  }
  const auto requests = collector.requests();
  REQUIRE(requests.size() == 2);
  CHECK(requests[0].method == "POST");
  CHECK(requests[0].path == "/v1/traces");
  const json last = json::parse(requests[1].body);
  CHECK(last.at("resourceSpans").at(0).at("scopeSpans").at(0).at("spans").at(0).at("name") ==
        "two");
}

TEST_CASE("otlp: a path that is given is kept", "[service][otlp][unit]") {
  const Collector collector;
  {
    OtlpExporter exporter(collector.url() + "/my/traces", 1, "players", "music", dmm::Logger());
    exporter.record(span_called("one"));
  }
  CHECK(collector.requests().at(0).path == "/my/traces");
}

TEST_CASE("otlp: a share of the traces is sampled", "[service][otlp][unit]") {
  const Collector collector;
  OtlpExporter none(collector.url(), 0, "players", "music", dmm::Logger());
  OtlpExporter half(collector.url(), 0.5, "players", "music", dmm::Logger());
  int sampled = 0;
  for (int i = 0; i < 10'000; ++i) {
    CHECK_FALSE(none.sample());
    sampled += half.sample() ? 1 : 0;
  }
  CHECK(sampled > 4'500);
  CHECK(sampled < 5'500);
}

TEST_CASE("otlp: a collector that is not there costs the spans and one line",
          "[service][otlp][unit]") {
  std::atomic<int> warnings{0};
  const dmm::Logger log(dmm::Level::info, [&](dmm::Level level, std::string_view, const json&) {
    if (level == dmm::Level::warn) ++warnings;
  });
  const std::string url = "http://127.0.0.1:" + std::to_string(dmm::testing::free_port());
  {
    OtlpExporter exporter(url, 1, "players", "music", log);
    exporter.record(span_called("one"));
    dmm::testing::wait_for("the loss", [&] { return exporter.dropped() == 1; });
    CHECK_FALSE(exporter.sample());  // nothing new is begun for nobody
    // What comes meanwhile waits, as far as there is room, and nobody waits for it.
    for (std::size_t i = 0; i < dmm::limits::spans_waiting_max + 100; ++i) {
      exporter.record(span_called("more"));
    }
    dmm::testing::wait_for("what does not fit to be dropped",
                           [&] { return exporter.dropped() >= 100; });
    CHECK(exporter.sent() == 0);
  }
  CHECK(warnings == 1);
}

TEST_CASE("otlp: a collector that takes connections and never answers holds nobody up",
          "[service][otlp][fault]") {
  const BlackHole hole;
  {
    OtlpExporter exporter(hole.url(), 1, "players", "music", dmm::Logger());
    // Nobody has found out yet; what does not fit is dropped at once, and not waited for.
    for (std::size_t i = 0; i < dmm::limits::spans_waiting_max + 1'000; ++i) {
      exporter.record(span_called("more"));
    }
    CHECK(exporter.dropped() > 0);
    dmm::testing::wait_for(
        "it to count as dead", [&] { return !exporter.sample(); }, 60s);
    CHECK(exporter.sent() == 0);
    exporter.record(span_called("later"));
  }
  CHECK(hole.reached());
}

TEST_CASE("otlp: a collector that refuses is as good as none", "[service][otlp][unit]") {
  const Collector collector(503);
  OtlpExporter exporter(collector.url(), 1, "players", "music", dmm::Logger());
  exporter.record(span_called("one"));
  dmm::testing::wait_for("the loss", [&] { return exporter.dropped() == 1; });
  CHECK(exporter.sent() == 0);
}

TEST_CASE("otlp: what is no URL is refused", "[service][otlp][unit]") {
  CHECK_THROWS_AS(OtlpExporter("http://", 1, "players", "music", dmm::Logger()), dmm::Error);
}
