#include "agent/cni/result.h"

#include <nlohmann/json.hpp>

#include "agent/base/json_fields.h"

namespace egress::cni {
namespace {

using nlohmann::json;

bool IsOfNode(const json& ip, const json& interfaces) {
  const auto at = ip.find("interface");
  if (at == ip.end() || !at->is_number_unsigned() || at->get<std::size_t>() >= interfaces.size()) return false;
  const json& interface = interfaces[at->get<std::size_t>()];
  return interface.is_object() && TextAt(interface, "sandbox").empty();
}

}  // namespace

std::vector<Address> PodAddresses(const json& result) {
  std::vector<Address> addresses;
  const json& interfaces = ListAt(result, "interfaces");
  for (const json& ip : ListAt(result, "ips")) {
    if (!ip.is_object() || IsOfNode(ip, interfaces)) continue;
    const std::string with_length = TextAt(ip, "address");
    if (const auto address = ParseAddress(with_length.substr(0, with_length.find('/')))) addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace egress::cni
