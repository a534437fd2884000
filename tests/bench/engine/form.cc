#include "tests/bench/engine/form.h"

#include <absl/container/flat_hash_map.h>
#include <fmt/format.h>

#include <charconv>
#include <iterator>
#include <map>
#include <span>
#include <stdexcept>

namespace dmm::bench {
namespace {

constexpr std::string_view kServicePrefix = "service-";
constexpr std::string_view kDevicePrefix = "device-";

const std::vector<std::string> kPerson{"id", "st"};
const std::vector<std::string> kAuction{"id", "seller", "cat", "ts", "ex"};
const std::vector<std::string> kBid{"auction", "price", "ts"};

const Form kFilter{R"({"inputs": ["in"], "pipeline": [
  {"@select": {"@eq": ["$.st", 0]}},
  {"@project": {"id": "$.id", "v": {"@add": [{"@mul": ["$.val", 2]}, 1]}}}]})",
                   {"in"},
                   {{"id", "site", "st", "val"}},
                   {}};

const Form kAddresses{R"({"inputs": ["svc", "pod"], "pipeline": [
  {"@join": {"@and": [{"@eq": ["$.svc.id", "$.pod.app"]}, {"@eq": ["$.pod.run", 1]}]}},
  {"@groupBy": ["$.svc.id", "$.pod.ip"]},
  {"@project": {"id": "$.key", "ips": "$.values"}}]})",
                      {"svc", "pod"},
                      {{"id"}, {"id", "app", "run", "ip"}},
                      {}};

const Form kGroups{R"({"inputs": ["in"], "pipeline": [
  {"@groupBy": ["$.g", "$.v"]},
  {"@project": {"g": "$.key", "c": {"@len": "$.values"}, "s": {"@sum": "$.values"},
                "lo": {"@min": "$.values"}, "hi": {"@max": "$.values"}}}]})",
                   {"in"},
                   {{"id", "g", "v"}},
                   {}};

const Form kReconciliation{R"({"inputs": ["des", "obs"], "pipeline": [
  [{"@inputs": ["des"]}, {"@project": {"d": "$.d", "k": "$.k", "v": "$.v"}}, "@distinct",
   {"@output": "want"}],
  [{"@inputs": ["des"]}, {"@project": {"d": "$.d", "k": "$.k"}}, "@distinct",
   {"@output": "keys"}],
  [{"@inputs": ["want", "obs"]},
   {"@join": [{"@and": [{"@eq": ["$.want.d", "$.obs.d"]}, {"@eq": ["$.want.k", "$.obs.k"]},
                        {"@eq": ["$.want.v", "$.obs.v"]}]}, {"soft": ["obs"]}]},
   {"@select": {"@isnil": "$.obs"}},
   {"@project": {"t": 0, "d": "$.want.d", "k": "$.want.k", "v": "$.want.v"}},
   {"@output": "output"}],
  [{"@inputs": ["obs", "keys"]},
   {"@join": [{"@and": [{"@eq": ["$.obs.d", "$.keys.d"]}, {"@eq": ["$.obs.k", "$.keys.k"]}]},
              {"soft": ["keys"]}]},
   {"@select": {"@isnil": "$.keys"}},
   {"@project": {"t": 1, "d": "$.obs.d", "k": "$.obs.k"}},
   {"@output": "output"}]]})",
                           {"des", "obs"},
                           {{"src", "d", "k", "v"}, {"d", "k", "v"}},
                           {}};

const Form kSellers{R"({"inputs": ["person", "auction", "bid"], "pipeline": [
  {"@join": [{"@and": [{"@eq": ["$.auction.seller", "$.person.id"]},
                       {"@eq": ["$.auction.cat", 10]}, {"@in": ["$.person.st", [0, 1, 2]]}]},
             {"inputs": ["person", "auction"]}]},
  {"@project": {"a": "$.auction.id", "p": "$.person.id", "st": "$.person.st"}}]})",
                    {"person", "auction", "bid"},
                    {kPerson, kAuction, kBid},
                    {}};

const Form kWinningBids{R"({"inputs": ["person", "auction", "bid"], "pipeline": [
  [{"@inputs": ["auction", "bid"]},
   {"@join": {"@and": [{"@eq": ["$.auction.id", "$.bid.auction"]},
                       {"@gte": ["$.bid.ts", "$.auction.ts"]},
                       {"@lte": ["$.bid.ts", "$.auction.ex"]}]}},
   {"@groupBy": [{"a": "$.auction.id", "cat": "$.auction.cat"}, "$.bid.price"]},
   {"@project": {"cat": "$.key.cat", "top": {"@max": "$.values"}}},
   {"@output": "tops"}],
  [{"@inputs": ["tops"]},
   {"@groupBy": ["$.cat", "$.top"]},
   {"@project": {"cat": "$.key", "avg": {"@div": [{"@sum": "$.values"}, {"@len": "$.values"}]}}},
   {"@output": "output"}]]})",
                        {"person", "auction", "bid"},
                        {kPerson, kAuction, kBid},
                        {}};

const Form kEndpoints{R"({"inputs": ["Service", "Pod"], "pipeline": [
  {"@join": {"@eq": ["$.Pod.metadata.labels.app", "$.Service.spec.selector.app"]}},
  {"@select": {"@eq": ["$.Pod.status.phase", "Running"]}},
  {"@project": {"id": {"name": "$.Service.metadata.name",
                       "namespace": "$.Service.metadata.namespace"},
                "podIP": "$.Pod.status.podIP"}},
  {"@groupBy": ["$.id", "$.podIP"]},
  {"@project": {"kind": "Endpoints", "metadata": "$.key", "addresses": "$.values"}}]})",
                      {"Service", "Pod"},
                      {{"id"}, {"id", "app", "run", "ip"}},
                      {}};

const std::vector<std::string>& report_keys() {
  static const std::vector<std::string> keys = [] {
    std::vector<std::string> names;
    for (std::uint32_t key = 0; key < kReportKeys; ++key) {
      names.push_back(fmt::format("interfaces/eth{}/attr{}", key / 5, key % 5));
    }
    return names;
  }();
  return keys;
}

std::string service_name(std::uint32_t service) {
  return fmt::format("{}{:06}", kServicePrefix, service);
}

std::string address_text(std::uint32_t address) {
  return fmt::format("{}.{}.{}.{}", address >> 24, (address >> 16) & 255, (address >> 8) & 255,
                     address & 255);
}

// What a device should write: the cells in which it differs from what is desired.
const Form& reports_form() {
  static const std::string program = [] {
    std::string cells;
    for (const std::string& key : report_keys()) {
      cells += fmt::format(
          R"({}{{"key": "{}", "want": "$.desired.state['{}']", "have": "$.report.state['{}']"}})",
          cells.empty() ? "" : ",", key, key, key);
    }
    return R"({"inputs": ["desired", "report"], "pipeline": [
      {"@join": {"@eq": ["$.desired.device", "$.report.device"]}},
      {"@project": {"device": "$.desired.device",
                    "write": {"@filter": [{"@neq": ["$$.want", "$$.have"]}, [)" +
           cells + R"(]]}}},
      {"@select": {"@gt": [{"@len": "$.write"}, 0]}}]})";
  }();
  static const Form form{program, {"desired", "report"}, {}, "device"};
  return form;
}

void append_service(const Event& event, std::string& out) {
  const std::string name = service_name(event.row[0]);
  fmt::format_to(std::back_inserter(out),
                 R"({{"kind":"Service","metadata":{{"name":"{0}","namespace":"default"}},)"
                 R"("spec":{{"selector":{{"app":"{0}"}},"ports":[{{"port":80}}]}}}})",
                 name);
}

void append_pod(const Event& event, std::string& out) {
  const auto& [id, service, running, address, unused, unused2] = event.row;
  fmt::format_to(
      std::back_inserter(out),
      R"({{"kind":"Pod","metadata":{{"name":"pod-{0:07}","namespace":"default","labels":{{)"
      R"("app":"{1}","tier":"web"}}}},"spec":{{"nodeName":"node-{2:03}","containers":[)"
      R"({{"name":"main","image":"shop/front:1.4.2"}}]}},"status":{{"phase":"{3}",)"
      R"("podIP":"{4}","restarts":0}}}})",
      id, service_name(service), id % 200, running != 0 ? "Running" : "Pending",
      address_text(address));
}

void append_columns(const std::vector<std::string>& columns, const Event& event, std::string& out) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    out += i == 0 ? "{\"" : ",\"";
    out += columns[i];
    out += "\":";
    fmt::format_to(std::back_inserter(out), "{}", event.row[i]);
  }
  out += '}';
}

void append_report(std::span<const Event> cells, std::string& out) {
  fmt::format_to(std::back_inserter(out), R"({{"device":"{}{}","ts":1790000000,"state":{{)",
                 kDevicePrefix, cells[0].row[0]);
  for (const Event& cell : cells) {
    fmt::format_to(std::back_inserter(out), R"({}"{}":{})", cell.row[1] == 0 ? "" : ",",
                   report_keys()[cell.row[1]], cell.row[2]);
  }
  out += "}}";
}

std::uint32_t number_behind(std::string_view prefix, std::string_view name) {
  std::uint32_t number = 0;
  const char* end = name.data() + name.size();
  if (name.starts_with(prefix) &&
      std::from_chars(name.data() + prefix.size(), end, number).ptr == end) {
    return number;
  }
  throw std::invalid_argument(fmt::format("{} does not begin with {} and a number", name, prefix));
}

}  // namespace

const Form& form_of(const std::string& workload) {
  static const std::map<std::string, const Form*> forms{
      {"W1", &kFilter},      {"W2", &kAddresses},       {"W3", &kGroups},
      {"W3h", &kGroups},     {"W4", &kReconciliation},  {"Q3", &kSellers},
      {"Q4", &kWinningBids}, {"endpoints", &kEndpoints}};
  if (is_reports(workload)) return reports_form();
  const auto found = forms.find(workload);
  if (found == forms.end()) throw std::invalid_argument("there is no workload " + workload);
  return *found->second;
}

void write_documents(const std::string& workload, const Events& events, Documents& out) {
  const Form& form = form_of(workload);
  const bool kubernetes = workload == "endpoints";
  const std::size_t cells = is_reports(workload) ? kReportKeys : 1;
  out.text.clear();
  out.list.clear();
  for (std::size_t i = 0; i < events.size(); i += cells) {
    const Event& event = events[i];
    if (cells > 1) {
      append_report(std::span(events).subspan(i, cells), out.text);
    } else if (kubernetes) {
      event.input == 0 ? append_service(event, out.text) : append_pod(event, out.text);
    } else {
      append_columns(form.columns[event.input], event, out.text);
    }
    out.list.push_back({event.input, event.weight, out.text.size()});
  }
}

std::uint32_t service_number(std::string_view name) {
  return number_behind(kServicePrefix, name);
}

std::uint32_t device_number(std::string_view name) {
  return number_behind(kDevicePrefix, name);
}

std::uint32_t report_key_number(std::string_view key) {
  static const absl::flat_hash_map<std::string, std::uint32_t> numbers = [] {
    absl::flat_hash_map<std::string, std::uint32_t> result;
    for (std::uint32_t i = 0; i < kReportKeys; ++i) result[report_keys()[i]] = i;
    return result;
  }();
  const auto found = numbers.find(absl::string_view(key.data(), key.size()));
  if (found == numbers.end()) throw std::invalid_argument(fmt::format("no key: {}", key));
  return found->second;
}

std::uint32_t address_number(std::string_view text) {
  std::uint32_t number = 0;
  const char* at = text.data();
  const char* end = at + text.size();
  for (int part = 0; part < 4; ++part) {
    std::uint8_t byte = 0;
    const auto [rest, error] = std::from_chars(at, end, byte);
    const bool last = part == 3;
    if (error != std::errc{} || (last ? rest != end : rest == end || *rest != '.')) {
      throw std::invalid_argument(fmt::format("no address: {}", text));
    }
    number = number << 8 | byte;
    at = rest + 1;
  }
  return number;
}

}  // namespace dmm::bench
