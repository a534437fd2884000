#pragma once

// How the rows of a workload look as documents: names, text, and the pipeline over them.

#include <string>
#include <string_view>
#include <vector>

#include "tests/bench/engine/workload.h"

namespace dmm::bench {

struct Form {
  std::string_view program;                       ///< for dmm::engine::Program::parse
  std::vector<std::string> inputs;                ///< by Event::input
  std::vector<std::vector<std::string>> columns;  ///< of each input; unused where documents differ
  /// A document replaces the one before with the same text in this member; empty: never.
  std::string_view key;
};

/// Throws std::invalid_argument for an unknown workload.
const Form& form_of(const std::string& workload);

/// The JSON text of events, one behind the other.
struct Documents {
  struct Document {
    std::uint32_t input;
    std::int32_t weight;
    std::size_t end;  ///< in `text`; it begins where the one before ends
  };
  std::string text;
  std::vector<Document> list;

  std::string_view operator[](std::size_t index) const {
    const std::size_t begin = index == 0 ? 0 : list[index - 1].end;
    return std::string_view(text).substr(begin, list[index].end - begin);
  }
};

/// Replaces `out` by the documents of the events: one for each event, an object of its columns.
/// Those of `endpoints` are Kubernetes documents, a pod of about 260 bytes; those of W6 are reports
/// of 1.45 kB, one for all cells of a device.
void write_documents(const std::string& workload, const Events& events, Documents& out);

/// The numbers behind the texts in documents. Throw std::invalid_argument for anything else.
std::uint32_t service_number(std::string_view name);
std::uint32_t address_number(std::string_view text);
std::uint32_t device_number(std::string_view name);
std::uint32_t report_key_number(std::string_view key);

}  // namespace dmm::bench
