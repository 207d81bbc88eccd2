#include "agent/proxy/upstream.h"

#include <algorithm>
#include <utility>

namespace egress::proxy {

UpstreamPtr IdleUpstreams::Take(const Target& target) {
  const auto found = idle_.find(target);
  if (found == idle_.end()) return nullptr;
  UpstreamPtr upstream = std::move(found->second.back());
  found->second.pop_back();
  if (found->second.empty()) idle_.erase(found);
  count_.fetch_sub(1, std::memory_order_relaxed);
  return upstream;
}

UpstreamPtr IdleUpstreams::Put(UpstreamPtr upstream, Clock::time_point now) {
  const auto found = idle_.find(upstream->target);
  if (found != idle_.end() && found->second.size() >= per_target_) return upstream;
  if (count_.fetch_add(1, std::memory_order_relaxed) >= most_) {
    count_.fetch_sub(1, std::memory_order_relaxed);
    return upstream;
  }
  std::vector<UpstreamPtr>& shelf = found != idle_.end() ? found->second : idle_[upstream->target];
  upstream->owner = nullptr;
  upstream->idle_since = now;
  shelf.push_back(std::move(upstream));
  return nullptr;
}

UpstreamPtr IdleUpstreams::Remove(Upstream* upstream) {
  const auto found = idle_.find(upstream->target);
  if (found == idle_.end()) return nullptr;
  std::vector<UpstreamPtr>& shelf = found->second;
  const auto at = std::find_if(shelf.begin(), shelf.end(), [&](const UpstreamPtr& p) { return p.get() == upstream; });
  if (at == shelf.end()) return nullptr;
  UpstreamPtr taken = std::move(*at);
  shelf.erase(at);
  if (shelf.empty()) idle_.erase(found);
  count_.fetch_sub(1, std::memory_order_relaxed);
  return taken;
}

UpstreamPtr IdleUpstreams::RemoveCounting(const Usage* usage) {
  for (const auto& [target, shelf] : idle_) {
    for (const UpstreamPtr& upstream : shelf) {
      if (upstream->connection.CountsAgainst(usage)) return Remove(upstream.get());
    }
  }
  return nullptr;
}

std::vector<UpstreamPtr> IdleUpstreams::TakeOlderThan(Clock::time_point since) {
  std::vector<UpstreamPtr> taken;
  for (auto entry = idle_.begin(); entry != idle_.end();) {
    std::vector<UpstreamPtr>& shelf = entry->second;
    const auto young = std::find_if(shelf.begin(), shelf.end(),
                                    [since](const UpstreamPtr& upstream) { return upstream->idle_since >= since; });
    count_.fetch_sub(static_cast<std::uint32_t>(young - shelf.begin()), std::memory_order_relaxed);
    std::move(shelf.begin(), young, std::back_inserter(taken));
    shelf.erase(shelf.begin(), young);
    entry = shelf.empty() ? idle_.erase(entry) : std::next(entry);
  }
  return taken;
}

}  // namespace egress::proxy
