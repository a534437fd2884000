#include "dmm/error.h"

#include <catch2/catch.hpp>

#include <cctype>
#include <filesystem>
#include <regex>
#include <set>
#include <sstream>

#include "tests/dmm/scratch.h"

namespace dmm {

namespace {

const std::filesystem::path kPages = std::filesystem::path(DMM_DOCS_DIR) / "reference" / "errors";

std::string page_of(const Code& code) {
  return testing::read_text_file(kPages / (std::string(code.id) + ".md"));
}

}  // namespace

TEST_CASE("errors: the catalogue holds each id once in order", "[error][unit]") {
  std::string previous;
  for (const Code* code : error_catalogue()) {
    CAPTURE(code->id);
    CHECK(std::regex_match(std::string(code->id), std::regex("DMM-0[1-8][0-9]{2}")));
    CHECK(std::string(code->id) > previous);
    previous = code->id;
    CHECK_FALSE(code->title.empty());
    CHECK_FALSE(code->title.ends_with('.'));
    CHECK(code->remedy.ends_with('.'));
    CHECK(find_code(code->id) == code);
  }
  CHECK(error_catalogue().size() >= 36);
  CHECK(find_code("DMM-9999") == nullptr);
  CHECK(find_code("") == nullptr);
}

TEST_CASE("errors: every code has a page with its heading and a fix", "[error][unit]") {
  for (const Code* code : error_catalogue()) {
    CAPTURE(code->id);
    std::istringstream page(page_of(*code));
    std::string heading;
    std::getline(page, heading);
    CHECK(heading == "# " + std::string(code->id) + ": " + std::string(code->title));
    const std::string text = page_of(*code);
    for (const char* section :
         {"\n## How it shows\n", "\n## Cause\n", "\n## Check\n", "\n## Fix\n"}) {
      CAPTURE(section);
      CHECK(text.find(section) != std::string::npos);
    }
    CHECK(text.find("`" + std::string(to_string(code->kind)) + "`") != std::string::npos);
  }
}

TEST_CASE("errors: every page belongs to a code and stands in the index", "[error][unit]") {
  const std::string index = testing::read_text_file(kPages / "README.md");
  std::set<std::string> pages;
  for (const auto& file : std::filesystem::directory_iterator(kPages)) {
    const std::string name = file.path().stem().string();
    if (name == "README") continue;
    CAPTURE(name);
    CHECK(file.path().extension() == ".md");
    CHECK(find_code(name) != nullptr);
    CHECK(pages.insert(name).second);
  }
  CHECK(pages.size() == error_catalogue().size());
  for (const Code* code : error_catalogue()) {
    const std::string id(code->id);
    CAPTURE(id);
    CHECK(index.find("[" + id + "](" + id + ".md) | " + std::string(code->title)) !=
          std::string::npos);
  }
}

TEST_CASE("errors: an error tells code and message and gathers context", "[error][unit]") {
  const Error error(code::too_large, "5 bytes");
  CHECK(std::string(error.what()) == "DMM-0202: 5 bytes");
  CHECK(error.kind() == Kind::invalid);
  CHECK(error.remedy() == code::too_large.remedy);
  const Error outer = error.with_context("reading a report").with_context("observing players");
  CHECK(outer.message() == "5 bytes (while reading a report) (while observing players)");
  CHECK(&outer.code() == &code::too_large);
  CHECK_THROWS_AS(require(false, code::bad_option, "no"), Error);
  CHECK_NOTHROW(require(true, code::bad_option, "no"));
}

TEST_CASE("errors: kinds have distinct names", "[error][unit]") {
  std::set<std::string_view> names;
  for (const Kind kind :
       {Kind::retry, Kind::overloaded, Kind::conflict, Kind::in_doubt, Kind::not_found,
        Kind::invalid, Kind::corrupt, Kind::unsupported, Kind::cancelled, Kind::bug}) {
    CHECK(names.insert(to_string(kind)).second);
  }
}

}  // namespace dmm
