// The two ends of a pod's veth, found without netlink (there is no static libmnl): by ethtool's requests.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "agent/base/result.h"

namespace egress::cni {

struct Veth {
  int host_ifindex = 0;
  std::string host_name;
  std::array<std::uint8_t, 6> mac{};  // of the pod's end
};

// `interface` of the namespace at `netns` and its other end, which has to be in the caller's namespace. Fails where it is
// no veth, or its other end is elsewhere.
Result<Veth> FindVeth(const std::string& netns, const std::string& interface);

}  // namespace egress::cni
