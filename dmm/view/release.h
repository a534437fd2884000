#pragma once

// What is kept under the name of a view: `view.release.<name>` in the status bucket.

#include <optional>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "dmm/internal/streams.h"
#include "dmm/view.h"
#include "dmm/views.h"

namespace dmm {

NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(Rollout, per_minute, failures_max)
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE_WITH_DEFAULT(ViewRelease, number, hash, view, previous, replaced,
                                                by, at, rollout)

}  // namespace dmm

namespace dmm::view {

std::string release_key(std::string_view view);

/// A short text that changes when anything does that rows and keys depend on: type, key, inputs,
/// pipeline. Of the file form.
std::string hash_of(const nlohmann::json& view);

/// Reads a release; nothing for a removed one or anything else that is none.
std::optional<ViewRelease> parse_release(const transport::Message& message);
std::optional<ViewRelease> load_release(const internal::Streams& streams, std::string_view name);

/// What the program that declares `view` is to keep: the release there is, unless this declaration
/// is new to it. Blocks. Throws Error{retry}.
ViewRelease declare_release(const internal::Streams& streams, const View& view);
/// Makes `view`, in its file form, the release.
ViewRelease apply_release(const internal::Streams& streams, const nlohmann::json& view,
                          const Rollout& rollout, std::string by);
/// Throws Error{not_found} DMM-0606 if there is no earlier one.
ViewRelease roll_back_release(const internal::Streams& streams, std::string_view name,
                              const Rollout& rollout);

/// The view of a release for a program that declared `declared`, whose sources it takes.
/// Throws Error{invalid} DMM-0607 for an input that it does not have, DMM-0601.
View view_of(const ViewRelease& release, const View& declared);

}  // namespace dmm::view
