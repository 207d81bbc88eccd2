#include "agent/cni/request.h"

#include <nlohmann/json.hpp>

namespace egress::cni {

using nlohmann::json;

namespace {

Result<std::string> Text(const json& from, const char* key) {
  const auto found = from.find(key);
  if (found == from.end() || !found->is_string()) return Error{std::string(key) + " is missing or no text"};
  return found->get<std::string>();
}

}  // namespace

std::string Request::ToText() const {
  json list = json::array();
  for (const Address& address : addresses) list.push_back(address.ToString());
  return json{{"command", command},     {"namespace", pod_namespace}, {"pod", pod_name},
              {"uid", pod_uid},         {"container", container_id},  {"netns", netns},
              {"interface", interface}, {"addresses", list}}
      .dump(-1, ' ', true, json::error_handler_t::replace);
}

Result<Request> ParseRequest(std::string_view text) {
  const json from = json::parse(text, nullptr, false);
  if (!from.is_object()) return Error{"no JSON object"};
  Request request;
  const std::pair<const char*, std::string*> fields[] = {
      {"command", &request.command},    {"namespace", &request.pod_namespace}, {"pod", &request.pod_name},
      {"uid", &request.pod_uid},        {"container", &request.container_id},  {"netns", &request.netns},
      {"interface", &request.interface}};
  for (const auto& [key, field] : fields) {
    auto value = Text(from, key);
    if (!value) return std::move(value).error();
    *field = *std::move(value);
  }
  const auto list = from.find("addresses");
  if (list == from.end() || !list->is_array()) return Error{"addresses is missing or no list"};
  for (const json& item : *list) {
    const auto address = item.is_string() ? ParseAddress(item.get_ref<const std::string&>()) : std::nullopt;
    if (!address) return Error{"addresses: " + item.dump(-1, ' ', true, json::error_handler_t::replace) + " is none"};
    request.addresses.push_back(*address);
  }
  return request;
}

}  // namespace egress::cni
