#include "example/catalogue/label.h"

#include <fmt/format.h>
#include <httplib.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

namespace example {

namespace {

constexpr std::size_t kPageSize = 25;

/// A server on a free port of 127.0.0.1, on a thread of its own.
class Listening final {
 public:
  explicit Listening(httplib::Server& server) : server_(server) {
    server.set_keep_alive_max_count(1);  // nobody waits for a connection that nobody uses
    port_ = server.bind_to_any_port("127.0.0.1");
    if (port_ < 0) throw std::runtime_error("no port is free on 127.0.0.1");
    thread_ = std::thread([&server] { server.listen_after_bind(); });
  }
  ~Listening() {
    server_.stop();
    thread_.join();
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
  int port() const noexcept { return port_; }

 private:
  httplib::Server& server_;
  int port_ = 0;
  std::thread thread_;
};

nlohmann::json get(int port, const std::string& path, bool& found) {
  httplib::Client client("127.0.0.1", port);
  client.set_read_timeout(std::chrono::seconds(5));
  const auto answer = client.Get(path);
  if (!answer) {
    throw std::runtime_error(
        fmt::format("the label does not answer {}: {}", path, httplib::to_string(answer.error())));
  }
  found = answer->status != 404;
  if (!found) return nullptr;
  if (answer->status != 200) {
    throw std::runtime_error(fmt::format("the label answers {} with {}", path, answer->status));
  }
  return nlohmann::json::parse(answer->body);
}

}  // namespace

struct Label::Impl {
  httplib::Server server;
  std::unique_ptr<Listening> listening;
  mutable std::mutex mutex;  ///< guards what follows
  std::map<std::string, Album> albums;
  double failing = 0;
  std::uint64_t failed = 0;
  std::map<std::string, int> in_a_row;  ///< failures of a path
  std::mt19937 random{std::random_device{}()};

  /// True if this request fails, and has been answered so. Never three times in a row, so that
  /// nobody has to wait for luck.
  bool fails(const httplib::Request& request, httplib::Response& response) {
    std::uniform_real_distribution<double> share(0, 1);
    int& row = in_a_row[request.target];
    if (row == 2 || share(random) >= failing) {
      row = 0;
      return false;
    }
    ++row;
    ++failed;
    if (share(random) < 0.5) {
      response.status = 500;
      return true;
    }
    // Ends before the answer is complete.
    response.set_content_provider(
        1, "application/json", [](std::size_t, std::size_t, httplib::DataSink&) { return false; });
    return true;
  }

  void list(const httplib::Request& request, httplib::Response& response) {
    const std::lock_guard lock(mutex);
    if (fails(request, response)) return;
    const std::size_t page = std::max(1, std::atoi(request.get_param_value("page").c_str()));
    nlohmann::json answer{{"albums", nlohmann::json::array()},
                          {"pages", (albums.size() + kPageSize - 1) / kPageSize}};
    std::size_t index = 0;
    for (const auto& [id, album] : albums) {
      if (index / kPageSize + 1 == page) answer["albums"].push_back(album);
      ++index;
    }
    response.set_content(answer.dump(), "application/json");
  }

  void show(const httplib::Request& request, httplib::Response& response) {
    const std::lock_guard lock(mutex);
    if (fails(request, response)) return;
    const auto found = albums.find(request.matches[1]);
    if (found == albums.end()) {
      response.status = 404;
      return;
    }
    nlohmann::json answer = found->second;
    for (int i = 1; i <= 3; ++i) {
      answer["songs"].push_back(fmt::format("{}, part {}", found->second.title, i));
    }
    response.set_content(answer.dump(), "application/json");
  }
};

Label::Label() : impl_(std::make_unique<Impl>()) {
  impl_->server.Get("/albums", [impl = impl_.get()](const auto& request, auto& response) {
    impl->list(request, response);
  });
  impl_->server.Get(
      R"(/albums/([\w-]+))",
      [impl = impl_.get()](const auto& request, auto& response) { impl->show(request, response); });
  impl_->listening = std::make_unique<Listening>(impl_->server);
}

Label::~Label() = default;

int Label::port() const noexcept {
  return impl_->listening->port();
}

void Label::release(const std::string& id, const std::string& title) {
  const std::lock_guard lock(impl_->mutex);
  impl_->albums[id] = {id, title, 1};
}

Album Label::rename(const std::string& id, const std::string& title) {
  const std::lock_guard lock(impl_->mutex);
  Album& album = impl_->albums.at(id);
  album.title = title;
  ++album.revision;
  return album;
}

void Label::withdraw(const std::string& id) {
  const std::lock_guard lock(impl_->mutex);
  impl_->albums.erase(id);
}

void Label::misbehave(double failing) {
  const std::lock_guard lock(impl_->mutex);
  impl_->failing = failing;
}

std::vector<Album> Label::albums() const {
  const std::lock_guard lock(impl_->mutex);
  std::vector<Album> all;
  for (const auto& [id, album] : impl_->albums) all.push_back(album);
  return all;
}

std::uint64_t Label::failed() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->failed;
}

LabelPage fetch_page(int port, int page) {
  bool found = false;
  const nlohmann::json answer = get(port, fmt::format("/albums?page={}", page), found);
  if (!found) throw std::runtime_error("the label has no list");
  return {answer.at("albums").get<std::vector<Album>>(), answer.at("pages").get<int>()};
}

std::optional<std::vector<std::string>> fetch_songs(int port, const std::string& id) {
  bool found = false;
  const nlohmann::json answer = get(port, "/albums/" + id, found);
  if (!found) return std::nullopt;
  return answer.at("songs").get<std::vector<std::string>>();
}

struct Webhook::Impl {
  httplib::Server server;
  std::unique_ptr<Listening> listening;
};

Webhook::Webhook(std::function<void(const Album&)> changed) : impl_(std::make_unique<Impl>()) {
  impl_->server.Post("/changed", [changed = std::move(changed)](const httplib::Request& request,
                                                                httplib::Response& response) {
    try {
      changed(nlohmann::json::parse(request.body).get<Album>());
    } catch (const nlohmann::json::exception&) {
      response.status = 400;
    } catch (const std::exception&) {
      response.status = 500;  // the label calls again later
    }
  });
  impl_->listening = std::make_unique<Listening>(impl_->server);
}

Webhook::~Webhook() = default;

int Webhook::port() const noexcept {
  return impl_->listening->port();
}

bool call_webhook(int port, const Album& album) {
  httplib::Client client("127.0.0.1", port);
  const auto answer = client.Post("/changed", nlohmann::json(album).dump(), "application/json");
  return answer && answer->status == 200;
}

}  // namespace example
