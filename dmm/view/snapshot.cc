#include "dmm/view/snapshot.h"

#include <fmt/format.h>

#include "dmm/json.h"

namespace dmm::view {

namespace {

using std::chrono::seconds;

/// Clocks are set now and then; a snapshot from farther ahead is of another time.
constexpr seconds kAheadMax{60};

void write_mark(SnapshotWriter& writer, const nlohmann::json& mark) {
  writer.text(dump_json(mark));
}

nlohmann::json read_mark(SnapshotReader& reader) {
  const std::string text(reader.text());
  auto mark = parse_json(text);
  return mark.ok() ? std::move(mark).value() : nlohmann::json();
}

}  // namespace

void write_head(SnapshotWriter& writer, const SnapshotHead& head) {
  writer.text(head.ns);
  writer.text(head.view);
  writer.text(head.release);
  writer.time(head.saved_at);
  writer.number(head.history);
  writer.fixed(head.digest);
  writer.number(head.rows);
  writer.number(head.decoder);
  writer.number(head.fields.size());
  for (const std::string& fields : head.fields) writer.text(fields);
  writer.number(head.inputs.size());
  for (const SourceMark& mark : head.inputs) {
    writer.text(mark.position);
    write_mark(writer, mark.baseline);
  }
  writer.number(head.entries ? 1 : 0);
  if (!head.entries) return;
  write_mark(writer, head.entries->mark.work);
  write_mark(writer, head.entries->mark.cache);
  writer.number(head.entries->open.size());
  for (const std::string& id : head.entries->open) writer.text(id);
}

SnapshotHead read_head(SnapshotReader& reader) {
  SnapshotHead head;
  head.ns = reader.text();
  head.view = reader.text();
  head.release = reader.text();
  head.saved_at = reader.time();
  head.history = reader.number();
  head.digest = reader.fixed();
  head.rows = reader.number();
  head.decoder = static_cast<std::uint32_t>(reader.number());
  for (std::size_t left = reader.count(); left > 0; --left) head.fields.emplace_back(reader.text());
  for (std::size_t left = reader.count(); left > 0; --left) {
    SourceMark& mark = head.inputs.emplace_back();
    mark.position = reader.text();
    mark.baseline = read_mark(reader);
  }
  if (reader.number() == 0) return head;
  KnownEntries& entries = head.entries.emplace();
  entries.mark.work = read_mark(reader);
  entries.mark.cache = read_mark(reader);
  for (std::size_t left = reader.count(); left > 0; --left) {
    entries.open.emplace_back(reader.text());
  }
  return head;
}

std::string misfit(const SnapshotHead& found, const SnapshotHead& wanted,
                   std::chrono::milliseconds age_max) {
  if (found.ns != wanted.ns || found.view != wanted.view) {
    return fmt::format("it is of view {} of namespace {}", printable(found.view, 100),
                       printable(found.ns, 100));
  }
  if (found.release != wanted.release) {
    return fmt::format("it is of release {}, not {}", printable(found.release, 100),
                       wanted.release);
  }
  if (found.decoder != wanted.decoder || found.fields != wanted.fields) {
    return "its documents were reduced to other fields than this program reads";
  }
  if (found.history != wanted.history) {
    return "what was read was found to be void after it was written";
  }
  const auto age = wanted.saved_at - found.saved_at;
  if (age > age_max) {
    return fmt::format("it is {} s old, more than {}",
                       std::chrono::duration_cast<seconds>(age).count(),
                       std::chrono::duration_cast<seconds>(age_max).count());
  }
  if (age < -kAheadMax) return "it was written in the future";
  return {};
}

}  // namespace dmm::view
