#pragma once

// Views from files and from the namespace.

#include <string>

#include "dmm/view.h"
#include "dmm/views.h"

namespace dmm::cli {

/// How the inputs of a view are read: by its owner, whose place in them is remembered, or by
/// someone who passes by.
enum class ViewReader : std::uint8_t { owner, passing };

/// Reads a view, JSON or YAML; "-": standard input. Throws Error DMM-0601, DMM-0501 and what
/// read_pipeline() throws.
View read_view(const std::string& file, ViewReader reader);

/// The view of a release. Throws Error{invalid} DMM-0607 for an input that only the program that
/// declared it can read.
View view_of(const ViewRelease& release, ViewReader reader);

/// The view of a name, as it is kept, or of a file: what is called like a file is one.
View find_view(Views& views, const std::string& name_or_file, ViewReader reader);

}  // namespace dmm::cli
