// A pod's sandbox as the CNI knows it: which pod, which network namespace, which addresses.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/address.h"

namespace egress::node {

struct Sandbox {
  std::string container_id;  // of the sandbox: a pod that gets a new one gets a new id
  std::string pod_namespace;
  std::string pod_name;
  std::string pod_uid;  // empty where the runtime does not tell; of a static pod its config.hash
  std::string netns;    // path, as the runtime named it
  std::vector<Address> addresses;
  std::vector<Address> resolvers;  // of its resolv.conf, as the runtime was told; empty where it is not known
};

// From a file of libcni's cache (/var/lib/cni/results), which every runtime that uses libcni (containerd, CRI-O) writes when
// ADD has succeeded, before it starts a container, and removes with DEL: {"kind": "cniCacheV1", "containerId", "ifName",
// "cniArgs": [[name, value]...], "capabilityArgs": {"dns": {"Servers": [...]}}, "result"}, where "result" is the CNI
// result, and "netns" in newer versions. nullopt: it is something else, or concerns no pod (the loopback network).
std::optional<Sandbox> ParseCachedSandbox(std::string_view text);

}  // namespace egress::node
