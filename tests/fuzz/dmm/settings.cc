// What people write into files and on command lines: refused with a reason, or settings that can be
// used.
#include <nlohmann/json.hpp>

#include "dmm/connection_options.h"
#include "dmm/json.h"
#include "dmm/resource/schedule.h"
#include "dmm/service/configure.h"
#include "dmm/text/yaml.h"
#include "dmm/view.h"
#include "tests/fuzz/dmm/input.h"

using namespace dmm;
using namespace dmm::fuzz;

namespace {

void read_connection(std::string_view text) {
  const File file(text);
  may_refuse([&] {
    const ConnectionOptions options = ConnectionOptions::from_file(file.path());
    for (const std::string& server : options.servers) static_cast<void>(redact_url(server));
    options.check();
  });
}

void read_options_file(std::string_view text) {
  may_refuse([&] {
    service::Options options = service::standard_options();
    options.take_file(text::parse_yaml(text), "fuzz");
    static_cast<void>(service::show(options));
    static_cast<void>(service::config_of(options));
  });
}

void read_flags(std::string_view text) {
  std::vector<std::string> arguments;
  while (!text.empty()) arguments.emplace_back(next_line(text));
  may_refuse([&] {
    service::Options options = service::standard_options();
    options.take_flags(arguments);
    options.take_environment(
        [&](const char*) { return arguments.empty() ? nullptr : arguments.front().c_str(); });
    static_cast<void>(service::config_of(options));
  });
}

void read_schedule(std::string_view text) {
  may_refuse([&] {
    using resource::Schedule;
    using resource::Time;
    const Schedule schedule = Schedule::parse(text);
    must(Schedule::parse(schedule.text()).text() == schedule.text());
    const Time now{std::chrono::seconds(1'700'000'000)};
    const auto next = schedule.next(now, now, 0.5);
    must(!next || *next >= now);
  });
}

void read_view(std::string_view text) {
  const auto file = parse_json(text);
  if (!file.ok()) return;
  may_refuse([&] {
    const nlohmann::json written = view_to_json(view_from_json(file.value()));
    must(view_to_json(view_from_json(written)) == written);
  });
}

void write_yaml(std::string_view text) {
  const auto value = parse_json(text, {.bytes_max = 4'096, .depth_max = 16});
  if (value.ok()) must(text::parse_yaml(text::yaml_text(value.value())) == value.value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'c':
      read_connection(text);
      break;
    case 'o':
      read_options_file(text);
      break;
    case 'f':
      read_flags(text);
      break;
    case 'd':
      static_cast<void>(service::parse_duration(text));
      break;
    case 's':
      read_schedule(text);
      break;
    case 'v':
      read_view(text);
      break;
    case 'y':
      write_yaml(text);
      break;
    default:
      break;
  }
  return 0;
}
