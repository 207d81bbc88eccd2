// A pod as the proxy knows it: shared by the control thread and all workers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/fd.h"
#include "agent/proxy/accounts.h"
#include "agent/proxy/limits.h"
#include "agent/proxy/upstream_sockets.h"

namespace egress::proxy {

struct Pod {
  Pod(std::uint32_t slot_number, std::uint64_t netns_cookie, std::string pod_name, std::shared_ptr<Account> pod_account,
      UpstreamSockets::Ask ask)
      : slot(slot_number),
        cookie(netns_cookie),
        name(std::move(pod_name)),
        account(std::move(pod_account)),
        sockets(std::move(ask)) {}

  const std::uint32_t slot;
  const std::uint64_t cookie;  // of its network namespace
  const std::string name;      // NAMESPACE/NAME
  const std::shared_ptr<Account> account;
  UpstreamSockets sockets;
  UsageTable usages;
  std::atomic<std::uint32_t> connections{0};     // downstream, in all workers
  std::atomic<std::uint32_t> idle_upstreams{0};  // ... and those upstream that no request uses
};

// A listener of a pod. Each worker that watches it holds a reference; the last one closes it.
using ListenerPtr = std::shared_ptr<const Fd>;

}  // namespace egress::proxy
