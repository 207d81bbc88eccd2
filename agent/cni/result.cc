#include "agent/cni/result.h"

#include <nlohmann/json.hpp>

namespace egress::cni {
namespace {

using nlohmann::json;

const json& List(const json& object, const char* key) {
  static const json kNone = json::array();
  const auto found = object.find(key);
  return found != object.end() && found->is_array() ? *found : kNone;
}

bool IsOfNode(const json& ip, const json& interfaces) {
  const auto at = ip.find("interface");
  if (at == ip.end() || !at->is_number_unsigned() || at->get<std::size_t>() >= interfaces.size()) return false;
  const json& interface = interfaces[at->get<std::size_t>()];
  if (!interface.is_object()) return false;
  const auto sandbox = interface.find("sandbox");
  return sandbox == interface.end() || !sandbox->is_string() || sandbox->get_ref<const std::string&>().empty();
}

}  // namespace

std::vector<Address> PodAddresses(const json& result) {
  std::vector<Address> addresses;
  const json& interfaces = List(result, "interfaces");
  for (const json& ip : List(result, "ips")) {
    if (!ip.is_object() || IsOfNode(ip, interfaces)) continue;
    const auto text = ip.find("address");  // with the length of its prefix
    if (text == ip.end() || !text->is_string()) continue;
    const auto& with_length = text->get_ref<const std::string&>();
    if (const auto address = ParseAddress(with_length.substr(0, with_length.find('/')))) addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace egress::cni
