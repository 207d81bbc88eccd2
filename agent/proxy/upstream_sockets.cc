#include "agent/proxy/upstream_sockets.h"

#include <algorithm>
#include <utility>

namespace egress::proxy {

std::uint32_t UpstreamSockets::Missing(Shelf* shelf) const {
  if (closed_ || shelf->sockets.size() > kLow) return 0;
  const auto now = std::chrono::steady_clock::now();
  if (shelf->under_way && now - shelf->asked_at < kPatience) return 0;
  shelf->under_way = true;
  shelf->asked_at = now;
  return kBatch;
}

Fd UpstreamSockets::Take(SocketClass kind, const void* who, const Waiter& waiter) {
  Fd taken;
  std::uint32_t missing = 0;
  {
    const std::lock_guard lock(mutex_);
    Shelf& shelf = shelves_[kind.index()];
    if (!shelf.sockets.empty()) {
      taken = std::move(shelf.sockets.back());
      shelf.sockets.pop_back();
    } else if (!closed_) {
      const auto same = [who](const auto& entry) { return entry.first == who; };
      if (std::none_of(shelf.waiters.begin(), shelf.waiters.end(), same)) shelf.waiters.emplace_back(who, waiter);
    }
    missing = Missing(&shelf);
  }
  if (missing > 0) ask_(kind, missing);
  return taken;
}

void UpstreamSockets::Add(SocketClass kind, std::vector<Fd> sockets) {
  std::vector<std::pair<const void*, Waiter>> waiters;
  {
    const std::lock_guard lock(mutex_);
    Shelf& shelf = shelves_[kind.index()];
    // The agent answers each request in one message, perhaps with fewer than were asked for.
    shelf.under_way = false;
    if (closed_ || sockets.empty()) return;
    for (Fd& socket : sockets) shelf.sockets.push_back(std::move(socket));
    waiters.swap(shelf.waiters);
  }
  for (const auto& waiter : waiters) waiter.second();
}

void UpstreamSockets::Prepare(SocketClass kind) {
  std::uint32_t missing = 0;
  {
    const std::lock_guard lock(mutex_);
    Shelf& shelf = shelves_[kind.index()];
    if (shelf.sockets.empty()) missing = Missing(&shelf);
  }
  if (missing > 0) ask_(kind, missing);
}

void UpstreamSockets::Close() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (Shelf& shelf : shelves_) {
    shelf.sockets.clear();
    shelf.waiters.clear();
  }
}

}  // namespace egress::proxy
