#include "agent/proxy/reports.h"

#include <functional>
#include <utility>

#include "agent/policy/decide.h"

namespace egress::proxy {
namespace {

constexpr std::size_t kMaxText = 1024;  // bytes of a path, host or method in an event

const char* VerdictName(egress_verdict verdict) {
  switch (verdict) {
    case EGRESS_ALLOW: return "allow";
    case EGRESS_AUDIT: return "audit";
    default: return "deny";
  }
}

std::string Text(std::string_view text) { return std::string(text.substr(0, kMaxText)); }

nlohmann::json ToJson(const RequestEvent& event) {
  nlohmann::json json = {{"slot", event.slot},
                         {"verdict", VerdictName(event.verdict)},
                         {"reason", policy::ReasonName(event.reason)},
                         {"source", event.source.ToString()},
                         {"destination", event.destination.ToString()},
                         {"port", event.port}};
  if (!event.host.empty()) json["host"] = Text(event.host);
  if (!event.method.empty()) json["method"] = Text(event.method);
  if (!event.path.empty()) json["path"] = Text(event.path.substr(0, event.path.find('?')));
  if (event.policy) json["policy"] = event.policy->ToString();
  return json;
}

void Mix(std::size_t value, std::size_t* seed) { *seed ^= value + 0x9e3779b97f4a7c15U + (*seed << 6) + (*seed >> 2); }

}  // namespace

bool EventBudget::Spend(std::chrono::steady_clock::time_point now) {
  const std::int64_t second = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  std::int64_t current = second_.load(std::memory_order_relaxed);
  // Two workers may both begin the second; then a few events more go out, which does no harm.
  if (current != second && second_.compare_exchange_strong(current, second)) spent_.store(0);
  return spent_.fetch_add(1, std::memory_order_relaxed) < per_second_;
}

void Reports::Count(std::uint32_t slot, int code, egress_verdict verdict, egress_reason reason) {
  const std::uint64_t key = static_cast<std::uint64_t>(slot) << 32 | static_cast<std::uint64_t>(code & 0xffff) << 16 |
                            static_cast<std::uint64_t>(verdict) << 8 | static_cast<std::uint64_t>(reason);
  const std::lock_guard lock(mutex_);
  ++counts_[key];
}

bool Reports::Samples(std::uint32_t slot, const std::optional<policy::ObjectId>& policy, std::string_view host) {
  if (++unsampled_ >= kSampleAllowed) {
    unsampled_ = 0;
    return true;
  }
  std::size_t kind = slot;
  if (policy) {
    Mix(std::hash<std::string>()(policy->ns), &kind);
    Mix(std::hash<std::string>()(policy->name), &kind);
  }
  Mix(std::hash<std::string_view>()(host), &kind);
  if (known_.contains(kind)) return false;
  if (known_.size() >= kMaxKnown) return false;
  known_.insert(kind);
  return true;
}

void Reports::Tell(const RequestEvent& event, std::chrono::steady_clock::time_point now) {
  EventBudget* budget = event.verdict == EGRESS_ALLOW ? others_ : refusals_;
  const bool told = budget->Spend(now);
  const std::lock_guard lock(mutex_);
  if (told) {
    events_.push_back(ToJson(event));
  } else if (event.verdict != EGRESS_ALLOW) {
    ++lost_;  // of the allowed only samples are told anyway
  }
}

void Reports::Collect(nlohmann::json* counts, nlohmann::json* events, std::uint64_t* lost) {
  std::unordered_map<std::uint64_t, std::uint64_t> taken_counts;
  std::vector<nlohmann::json> taken_events;
  {
    const std::lock_guard lock(mutex_);
    taken_counts.swap(counts_);
    taken_events.swap(events_);
    *lost += std::exchange(lost_, 0);
  }
  for (const auto& [key, count] : taken_counts) {
    counts->push_back({{"slot", key >> 32},
                       {"code", key >> 16 & 0xffff},
                       {"verdict", VerdictName(static_cast<egress_verdict>(key >> 8 & 0xff))},
                       {"reason", policy::ReasonName(static_cast<egress_reason>(key & 0xff))},
                       {"count", count}});
  }
  for (nlohmann::json& event : taken_events) events->push_back(std::move(event));
}

}  // namespace egress::proxy
