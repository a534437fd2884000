#include "tests/bench/loop/stage.h"

#include <fmt/format.h>

#include <stdexcept>
#include <unordered_map>
#include <utility>

#include "dmm/bucket.h"

namespace dmm::bench {

namespace {

constexpr std::size_t kInFlight = 2'048;
constexpr const char* kZonesStream = "KV_zones";

void make(natsMsg** message, const std::string& subject, const std::string& reply,
          const std::string& data) {
  check(natsMsg_Create(message, subject.c_str(), reply.c_str(), data.data(),
                       static_cast<int>(data.size())),
        "message");
}

}  // namespace

Stage::Stage(const testing::NatsServer& server, const std::string& ns)
    : server_(server),
      ns_(ns),
      names_(ns),
      connection_(connect(server.url(), false)),
      directory_("dmm-bench-loop") {
  open_namespace();
  open_zones();
}

Stage::~Stage() {
  try {
    for (const auto& stream :
         {names_.work(1), names_.cache(1), names_.reports(1), names_.status(1), names_.leases(1)}) {
      api(connection_.get(), "STREAM.DELETE." + stream.name, nullptr);
    }
    api(connection_.get(), std::string("STREAM.DELETE.") + kZonesStream, nullptr);
  } catch (const std::exception&) {  // The server goes away with all it holds in any case.
  }
}

void Stage::open_namespace() {
  BucketOptions options;
  options.connection.servers = {server_.url()};
  Bucket::open(ns_, std::move(options)).close();
}

void Stage::open_zones() {
  api(connection_.get(), std::string("STREAM.CREATE.") + kZonesStream,
      {{"name", kZonesStream},
       {"subjects", {"$KV.zones.>"}},
       {"max_msgs_per_subject", 1},
       {"discard", "new"},
       {"allow_rollup_hdrs", true},
       {"num_replicas", 1}});
  publish(kZones, [](std::size_t zone, const std::string& reply, natsMsg** message) {
    make(message, "$KV.zones." + Fleet::zone(zone), reply,
         nlohmann::json{{"list", Fleet::list_of_zone(zone)}}.dump());
  });
}

/// Publishes `count` messages, pipelined, and waits until all are confirmed.
void Stage::publish(std::size_t count, const Make& make_message) {
  Window window(kInFlight);
  const std::string inbox = new_inbox();
  const Subscription acks(connection_.get(), inbox, [&window](natsMsg* ack) {
    const std::string_view text(natsMsg_GetData(ack),
                                static_cast<std::size_t>(natsMsg_GetDataLength(ack)));
    if (text.find("\"seq\":") == std::string_view::npos) {
      throw std::runtime_error("a publish was refused: " + std::string(text));
    }
    window.leave();
  });
  for (std::size_t i = 0; i < count; ++i) {
    natsMsg* raw = nullptr;
    make_message(i, inbox, &raw);
    const Message message(raw);
    window.enter();
    check(natsConnection_PublishMsg(connection_.get(), raw), "publish");
  }
  window.wait_for(count);
}

void Stage::report_all(const Fleet& fleet) {
  publish(fleet.size(), [&](std::size_t device, const std::string& reply, natsMsg** message) {
    make(message, names_.report_subject(kReportKind, Fleet::id(device)), reply,
         fleet.report(device));
  });
}

void Stage::report_next(Fleet& fleet, std::size_t count) {
  publish(count, [&](std::size_t, const std::string& reply, natsMsg** message) {
    const std::size_t device = fleet.turn();
    make(message, names_.report_subject(kReportKind, Fleet::id(device)), reply,
         fleet.report(device));
  });
}

void Stage::store_entries(const Fleet& fleet) {
  publish(fleet.size(), [&](std::size_t device, const std::string& reply, natsMsg** message) {
    make(message, names_.entry_subject(key_of(Identity{kRowType, Fleet::id(device)})), reply,
         fleet.row(device));
    check(natsMsgHeader_Set(*message, "Dmm-View", fmt::format("{};0", kViewName).c_str()),
          "header");
  });
}

std::uint64_t Stage::tokens() {
  return api(connection_.get(), "STREAM.INFO." + names_.work(1).name, nullptr)["state"]["messages"];
}

void Stage::purge_tokens() {
  api(connection_.get(), "STREAM.PURGE." + names_.work(1).name, nullptr);
}

void Stage::verify_tokens(const Fleet& fleet) {
  const std::string stream = names_.work(1).name;
  std::unordered_map<std::string, std::string> rows;
  for (std::size_t device = 0; device < fleet.size(); ++device) {
    rows.emplace(names_.token_subject(Identity{kRowType, Fleet::id(device)}), fleet.row(device));
  }
  const std::uint64_t count = tokens();
  std::uint64_t wrong = 0;
  Window window(1);
  const std::string inbox = new_inbox();
  std::uint64_t received = 0;
  const Subscription messages(connection_.get(), inbox, [&](natsMsg* message) {
    const std::string_view text(natsMsg_GetData(message),
                                static_cast<std::size_t>(natsMsg_GetDataLength(message)));
    const auto row = rows.find(natsMsg_GetSubject(message));
    if (row == rows.end() || nlohmann::json::parse(text) != nlohmann::json::parse(row->second)) {
      ++wrong;
    } else {
      rows.erase(row);
    }
    if (++received == count) window.leave();
  });
  window.enter();
  // A consumer that pushes: nothing is measured here.
  api(connection_.get(), "CONSUMER.CREATE." + stream,
      {{"stream_name", stream},
       {"config",
        {{"deliver_policy", "all"}, {"ack_policy", "none"}, {"deliver_subject", inbox}}}});
  if (count > 0) window.wait_for(1);
  if (wrong == 0 && rows.empty()) return;
  throw std::runtime_error(
      fmt::format("no figure: of {} tokens {} are not what they should be, and of {} rows {} have "
                  "none",
                  count, wrong, fleet.size(), rows.size()));
}

Role Stage::role(const std::string& name, bool and_cache) {
  return {name, server_.url(), ns_, directory_ / fmt::format("board{}", ++boards_), and_cache, {}};
}

Role Stage::role_with_snapshots() {
  Role role = this->role("view");
  role.snapshots = directory_ / "snapshots";
  return role;
}

}  // namespace dmm::bench
