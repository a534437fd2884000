#pragma once

// The Scene is the processes that the nemesis torments: servers, workers, notifiers, and the
// network between them. It does what it is told at once and keeps the lives of the workers.
//
// Used by the thread that made it, with whose end the processes end.

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dmm/testing/child_process.h"
#include "dmm/testing/nats_server.h"
#include "tests/nemesis/history.h"
#include "tests/nemesis/options.h"
#include "tests/nemesis/proxy.h"

namespace dmm::nemesis {

inline constexpr std::size_t kWorkers = 3;
inline constexpr std::uint32_t kNotifiers = 2;
/// Workers from this one on have a path of their own to the servers, which is never broken.
inline constexpr std::size_t kWorkersBehindProxy = 2;

class Scene final {
 public:
  /// Starts servers, makes the namespace, starts workers and notifiers.
  /// program    this program, to be started again in its roles.
  /// throws     Error, std::runtime_error if something does not start.
  Scene(const Options& options, std::string program, std::filesystem::path directory);
  ~Scene();
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;

  /// On paths that are never broken.
  std::vector<std::string> urls() const;
  int replicas() const noexcept { return options_.cluster ? 3 : 1; }

  // ---- servers
  std::size_t servers() const noexcept { return servers_.size(); }
  testing::NatsServer& server(std::size_t index) { return *servers_[index]; }

  // ---- workers
  enum class State { well, stopped, ending, dead };
  State worker(std::size_t index) const { return workers_[index].state; }
  /// Alive, going on, and able to reach a server.
  bool worker_well(std::size_t index) const;
  void start_worker(std::size_t index);
  void kill_worker(std::size_t index);
  void stop_worker(std::size_t index);      ///< SIGSTOP
  void continue_worker(std::size_t index);  ///< SIGCONT
  void end_worker(std::size_t index);       ///< SIGTERM; started again when it has ended
  void trouble_worker(std::size_t index, Trouble trouble);
  Trouble trouble_of(std::size_t index) const { return workers_[index].trouble; }
  void trouble_notifiers(Trouble trouble);

  /// Looks who has ended, and starts them again. Those that were not told to end are counted.
  void look_around();
  const std::vector<std::string>& surprises() const noexcept { return surprises_; }

  /// Everybody lives and reaches everybody.
  void heal();
  void end_notifiers();
  void end_workers();

  const std::vector<Life>& lives() const noexcept { return lives_; }

 private:
  struct Worker {
    std::unique_ptr<testing::ChildProcess> process;
    std::unique_ptr<Proxy> proxy;
    State state = State::dead;
    Trouble trouble = Trouble::none;
    std::uint32_t life = 0;
  };

  void start_servers();
  void make_namespace();
  std::vector<std::uint16_t> server_ports() const;
  std::unique_ptr<testing::ChildProcess> play(const Role& role, const std::string& log_name) const;
  Role role(std::string name, const Proxy* proxy) const;
  void bury(Worker& worker);

  const Options options_;
  const std::string program_;
  const std::filesystem::path directory_;
  std::vector<std::unique_ptr<testing::NatsServer>> servers_;
  std::unique_ptr<Proxy> notifier_proxy_;
  std::vector<Worker> workers_;
  std::vector<std::unique_ptr<testing::ChildProcess>> notifiers_;
  std::vector<Life> lives_;
  std::vector<std::string> surprises_;
  bool closing_ = false;  ///< whoever ends now stays dead
};

}  // namespace dmm::nemesis
