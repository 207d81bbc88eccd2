// Namespace and Pod: other people's kinds, of which a few fields matter here; unknown ones are nobody's business.

#include "agent/policy/host.h"
#include "agent/policy/parse.h"
#include "agent/policy/schema.h"

namespace egress::policy {
namespace {

const Schema& NamespaceSchema() {
  static const Schema schema({}, Schema::Head::kObject, Schema::Mode::kLenient);
  return schema;
}

const Schema& PodSchema() {
  static constexpr Field kFields[] = {
      {"metadata.uid", FieldType::kString},        {"spec.serviceAccountName", FieldType::kString},
      {"spec.serviceAccount", FieldType::kString}, {"spec.hostNetwork", FieldType::kBool},
      {"status.podIP", FieldType::kString},        {"status.podIPs[].ip", FieldType::kString},
  };
  static const Schema schema(kFields, Schema::Head::kObject, Schema::Mode::kLenient);
  return schema;
}

std::map<std::string, std::string> StringsAt(const Node& root, std::string_view path) {
  std::map<std::string, std::string> strings;
  const Node* map = root.FindPath(path);
  if (map == nullptr || !map->IsMap()) return strings;
  for (const Node& child : map->children) {
    if (child.IsString()) strings.emplace(child.key, child.text);
  }
  return strings;
}

std::string StringAt(const Node& root, std::string_view path) {
  const Node* node = root.FindPath(path);
  return node != nullptr && node->IsString() ? node->text : std::string();
}

void ReadAddress(const Node& node, const std::string& path, Pod* pod, Report* report) {
  if (node.text.empty()) return;  // a pod that has none yet
  if (const auto address = ParseAddress(node.text)) {
    pod->addresses.push_back(*address);
  } else {
    report->Error(node.line, path, Quoted(node.text) + " is no IP address");
  }
}

void ReadAddresses(const Node& root, Pod* pod, Report* report) {
  const Node* list = root.FindPath("status.podIPs");
  if (list != nullptr && list->IsList() && !list->children.empty()) {
    for (std::size_t i = 0; i < list->children.size(); ++i) {
      const Node* ip = list->children[i].Find("ip");
      if (ip != nullptr && ip->IsString()) ReadAddress(*ip, ItemPath("status.podIPs", i) + ".ip", pod, report);
    }
    return;
  }
  const Node* single = root.FindPath("status.podIP");
  if (single != nullptr && single->IsString()) ReadAddress(*single, "status.podIP", pod, report);
}

bool IsTrue(const Node* node) {
  return node != nullptr && node->type == Node::Type::kBool &&
         (node->text == "true" || node->text == "True" || node->text == "TRUE");
}

bool HasNetAdmin(const Node& container) {
  if (IsTrue(container.FindPath("securityContext.privileged"))) return true;
  const Node* added = container.FindPath("securityContext.capabilities.add");
  if (added == nullptr) return false;
  for (const Node& name : added->children) {
    if (name.text == "NET_ADMIN" || name.text == "CAP_NET_ADMIN" || name.text == "ALL") return true;
  }
  return false;
}

void ReadContainers(const Node& root, Pod* pod) {
  for (const char* list : {"spec.initContainers", "spec.containers", "spec.ephemeralContainers"}) {
    const Node* containers = root.FindPath(list);
    if (containers == nullptr) continue;
    for (const Node& container : containers->children) {
      pod->containers.push_back(StringAt(container, "name"));
      pod->net_admin |= HasNetAdmin(container);
    }
  }
}

// What says more about a pod but decides nothing about its rules: of a wrong type it counts as missing.
void ReadDetails(const Node& root, const std::map<std::string, std::string>& annotations, Pod* pod) {
  const auto annotation = [&](const char* name) {
    const auto found = annotations.find(name);
    return found == annotations.end() ? std::string() : found->second;
  };
  pod->node_name = StringAt(root, "spec.nodeName");
  pod->phase = StringAt(root, "status.phase");
  if (const Node* servers = root.FindPath("spec.dnsConfig.nameservers")) {
    for (const Node& server : servers->children) pod->name_servers.push_back(server.text);
  }
  // Of a mirror pod, which kubelet never runs itself. Anybody may write the annotations of any other pod.
  if (annotations.contains("kubernetes.io/config.mirror")) pod->config_hash = annotation("kubernetes.io/config.hash");
  ReadContainers(root, pod);
}

}  // namespace

void ParseNamespace(const Node& root, Namespace* ns, Report* report) {
  NamespaceSchema().Check(root, report);
  ns->name = report->object().name;
  ns->labels = StringsAt(root, "metadata.labels");
  ns->annotations = StringsAt(root, "metadata.annotations");
}

void ParsePod(const Node& root, Pod* pod, Report* report) {
  PodSchema().Check(root, report);
  pod->id = report->object();
  pod->uid = StringAt(root, "metadata.uid");
  pod->service_account.ns = pod->id.ns;
  std::string account = StringAt(root, "spec.serviceAccountName");
  if (account.empty()) account = StringAt(root, "spec.serviceAccount");
  if (!account.empty() && !IsObjectName(account)) {
    report->Error(root.line, "spec.serviceAccountName", Quoted(account) + " is no name of a ServiceAccount");
    account.clear();
  }
  // A name that cannot be read is nobody's, and so has no rules; one that is not there is "default".
  const bool readable = !report->has_errors();
  pod->service_account.name = account.empty() && readable ? "default" : account;
  pod->host_network = IsTrue(root.FindPath("spec.hostNetwork"));
  const auto annotations = StringsAt(root, "metadata.annotations");
  if (const auto found = annotations.find("egressd.io/netns"); found != annotations.end()) {
    pod->netns_path = found->second;
  }
  if (const auto found = annotations.find("egressd.io/cgroup"); found != annotations.end()) {
    pod->cgroup_path = found->second;
  }
  ReadDetails(root, annotations, pod);
  ReadAddresses(root, pod, report);
}

}  // namespace egress::policy
