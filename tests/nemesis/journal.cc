#include "tests/nemesis/journal.h"

#include "dmm/testing/temporary_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <functional>
#include <iterator>
#include <stdexcept>
#include <unordered_map>

namespace dmm::nemesis {

namespace {

/// The words of a line, taken one by one.
class Words final {
 public:
  explicit Words(std::string_view line) : rest_(line) {}

  std::string_view word() {
    const std::size_t space = rest_.find(' ');
    const std::string_view result = rest_.substr(0, space);
    rest_.remove_prefix(space == std::string_view::npos ? rest_.size() : space + 1);
    return result;
  }

  template <class Number>
  Number number() {
    const std::string_view text = word();
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) {
      throw std::runtime_error(fmt::format("\"{}\" is no number", text));
    }
    return value;
  }

 private:
  std::string_view rest_;
};

/// Calls `visit` for each whole line of a file.
void for_each_line(const std::filesystem::path& path,
                   const std::function<void(std::string_view)>& visit) {
  const std::string text = testing::read_file(path);
  std::size_t number = 0;
  for (std::size_t begin = 0, end = 0; (end = text.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    ++number;
    try {
      visit(std::string_view(text).substr(begin, end - begin));
    } catch (const std::runtime_error& error) {
      throw std::runtime_error(fmt::format("{}:{}: {}", path.string(), number, error.what()));
    }
  }
}

}  // namespace

Journal::Journal(const std::filesystem::path& path)
    : fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
  if (fd_ < 0) throw std::runtime_error("cannot open " + path.string());
}

Journal::~Journal() {
  ::close(fd_);
}

void Journal::append(std::string_view text) {
  if (::write(fd_, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    throw std::runtime_error("cannot write a journal");
  }
}

std::uint64_t RunJournal::begun(std::uint32_t identity, std::uint64_t news, std::uint64_t epoch,
                                Nanoseconds at) {
  const std::uint64_t run = next_.fetch_add(1, std::memory_order_relaxed);
  journal_.append(fmt::format("begin {} {} {} {} {}\n", run, at, identity, news, epoch));
  return run;
}

void RunJournal::ended(std::uint64_t run, bool succeeded) {
  journal_.append(fmt::format("end {} {} {}\n", run, now_ns(), succeeded ? 1 : 0));
}

std::string lines_of(std::span<const Notified> notified) {
  std::string text;
  for (const Notified& one : notified) {
    fmt::format_to(std::back_inserter(text), "{} {} {}\n", one.at, one.identity, one.news);
  }
  return text;
}

std::vector<Notified> read_notified(const std::filesystem::path& path) {
  std::vector<Notified> result;
  for_each_line(path, [&](std::string_view line) {
    Words words(line);
    Notified one;
    one.at = words.number<Nanoseconds>();
    one.identity = words.number<std::uint32_t>();
    one.news = words.number<std::uint64_t>();
    result.push_back(one);
  });
  return result;
}

std::vector<Run> read_runs(const std::filesystem::path& path, std::uint32_t life) {
  std::vector<Run> result;
  std::unordered_map<std::uint64_t, std::size_t> open;
  for_each_line(path, [&](std::string_view line) {
    Words words(line);
    const std::string_view what = words.word();
    const auto name = words.number<std::uint64_t>();
    if (what == "begin") {
      Run run;
      run.begin = words.number<Nanoseconds>();
      run.identity = words.number<std::uint32_t>();
      run.news = words.number<std::uint64_t>();
      run.epoch = words.number<std::uint64_t>();
      run.life = life;
      open.emplace(name, result.size());
      result.push_back(run);
    } else if (const auto found = open.find(name); what == "end" && found != open.end()) {
      Run& run = result[found->second];
      run.end = words.number<Nanoseconds>();
      run.succeeded = words.number<int>() != 0;
      open.erase(found);
    } else {
      throw std::runtime_error("neither a run nor its end");
    }
  });
  return result;
}

}  // namespace dmm::nemesis
