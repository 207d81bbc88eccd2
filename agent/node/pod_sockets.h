// The sockets that the proxy works with, made inside the namespace of a pod, so that they have the pod's addresses,
// routes and network policies.
#pragma once

#include <cstdint>

#include "agent/base/address.h"
#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::node {

struct Listener {
  Fd socket;               // listening, non-blocking, close-on-exec
  std::uint16_t port = 0;  // host order
};

// A TCP listener on `address` in `netns`, on a random free port of first_port..last_port (inclusive, host order).
// Ports that the pod's own connections may get (its net.ipv4.ip_local_port_range) are taken only where all others
// are busy. Fails where the pod has no such address (an IPv6 one not yet, while duplicates are looked for), or no
// port is free.
Result<Listener> ListenIn(const Fd& netns, const Address& address, std::uint16_t first_port, std::uint16_t last_port);

// A TCP socket of `family` (AF_INET, AF_INET6), not connected, non-blocking, close-on-exec.
Result<Fd> UpstreamSocketIn(const Fd& netns, int family);

}  // namespace egress::node
