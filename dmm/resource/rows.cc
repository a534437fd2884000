#include "dmm/resource/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "dmm/json.h"
#include "dmm/limits.h"
#include "dmm/resource/check_internal.h"

namespace dmm::resource {

namespace {

constexpr std::array<std::pair<Informed::Result, std::string_view>, 6> kResults{
    {{Informed::Result::created, "created"},
     {Informed::Result::updated, "updated"},
     {Informed::Result::unchanged, "unchanged"},
     {Informed::Result::relabelled, "relabelled"},
     {Informed::Result::stale, "stale"},
     {Informed::Result::deleted, "deleted"}}};

}  // namespace

std::string_view to_string(Informed::Result result) noexcept {
  for (const auto& [value, text] : kResults) {
    if (value == result) return text;
  }
  return "?";
}

namespace internal {

namespace {

using std::chrono::system_clock;

/// An object on its way into the database.
struct Item {
  std::size_t index;  ///< of the answer
  const AnyObject* object;
  std::string text;  ///< of its content
  Comparison comparison = {};
};

/// Locks what is known of the items that can be compared, and compares.
void compare_locked(pqxx::transaction_base& transaction, std::vector<Item>& items) {
  std::string keys;
  for (std::size_t i = 0; i < items.size(); ++i) {
    Item& item = items[i];
    if (!item.object->compare) continue;
    item.comparison = {.expected = 0};
    keys += fmt::format("{}{{\"n\":{},{}}}", keys.empty() ? "[" : ",", i,
                        members_of(key_of_object(*item.object)));
  }
  if (keys.empty()) return;
  const pqxx::result known = transaction.exec_params(
      "SELECT g.n, r.generation, r.object::text FROM json_to_recordset($1::json)"
      "   AS g (n integer, ns text COLLATE \"C\", kind text COLLATE \"C\", id text COLLATE \"C\")"
      " JOIN dmm.resource AS r ON r.namespace = g.ns AND r.kind = g.kind AND r.id = g.id"
      " ORDER BY r.namespace, r.kind, r.id FOR UPDATE OF r",
      keys + "]");
  for (const auto& row : known) {
    Item& item = items[row[0].as<std::size_t>()];
    item.comparison = compare(*item.object, row[1].as<std::int64_t>(), row[2].as<std::string>());
  }
}

/// Brings items of different keys, again and again until nobody comes between comparison and write.
void bring(pqxx::transaction_base& transaction, std::vector<Item> items, const InformCall& call,
           std::vector<Informed>& answers) {
  while (!items.empty()) {
    compare_locked(transaction, items);
    std::string objects;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const Item& item = items[i];
      objects += fmt::format("{}{{\"n\":{},{}}}", objects.empty() ? "[" : ",", i,
                             members_of(*item.object, item.text, item.comparison));
    }
    const pqxx::result rows = transaction.exec_params(
        fmt::format("SELECT {} FROM dmm.inform($1::json, $2, $3)", kInformedColumns), objects + "]",
        call.listing, call.skipped);
    std::vector<Item> again;
    for (const auto& row : rows) {
      Item& item = items[row[0].as<std::size_t>()];
      if (const auto informed = informed_of(row)) {
        answers[item.index] = *informed;
      } else {
        again.push_back(std::move(item));
      }
    }
    items = std::move(again);
  }
}

}  // namespace

std::int64_t microseconds(Time time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

Time time_of(std::int64_t value) {
  return Time(std::chrono::duration_cast<system_clock::duration>(std::chrono::microseconds(value)));
}

std::optional<Time> time_of(const pqxx::field& field) {
  if (field.is_null()) return std::nullopt;
  return time_of(field.as<std::int64_t>());
}

std::string json_text(std::string_view text) {
  return dump_json(nlohmann::json(text));
}

std::string members_of(const Key& key) {
  return fmt::format("\"ns\":{},\"kind\":{},\"id\":{}", json_text(key.ns), json_text(key.kind),
                     json_text(key.id));
}

Key key_of_object(const AnyObject& object) {
  return {object.kind, object.id, object.options.ns.value_or(kDefaultNamespace)};
}

std::string checked_text(const AnyObject& object) {
  check_object(object);
  return stored_text(object.content, limits::payload_bytes_max,
                     fmt::format("the content of {} {}", object.kind, printable(object.id, 100)));
}

std::string members_of(const AnyObject& object, const std::string& text,
                       const Comparison& comparison) {
  std::string members = fmt::format("{},\"object\":{}", members_of(key_of_object(object)), text);
  const InformOptions& options = object.options;
  if (options.tags) members += ",\"tags\":" + dump_json(*options.tags);
  if (options.metadata) members += ",\"metadata\":" + dump_json(*options.metadata);
  if (options.max_attempts) members += fmt::format(",\"max_attempts\":{}", *options.max_attempts);
  if (object.created_at) {
    members += fmt::format(",\"created\":{}", microseconds(*object.created_at));
  }
  if (!comparison.verdict.empty()) {
    members += fmt::format(",\"verdict\":\"{}\"", comparison.verdict);
  }
  if (comparison.expected >= 0) members += fmt::format(",\"expected\":{}", comparison.expected);
  if (options.force) members += ",\"force\":true";
  return members;
}

Comparison compare(const AnyObject& object, std::int64_t generation, const std::string& stored) {
  const int order = object.compare(nlohmann::json::parse(stored));
  return {order > 0 ? "newer" : order < 0 ? "older" : "same", generation};
}

const std::string_view kInformedColumns =
    "n, result, coalesce(number, 0), coalesce(generation, 0), coalesce(state, '')";

std::optional<Informed> informed_of(const pqxx::row& row) {
  Informed informed;
  const std::string_view result = row[1].c_str();
  if (result == "conflict") return std::nullopt;
  for (const auto& [value, text] : kResults) {
    if (text == result) informed.result = value;
  }
  informed.number = row[2].as<std::int64_t>();
  informed.generation = row[3].as<std::int64_t>();
  informed.state = parse_state(row[4].c_str()).value_or(State::scheduled);
  return informed;
}

const std::string_view kResourceColumns =
    "r.namespace, r.kind, r.id, r.number, r.generation, r.state, r.object::text, r.attempt, "
    "r.tries,"
    " r.max_attempts, r.metadata::text, to_json(r.tags)::text, r.errors::text,"
    " dmm.microseconds(r.created_at), dmm.microseconds(r.external_created_at),"
    " dmm.microseconds(r.state_at), dmm.microseconds(r.attempted_at),"
    " dmm.microseconds(r.synced_at), dmm.microseconds(r.retry_at),"
    " dmm.microseconds(r.missing_since)";

AnyResource resource_of(const pqxx::row& row) {
  AnyResource resource;
  resource.key = {row[1].as<std::string>(), row[2].as<std::string>(), row[0].as<std::string>()};
  resource.number = row[3].as<std::int64_t>();
  resource.generation = row[4].as<std::int64_t>();
  resource.state = parse_state(row[5].c_str()).value_or(State::scheduled);
  resource.content = nlohmann::json::parse(row[6].c_str());
  resource.attempt = row[7].as<std::int64_t>();
  resource.tries = row[8].as<int>();
  resource.max_attempts = row[9].as<int>();
  resource.metadata = nlohmann::json::parse(row[10].c_str());
  resource.tags = tags_of(row[11].c_str());
  resource.errors = errors_of(row[12].c_str());
  resource.created_at = time_of(row[13].as<std::int64_t>());
  resource.external_created_at = time_of(row[14]);
  resource.state_at = time_of(row[15]);
  resource.attempted_at = time_of(row[16]);
  resource.synced_at = time_of(row[17]);
  resource.retry_at = time_of(row[18]);
  resource.missing_since = time_of(row[19]);
  return resource;
}

std::vector<WorkFailure> errors_of(const std::string& json) {
  std::vector<WorkFailure> errors;
  for (const nlohmann::json& entry : nlohmann::json::parse(json)) {
    errors.push_back({entry.value("at", ""), entry.value("attempt", std::int64_t{0}),
                      entry.value("error", ""), entry.value("trace", "")});
  }
  return errors;
}

std::vector<std::string> tags_of(const std::string& json) {
  return nlohmann::json::parse(json).get<std::vector<std::string>>();
}

std::vector<Informed> inform(pqxx::transaction_base& transaction,
                             std::span<const AnyObject> objects, const InformCall& call) {
  std::vector<Informed> answers(objects.size());
  std::vector<std::string> texts;
  texts.reserve(objects.size());
  for (const AnyObject& object : objects) {  // nothing is written if one of them is wrong
    texts.push_back(checked_text(object));
  }
  // A key that comes twice comes in two statements, so that its order counts.
  std::vector<Item> items;
  std::set<Key> keys;
  std::size_t bytes = 0;
  const auto flush = [&] {
    if (!items.empty()) bring(transaction, std::exchange(items, {}), call, answers);
    keys.clear();
    bytes = 0;
  };
  for (std::size_t i = 0; i < objects.size(); ++i) {
    if (items.size() >= limits::resource_batch || bytes >= limits::resource_batch_bytes ||
        !keys.insert(key_of_object(objects[i])).second) {
      flush();
      keys.insert(key_of_object(objects[i]));
    }
    bytes += texts[i].size();
    items.push_back({i, &objects[i], std::move(texts[i])});
  }
  flush();
  return answers;
}

nlohmann::json to_json(const InformRequest& request) {
  nlohmann::json options = nlohmann::json::object();
  if (!request.labels.empty()) options["labels"] = request.labels;
  if (request.after) options["after"] = microseconds(*request.after);
  if (request.limit > 0) options["limit"] = request.limit;
  if (!request.order_by.empty()) options["order_by"] = request.order_by;
  if (request.full) options["full"] = true;
  if (request.process_existing) options["process_existing"] = true;
  if (request.accept_missing) options["accept_missing"] = true;
  return options;
}

InformRequest request_of(const nlohmann::json& options) {
  InformRequest request;
  request.labels = options.value("labels", std::map<std::string, std::string>());
  if (options.contains("after")) request.after = time_of(options["after"].get<std::int64_t>());
  request.limit = options.value("limit", std::size_t{0});
  request.order_by = options.value("order_by", "");
  request.full = options.value("full", false);
  request.process_existing = options.value("process_existing", false);
  request.accept_missing = options.value("accept_missing", false);
  return request;
}

}  // namespace internal

}  // namespace dmm::resource
