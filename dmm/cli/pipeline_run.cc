#include "dmm/cli/pipeline_run.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>

#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/line_reader.h"
#include "dmm/cli/pipeline_file.h"
#include "dmm/cli/pipeline_line.h"
#include "dmm/cli/progress.h"
#include "dmm/error.h"
#include "dmm/json.h"
#include "engine/error.h"
#include "engine/limits.h"

namespace dmm::cli {

namespace {

using namespace std::chrono_literals;
using engine::Batch;
using engine::Row;
using engine::Zset;

constexpr auto kPatience = 50ms;  // how long output waits for more input
constexpr std::size_t kLineBytesMax = engine::limits::kDocumentBytesMax;
constexpr std::size_t kStateBytesMax = std::size_t{4} << 30;
constexpr std::size_t kDocumentShownMax = 500;
constexpr std::size_t kDifferencesShownMax = 10;

using Zsets = std::map<std::string, Zset, std::less<>>;

[[noreturn]] void cannot_write(const std::string& path, int error) {
  throw Error(code::bad_option, fmt::format("--save-state: {} cannot be written: {}",
                                            printable(path), std::strerror(error)));
}

// Writes a file so that it is there as a whole or not at all; what is no regular file (a pipe, a
// device) is written as it is.
void write_file(const std::string& path, std::string_view bytes) {
  struct stat info {};
  const bool special = ::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
  const std::string target = special ? path : path + ".new";
  const int fd = ::open(target.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) cannot_write(target, errno);
  int error = 0;
  while (!bytes.empty() && error == 0) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(n));
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error == 0 && !special && ::fsync(fd) != 0) error = errno;
  if (::close(fd) != 0 && error == 0) error = errno;
  if (error == 0 && !special && ::rename(target.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return;
  if (!special) ::unlink(target.c_str());
  cannot_write(target, error);
}

/// The same program over whole collections, and what both have given so far.
class Comparison final {
 public:
  explicit Comparison(engine::Program program) : program_(std::move(program)) {}

  /// Takes what a step was given and what it gave, which are changes. Returns a description of the
  /// first differences, or nothing.
  std::string add(const engine::StepInput& input, const engine::StepResult& result) {
    bool sound = errors_.add(result.errors);
    for (const auto& [name, rows] : input.batches) sound = levels_[name].add(rows) && sound;
    for (const auto& [name, rows] : result.outputs) sound = sums_[name].add(rows) && sound;
    if (!sound) return "a weight of a collection left 64 bits";
    engine::StepInput whole;
    whole.time = input.time;
    for (const auto& [name, level] : levels_) whole.batches[name] = level.rows();
    if (!program_.step(whole, expected_)) return "over whole collections: " + expected_.failure;
    std::string text;
    for (const auto& [name, rows] : expected_.outputs) compare(name, rows, sums_[name], text);
    compare("error output", expected_.errors, errors_, text);
    return text;
  }

 private:
  static void compare(const std::string& name, const Batch& whole, const Zset& sum,
                      std::string& text) {
    Zset difference;
    bool sound = difference.add(whole);
    for (const Row& row : sum.rows()) sound = sound && difference.add(row.value, -row.weight);
    if (!sound) text += name + ": a weight left 64 bits\n";
    std::size_t shown = 0;
    for (const Row& row : difference.rows()) {
      if (++shown > kDifferencesShownMax) break;
      const engine::Weight has = sum.weight(row.value);
      text += fmt::format("{}: {} has weight {} by changes, {} over whole collections\n",
                          printable(name), printable(engine::to_text(row.value), kDocumentShownMax),
                          has, has + row.weight);
    }
  }

  engine::Program program_;
  engine::StepResult expected_;
  Zsets levels_;
  Zsets sums_;
  Zset errors_;
};

/// Reads lines and runs steps.
class Runner final {
 public:
  Runner(Session& session, const PipelineRunOptions& options, engine::Program program,
         std::optional<engine::Program> whole)
      : session_(session),
        options_(options),
        program_(std::move(program)),
        parser_(names_of(program_)),
        progress_(quiet_when_mixed(session), "rows", bytes_of(options.changes)) {
    if (whole) comparison_.emplace(std::move(*whole));
    if (!options.now.empty()) {
      fixed_now_ = parse_time(options.now);
      if (!fixed_now_) {
        throw UsageError(
            fmt::format("--now is a time like 2026-01-31T23:59:59Z or seconds since 1970, not {}",
                        printable(options.now, 100)));
      }
    }
    for (const auto& [name, node] : program_.circuit().outputs()) {
      heads_[name] = fmt::format(",\"output\":{},\"row\":", json_text(name, false));
    }
  }

  void run(const std::stop_token& stop) {
    static const std::vector<std::string> standard = {"-"};
    for (const std::string& path : options_.changes.empty() ? standard : options_.changes) {
      if (stop.stop_requested()) break;
      read(path, stop);
    }
    if (!stop.stop_requested() && !lines_.empty()) step({});
    session_.out().flush();
    progress_.clear();
  }

  bool failed() const noexcept { return refused_ + not_evaluated_ + failed_ + differing_ != 0; }
  std::string save() const { return program_.circuit().save(); }

  /// "12 steps: 40 rows in, 31 out, 1 line refused".
  std::string summary() const {
    std::string text = fmt::format("{}: {} in, {} out", counted(steps_, "step", "steps"),
                                   counted(rows_in_, "row", "rows"), human_count(rows_out_));
    const auto add = [&text](std::size_t count, std::string_view one, std::string_view many) {
      if (count != 0) text += ", " + counted(count, one, many);
    };
    add(refused_, "line refused", "lines refused");
    add(not_evaluated_, "document not evaluated", "documents not evaluated");
    add(failed_, "step failed", "steps failed");
    if (comparison_) {
      text += differing_ == 0
                  ? ", both modes agree"
                  : fmt::format(", modes differ in {}", counted(differing_, "step", "steps"));
    }
    return text;
  }

 private:
  static std::vector<std::string> names_of(const engine::Program& program) {
    std::vector<std::string> names;
    for (const auto& [name, node] : program.circuit().inputs()) names.push_back(name);
    return names;
  }

  // Rows and a moving line on one terminal would disturb each other.
  static Terminal quiet_when_mixed(const Session& session) {
    Terminal terminal = session.error_terminal();
    if (session.terminal().interactive) terminal.moves = false;
    return terminal;
  }

  static std::uint64_t bytes_of(const std::vector<std::string>& paths) {
    std::uint64_t bytes = 0;
    struct stat info {};
    if (paths.empty() && ::fstat(STDIN_FILENO, &info) == 0 && S_ISREG(info.st_mode)) {
      bytes += static_cast<std::uint64_t>(info.st_size);
    }
    for (const std::string& path : paths) {
      if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) return 0;
      bytes += static_cast<std::uint64_t>(info.st_size);
    }
    return bytes;
  }

  void read(const std::string& path, const std::stop_token& stop) {
    const InputFile file(path);
    LineReader reader(file.fd(), kLineBytesMax);
    const std::uint64_t bytes_before = bytes_read_;
    const std::string where =
        options_.changes.size() > 1 ? printable(path) + " line" : std::string("line");
    std::string line;
    while (!stop.stop_requested()) {
      const LineReader::Event event = reader.next(line, kPatience);
      place_ = fmt::format("{} {}", where, reader.line_number());
      bytes_read_ = bytes_before + reader.bytes_read();
      if (event == LineReader::Event::end) return;
      if (event == LineReader::Event::idle) session_.out().flush();
      if (event == LineReader::Event::line) take(line);
      if (event == LineReader::Event::too_long) {
        refuse(Error(code::too_large, fmt::format("more than {} bytes", kLineBytesMax)));
      }
      progress_.update(rows_in_, refused_ + not_evaluated_ + failed_, bytes_read_);
    }
  }

  void refuse(const Error& error) {
    tell(error, place_);
    ++refused_;
  }

  void tell(const Error& error, const std::string& place) {
    progress_.clear();
    complain(error, place);
  }

  void take(const std::string& text) {
    if (text.find_first_not_of(" \t\r") == std::string::npos) return;
    PipelineLine line;
    try {
      line = parser_.parse(text);
    } catch (const Error& error) {
      refuse(error);
      return;
    }
    if (line.alone && !lines_.empty()) step({});
    rows_in_ += line.rows.size();
    pending_ += line.rows.size();
    for (auto& [name, row] : line.rows) input_.batches[name].push_back(std::move(row));
    if (lines_.empty()) lines_.first = place_;
    lines_.last = place_;
    if (line.ends_step || (options_.batch != 0 && pending_ >= options_.batch)) step(line);
  }

  void step(const PipelineLine& line) {
    const auto clock = std::chrono::system_clock::now();
    const std::int64_t now = fixed_now_.value_or(
        std::chrono::floor<std::chrono::seconds>(clock).time_since_epoch().count());
    input_.time.unix_seconds = line.now.value_or(now);
    input_.time.seed = line.seed.value_or(options_.seed);
    ++steps_;
    if (program_.step(input_, result_)) {
      write();
      tell_errors();
      compare();
    } else {
      ++failed_;
      tell(Error(code::step_failed, fmt::format("step {}: {}", steps_, result_.failure)),
           lines_.text());
    }
    input_.batches.clear();
    pending_ = 0;
    lines_ = {};
    if (session_.terminal().interactive) session_.out().flush();
  }

  void write() {
    for (auto& [name, rows] : result_.outputs) {
      engine::sort_canonical(rows);
      for (const Row& row : rows) {
        text_ = fmt::format("{{\"step\":{}{}", steps_, heads_.find(name)->second);
        engine::append_text(row.value, text_);
        text_ += fmt::format(",\"weight\":{}}}\n", row.weight);
        session_.out().write(text_);
        ++rows_out_;
      }
    }
  }

  // An error that goes away with its document is none any more.
  void tell_errors() {
    engine::sort_canonical(result_.errors);
    for (const Row& row : result_.errors) {
      if (row.weight <= 0) continue;
      ++not_evaluated_;
      engine::ValueRef document;
      engine::ValueRef reason;
      engine::ValueRef node;
      DMM_ASSERT(row.value->find("document", document) && row.value->find("error", reason) &&
                 row.value->find("node", node));
      tell(Error(code::not_evaluated,
                 fmt::format("at {}: {}; the document: {}", node.as_string(), reason.as_string(),
                             printable(engine::to_text(document), kDocumentShownMax))),
           lines_.text());
    }
  }

  void compare() {
    if (!comparison_) return;
    const std::string differences = comparison_->add(input_, result_);
    if (differences.empty()) return;
    if (++differing_ > 1) return;  // what follows from the first is no news
    tell(Error(code::modes_differ, fmt::format("step {} is the first to differ", steps_)),
         lines_.text());
    write_error(differences);
  }

  /// The first and the last line of the step that is being gathered.
  struct Lines {
    std::string first;
    std::string last;
    bool empty() const noexcept { return first.empty(); }
    std::string text() const { return first == last ? first : first + " to " + last; }
  };

  Session& session_;
  const PipelineRunOptions& options_;
  engine::Program program_;
  std::optional<Comparison> comparison_;
  PipelineLineParser parser_;
  Progress progress_;
  std::optional<std::int64_t> fixed_now_;
  std::map<std::string, std::string, std::less<>> heads_;  // what stands before a row, by output
  engine::StepInput input_;                                // gathered so far
  engine::StepResult result_;
  std::uint64_t pending_ = 0;  // rows in input_
  Lines lines_;
  std::string place_;  // of the line at hand
  std::string text_;
  std::uint64_t bytes_read_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t rows_in_ = 0;
  std::uint64_t rows_out_ = 0;
  std::size_t refused_ = 0;
  std::size_t not_evaluated_ = 0;
  std::size_t failed_ = 0;
  std::size_t differing_ = 0;
};

void check_options(const PipelineRunOptions& options) {
  const auto dashes = std::count(options.changes.begin(), options.changes.end(), "-") +
                      (options.changes.empty() ? 1 : 0) + (options.file == "-" ? 1 : 0);
  if (dashes > 1) {
    throw UsageError("standard input can be read once: give the pipeline or the changes as a file");
  }
  if (options.snapshot && !options.load_state.empty()) {
    throw UsageError(
        "--snapshot compares with the whole input, which --load-state does not bring along");
  }
}

void load_state(engine::Program& program, const std::string& path) {
  try {
    program.circuit().load(read_file(path, kStateBytesMax));
  } catch (const engine::Error& error) {
    throw Error(code::bad_state, fmt::format("{}: {}", printable(path), error.what()));
  }
}

}  // namespace

int run_pipeline(Session& session, const PipelineRunOptions& options) {
  check_options(options);
  const nlohmann::json source = read_pipeline(options.file);
  engine::Program program = compile_pipeline(options.file, source);
  std::optional<engine::Program> whole;
  if (options.snapshot) {
    if (!program.circuit().incremental()) {
      throw UsageError(
          fmt::format("{} has no Incrementalizer among its transforms: it works on "
                      "whole collections, and there is nothing to compare",
                      printable(options.file)));
    }
    whole = compile_pipeline(options.file, source, Mode::whole);
  }
  if (!options.load_state.empty()) load_state(program, options.load_state);
  StopOnInterrupt interrupt;
  Runner runner(session, options, std::move(program), std::move(whole));
  runner.run(interrupt.token());
  if (!options.save_state.empty()) write_file(options.save_state, runner.save());
  if (runner.failed() || session.error_terminal().interactive) session.warn(runner.summary());
  if (interrupt.interrupted()) return exit_code::interrupted;
  return runner.failed() ? exit_code::failed : exit_code::ok;
}

}  // namespace dmm::cli
