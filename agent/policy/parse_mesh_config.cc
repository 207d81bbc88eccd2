// MeshConfig, v1alpha1 and v1alpha2: the few fields that matter here.

#include <algorithm>

#include "agent/policy/parse.h"
#include "agent/policy/schema.h"
#include "agent/policy/schema_tables.h"

namespace egress::policy {
namespace {

const Schema& MeshConfigSchema() {
  static const Schema schema(MeshConfigFields());
  return schema;
}

bool BoolAt(const Node& root, std::string_view path, bool missing) {
  const Node* node = root.FindPath(path);
  if (node == nullptr || node->type != Node::Type::kBool) return missing;
  return node->text == "true" || node->text == "True" || node->text == "TRUE";
}

std::vector<Prefix> PrefixesAt(const Node& root, const std::string& path, Report* report) {
  const Node* node = root.FindPath(path);
  std::vector<Prefix> prefixes;
  if (node != nullptr && node->IsList()) prefixes = ParsePrefixes(*node, path, report);
  std::sort(prefixes.begin(), prefixes.end());
  return prefixes;
}

}  // namespace

void ParseMeshConfig(const Node& root, const Settings& settings, MeshConfig* mesh_config, Report* report) {
  MeshConfigSchema().Check(root, report);
  const ObjectId own{settings.control_plane_namespace, "osm-mesh-config"};
  if (report->object() != own) {
    report->Warning(root.FindPath("metadata.name")->line, "metadata.name",
                    "only " + own.ToString() + " is read; this MeshConfig is ignored");
  }
  mesh_config->enable_egress = BoolAt(root, "spec.traffic.enableEgress", false);
  mesh_config->enable_egress_policy = BoolAt(root, "spec.featureFlags.enableEgressPolicy", true);
  mesh_config->excluded = PrefixesAt(root, "spec.traffic.outboundIPRangeExclusionList", report);
  mesh_config->included = PrefixesAt(root, "spec.traffic.outboundIPRangeInclusionList", report);
  const Node* ports = root.FindPath("spec.traffic.outboundPortExclusionList");
  if (ports == nullptr || !ports->IsList()) return;
  for (const Node& port : ports->children) {
    const auto number = port.type == Node::Type::kInteger ? IntegerOf(port) : std::nullopt;
    if (number && *number >= 1 && *number <= 65535) {
      mesh_config->excluded_ports.push_back(static_cast<std::uint16_t>(*number));
    }
  }
  std::sort(mesh_config->excluded_ports.begin(), mesh_config->excluded_ports.end());
  mesh_config->excluded_ports.erase(std::unique(mesh_config->excluded_ports.begin(), mesh_config->excluded_ports.end()),
                                    mesh_config->excluded_ports.end());
}

}  // namespace egress::policy
