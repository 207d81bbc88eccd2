#include "agent/source/resource.h"

#include "agent/base/json_fields.h"

namespace egress::source {
namespace {

using Json = nlohmann::json;

// Copies the members of `from` that are named, as far as they are there. `from` may be anything.
Json Pick(const Json* from, std::initializer_list<const char*> names) {
  Json picked = Json::object();
  if (from == nullptr || !from->is_object()) return picked;
  for (const char* name : names) {
    if (const auto found = from->find(name); found != from->end()) picked[name] = *found;
  }
  return picked;
}

// The labels or annotations that begin with `prefix`.
Json WithPrefix(const Json* from, std::string_view prefix) {
  Json picked = Json::object();
  if (from == nullptr || !from->is_object()) return picked;
  for (const auto& [key, value] : from->items()) {
    if (key.starts_with(prefix)) picked[key] = value;
  }
  return picked;
}

void TrimNamespace(const Json* metadata, Json* trimmed) {
  for (const char* map : {"labels", "annotations"}) {
    (*trimmed)["metadata"][map] = WithPrefix(Member(metadata, map), "openservicemesh.io/");
  }
}

Json TrimContainers(const Json* containers) {
  Json trimmed = Json::array();
  if (containers == nullptr || !containers->is_array()) return trimmed;
  for (const Json& container : *containers) {
    Json kept = Pick(&container, {"name"});
    const Json* security = Member(&container, "securityContext");
    Json context = Pick(security, {"privileged"});
    if (Json added = Pick(Member(security, "capabilities"), {"add"}); !added.empty()) {
      context["capabilities"] = std::move(added);
    }
    if (!context.empty()) kept["securityContext"] = std::move(context);
    trimmed.push_back(std::move(kept));
  }
  return trimmed;
}

void TrimPod(const Json& object, const Json* metadata, Json* trimmed) {
  if (const Json* uid = Member(metadata, "uid")) (*trimmed)["metadata"]["uid"] = *uid;
  (*trimmed)["metadata"]["annotations"] = WithPrefix(Member(metadata, "annotations"), "kubernetes.io/config.");
  const Json* spec = Member(&object, "spec");
  Json kept = Pick(spec, {"nodeName", "serviceAccountName", "serviceAccount", "hostNetwork"});
  if (const Json* dns = Member(spec, "dnsConfig")) kept["dnsConfig"] = Pick(dns, {"nameservers"});
  for (const char* list : {"initContainers", "containers", "ephemeralContainers"}) {
    if (const Json* containers = Member(spec, list)) kept[list] = TrimContainers(containers);
  }
  (*trimmed)["spec"] = std::move(kept);
  (*trimmed)["status"] = Pick(Member(&object, "status"), {"phase", "podIP", "podIPs"});
}

}  // namespace

std::vector<Resource> PolicyResources(const std::string& node_name) {
  const std::string policy = "policy.openservicemesh.io";
  return {
      {"MeshConfig", "config.openservicemesh.io", {"v1alpha2", "v1alpha1"}, "meshconfigs", "", true},
      {"Namespace", "", {"v1"}, "namespaces", "", false},
      {"HTTPRouteGroup", "specs.smi-spec.io", {"v1alpha4"}, "httproutegroups", "", true},
      {"UpstreamTrafficSetting", policy, {"v1alpha1"}, "upstreamtrafficsettings", "", true},
      {"Egress", policy, {"v1alpha1"}, "egresses", "", true},
      {"Pod", "", {"v1"}, "pods", "spec.nodeName=" + node_name, false},
  };
}

Result<Object> ParseObject(const Resource& resource, const std::string& version, std::string_view text) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return Error{"a " + resource.kind + " of the answer is not valid JSON"};
  return ReadObject(resource, version, json);
}

Result<Object> ReadObject(const Resource& resource, const std::string& version, const Json& json) {
  const Json* metadata = Member(&json, "metadata");
  const auto text_of = [&](const char* field) { return TextOf(Member(metadata, field)); };
  Object object;
  object.id = {text_of("namespace"), text_of("name")};
  object.uid = text_of("uid");
  object.resource_version = text_of("resourceVersion");
  if (resource.kind == "Pod") object.node_name = TextOf(Member(Member(&json, "spec"), "nodeName"));
  if (object.id.name.empty()) return Error{"a " + resource.kind + " of the answer has no metadata.name"};
  Json trimmed = Json::object();
  if (resource.optional) {
    trimmed = json;
    trimmed.erase("status");
  }
  trimmed["apiVersion"] = resource.ApiVersion(version);
  trimmed["kind"] = resource.kind;  // the items of a list may lack both
  trimmed["metadata"] = Pick(metadata, {"name", "namespace"});
  if (resource.kind == "Namespace") TrimNamespace(metadata, &trimmed);
  if (resource.kind == "Pod") TrimPod(json, metadata, &trimmed);
  object.text = trimmed.dump(-1, ' ', false, Json::error_handler_t::replace);
  return object;
}

}  // namespace egress::source
