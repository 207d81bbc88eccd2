// How long the proxy waits, and how much it holds.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace egress::proxy {

struct Timeouts {
  using Milliseconds = std::chrono::milliseconds;
  Milliseconds head{30'000};           // a request's head, from its first byte to its last
  Milliseconds idle{600'000};          // a client's connection between requests
  Milliseconds stall{60'000};          // a peer that neither takes nor sends the body under way
  Milliseconds response{300'000};      // an upstream that sends nothing more of its response
  Milliseconds connect{5'000};         // to an upstream, where no UpstreamTrafficSetting says otherwise
  Milliseconds linger{2'000};          // for a client to end a connection that the proxy has ended
  Milliseconds upstream_idle{60'000};  // an upstream connection that no request uses
  Milliseconds tick{100};              // between looks at the clock and at `states`
};

struct Bounds {
  std::uint32_t connections_per_pod = 4096;  // downstream, in all workers
  std::uint32_t connections = 32'768;        // downstream, of all pods
  std::uint32_t idle_upstreams = 32;         // kept for each worker, pod, address and port
  std::uint32_t idle_of_pod = 512;           // ... and for a pod in all
  std::uint32_t discarded_body = 64U << 10;  // of a refused request, so that its connection goes on
  std::uint32_t steps_a_turn = 64;           // of a pod's connections in one worker, before other pods have their turn
  // Of one worker; ForWorkers() makes them shares of what these say.
  std::uint32_t large_blocks = 128;  // of a pod: 128 x 72 KiB
  std::size_t pod_buffers =
      48U << 20;                     // bytes of a pod's buffers: over half of it no new connection, over it none grows
  std::size_t buffers = 192U << 20;  // ... of all pods
  std::uint32_t refusal_events = 100;  // a second
  std::uint32_t allowed_events = 100;  // a second
};

// The shares of one of `workers`. A pod's connections spread unevenly, so a share has a least size.
inline Bounds ForWorkers(Bounds bounds, int workers) {
  bounds.large_blocks = std::max<std::uint32_t>(8, bounds.large_blocks / static_cast<std::uint32_t>(workers));
  bounds.pod_buffers = std::max<std::size_t>(8U << 20, bounds.pod_buffers / static_cast<std::size_t>(workers));
  bounds.buffers = std::max<std::size_t>(32U << 20, bounds.buffers / static_cast<std::size_t>(workers));
  return bounds;
}

struct Settings {
  int workers = 2;
  bool revoke = true;  // what a change no longer allows is cut; the agent says so at the start
  Timeouts timeouts;
  Bounds bounds;
};

}  // namespace egress::proxy
