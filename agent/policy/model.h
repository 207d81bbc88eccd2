// The model: objects in the user's words, as parsed and checked, before anything is resolved between them.
#pragma once

#include <cstdint>
#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/address.h"

namespace egress::policy {

// NAMESPACE/NAME. Namespaces themselves have an empty `ns`.
struct ObjectId {
  std::string ns;
  std::string name;
  auto operator<=>(const ObjectId&) const = default;
  std::string ToString() const { return ns.empty() ? name : ns + "/" + name; }
};

using ServiceAccount = ObjectId;

// Where an object or field stands. `file` is empty when it came from the API; lines count from 1.
struct Location {
  std::string file;
  int line = 0;
  auto operator<=>(const Location&) const = default;
};

enum class Severity { kError, kWarning };

// One problem. An error makes the object inert; a warning changes nothing.
struct Finding {
  Severity severity = Severity::kError;
  Location location;
  std::string kind;  // "Egress"; empty where the document has none
  ObjectId object;
  std::string field;    // "spec.ports[1].number": the field to mend
  std::string message;  // what is wrong and what to write instead
  auto operator<=>(const Finding&) const = default;

  // "FILE:LINE: error: Egress curl/broken: spec.ports[1].number: MESSAGE"
  std::string ToString() const;
};

enum class Protocol : std::uint8_t { kHttp, kHttps, kTcp, kTcpServerFirst };
const char* ProtocolName(Protocol protocol);  // "http", "https", "tcp", "tcp-server-first"

struct Port {
  std::uint16_t number = 0;
  Protocol protocol = Protocol::kTcp;
  auto operator<=>(const Port&) const = default;
};

// Where an item stands in a list of the manifest, which may hold it twice.
struct Place {
  int index = 0;
  int line = 0;
};

// An item, with its place for findings that can only be made once other objects are known.
template <typename T>
struct Placed {
  T value;
  Place place;
};

struct Egress {
  std::vector<Placed<ServiceAccount>> sources;
  std::vector<std::string> hosts;  // lower case, no trailing dot; "*.x" for wildcards; IP literals canonical
  std::vector<Prefix> cidrs;       // empty: any
  std::vector<Placed<Port>> ports;
  std::vector<Placed<std::string>> route_groups;       // HTTPRouteGroup names of the same namespace
  std::optional<Placed<std::string>> traffic_setting;  // UpstreamTrafficSetting of the same namespace
  int namespace_line = 0;
};

// One entry of HTTPRouteGroup.spec.matches: path, method and all headers must hold.
struct HttpMatch {
  std::string name;
  std::optional<std::string> path_regex;                     // missing: every path
  std::vector<std::string> methods;                          // empty: all but CONNECT; {"*", "CONNECT"}: all
  std::vector<std::pair<std::string, std::string>> headers;  // lower-case name, regex
  auto operator<=>(const HttpMatch&) const = default;
};

struct HttpRouteGroup {
  std::vector<HttpMatch> matches;
};

// Limits for each pod and Egress. Missing is no limit, 0 admits nothing (of maxRequestsPerConnection 0 is no limit, and
// so is missing here).
struct Limits {
  std::optional<std::uint32_t> max_connections;
  std::optional<std::uint32_t> connect_timeout_ms;
  std::optional<std::uint32_t> max_requests;
  std::optional<std::uint32_t> max_requests_per_connection;
  std::optional<std::uint32_t> max_pending_requests;
  auto operator<=>(const Limits&) const = default;
};

struct UpstreamTrafficSetting {
  Limits limits;
};

struct MeshConfig {
  bool enable_egress = false;
  bool enable_egress_policy = true;
  std::vector<Prefix> excluded;               // outboundIPRangeExclusionList
  std::vector<Prefix> included;               // outboundIPRangeInclusionList; empty: all
  std::vector<std::uint16_t> excluded_ports;  // outboundPortExclusionList, TCP
};

struct Namespace {
  std::string name;
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
};

struct Pod {
  ObjectId id;
  std::string uid;
  ServiceAccount service_account;  // name "default" where the manifest has none
  std::vector<Address> addresses;  // status.podIPs, else status.podIP
  bool host_network = false;
  std::string netns_path;   // annotation egressd.io/netns; empty for what came from the API
  std::string cgroup_path;  // annotation egressd.io/cgroup; empty for what came from the API

  // As Kubernetes has them; empty where the manifest says nothing.
  std::string node_name;                  // spec.nodeName
  std::string phase;                      // status.phase: Pending, Running, Succeeded, Failed, Unknown
  std::vector<std::string> name_servers;  // spec.dnsConfig.nameservers
  std::string config_hash;  // annotation kubernetes.io/config.hash: of a mirror pod, the UID of its static pod
  bool net_admin = false;   // a container is privileged or has CAP_NET_ADMIN
  std::vector<std::string> containers;  // names of all of them, init containers first
};
using PodPtr = std::shared_ptr<const Pod>;

// The configuration of egressd, as far as policy depends on it.
struct Settings {
  std::string mesh_name = "osm";
  std::string control_plane_namespace = "osm-system";
  std::string own_namespace = "egressd";
  std::vector<std::string> system_namespaces = {"kube-system"};
  std::vector<Prefix> mesh_cidrs;
  std::vector<Address> dns_servers;
  bool other_protocols_allowed = false;
  bool allow_cross_namespace_sources = false;
  bool audit = false;
};

}  // namespace egress::policy
