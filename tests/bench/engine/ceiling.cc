#include "tests/bench/engine/ceiling.h"

#include <simdjson.h>

#include <stdexcept>
#include <utility>

#include "tests/bench/engine/form.h"
#include "tests/bench/engine/subject.h"

namespace dmm::bench {
namespace {

std::unique_ptr<Ceiling> ceiling_of(const std::string& workload) {
  if (workload == "W1") return make_filter_ceiling();
  if (workload == "W2" || workload == "endpoints") return make_addresses_ceiling();
  if (workload == "W3" || workload == "W3h") return make_groups_ceiling();
  if (workload == "W4") return make_reconciliation_ceiling();
  if (workload == "Q3") return make_sellers_ceiling();
  if (workload == "Q4") return make_winning_bids_ceiling();
  if (is_reports(workload)) return make_reports_ceiling();
  throw std::invalid_argument("there is no workload " + workload);
}

class RowsSubject : public Subject {
 public:
  explicit RowsSubject(const std::string& workload) : ceiling_(ceiling_of(workload)) {}

  void prepare(const Events& events) override { events_ = events; }
  void step() override {
    changes_.clear();
    ceiling_->step(events_, changes_);
  }
  void changes(Changes& out) override {
    for (std::size_t i = 0; i < changes_.size(); ++i) {
      out.add(changes_.weight(i), changes_.words(i), {});
    }
  }
  void forget() override {
    events_ = Events();
    changes_ = {};
  }

 protected:
  Events events_;

 private:
  std::unique_ptr<Ceiling> ceiling_;
  Changes changes_;
};

class TextSubject final : public RowsSubject {
 public:
  explicit TextSubject(std::string workload)
      : RowsSubject(workload), workload_(std::move(workload)) {
    if (workload_ == "endpoints") read_ = read_endpoints;
    if (is_reports(workload_)) read_ = read_report;
  }

  void prepare(const Events& events) override {
    write_documents(workload_, events, documents_);
    documents_.text.append(simdjson::SIMDJSON_PADDING, ' ');
  }

  void step() override {
    events_.clear();
    for (std::size_t i = 0; i < documents_.list.size(); ++i) {
      const std::string_view text = documents_[i];
      const char* end = documents_.text.data() + documents_.text.size();
      auto document = parser_.iterate(simdjson::padded_string_view(
          text.data(), text.size(), static_cast<std::size_t>(end - text.data())));
      read_(document, documents_.list[i], events_);
    }
    RowsSubject::step();
  }

  void forget() override {
    RowsSubject::forget();
    documents_ = {};
  }

 private:
  using Json = simdjson::simdjson_result<simdjson::ondemand::document>;

  static void read_columns(Json& json, const Documents::Document& document, Events& out) {
    Event event{document.input, {}, document.weight};
    std::size_t column = 0;
    for (auto field : json.get_object()) {
      event.row[column++] = static_cast<std::uint32_t>(std::uint64_t{field.value()});
    }
    out.push_back(event);
  }
  static void read_endpoints(Json& json, const Documents::Document& document, Events& out) {
    Event event{document.input, {}, document.weight};
    auto metadata = json["metadata"];
    if (event.input == 0) {
      event.row[0] = service_number(std::string_view(metadata["name"]));
    } else {
      event.row[1] = service_number(std::string_view(metadata["labels"]["app"]));
      auto status = json["status"];
      event.row[2] = std::string_view(status["phase"]) == "Running" ? 1 : 0;
      event.row[3] = address_number(std::string_view(status["podIP"]));
    }
    out.push_back(event);
  }
  static void read_report(Json& json, const Documents::Document& document, Events& out) {
    const std::uint32_t device = device_number(std::string_view(json["device"]));
    for (auto field : json["state"].get_object()) {
      const std::uint32_t key = report_key_number(std::string_view(field.unescaped_key()));
      const auto value = static_cast<std::uint32_t>(std::uint64_t{field.value()});
      out.push_back({document.input, {device, key, value}, document.weight});
    }
  }

  std::string workload_;
  void (*read_)(Json&, const Documents::Document&, Events&) = read_columns;
  Documents documents_;
  simdjson::ondemand::parser parser_;
};

}  // namespace

std::unique_ptr<Subject> make_ceiling(const std::string& workload, bool text) {
  if (text) return std::make_unique<TextSubject>(workload);
  return std::make_unique<RowsSubject>(workload);
}

}  // namespace dmm::bench
