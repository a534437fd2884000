#pragma once

// The scene of a simulation: the server, the workers in their places, those who notify, report and
// wish, and the journal that is kept of them.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "dmm/testing/temporary_directory.h"
#include "tests/simulation/disk.h"
#include "tests/simulation/life.h"
#include "tests/simulation/look.h"
#include "tests/simulation/simulation.h"
#include "tests/simulation/speaker.h"

namespace dmm::simulation {

class Scene final {
 public:
  Scene(const Plan& plan, const RunOptions& options);
  ~Scene();

  Verdict play();

 private:
  struct Place {
    Life* life = nullptr;  ///< null: nobody is there
    /// It is killed at this crash point, so many from now.
    std::string point;
    std::uint32_t points_left = 0;
    milliseconds back_after{0};
    Disk disk;
  };
  struct Valve {
    Nature nature = Nature::good;
    bool for_good = true;  ///< it is not mended before the calm
  };

  // The acts.
  void storm();
  bool calm();
  bool keep_schedule();
  bool keep_trying();
  void tell_beside_poison();
  void end_owner_of(const std::string& key);
  bool lose_wishes();
  bool restart_owners();
  bool settle(milliseconds deadline, const std::string& when);
  void later(milliseconds delay, std::function<void()> task);
  void pass_until(Time time);

  // What happens to workers and the server.
  void begin_life(std::uint32_t place);
  std::filesystem::path directory_of(const Life& life) const;
  void kill(std::uint32_t place, milliseconds back_after);
  void at_crash_point(testing::Scheduler::Group group, std::string_view name);
  void perform(const Step& step);
  void strike(const Step& step);
  void strike_server(const Step& step);
  void stop(std::uint32_t place, milliseconds back_after);
  void heal();
  void heal_workers();

  // What users do.
  bool ask(const Step& step);
  void notify(const char* type, std::uint32_t number);
  void report(std::uint32_t meter);
  void want(std::uint32_t lamp, bool wanted, bool as_before = true);
  void say_again();
  std::size_t said(const std::string& key, bool deleted);
  void acknowledged(std::size_t place);
  void act_in_calm();
  void act_once(std::uint64_t drawn);

  // What people who look after it do.
  void spoil(std::uint32_t valve, Nature nature, milliseconds time);
  void mend(std::uint32_t valve);
  void mend_all(bool only_crashes);
  void retry();
  void hold(const std::string& scope, milliseconds time);
  void resume(const std::string& scope);
  void resume_all();
  void limit(const std::string& type, Setting setting, double value);
  void lift_limits();
  Nature nature_of(const Identity& identity) const;
  void approve_removals();
  void repair();

  // What workers do.
  void set_up(Life& life);
  Outcome run(Life& life, Context& context, nlohmann::json& cache);
  void crash(Life& life);
  bool paused(Life& life, const std::string& type) const;
  void observe(Life& life, ObserveContext& context, const nlohmann::json& report);

  // What is seen.
  void witness(const transport::Message& message);
  std::string unsettled();
  bool doomed(const Identity& identity) const;
  void check_bounds();
  void check_losses();
  void check_all();
  void violate(std::string promise, std::string text);
  void note(const std::string& text);
  Time now() const noexcept { return scheduler_.elapsed(); }

  const Plan& plan_;
  const RunOptions options_;
  const testing::TemporaryDirectory disks_{"dmm-sim"};
  testing::Scheduler scheduler_;
  testing::MemoryServer server_;
  Verdict verdict_;
  Journal journal_;
  Logger logger_;
  std::map<std::string, Known> known_;
  std::uint64_t news_ = 0;
  bool calm_ = false;
  std::uint64_t draws_ = 0;
  std::shared_ptr<testing::MemoryTransport> hand_memory_;
  std::optional<Bucket> hand_;  ///< of those who look on; no fault strikes it
  std::vector<std::unique_ptr<Speaker>> speakers_;
  std::vector<std::unique_ptr<Life>> lives_;  ///< all that there ever were, by number
  std::vector<Place> places_;
  std::vector<Valve> valves_;
  std::map<std::string, Nature> spoilt_;  ///< jobs on trial
  std::mutex agenda_mutex_;
  internal::Condition agenda_changed_;
  std::multimap<Time, std::function<void()>> agenda_;
  std::vector<internal::Thread> helpers_;  ///< who wait for workers to end
};

}  // namespace dmm::simulation
