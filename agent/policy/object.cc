#include "agent/policy/object.h"

#include <algorithm>

namespace egress::policy {
namespace {

template <typename T>
bool SameValues(const std::vector<Placed<T>>& a, const std::vector<Placed<T>>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& one, const auto& other) { return one.value == other.value; });
}

bool SameValue(const std::optional<Placed<std::string>>& a, const std::optional<Placed<std::string>>& b) {
  return a && b ? a->value == b->value : a.has_value() == b.has_value();
}

struct Same {
  bool operator()(const std::monostate&, const std::monostate&) const { return true; }
  bool operator()(const Egress& a, const Egress& b) const {
    return SameValues(a.sources, b.sources) && a.hosts == b.hosts && a.cidrs == b.cidrs &&
           SameValues(a.ports, b.ports) && SameValues(a.route_groups, b.route_groups) &&
           SameValue(a.traffic_setting, b.traffic_setting);
  }
  bool operator()(const HttpRouteGroup& a, const HttpRouteGroup& b) const { return a.matches == b.matches; }
  bool operator()(const UpstreamTrafficSetting& a, const UpstreamTrafficSetting& b) const {
    return a.limits == b.limits;
  }
  bool operator()(const MeshConfig& a, const MeshConfig& b) const {
    return a.enable_egress == b.enable_egress && a.enable_egress_policy == b.enable_egress_policy &&
           a.excluded == b.excluded && a.included == b.included && a.excluded_ports == b.excluded_ports;
  }
  bool operator()(const Namespace& a, const Namespace& b) const {
    return a.labels == b.labels && a.annotations == b.annotations;
  }
  bool operator()(const PodPtr& a, const PodPtr& b) const {
    return a->uid == b->uid && a->service_account == b->service_account && a->addresses == b->addresses &&
           a->host_network == b->host_network && a->netns_path == b->netns_path && a->cgroup_path == b->cgroup_path &&
           a->node_name == b->node_name && a->phase == b->phase && a->name_servers == b->name_servers &&
           a->config_hash == b->config_hash && a->net_admin == b->net_admin && a->containers == b->containers;
  }
  template <typename A, typename B>
  bool operator()(const A&, const B&) const {
    return false;
  }
};

}  // namespace

const char* KindName(Kind kind) {
  switch (kind) {
    case Kind::kEgress: return "Egress";
    case Kind::kHttpRouteGroup: return "HTTPRouteGroup";
    case Kind::kUpstreamTrafficSetting: return "UpstreamTrafficSetting";
    case Kind::kMeshConfig: return "MeshConfig";
    case Kind::kNamespace: return "Namespace";
    case Kind::kPod: return "Pod";
  }
  return "";
}

bool SameContent(const Object& a, const Object& b) {
  return a.key == b.key && a.valid == b.valid && std::visit(Same(), a.model, b.model);
}

}  // namespace egress::policy
