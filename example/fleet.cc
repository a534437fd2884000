#include "example/fleet.h"

#include "dmm/json.h"

#include <fmt/format.h>
#include <httplib.h>

#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <stdexcept>
#include <thread>

namespace example {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than anybody waits for an answer; short enough that players who hang do not use up the
// threads.
constexpr std::chrono::seconds kHang{3};
constexpr std::size_t kThreads = 64;
constexpr std::size_t kBodyBytesMax = 4'096;

struct PlayerState {
  std::string current_song;
  std::uint64_t plays = 0;
  std::uint64_t boots = 1;
  bool changed = true;  // since the last report
  Misbehaviour misbehaviour;
  Clock::time_point misbehaves_until = Clock::time_point::max();
};

struct Requests {
  std::uint64_t answered = 0, refused = 0, hung = 0, error500 = 0;
  NLOHMANN_DEFINE_TYPE_INTRUSIVE(Requests, answered, refused, hung, error500)
};

// Ends the connection before the answer is complete: what a client of a crashing server sees.
void drop_connection(httplib::Response& response) {
  response.set_content_provider(1, "text/plain",
                                [](std::size_t, std::size_t, httplib::DataSink&) { return false; });
}

void refuse(httplib::Response& response, int status, const std::string& why) {
  response.status = status;
  response.set_content(why, "text/plain");
}

// httplib lets five connections wait to be accepted. A worker opens more than that at a time, and
// each one too many costs its client a second.
class Server final : public httplib::Server {
 public:
  void lengthen_queue() { ::listen(svr_sock_, 256); }
};

}  // namespace

struct Fleet::Impl {
  Server server;
  std::jthread thread;  // of the server

  std::mutex mutex;  // guards all below
  std::condition_variable_any woken;
  bool stopping = false;
  bool any_changed = true;
  Clock::time_point all_reported{};
  std::map<std::string, PlayerState> players;
  Requests requests;
  std::mt19937 random{std::random_device{}()};

  void change(PlayerState& player) {
    player.changed = any_changed = true;
    woken.notify_all();
  }

  enum class Manner { answer, refuse, hang, error500 };

  Manner manner_of(PlayerState& player) {
    if (Clock::now() >= player.misbehaves_until) player.misbehaviour = {};
    const Misbehaviour& shares = player.misbehaviour;
    const double drawn = std::uniform_real_distribution<>(0, 1)(random);
    if (drawn < shares.refuse) return Manner::refuse;
    if (drawn < shares.refuse + shares.hang) return Manner::hang;
    if (drawn < shares.refuse + shares.hang + shares.error500) return Manner::error500;
    return Manner::answer;
  }

  // What players do and may misbehave at.
  template <class Action>
  httplib::Server::Handler player_request(Action action) {
    return [this, action](const httplib::Request& request, httplib::Response& response) {
      std::unique_lock lock(mutex);
      const auto player = players.find(request.matches[1]);
      if (player == players.end()) return refuse(response, 404, "no such player");
      switch (manner_of(player->second)) {
        case Manner::answer:
          ++requests.answered;
          return action(player->second, request, response);
        case Manner::refuse:
          ++requests.refused;
          return drop_connection(response);
        case Manner::hang:
          ++requests.hung;
          woken.wait_for(lock, kHang, [this] { return stopping; });
          return drop_connection(response);
        case Manner::error500:
          ++requests.error500;
          return refuse(response, 500, "the player is not well");
      }
    };
  }

  void play(PlayerState& player, const std::string& song) {
    ++player.plays;
    player.current_song = song;
    change(player);
  }

  // What people tell players to do, for the sake of the example: always obeyed.
  template <class Action>
  httplib::Server::Handler admin_request(Action action) {
    return [this, action](const httplib::Request& request, httplib::Response& response) {
      const std::lock_guard lock(mutex);
      const auto player = players.find(request.matches[1]);
      if (player == players.end()) return refuse(response, 404, "no such player");
      action(player->second, request, response);
    };
  }

  void route();
  nlohmann::json picture();
};

void Fleet::Impl::route() {
  server.Get(R"(/([^/]+)/current_song)",
             player_request([](PlayerState& player, auto&, httplib::Response& response) {
               response.set_content(player.current_song, "text/plain");
             }));
  server.Post(R"(/([^/]+)/play)",
              player_request([this](PlayerState& player, const httplib::Request& request,
                                    httplib::Response& response) {
                // The song is reported as JSON, so it has to be UTF-8.
                if (dmm::printable(request.body, kBodyBytesMax) != request.body) {
                  return refuse(response, 400, "not the name of a song");
                }
                play(player, request.body);
              }));
  server.Post(R"(/([^/]+)/misbehave)",
              admin_request([this](PlayerState& player, const httplib::Request& request,
                                   httplib::Response& response) {
                const auto json = nlohmann::json::parse(request.body, nullptr, false);
                if (!json.is_object()) return refuse(response, 400, "send a JSON object");
                try {
                  json.get_to(player.misbehaviour);
                } catch (const nlohmann::json::exception& e) {
                  return refuse(response, 400, e.what());
                }
                const std::chrono::duration<double> time(player.misbehaviour.seconds);
                player.misbehaves_until =
                    time.count() > 0 && time < std::chrono::hours(24)
                        ? Clock::now() + std::chrono::duration_cast<Clock::duration>(time)
                        : Clock::time_point::max();
              }));
  server.Post(R"(/([^/]+)/reboot)", admin_request([this](PlayerState& player, auto&, auto&) {
                player.current_song.clear();
                ++player.boots;
                change(player);
              }));
  server.Get("/", [this](const httplib::Request&, httplib::Response& response) {
    response.set_content(picture().dump(), "application/json");
  });
}

nlohmann::json Fleet::Impl::picture() {
  const std::lock_guard lock(mutex);
  nlohmann::json all = {{"players", nlohmann::json::object()}, {"requests", requests}};
  for (const auto& [name, player] : players) {
    all["players"][name] = {
        {"current_song", player.current_song}, {"plays", player.plays}, {"boots", player.boots}};
  }
  return all;
}

Fleet::Fleet(const std::vector<std::string>& names, Misbehaviour everyone)
    : impl_(std::make_unique<Impl>()) {
  for (const std::string& name : names) impl_->players[name].misbehaviour = everyone;
  impl_->route();
  impl_->server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  impl_->server.set_payload_max_length(kBodyBytesMax);
  // httplib's own choice, SO_REUSEPORT, would let two fleets listen on one port unnoticed.
  impl_->server.set_socket_options([](int socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  });
}

Fleet::~Fleet() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
  }
  impl_->woken.notify_all();
  impl_->server.stop();
}

int Fleet::start(int port) {
  const char* host = "127.0.0.1";
  if (port == 0) {
    port = impl_->server.bind_to_any_port(host);
  } else if (!impl_->server.bind_to_port(host, port)) {
    throw std::runtime_error(
        fmt::format("port {} of {} is taken; choose another with --port", port, host));
  }
  impl_->server.lengthen_queue();
  impl_->thread = std::jthread([this] { impl_->server.listen_after_bind(); });
  return port;
}

nlohmann::json Fleet::obey(const std::string& name, const nlohmann::json& command) {
  std::unique_lock lock(impl_->mutex);
  PlayerState& player = impl_->players.at(name);
  switch (impl_->manner_of(player)) {
    case Impl::Manner::answer:
      ++impl_->requests.answered;
      break;
    case Impl::Manner::refuse:
      ++impl_->requests.refused;
      throw std::runtime_error("the player does not want to");
    case Impl::Manner::hang:
      ++impl_->requests.hung;
      impl_->woken.wait_for(lock, kHang, [this] { return impl_->stopping; });
      throw std::runtime_error("the player hung");
    case Impl::Manner::error500:
      ++impl_->requests.error500;
      throw std::runtime_error("the player is not well");
  }
  if (command.contains("play")) impl_->play(player, command.at("play").get<std::string>());
  return {{"current_song", player.current_song}};
}

std::vector<std::pair<std::string, nlohmann::json>> Fleet::next_reports(
    std::stop_token stop, std::chrono::milliseconds every) {
  std::unique_lock lock(impl_->mutex);
  const auto due = impl_->all_reported + every;
  impl_->woken.wait_until(lock, stop, due, [this] { return impl_->any_changed; });
  std::vector<std::pair<std::string, nlohmann::json>> reports;
  if (stop.stop_requested()) return reports;

  const bool all = Clock::now() >= due;
  if (all) impl_->all_reported = Clock::now();
  for (auto& [name, player] : impl_->players) {
    if (!all && !player.changed) continue;
    player.changed = false;
    reports.emplace_back(name, nlohmann::json{{"current_song", player.current_song}});
  }
  impl_->any_changed = false;
  return reports;
}

}  // namespace example
