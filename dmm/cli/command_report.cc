// report: publish the state of devices as they would.

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <CLI/CLI.hpp>

#include <set>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/line_reader.h"
#include "dmm/cli/program.h"
#include "dmm/cli/progress.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

using namespace std::chrono_literals;

constexpr std::size_t kBatch = 1'000;
constexpr std::size_t kBatchBytesMax = 8u << 20;
constexpr std::size_t kFailuresShownMax = 1'000;  // of the JSON document; all are told as they come
constexpr auto kPatience = 50ms;                  // how long a batch waits for more lines
// A line holds a state, and perhaps the name of its device.
constexpr std::size_t kLineBytesMax = limits::payload_bytes_max + 4'096;

std::uint64_t size_of_input() {
  struct stat info {};
  const bool file = ::fstat(STDIN_FILENO, &info) == 0 && S_ISREG(info.st_mode);
  return file && info.st_size > 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

/// Sends JSON Lines in batches. A batch names a device once at most, so that the last line of a
/// device is its last report.
class Sender final {
 public:
  Sender(const Session& session, Bucket& bucket, std::string kind,
         std::optional<std::string> device)
      : bucket_(bucket),
        kind_(std::move(kind)),
        device_(std::move(device)),
        reader_(STDIN_FILENO, kLineBytesMax),
        progress_(session.error_terminal(), "reports", size_of_input()) {}

  /// Throws Error if the server goes away.
  void run(const std::stop_token& stop) {
    std::string line;
    while (!stop.stop_requested()) {
      switch (reader_.next(line, kPatience)) {
        case LineReader::Event::line:
          take(line);
          break;
        case LineReader::Event::too_long:
          fail(reader_.line_number(),
               Error(code::too_large,
                     fmt::format("the line has more than {} bytes", kLineBytesMax)));
          break;
        case LineReader::Event::idle:
          flush();
          break;
        case LineReader::Event::end:
          flush();
          return;
      }
      progress_.update(sent_, failed_, reader_.bytes_read());
    }
    flush();
  }

  std::size_t sent() const noexcept { return sent_; }
  std::size_t failed() const noexcept { return failed_; }
  const nlohmann::json& failures() const noexcept { return failures_; }

 private:
  void take(const std::string& line) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) return;
    const std::size_t number = reader_.line_number();
    std::string device;
    nlohmann::json state;
    std::size_t bytes = 0;
    try {
      state = parse_json(line, {.bytes_max = kLineBytesMax}).value();
      device = device_ ? *device_ : device_of(state);
      check(Identity{kind_, device});
      if (!device_) state = nlohmann::json(std::move(state.at("state")));
      bytes = dump_json(state).size();
      require(
          bytes <= limits::payload_bytes_max, code::too_large,
          fmt::format("the state has {} bytes, more than {}", bytes, limits::payload_bytes_max));
    } catch (const Error& error) {
      fail(number, error);
      return;
    }
    add(number, std::move(device), std::move(state), bytes);
  }

  static std::string device_of(const nlohmann::json& line) {
    const bool fits = line.is_object() && line.contains("device") && line.contains("state") &&
                      line.at("device").is_string();
    require(fits, code::wrong_shape,
            "a line is {\"device\":\"NAME\",\"state\":{...}}, with the device as text");
    return line.at("device").get<std::string>();
  }

  void add(std::size_t number, std::string device, nlohmann::json state, std::size_t bytes) {
    if (!devices_.insert(device).second) {
      flush();
      devices_.insert(device);
    }
    batch_.emplace_back(std::move(device), std::move(state));
    lines_.push_back(number);
    bytes_ += bytes;
    if (batch_.size() >= kBatch || bytes_ >= kBatchBytesMax) flush();
  }

  void flush() {
    if (batch_.empty()) return;
    const auto failures = bucket_.report_all(kind_, batch_);
    sent_ += batch_.size() - failures.size();
    const Error* fatal = nullptr;
    std::size_t fatal_line = 0;
    for (const BatchFailure& failure : failures) {
      const std::size_t number = lines_.at(failure.index);
      const Kind kind = failure.error.kind();
      const bool lost = kind == Kind::retry || kind == Kind::in_doubt || kind == Kind::cancelled;
      if (lost && fatal == nullptr) {
        fatal = &failure.error;
        fatal_line = number;
      }
      fail(number, failure.error);
    }
    batch_.clear();
    lines_.clear();
    devices_.clear();
    bytes_ = 0;
    if (fatal != nullptr) {
      throw fatal->with_context(fmt::format("sending line {}; {} sent before", fatal_line,
                                            counted(sent_, "report was", "reports were")));
    }
  }

  void fail(std::size_t number, const Error& error) {
    progress_.clear();
    complain(error, fmt::format("line {}", number));
    if (++failed_ <= kFailuresShownMax) {
      failures_.push_back(
          {{"line", number}, {"error_code", error.code().id}, {"error", error.message()}});
    }
  }

  Bucket& bucket_;
  std::string kind_;
  std::optional<std::string> device_;
  LineReader reader_;
  Progress progress_;
  std::vector<std::pair<std::string, nlohmann::json>> batch_;
  std::vector<std::size_t> lines_;  // the line of each of the batch
  std::set<std::string> devices_;   // of the batch
  std::size_t bytes_ = 0;
  std::size_t sent_ = 0;
  std::size_t failed_ = 0;
  nlohmann::json failures_ = nlohmann::json::array();
};

struct ReportOptions {
  std::string kind;
  std::string device;
  std::optional<std::string> json;
};

int report_lines(Session& session, const ReportOptions& options) {
  const bool many = options.device == "-" && !options.json;
  Bucket bucket = session.open();
  StopOnInterrupt interrupt;
  std::size_t sent = 0;
  std::size_t failed = 0;
  {
    Sender sender(session, bucket, options.kind,
                  many ? std::nullopt : std::optional<std::string>(options.device));
    sender.run(interrupt.token());
    sent = sender.sent();
    failed = sender.failed();
    if (session.json()) {
      session.show({{"kind", options.kind},
                    {"sent", sent},
                    {"failed", failed},
                    {"failures", sender.failures()}});
    }
  }
  session.say(fmt::format("{}: {} sent{}", options.kind, counted(sent, "report", "reports"),
                          failed == 0 ? "" : ", " + counted(failed, "line", "lines") + " refused"));
  if (interrupt.interrupted()) return exit_code::interrupted;
  return failed == 0 ? exit_code::ok : exit_code::failed;
}

int report(Session& session, const ReportOptions& options) {
  check_name(options.kind, "kind");
  const bool lines = !options.json || *options.json == "-";
  if (lines) {
    if (!options.json && options.device != "-" && ::isatty(STDIN_FILENO) == 1) {
      throw UsageError("there is no JSON: give it as the last argument, or \"-\" to type it here");
    }
    if (options.device != "-") check(Identity{options.kind, options.device});
    return report_lines(session, options);
  }
  check(Identity{options.kind, options.device});
  const nlohmann::json state = parse_json(*options.json).value();
  Bucket bucket = session.open();
  bucket.report(options.kind, options.device, state);
  if (session.json()) {
    session.show({{"kind", options.kind},
                  {"sent", 1},
                  {"failed", 0},
                  {"failures", nlohmann::json::array()}});
  }
  session.say(fmt::format("{}: 1 report sent", options.kind));
  return exit_code::ok;
}

}  // namespace

void add_report_commands(Program& program) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* verb =
      program.add_verb("report", "Publish the state of devices, as they would themselves", "Change",
                       {"dmm report player kitchen '{\"current_song\":\"A\"}'",
                        "tail -f kitchen.log | dmm report player kitchen -    a state a line",
                        "dmm report player - < states.jsonl                 lines "
                        "{\"device\":\"kitchen\",\"state\":{...}}"},
                       [options](Session& session) { return report(session, *options); });
  verb->add_option("kind", options->kind, "Kind of the reports")->required()->type_name("KIND");
  verb->add_option("device", options->device,
                   "Device, as its owner spells it; \"-\": each line names its own")
      ->required()
      ->type_name("DEVICE");
  verb->add_option("json", options->json, "State; \"-\" or nothing: JSON Lines from standard input")
      ->type_name("JSON");
}

}  // namespace dmm::cli
