// The interface of a pod, seen from both sides, and whether the node's side of it can guard the pod.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/node/link.h"

namespace egress::node {

struct PodInterface {
  std::uint64_t cookie = 0;  // of the pod's network namespace
  int netns_id = -1;         // of the pod, as the node's namespace numbers it
  int pod_ifindex = 0;       // 0: no interface that leads to the node
  int host_ifindex = 0;      // node's side of the veth; also set where something else makes it unguarded
  std::string host_name;
  MacAddress mac{};                // of the pod's side
  std::vector<Address> addresses;  // the pod's own: given or global ones first, then link-local; no duplicates
  bool elsewhere = false;          // it has a veth, but to another namespace than the node's
  bool guarded = false;
  std::string why_unguarded;  // in words, empty where guarded
  bool operator==(const PodInterface&) const = default;
};

// Looks at the namespace `netns` of a pod; the caller's own namespace is the node's. `given` are the addresses that
// the CNI or status.podIPs names; where empty, those of the interface count.
//
// Guarded means: frames of the pod can leave it by one veth only, whose other end is in the node's namespace. Links
// that lead nowhere (lo, dummy, ...), or only on to other links of the pod (a vlan or tunnel in the pod, the devices
// like tunl0 that the kernel puts into each namespace), do not count; everything else is a second way out, also
// while it is down, and also what cannot be told: WireGuard and tun devices may have their other half anywhere.
//
// Fails where the namespace cannot be looked at; a pod without an interface is no failure, but unguarded.
Result<PodInterface> FindPodInterface(const Fd& netns, std::span<const Address> given);

// The link-local address that the kernel derives from `mac` (RFC 4291, appendix A) where nothing else is configured.
Address LinkLocalOf(const MacAddress& mac);

}  // namespace egress::node
