// A connection to an origin, and those kept for the next request.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "agent/base/address.h"
#include "agent/proxy/limits.h"
#include "agent/proxy/socket.h"

namespace egress::proxy {

class Session;
struct PodSlot;
using Clock = std::chrono::steady_clock;

// What an epoll event belongs to.
struct Pollable {
  enum class Kind : std::uint8_t { kWake, kListener, kDownstream, kUpstream };
  Kind kind;
  void* owner;
  bool queued = false;      // it waits for its pod's turn
  std::uint32_t flags = 0;  // events that it waits with
};

struct Target {
  Address address;
  std::uint16_t port = 0;
  auto operator<=>(const Target&) const = default;
};

struct Upstream {
  Upstream(Fd fd, PodSlot* upstream_pod, const Target& upstream_target)
      : socket(std::move(fd)), pod(upstream_pod), target(upstream_target) {}

  Pollable events{Pollable::Kind::kUpstream, this};
  Socket socket;
  PodSlot* pod;
  Target target;
  Session* owner = nullptr;  // null: idle
  bool connected = false;
  bool personal = false;       // it bears a login of its client (NTLM, Negotiate): not for another client
  std::uint32_t requests = 0;  // sent on it
  Share connection;            // against the limit of the policy that it was opened for
  Clock::time_point idle_since;
};

using UpstreamPtr = std::unique_ptr<Upstream>;

// The idle upstream connections of one pod in one worker.
class IdleUpstreams {
 public:
  // At most `per_target` for each target, and no more than `most` in `count`, which all workers share.
  IdleUpstreams(std::size_t per_target, std::uint32_t most, std::atomic<std::uint32_t>* count)
      : per_target_(per_target), most_(most), count_(*count) {}

  UpstreamPtr Take(const Target& target);  // the one used last, or null
  // The one given back where there is no room for it.
  UpstreamPtr Put(UpstreamPtr upstream, Clock::time_point now);
  UpstreamPtr Remove(Upstream* upstream);          // null if it is not here
  UpstreamPtr RemoveCounting(const Usage* usage);  // one that counts against it; null: there is none
  std::vector<UpstreamPtr> TakeOlderThan(Clock::time_point since);
  std::vector<UpstreamPtr> TakeAll() { return TakeOlderThan(Clock::time_point::max()); }
  bool empty() const { return idle_.empty(); }

 private:
  std::size_t per_target_;
  std::uint32_t most_;
  std::atomic<std::uint32_t>& count_;
  std::map<Target, std::vector<UpstreamPtr>> idle_;  // no empty vectors; the oldest first
};

}  // namespace egress::proxy
