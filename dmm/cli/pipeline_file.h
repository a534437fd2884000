#pragma once

// A pipeline file: a program of the engine as a user keeps it, in JSON or YAML.

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "engine/program.h"

namespace dmm::cli {

/// Reads a pipeline file. A name that ends with .json is JSON, one with .yaml or .yml YAML; any
/// other, and "-" for standard input, is JSON if it begins with one of [ { ", else YAML.
///
/// throws   Error{invalid} DMM-0404 it cannot be read, DMM-0501 no YAML, DMM-02xx no JSON, too
///          large, too deep, not UTF-8. Messages begin with the name of the file.
nlohmann::json read_pipeline(const std::string& path);

/// A file that is open for reading, or standard input for "-".
class InputFile final {
 public:
  /// throws   Error{invalid} DMM-0404 it cannot be opened, or is a directory.
  explicit InputFile(const std::string& path);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  int fd() const noexcept { return fd_; }
  /// Throws Error{invalid} DMM-0404 that says why it cannot be read (an errno).
  [[noreturn]] void refuse(int error) const;

 private:
  void close() noexcept;

  std::string path_;
  int fd_;
};

/// The whole of a file of at most `bytes_max`.
/// throws   Error{invalid} DMM-0404, DMM-0202.
std::string read_file(const std::string& path, std::size_t bytes_max);

enum class Mode {
  as_written,  ///< with the transforms of the file; without any, on changes
  whole        ///< without the Incrementalizer: each step is given whole collections
};

/// Compiles it. throws Error{invalid} DMM-0502 with stage, argument, reason and, for a mistyped
/// name, the one that may be meant.
engine::Program compile_pipeline(const std::string& path, const nlohmann::json& source,
                                 Mode mode = Mode::as_written);

/// The operators of expressions, to find what a mistyped one means.
const std::vector<std::string>& operator_names();

}  // namespace dmm::cli
