// What the agent says about itself over its control socket: the answer to "status" and the items of "pods".
// egressd fills these, egressctl shows them; the JSON keys are the interface between the two and to scripts.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/model.h"

namespace egress::report {

// {severity: "error"|"warning", file, line, kind, object, field, message}
nlohmann::json FindingToJson(const policy::Finding& finding);

// A program of the kernel and where it is attached: {"connect4", "/sys/fs/cgroup"}, {"boundary out", "veth1a2b"}.
struct AttachedProgram {
  std::string program;
  std::string where;
  bool operator==(const AttachedProgram&) const = default;
};

struct ProxyStatus {
  std::string state;  // "running", "starting", "down", "not needed"
  int pid = 0;        // 0: there is none
  int restarts = 0;   // since the agent started
  bool operator==(const ProxyStatus&) const = default;
};

// How full one of the kernel's maps is.
struct MapUse {
  std::string map;
  std::uint64_t entries = 0;
  std::uint64_t capacity = 0;
  bool operator==(const MapUse&) const = default;
};

// A kind of object that is watched in the Kubernetes API.
struct SourceKind {
  std::string kind;
  std::string state;    // "listing", "watching", "waiting", "absent": the cluster has no such kind
  bool synced = false;  // has been listed once
  std::uint64_t objects = 0;
  std::string error;  // why it waits
  bool operator==(const SourceKind&) const = default;
};

struct AgentStatus {
  std::string version;
  std::string source;  // "manifests in /etc/egressd/manifests"
  bool ready = false;
  std::string started;  // RFC 3339
  int pods_governed = 0;
  int pods_ungoverned = 0;
  int policies_valid = 0;  // Egress objects
  int policies_invalid = 0;
  std::vector<policy::Finding> findings;
  std::vector<AttachedProgram> programs;
  std::map<std::string, std::string> features;  // "tcx" -> "yes (kernel 6.6 and later)"
  ProxyStatus proxy;
  std::vector<std::string> problems;  // what is not in order, and what to do
  std::vector<std::string> warnings;
  std::string enforcement = "enforce";  // or "audit"
  std::uint32_t generation = 0;
  std::vector<MapUse> maps;
  std::vector<SourceKind> kinds;  // of the Kubernetes API; empty with manifests
  double age_seconds = 0;         // for how long what is known of them has not been kept up

  nlohmann::json ToJson() const;
};

// Fails with the key that is missing or of another type: then agent and egressctl are of different versions.
Result<AgentStatus> StatusFromJson(const nlohmann::json& json);

// One pod of this node.
struct PodStatus {
  std::string pod;  // NAMESPACE/NAME
  bool governed = false;
  std::string why;              // where not governed: the reason in words
  std::string service_account;  // NAMESPACE/NAME
  std::vector<std::string> addresses;
  std::string netns;      // path
  std::string cgroup;     // path
  std::string interface;  // host side of the veth
  int policies = 0;       // that apply to it
  std::string state;      // "guarded", "unguarded", "waiting"; empty where not governed
  std::string note;       // what one has to know about it, in words
  bool operator==(const PodStatus&) const = default;

  nlohmann::json ToJson() const;
};

Result<PodStatus> PodStatusFromJson(const nlohmann::json& json);

}  // namespace egress::report
