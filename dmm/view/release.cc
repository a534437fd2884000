#include "dmm/view/release.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <utility>

#include "dmm/error.h"
#include "dmm/internal/runtime.h"
#include "dmm/internal/status.h"
#include "dmm/json.h"
#include "dmm/limits.h"

namespace dmm::view {

using nlohmann::json;

namespace {

constexpr std::size_t kReplacedMax = 100;

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             internal::SystemClock::now().time_since_epoch())
      .count();
}

/// What follows on `present`. A hash that comes back is no longer a replaced one.
ViewRelease next_release(const std::optional<ViewRelease>& present, const json& view,
                         const Rollout& rollout, std::string by) {
  ViewRelease next;
  if (present) next = *present;
  const std::string hash = hash_of(view);
  if (present && present->view.value("type", json()) != view.value("type", json())) {
    // Its identities would belong to nobody, and be torn down by nobody.
    throw Error(code::bad_view, fmt::format("view {} is of type {}, which cannot change; give the "
                                            "new view another name",
                                            view.value("view", ""),
                                            dump_json(present->view.value("type", json()))));
  }
  if (present && present->hash != hash) {
    next.previous = present->view;
    next.replaced.push_back(present->hash);
  }
  std::erase(next.replaced, hash);
  if (next.replaced.size() > kReplacedMax) next.replaced.erase(next.replaced.begin());
  ++next.number;
  next.hash = hash;
  next.view = view;
  next.by = std::move(by);
  next.at = now_ms();
  next.rollout = rollout;
  return next;
}

/// Stores what `decide` makes of the present release, again until nobody else came between.
/// decide   returns nothing to leave the present one as it is.
ViewRelease update(
    const internal::Streams& streams, std::string_view name,
    const std::function<std::optional<ViewRelease>(const std::optional<ViewRelease>&)>& decide) {
  const std::string subject = streams.names.status_subject(release_key(name));
  while (true) {
    const auto message = transport::last(*streams.status, subject);
    const auto present = message ? parse_release(*message) : std::nullopt;
    const auto next = decide(present);
    if (!next) return *present;
    try {
      transport::publish(*streams.status,
                         {.subject = subject,
                          .payload = dump_json(json(*next)),
                          .expected_last = message ? message->sequence : Sequence{}},
                         limits::publish_deadline);
      return *next;
    } catch (const Error& error) {
      if (error.kind() != Kind::conflict) throw;
    }
  }
}

}  // namespace

std::string release_key(std::string_view view) {
  return fmt::format("view.release.{}", view);
}

std::string hash_of(const json& view) {
  json parts = json::array();
  for (const char* member : {"type", "key", "inputs", "pipeline", "removals_free"}) {
    parts.push_back(view.value(member, json()));
  }
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a-64
  for (const char c : dump_json(parts)) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211u;
  }
  return fmt::format("{:016x}", hash);
}

std::optional<ViewRelease> parse_release(const transport::Message& message) {
  if (wire::is_removed(message)) return std::nullopt;
  const auto value = parse_json(message.payload);
  if (!value.ok() || !value.value().is_object()) return std::nullopt;
  constexpr std::uint64_t kNumberMax = std::uint64_t{1} << 62;
  if (!internal::counters_fit(value.value(), {"number", "at"}, kNumberMax)) return std::nullopt;
  if (const auto rollout = value.value().find("rollout"); rollout != value.value().end()) {
    if (!internal::counters_fit(*rollout, {"per_minute", "failures_max"}, kNumberMax)) {
      return std::nullopt;
    }
  }
  try {
    auto release = value.value().get<ViewRelease>();
    if (release.number == 0 || !release.view.is_object()) return std::nullopt;
    return release;
  } catch (const json::exception&) {
    return std::nullopt;  // rubbish in the bucket counts as absent
  }
}

std::optional<ViewRelease> load_release(const internal::Streams& streams, std::string_view name) {
  const auto message =
      transport::last(*streams.status, streams.names.status_subject(release_key(name)));
  return message ? parse_release(*message) : std::nullopt;
}

ViewRelease declare_release(const internal::Streams& streams, const View& view) {
  const json declared = view_to_json(view);
  const std::string hash = hash_of(declared);
  return update(
      streams, view.name,
      [&](const std::optional<ViewRelease>& present) -> std::optional<ViewRelease> {
        if (present && (present->hash == hash ||
                        std::ranges::find(present->replaced, hash) != present->replaced.end())) {
          return std::nullopt;
        }
        return next_release(present, declared, {}, "declared");
      });
}

ViewRelease apply_release(const internal::Streams& streams, const json& view,
                          const Rollout& rollout, std::string by) {
  return update(streams, view.at("view").get<std::string>(),
                [&](const std::optional<ViewRelease>& present) {
                  return std::optional(next_release(present, view, rollout, by));
                });
}

ViewRelease roll_back_release(const internal::Streams& streams, std::string_view name,
                              const Rollout& rollout) {
  return update(streams, name, [&](const std::optional<ViewRelease>& present) {
    if (!present || !present->previous.is_object()) {
      throw Error(code::no_earlier_release,
                  fmt::format("view {} has no release before the present one", printable(name)));
    }
    return std::optional(next_release(present, present->previous, rollout, "rolled back"));
  });
}

View view_of(const ViewRelease& release, const View& declared) {
  const auto own_source = [&](const json& member) {
    for (const ViewInput& input : declared.inputs) {
      if (!input.source || member.value("name", json()) != input.called()) continue;
      json definition = input.source->definition();
      if (std::ranges::all_of(definition.items(), [&](const auto& item) {
            return member.value(item.key(), json()) == item.value();
          })) {
        ViewInput own = input;
        own.age = {};  // that is for the release to say
        return own;
      }
    }
    throw Error(code::release_unknown_here,
                fmt::format("release {} of view {} reads {}, which this program does not declare",
                            release.number, declared.name, printable(dump_json(member), 300)));
  };
  return view_from_json(release.view, own_source);
}

}  // namespace dmm::view
