#include "agent/cni/known.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "agent/base/file.h"

namespace egress::cni {

using nlohmann::json;

namespace {

Result<std::set<std::string>> Names(const json& from, const char* key) {
  const auto list = from.find(key);
  if (list == from.end() || !list->is_array()) return Error{std::string(key) + " is missing or no list"};
  std::set<std::string> names;
  for (const json& item : *list) {
    if (!item.is_string()) return Error{std::string(key) + " holds what is no text"};
    names.insert(item.get<std::string>());
  }
  return names;
}

Result<Known> Parse(const std::string& text) {
  const json from = json::parse(text, nullptr, false);
  if (!from.is_object()) return Error{"no JSON object"};
  Known known;
  auto cidrs = Names(from, "meshCIDRs");
  if (!cidrs) return std::move(cidrs).error();
  for (const std::string& cidr : *cidrs) {
    const auto prefix = ParsePrefix(cidr);
    if (!prefix) return Error{"meshCIDRs: " + cidr + " is no CIDR"};
    known.mesh_cidrs.push_back(*prefix);
  }
  auto enrolled = Names(from, "enrolled");
  if (!enrolled) return std::move(enrolled).error();
  auto not_enrolled = Names(from, "notEnrolled");
  if (!not_enrolled) return std::move(not_enrolled).error();
  known.enrolled = *std::move(enrolled);
  known.not_enrolled = *std::move(not_enrolled);
  return known;
}

}  // namespace

Enrolment Known::Of(const std::string& ns) const {
  if (enrolled.contains(ns)) return Enrolment::kEnrolled;
  return not_enrolled.contains(ns) ? Enrolment::kNotEnrolled : Enrolment::kUnknown;
}

Result<Known> ReadKnown(const std::string& path) {
  const auto text = ReadFile(path);
  if (!text) return text.error();
  auto known = Parse(*text);
  if (!known) return std::move(known).error().Wrap(path);
  return known;
}

Result<void> WriteKnown(const std::string& path, const Known& known) {
  std::error_code error;
  const auto folder = std::filesystem::path(path).parent_path();
  std::filesystem::create_directories(folder, error);
  if (error) return Error{"make " + folder.string() + ": " + error.message()};
  json cidrs = json::array();
  for (const Prefix& prefix : known.mesh_cidrs) cidrs.push_back(prefix.ToString());
  const json text = {{"meshCIDRs", cidrs}, {"enrolled", known.enrolled}, {"notEnrolled", known.not_enrolled}};
  return ReplaceFile(path, text.dump(1, ' ', true, json::error_handler_t::replace) + "\n", 0600);
}

}  // namespace egress::cni
