// watch: changes as they happen.

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <exception>
#include <mutex>

#include "dmm/cli/documents.h"
#include "dmm/cli/exit_code.h"
#include "dmm/cli/human.h"
#include "dmm/cli/interrupts.h"
#include "dmm/cli/program.h"
#include "dmm/json.h"

namespace dmm::cli {

namespace {

constexpr std::size_t kValueBytesMax = 4'000;

Color color_of(std::string_view what) {
  if (what == "stored") return Color::green;
  if (what == "removed") return Color::red;
  if (what == "status") return Color::yellow;
  return Color::none;
}

// One line: time, what, who, value; as much of it as fits.
std::string line_of(const Change& change, const Terminal& terminal) {
  const std::size_t dot = std::min(change.key.find('.'), change.key.size());
  const std::string id =
      dot < change.key.size() ? spelled_id(std::string_view(change.key).substr(dot + 1)) : "";
  const std::string head = fmt::format("{} {:<8} ", clock_time(change.at), change.what);
  const std::string rest = printable(
      fmt::format("{}/{} {}", change.key.substr(0, dot), id.empty() ? "\"\"" : id, change.value),
      kValueBytesMax);
  std::string line = head + rest;
  if (terminal.width != 0) line = clip(line, terminal.width, terminal.unicode);
  return terminal.paint(line, color_of(change.what)) + "\n";
}

struct WatchOptions {
  std::string type;
  std::uint64_t count = 0;
};

int watch(Session& session, const WatchOptions& options) {
  if (!options.type.empty()) check_name(options.type, "type");
  Bucket bucket = session.open();
  StopOnInterrupt interrupt;
  std::mutex mutex;  // changes may be told by another thread
  std::exception_ptr trouble;
  std::uint64_t seen = 0;
  if (session.error_terminal().interactive) {
    session.warn(fmt::format("watching namespace {}; end with Ctrl-C", bucket.ns()));
  }
  bucket.inspect().watch(options.type, interrupt.token(), [&](const Change& change) {
    const std::scoped_lock lock(mutex);
    if (trouble || (options.count != 0 && seen >= options.count)) return;
    try {
      if (session.json()) {
        session.out().write(document_of(change), false);
      } else {
        session.out().write(line_of(change, session.terminal()));
      }
      session.out().flush();
    } catch (...) {
      trouble = std::current_exception();
      interrupt.stop();
    }
    if (++seen == options.count) interrupt.stop();
  });
  const std::scoped_lock lock(mutex);
  if (trouble) std::rethrow_exception(trouble);
  return interrupt.interrupted() ? exit_code::interrupted : exit_code::ok;
}

}  // namespace

void add_watch_commands(Program& program) {
  auto options = std::make_shared<WatchOptions>();
  CLI::App* verb =
      program.add_verb("watch", "Show changes as they happen, until Ctrl-C", "Look",
                       {"dmm watch                          tokens, stored caches, status, reports",
                        "dmm watch player                   of one type or kind",
                        "dmm watch player -o json | jq -c .value"},
                       [options](Session& session) { return watch(session, *options); });
  verb->add_option("type", options->type, "Only this type or report kind")->type_name("TYPE");
  verb->add_option("--count", options->count, "End after so many changes")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
      ->type_name("N");
}

}  // namespace dmm::cli
