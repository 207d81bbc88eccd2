// What the workers tell: counters of requests, and events.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "agent/base/address.h"
#include "agent/policy/model.h"
#include "bpf/egress.h"

namespace egress::proxy {

// One request, or one connection that did not get as far as that, as an event tells it.
struct RequestEvent {
  std::uint32_t slot = 0;
  egress_verdict verdict = EGRESS_DENY;
  egress_reason reason = EGRESS_REASON_NONE;
  Address source;
  Address destination;
  std::uint16_t port = 0;
  std::string_view host;
  std::string_view method;
  std::string_view path;  // the query is left out: it may hold secrets
  std::optional<policy::ObjectId> policy;
};

// How many events a second may leave the process; shared by the workers.
class EventBudget {
 public:
  explicit EventBudget(std::uint32_t per_second) : per_second_(per_second) {}
  bool Spend(std::chrono::steady_clock::time_point now);

 private:
  const std::uint32_t per_second_;
  std::atomic<std::int64_t> second_{0};
  std::atomic<std::uint32_t> spent_{0};
};

// The reports of one worker: written by it, collected by the control thread.
class Reports {
 public:
  static constexpr std::uint32_t kSampleAllowed = 100;  // one of so many, beside the first of its kind
  static constexpr std::size_t kMaxKnown = 4096;        // kinds (slot, policy, host) remembered as told

  Reports(EventBudget* refusals, EventBudget* others) : refusals_(refusals), others_(others) {}

  void Count(std::uint32_t slot, int code, egress_verdict verdict, egress_reason reason);
  // Whether an allowed request should be told: the first of its slot, policy and host, and then a sample.
  bool Samples(std::uint32_t slot, const std::optional<policy::ObjectId>& policy, std::string_view host);
  void Tell(const RequestEvent& event, std::chrono::steady_clock::time_point now);

  // Moves what has gathered into the messages `requests` and `events` of channel.h, adding to what is there.
  void Collect(nlohmann::json* counts, nlohmann::json* events, std::uint64_t* lost);

 private:
  EventBudget* refusals_;
  EventBudget* others_;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::uint64_t> counts_;  // packed {slot, code, verdict, reason}
  std::vector<nlohmann::json> events_;
  std::uint64_t lost_ = 0;
  // Only the worker's own thread uses these.
  std::unordered_set<std::size_t> known_;
  std::uint32_t unsampled_ = 0;
};

}  // namespace egress::proxy
