#pragma once

// The scene of a simulation: the server, the workers in their places, those who notify, report and
// wish, and the journal that is kept of them.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tests/simulation/life.h"
#include "tests/simulation/simulation.h"

namespace dmm::simulation {

/// Who says things to the server, one after the other, on a thread of its own and with faults of
/// its own.
class Speaker final {
 public:
  /// desired   the bucket of wishes.
  using Speech = std::function<void(Bucket& bucket, transport::Stream& desired)>;

  Speaker(const testing::MemoryServer& server, std::uint64_t seed);

  void say(Speech speech);
  bool silent() const;  ///< it has said all
  testing::Faults& faults() noexcept { return memory_->faults(); }

 private:
  void speak(const std::stop_token& stop);

  std::shared_ptr<testing::MemoryTransport> memory_;
  Bucket bucket_;
  std::shared_ptr<transport::Stream> desired_;
  mutable std::mutex mutex_;
  internal::StopCondition changed_;
  std::deque<Speech> speeches_;
  bool speaking_ = false;
  internal::Thread thread_;  ///< last: it ends first
};

class Scene final {
 public:
  Scene(const Plan& plan, const RunOptions& options);
  ~Scene();

  Verdict play();

 private:
  /// What is known of an identity from outside.
  struct Known {
    std::uint64_t news = 0;          ///< the newest that was said
    std::uint64_t acknowledged = 0;  ///< the newest that was acknowledged
    bool gone = false;               ///< as last said
  };
  struct Place {
    Life* life = nullptr;  ///< null: nobody is there
    /// It is killed at this crash point, so many from now.
    std::string point;
    std::uint32_t points_left = 0;
    milliseconds back_after{0};
  };

  // What happens.
  void perform(const Step& step);
  void strike(const Step& step);
  void strike_server(const Step& step);
  void later(milliseconds delay, std::function<void()> task);
  void pass_until(Time time);
  void begin_life(std::uint32_t place);
  void kill(std::uint32_t place, milliseconds back_after);
  void at_crash_point(testing::Scheduler::Group group, std::string_view name);
  void heal();
  bool settle(milliseconds deadline, const std::string& when);
  void act_in_calm();

  // What users do.
  void notify(std::uint32_t job);
  void report(std::uint32_t meter);
  void want(std::uint32_t lamp, bool wanted);
  void say_again();
  std::size_t said(const std::string& key, bool deleted);
  void acknowledged(std::size_t place);

  // What workers do.
  void set_up(Life& life);
  Outcome run(Life& life, Context& context, nlohmann::json& cache);
  void observe(Life& life, ObserveContext& context, const nlohmann::json& report);

  // What is seen.
  void witness(const transport::Message& message);
  std::string unsettled();
  std::string differs(const std::string& key, const Known& known) const;
  void approve_removals();
  void check_bounds();
  void check_all();
  void violate(std::string promise, std::string text);
  void note(const std::string& text);
  Time now() const noexcept { return scheduler_.elapsed(); }
  Life& life_of(std::uint32_t number) { return *lives_.at(number); }

  const Plan& plan_;
  const RunOptions options_;
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
  std::mutex agenda_mutex_;
  internal::Condition agenda_changed_;
  std::multimap<Time, std::function<void()>> agenda_;
  std::vector<internal::Thread> helpers_;  ///< who wait for workers to end
};

}  // namespace dmm::simulation
