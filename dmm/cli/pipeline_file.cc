#include "dmm/cli/pipeline_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <system_error>
#include <vector>

#include "dmm/cli/line_reader.h"
#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/text/nearest.h"
#include "dmm/text/yaml.h"
#include "engine/error.h"
#include "engine/limits.h"

namespace dmm::cli {

namespace {

using nlohmann::json;

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// "line 3, column 7: " of a byte of a text, counted from 0.
std::string place_of(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const std::size_t line_end = before.rfind('\n');
  const std::size_t column =
      before.size() - (line_end == std::string_view::npos ? 0 : line_end + 1);
  return fmt::format("line {}, column {}: ", std::count(before.begin(), before.end(), '\n') + 1,
                     column + 1);
}

// The same of the byte that a message of the JSON parser names, counted from 1: "at byte 40: ...".
std::string place_in(std::string_view text, std::string_view message) {
  constexpr std::string_view kMark = "at byte ";
  const std::size_t mark = message.find(kMark);
  if (mark == std::string_view::npos) return {};
  std::size_t byte = 0;
  const std::string_view digits = message.substr(mark + kMark.size());
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), byte);
  if (parsed.ec != std::errc{} || byte == 0) return {};
  return place_of(text, byte - 1);
}

json parse_program(std::string_view text, bool yaml) {
  if (const auto bad = find_bad_byte(text)) {
    throw Error(code::bad_text,
                fmt::format("{}byte 0x{:02X} is no UTF-8 text; is it a pipeline?",
                            place_of(text, *bad), static_cast<unsigned char>(text[*bad])));
  }
  if (yaml) return text::parse_yaml(text);
  auto parsed = parse_json(text, {.bytes_max = engine::limits::kProgramBytesMax,
                                  .depth_max = engine::limits::kDepthMax});
  if (parsed) return std::move(parsed).value();
  const Error& error = parsed.error();
  throw Error(error.code(), place_in(text, error.message()) + error.message());
}

bool is_yaml(std::string_view path, std::string_view text) {
  if (path.ends_with(".json")) return false;
  if (path.ends_with(".yaml") || path.ends_with(".yml")) return true;
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string_view::npos ||
         std::string_view("[{\"").find(text[first]) == std::string_view::npos;
}

const std::vector<std::string>& stage_names() {
  static const std::vector<std::string> names = {"@select",  "@project", "@unwind", "@distinct",
                                                 "@groupBy", "@join",    "@inputs", "@output"};
  return names;
}

}  // namespace

// A test holds it against the reference page of the language.
const std::vector<std::string>& operator_names() {
  static const std::vector<std::string> names = {
      "@nil",     "@noop",    "@bool",    "@int",        "@float",    "@string",    "@sqlbool",
      "@list",    "@dict",    "@literal", "@getField",   "@setField", "@exists",    "@copy",
      "@subject", "@and",     "@or",      "@not",        "@cond",     "@switch",    "@definedOr",
      "@eq",      "@neq",     "@gt",      "@gte",        "@lt",       "@lte",       "@add",
      "@sum",     "@mul",     "@avg",     "@sub",        "@div",      "@mod",       "@neg",
      "@abs",     "@floor",   "@ceil",    "@min",        "@max",      "@lexmin",    "@lexmax",
      "@topk",    "@bottomk", "@len",     "@in",         "@range",    "@enumerate", "@map",
      "@filter",  "@sortBy",  "@concat",  "@upper",      "@lower",    "@trim",      "@substring",
      "@replace", "@split",   "@join",    "@startswith", "@endswith", "@contains",  "@regexp",
      "@hash",    "@isnil",   "@now",     "@rnd"};
  return names;
}

namespace {

// Adds the name that may be meant to a message of the compiler about an unknown one.
std::string with_suggestion(const std::string& message) {
  static const std::vector<std::string> transforms = {"Distincter", "Reconciler", "SmithPredictor",
                                                      "Incrementalizer"};
  const std::pair<std::string_view, const std::vector<std::string>*> kinds[] = {
      {"unknown operator ", &operator_names()},
      {"unsupported pipeline operation ", &stage_names()},
      {"unknown transform \"", &transforms}};
  for (const auto& [mark, names] : kinds) {
    const std::size_t at = message.rfind(mark);
    if (at == std::string::npos) continue;
    std::string_view word = std::string_view(message).substr(at + mark.size());
    word = word.substr(0, word.find_first_of("\" "));
    return message + text::suggestion(word, *names);
  }
  return message;
}

}  // namespace

InputFile::InputFile(const std::string& path)
    : path_(path), fd_(path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (fd_ < 0) refuse(errno);
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISDIR(info.st_mode)) return;
  close();
  refuse(EISDIR);
}

InputFile::~InputFile() {
  close();
}

void InputFile::refuse(int error) const {
  throw Error(code::bad_option,
              fmt::format("{} cannot be read: {}", printable(path_), std::strerror(error)));
}

void InputFile::close() noexcept {
  if (fd_ > STDIN_FILENO) ::close(fd_);
  fd_ = -1;
}

std::string read_file(const std::string& path, std::size_t bytes_max) {
  const InputFile file(path);
  try {
    std::string text = read_all(file.fd(), bytes_max);
    require(text.size() <= bytes_max, code::too_large,
            fmt::format("{} has more than {} bytes", printable(path), bytes_max));
    return text;
  } catch (const std::system_error& error) {
    file.refuse(error.code().value());
  }
}

json read_pipeline(const std::string& path) {
  const std::string whole = read_file(path, engine::limits::kProgramBytesMax);
  std::string_view text = whole;
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const std::string name = path == "-" ? "standard input" : printable(path);
  try {
    if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) {
      throw Error(code::bad_pipeline, "it is empty; the shortest pipeline is []");
    }
    return parse_program(text, is_yaml(path, text));
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", name, error.message()));
  }
}

engine::Program compile_pipeline(const std::string& path, const json& source, Mode mode) {
  try {
    engine::ProgramOptions options;
    json program = source;
    if (mode == Mode::whole) {
      if (program.is_object()) {
        options = engine::options_from_json(program);
        program.erase("transforms");
      }
      std::erase_if(options.transforms, [](const engine::Transform& transform) {
        return transform.type == engine::Transform::Type::incrementalizer;
      });
    }
    return engine::Program::parse(dump_json(program), options);
  } catch (const engine::Error& error) {
    throw Error(code::bad_pipeline,
                fmt::format("{}: {}", path == "-" ? "standard input" : printable(path),
                            with_suggestion(error.what())));
  }
}

}  // namespace dmm::cli
