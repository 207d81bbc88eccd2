// Keeps the node's side of a veth in the state in which it can guard.
#pragma once

#include <string>

#include "agent/base/result.h"

namespace egress::node {

struct GuardReport {
  bool mended = false;  // GRO was on, and is off now
  std::string fault;    // in words, empty where all is well: what makes frames arrive without their socket
};

// A veth that receives by NAPI takes the socket off each frame before TC sees it (skb->sk is NULL), and nothing of a
// governed pod would pass. NAPI runs where GRO is on, which is switched off here, and under an XDP program of the
// driver, which is somebody else's and only reported, as is a generic one: both see frames before TC does. Works
// in the caller's namespace, the node's; both changes make an event of LinkMonitor, upon which to call this again.
Result<GuardReport> KeepSocketsVisible(int host_ifindex);

// As `ethtool -K NAME gro on|off`.
Result<void> SetGro(const std::string& name, bool on);

}  // namespace egress::node
