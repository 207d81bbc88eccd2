#include "agent/policy/object.h"

namespace egress::policy {
namespace {

struct Same {
  bool operator()(const std::monostate&, const std::monostate&) const { return true; }
  bool operator()(const Egress& a, const Egress& b) const {
    return a.sources == b.sources && a.hosts == b.hosts && a.cidrs == b.cidrs && a.ports == b.ports &&
           a.route_groups == b.route_groups && a.traffic_setting == b.traffic_setting;
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
  bool operator()(const Pod& a, const Pod& b) const {
    return a.uid == b.uid && a.service_account == b.service_account && a.addresses == b.addresses &&
           a.host_network == b.host_network && a.netns_path == b.netns_path && a.cgroup_path == b.cgroup_path &&
           a.node_name == b.node_name && a.phase == b.phase && a.name_servers == b.name_servers &&
           a.config_hash == b.config_hash && a.net_admin == b.net_admin && a.containers == b.containers;
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
