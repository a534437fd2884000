#include "dmm/cli/pipeline_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>

#include "dmm/error.h"
#include "dmm/json.h"
#include "dmm/text/nearest.h"
#include "engine/limits.h"

namespace dmm::cli {

namespace {

using engine::Kind;
using engine::Row;
using engine::Value;
using engine::ValueRef;

// {"in": {"input": [[document, weight]]}} stands around a document.
constexpr std::size_t kDepthAround = 4;
constexpr std::size_t kQuotedBytesMax = 60;
constexpr std::int64_t kLastSecond = 253'402'300'799;  // of the year 9999

[[noreturn]] void refuse(const std::string& why) {
  throw Error(code::wrong_shape, why);
}

std::string in_quotes(std::string_view text) {
  return fmt::format("\"{}\"", printable(text, kQuotedBytesMax));
}

void check_members(ValueRef line, std::initializer_list<std::string_view> known) {
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (std::find(known.begin(), known.end(), line.key(i)) != known.end()) continue;
    const std::vector<std::string> names(known.begin(), known.end());
    refuse(fmt::format("unknown member {}{}; known are {}", in_quotes(line.key(i)),
                       text::suggestion(line.key(i), names), fmt::join(names, ", ")));
  }
}

engine::Weight weight_of(ValueRef value) {
  if (value.kind != Kind::integer) {
    refuse(fmt::format("the weight {} is no integer",
                       printable(engine::to_text(value), kQuotedBytesMax)));
  }
  return value.as_integer();
}

void read_time(ValueRef line, PipelineLine& result) {
  ValueRef member;
  if (line.find("now", member)) {
    const std::string text =
        member.kind == Kind::string ? std::string(member.as_string()) : engine::to_text(member);
    result.now = parse_time(text);
    if (!result.now) {
      refuse(fmt::format("now is {}; it is a time like 2026-01-31T23:59:59Z or seconds since 1970",
                         in_quotes(text)));
    }
  }
  if (line.find("seed", member)) {
    if (member.kind != Kind::integer || member.as_integer() < 0) {
      refuse("the seed is an integer from 0");
    }
    result.seed = static_cast<std::uint64_t>(member.as_integer());
  }
}

}  // namespace

PipelineLineParser::PipelineLineParser(std::vector<std::string> inputs)
    : inputs_(std::move(inputs)),
      decoder_({.depth_max = engine::limits::kDepthMax + kDepthAround,
                .bytes_max = engine::limits::kDocumentBytesMax}) {}

std::string PipelineLineParser::input_of(ValueRef name) const {
  if (name.kind != Kind::string) refuse("the input is named by a text");
  const std::string text(name.as_string());
  if (std::find(inputs_.begin(), inputs_.end(), text) != inputs_.end()) return text;
  refuse(fmt::format("there is no input {}{}; there {} {}", in_quotes(text),
                     text::suggestion(text, inputs_), inputs_.size() == 1 ? "is" : "are",
                     printable(fmt::format("{}", fmt::join(inputs_, ", ")))));
}

void PipelineLineParser::add_change(ValueRef line, PipelineLine& result) const {
  check_members(line, {"input", "row", "weight"});
  ValueRef row;
  ValueRef member;
  if (!line.find("row", row)) refuse("the row is missing");
  engine::Weight weight = 1;
  if (line.find("weight", member)) weight = weight_of(member);
  std::string input;
  if (line.find("input", member)) {
    input = input_of(member);
  } else if (inputs_.size() == 1) {
    input = inputs_.front();
  } else {
    refuse(fmt::format("the input is missing; there are {}",
                       printable(fmt::format("{}", fmt::join(inputs_, ", ")))));
  }
  result.rows.emplace_back(std::move(input), Row{Value(row), weight});
}

void PipelineLineParser::add_step(ValueRef batches, PipelineLine& result) const {
  if (batches.kind != Kind::object) refuse("\"in\" is {\"INPUT\":[[row,weight],...],...}");
  for (std::size_t i = 0; i < batches.size(); ++i) {
    const Value name = Value::string(batches.key(i));
    const std::string input = input_of(name);
    const ValueRef rows = batches.at(i);
    if (rows.kind != Kind::list)
      refuse(fmt::format("{} is no list of [row,weight]", in_quotes(input)));
    for (std::size_t j = 0; j < rows.size(); ++j) {
      const ValueRef row = rows.at(j);
      if (row.kind != Kind::list || row.size() != 2) {
        refuse(fmt::format("element {} of {} is no [row,weight]", j, in_quotes(input)));
      }
      result.rows.emplace_back(input, Row{Value(row.at(0)), weight_of(row.at(1))});
    }
  }
}

PipelineLine PipelineLineParser::parse(std::string_view text) {
  Value line;
  std::string reason;
  if (!decoder_.decode(text, line, reason)) {
    throw Error(code::not_json, printable(reason, 4 * kQuotedBytesMax));
  }
  PipelineLine result;
  ValueRef member;
  if (line->find("in", member)) {
    check_members(line, {"in", "now", "seed"});
    read_time(line, result);
    add_step(member, result);
    result.ends_step = result.alone = true;
  } else if (line->find("step", member)) {
    check_members(line, {"step"});
    if (member.kind != Kind::object) refuse("the end of a step is {\"step\":{}}");
    check_members(member, {"now", "seed"});
    read_time(member, result);
    result.ends_step = true;
  } else if (line.kind() == Kind::object) {
    add_change(line, result);
  } else {
    refuse(
        "a line is {\"input\":\"NAME\",\"row\":...,\"weight\":1}, {\"step\":{}} or "
        "{\"in\":{\"NAME\":[[row,weight]]}}");
  }
  return result;
}

std::optional<std::int64_t> parse_time(std::string_view text) {
  std::int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc{} && end == text.data() + text.size()) {
    if (seconds < 0 || seconds > kLastSecond) return std::nullopt;
    return seconds;
  }
  constexpr std::string_view kForm = "0000-00-00T00:00:00Z";
  if (text.size() != kForm.size()) return std::nullopt;
  const auto number = [&](std::size_t at, std::size_t digits) {
    int value = 0;
    for (std::size_t i = at; i < at + digits; ++i) value = value * 10 + (text[i] - '0');
    return value;
  };
  for (std::size_t i = 0; i < kForm.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (kForm[i] == '0' ? !digit : text[i] != kForm[i]) return std::nullopt;
  }
  const std::chrono::year_month_day day{std::chrono::year(number(0, 4)),
                                        std::chrono::month(static_cast<unsigned>(number(5, 2))),
                                        std::chrono::day(static_cast<unsigned>(number(8, 2)))};
  const int hour = number(11, 2);
  const int minute = number(14, 2);
  const int second = number(17, 2);
  if (!day.ok() || hour > 23 || minute > 59 || second > 59) return std::nullopt;
  const auto days = std::chrono::sys_days(day).time_since_epoch().count();
  const std::int64_t result = std::int64_t{days} * 86'400 + hour * 3'600 + minute * 60 + second;
  if (result < 0) return std::nullopt;
  return result;
}

}  // namespace dmm::cli
