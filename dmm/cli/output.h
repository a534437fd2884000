#pragma once

// Output is standard output, buffered. Whoever reads it may go away at any time (`dmm ls | head`):
// that ends the command in silence.

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace dmm::cli {

/// Thrown when nobody reads the output any more. Not an error to be shown.
struct OutputClosed {};

/// Not thread-safe.
class Output final {
 public:
  explicit Output(int fd) noexcept : fd_(fd) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  /// Throws OutputClosed, std::system_error.
  void write(std::string_view text);
  /// One document: on several lines for people, on one line for programs; in YAML behind a line of
  /// dashes, unless it is the first.
  void write(const nlohmann::json& document, bool for_people);
  void use_yaml(bool yaml) noexcept { yaml_ = yaml; }
  /// Call it before the program ends; a destructor could not tell that the disk is full.
  void flush();

 private:
  int fd_;
  std::string buffer_;
  bool yaml_ = false;
  bool wrote_ = false;  ///< a document
};

/// The text of a document, with invalid UTF-8 replaced.
std::string json_text(const nlohmann::json& document, bool for_people);

/// Writes to standard error at once; failures are ignored, for there is nowhere to tell them.
void write_error(std::string_view text) noexcept;

}  // namespace dmm::cli
