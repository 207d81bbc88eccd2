#include "agent/node/sandbox.h"

#include <nlohmann/json.hpp>

#include "agent/base/json_fields.h"
#include "agent/cni/result.h"

namespace egress::node {
namespace {

using nlohmann::json;

void ReadArguments(const json& cached, Sandbox& sandbox) {
  for (const json& pair : ListAt(cached, "cniArgs")) {
    if (!pair.is_array() || pair.size() != 2 || !pair[0].is_string() || !pair[1].is_string()) continue;
    const auto name = pair[0].get<std::string>();
    if (name == "K8S_POD_NAMESPACE") sandbox.pod_namespace = pair[1].get<std::string>();
    if (name == "K8S_POD_NAME") sandbox.pod_name = pair[1].get<std::string>();
    if (name == "K8S_POD_UID") sandbox.pod_uid = pair[1].get<std::string>();
  }
}

// What kubelet asked the runtime for, which hands it to plugins of that capability.
void ReadResolvers(const json& cached, Sandbox& sandbox) {
  const json* dns = Member(Member(&cached, "capabilityArgs"), "dns");
  if (dns == nullptr) return;
  for (const char* key : {"Servers", "servers"}) {
    for (const json& server : ListAt(*dns, key)) {
      const auto address = server.is_string() ? ParseAddress(server.get<std::string>()) : std::nullopt;
      if (address) sandbox.resolvers.push_back(*address);
    }
  }
}

// The result names the namespace for each interface that is in there.
void ReadResult(const json& result, Sandbox& sandbox) {
  for (const json& interface : ListAt(result, "interfaces")) {
    if (sandbox.netns.empty() && interface.is_object()) sandbox.netns = TextAt(interface, "sandbox");
  }
  sandbox.addresses = cni::PodAddresses(result);
}

}  // namespace

std::optional<Sandbox> ParseCachedSandbox(std::string_view text) {
  const json cached = json::parse(text, nullptr, false);
  if (!cached.is_object() || TextAt(cached, "kind") != "cniCacheV1") return std::nullopt;
  Sandbox sandbox;
  sandbox.container_id = TextAt(cached, "containerId");
  sandbox.netns = TextAt(cached, "netns");
  ReadArguments(cached, sandbox);
  ReadResolvers(cached, sandbox);
  if (const auto result = cached.find("result"); result != cached.end() && result->is_object()) {
    ReadResult(*result, sandbox);
  }
  if (sandbox.container_id.empty() || sandbox.pod_name.empty() || sandbox.netns.empty()) return std::nullopt;
  if (TextAt(cached, "ifName") == "lo") return std::nullopt;
  return sandbox;
}

}  // namespace egress::node
