#pragma once

// A namespace with a view at work, and what tests ask of it.

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "dmm/view.h"
#include "dmm/views.h"
#include "fixture.h"

namespace dmm::integration {

inline constexpr const char* kView = "things";

// Players with the playlist of their zone.
inline View zones_view() {
  View view;
  view.name = kView;
  view.type = kType;
  view.inputs = {ViewInput::reports("player"), ViewInput::bucket("zones")};
  view.pipeline = json::parse(R"([
    {"@join": {"@eq": ["$.player.zone", "$.zones.key"]}},
    {"@project": {"id": "$.player.device", "list": "$.zones.list", "volume": "$.player.volume"}}])");
  return view;
}

// A server, a bucket to look with, and a client that puts what devices and people put.
struct Scene {
  testing::NatsServer server;
  RawClient raw{server.port()};
  Bucket bucket = open_bucket(server);

  explicit Scene(testing::NatsServerOptions options = {}) : server(std::move(options)) {
    raw.request(
        "$JS.API.STREAM.CREATE.KV_zones",
        R"({"name":"KV_zones","subjects":["$KV.zones.>"],"max_msgs_per_subject":1,)"
        R"("deny_delete":false,"allow_rollup_hdrs":true,"discard":"new","num_replicas":1})");
  }
  void zone(const std::string& name, const std::string& list) {
    raw.store("$KV.zones." + name, json{{"list", list}}.dump());
  }
  void drop_zone(const std::string& name) {
    raw.store("$KV.zones." + name, "", {{"KV-Operation", "DEL"}});
  }
  void report(const std::string& device, const json& state) {
    bucket.report("player", device, state);
  }
};

// A view at work in this process, on a bucket of its own.
struct Keeper {
  Bucket bucket;
  ViewStream& view;
  Worker worker;

  Keeper(const testing::NatsServer& server, View spec, ViewSnapshots snapshots = {})
      : bucket(open_bucket(server, std::move(snapshots))),
        view(bucket.view(std::move(spec))),
        worker(bucket) {
    wait_for("the view to load", [&] { return view.stats().loaded; });
    wait_told();
  }
  void wait_told() {
    wait_for("all to be told", [&] { return view.stats().sending == 0; });
  }
  // Waits until this many changes of inputs were taken, and told.
  void wait_taken(std::uint64_t changes) {
    wait_for("the changes", [&] {
      const ViewStats stats = view.stats();
      return stats.changes >= changes && stats.sending == 0;
    });
  }
};

// What identities hold and wait for, as `dmm ls` sees it.
inline std::map<std::string, Matter> matters(Bucket& bucket) {
  std::map<std::string, Matter> all;
  for (Matter& matter : bucket.inspect().list(kType, true)) {
    all.emplace(matter.identity.id, std::move(matter));
  }
  return all;
}

inline std::set<std::string> ids_with_token_after(Bucket& bucket, Sequence last) {
  std::set<std::string> ids;
  for (const auto& [id, matter] : matters(bucket)) {
    if (matter.token > last) ids.insert(id);
  }
  return ids;
}

inline Sequence last_token(Bucket& bucket) {
  Sequence last;
  for (const auto& [id, matter] : matters(bucket)) last = std::max(last, matter.token);
  return last;
}

inline json effective(Bucket& bucket, const std::string& id) {
  return bucket.matter(thing(id));
}

// Waits until what names `part` is refused with this code; "none": until it is not refused.
inline void wait_refused(Bucket& bucket, const std::string& part, const std::string& code) {
  wait_for(part + " to be refused with " + code, [&] {
    for (const Refused& refused : bucket.inspect().refused()) {
      if (refused.subject.find(part) != std::string::npos) return refused.error_code == code;
    }
    return code == "none";
  });
}

}  // namespace dmm::integration
