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

}  // namespace

void ParseNamespace(const Node& root, Namespace* ns, Report* report) {
  NamespaceSchema().Check(root, report);
  ns->name = report->object().name;
  ns->labels = StringsAt(root, "metadata.labels");
  ns->annotations = StringsAt(root, "metadata.annotations");
}

void ParsePod(const Node& root, Pod* pod, Report* report) {
  PodSchema().Check(root, report);
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
  const Node* host_network = root.FindPath("spec.hostNetwork");
  pod->host_network = host_network != nullptr && host_network->type == Node::Type::kBool &&
                      (host_network->text == "true" || host_network->text == "True" || host_network->text == "TRUE");
  const auto annotations = StringsAt(root, "metadata.annotations");
  if (const auto found = annotations.find("egressd.io/netns"); found != annotations.end()) {
    pod->netns_path = found->second;
  }
  if (const auto found = annotations.find("egressd.io/cgroup"); found != annotations.end()) {
    pod->cgroup_path = found->second;
  }
  ReadAddresses(root, pod, report);
}

}  // namespace egress::policy
