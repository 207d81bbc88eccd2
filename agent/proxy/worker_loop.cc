// The worker's loop: events, accepted connections, time.
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/proxy/worker.h"

namespace egress::proxy {
namespace {

constexpr int kEventsAtOnce = 128;
constexpr int kAcceptsAtOnce = 8;  // then other connections have their turn, and other workers their share

}  // namespace

void Worker::Run() {
  std::array<epoll_event, kEventsAtOnce> events;
  while (running_) {
    const int count = ::epoll_wait(epoll_.get(), events.data(), kEventsAtOnce, queued_ == 0 ? WaitMilliseconds() : 0);
    now_ = Clock::now();
    ++turn_;
    for (int i = 0; i < count; ++i) {
      Dispatch(static_cast<Pollable*>(events[static_cast<std::size_t>(i)].data.ptr),
               events[static_cast<std::size_t>(i)].events);
    }
    RunQueues();
    if (count > 0) next_tick_ = std::min(next_tick_, now_ + settings().timeouts.tick);
    if (now_ >= next_tick_) Tick();
    Sweep();
  }
}

int Worker::WaitMilliseconds() const {
  if (next_tick_ == Clock::time_point::max()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_tick_ - now_).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 10'000));
}

// A turn: what epoll has, and what was queued before. A pod whose connections have made the steps that it has in a turn
// waits for the next one, so that those of other pods wait for a part of its work and not for all of it.
void Worker::Dispatch(Pollable* events, std::uint32_t flags) {
  PodSlot* pod = nullptr;
  if (events->kind == Pollable::Kind::kDownstream) {
    const auto* session = static_cast<Session*>(events->owner);
    if (session->dead()) return;
    pod = &session->pod();
  } else if (events->kind == Pollable::Kind::kUpstream) {
    const auto* upstream = static_cast<Upstream*>(events->owner);
    if (!upstream->socket.valid()) return;  // buried in this round
    pod = upstream->pod;
  }
  // What is queued comes first, also what is queued of the same connection.
  if (pod != nullptr && (events->queued || !pod->queue.empty() || TurnIsOver(pod))) return Queue(pod, events, flags);
  DispatchNow(events, flags);
}

bool Worker::TurnIsOver(PodSlot* pod) { return pod->turn == turn_ && pod->steps >= settings().bounds.steps_a_turn; }

void Worker::Charge(PodSlot* pod, int steps) {
  if (pod->turn != turn_) pod->steps = 0;
  pod->turn = turn_;
  pod->steps += static_cast<std::uint32_t>(steps);
}

void Worker::Queue(PodSlot* pod, Pollable* events, std::uint32_t flags) {
  events->flags |= flags;
  if (std::exchange(events->queued, true)) return;
  pod->queue.push_back(events);
  ++queued_;
}

void Worker::Unqueue(PodSlot* pod, Pollable* events) {
  events->flags = 0;
  if (!std::exchange(events->queued, false)) return;
  pod->queue.erase(std::find(pod->queue.begin(), pod->queue.end(), events));
  --queued_;
}

void Worker::RunQueues() {
  if (queued_ == 0) return;
  for (const auto& pod : pods_) {
    // No longer than it is now: a session that goes on comes to its end again.
    for (std::size_t left = pod->queue.size(); left > 0 && !pod->queue.empty() && !TurnIsOver(pod.get()); --left) {
      Pollable* events = pod->queue.front();
      pod->queue.pop_front();
      --queued_;
      events->queued = false;
      DispatchNow(events, std::exchange(events->flags, 0));
    }
  }
}

void Worker::DispatchNow(Pollable* events, std::uint32_t flags) {
  switch (events->kind) {
    case Pollable::Kind::kWake: RunPosted(); break;
    case Pollable::Kind::kListener: Accept(static_cast<ListenerWatch*>(events->owner)); break;
    case Pollable::Kind::kDownstream: static_cast<Session*>(events->owner)->OnDownstream(flags); break;
    case Pollable::Kind::kUpstream: OnUpstream(static_cast<Upstream*>(events->owner), flags); break;
  }
}

void Worker::OnUpstream(Upstream* upstream, std::uint32_t flags) {
  if (upstream->owner != nullptr) {
    upstream->owner->OnUpstream(flags);
    return;
  }
  // An idle connection has nothing to say: its end, or an answer that nobody asked for.
  upstream->socket.OnEvents(flags);
  if (!upstream->socket.readable()) return;
  if (UpstreamPtr taken = upstream->pod->idle.Remove(upstream)) Bury(std::move(taken));
}

void Worker::Accept(ListenerWatch* watch) {
  for (int i = 0; i < kAcceptsAtOnce && watch->listener && !TurnIsOver(watch->pod); ++i) {
    Charge(watch->pod, 1);
    Fd fd(::accept4(watch->listener->get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd) {
      Admit(watch->pod, std::move(fd));
      continue;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      // A level-triggered listener would spin; the connections wait in its queue until the next tick.
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->listener->get(), nullptr);
      watch->paused = true;
      return;
    }
    if (errno == EAGAIN || errno == EINVAL || errno == EBADF) return;
  }
}

void Worker::Admit(PodSlot* pod, Fd fd) {
  const std::optional<socket_verdict> verdict = environment_.lookup(fd.get());
  // Without the kernel's note nobody knows where the connection wanted to go, nor that a policy let it begin.
  if (!verdict || verdict->kind != EGRESS_SOCKET_DOWNSTREAM || verdict->slot != pod->pod->slot) {
    Socket(std::move(fd)).Reset();
    return;
  }
  const std::uint32_t of_pod = pod->pod->connections.fetch_add(1, std::memory_order_relaxed);
  const std::uint32_t of_all = environment_.connections.fetch_add(1, std::memory_order_relaxed);
  const Bounds& bounds = settings().bounds;
  if (of_pod >= bounds.connections_per_pod || of_all >= bounds.connections ||
      pod->memory.taken >= bounds.pod_buffers / 2 || blocks_.taken() >= bounds.buffers / 2) {
    pod->pod->connections.fetch_sub(1, std::memory_order_relaxed);
    environment_.connections.fetch_sub(1, std::memory_order_relaxed);
    RefuseFull(pod, std::move(fd), *verdict);
    return;
  }
  auto session = std::make_unique<Session>(this, pod, std::move(fd), *verdict);
  Session* begun = session.get();
  begun->set_index(pod->sessions.size());
  begun->set_number(++sessions_begun_);
  pod->sessions.push_back(std::move(session));
  session_count_.fetch_add(1, std::memory_order_relaxed);
  begun->Begin();
}

void Worker::RefuseFull(PodSlot* pod, Fd fd, const socket_verdict& verdict) {
  RequestEvent event;
  event.slot = pod->pod->slot;
  event.reason = EGRESS_REASON_TABLE_FULL;
  std::memcpy(event.destination.bytes.data(), verdict.original, sizeof verdict.original);
  event.port = ntohs(verdict.original_port);
  reports_.Count(event.slot, 0, EGRESS_DENY, EGRESS_REASON_TABLE_FULL);
  Socket socket(std::move(fd));
  event.source = socket.Peer();
  reports_.Tell(event, now_);
  socket.Reset();
}

void Worker::Tick() {
  bool active = false;
  bool any = false;
  for (const auto& pod : pods_) {
    TickPod(pod.get());
    any = any || !pod->sessions.empty() || !pod->idle.empty();
    for (const auto& session : pod->sessions) active = active || !session->idle();
    for (const auto& watch : pod->listeners) any = any || watch->paused;
  }
  const auto& timeouts = settings().timeouts;
  next_tick_ = Clock::time_point::max();
  if (any) next_tick_ = now_ + std::max<std::chrono::milliseconds>(timeouts.tick, std::chrono::seconds(1));
  if (active || draining_) next_tick_ = now_ + timeouts.tick;
  if (draining_ && session_count() == 0 && environment_.on_quiet) environment_.on_quiet();
}

void Worker::TickPod(PodSlot* pod) {
  for (const auto& watch : pod->listeners) {
    if (watch->paused) watch->paused = !Watch(watch.get());
  }
  for (UpstreamPtr& upstream : pod->idle.TakeOlderThan(now_ - settings().timeouts.upstream_idle)) {
    Bury(std::move(upstream));
  }
  if (!pod->gone && !pod->waiting.empty()) ServeWaiting(pod->pod->slot);
  // The slot of a pod that is gone may be another's by now.
  const PodState state = pod->gone ? pod->seen : StateOf(*pod);
  const bool changed = state != pod->seen;
  pod->seen = state;
  // A session that ends takes the place of its number from the last one, so the walk is from the back.
  for (std::size_t i = pod->sessions.size(); i-- > 0;) {
    Session* session = pod->sessions[i].get();
    if (changed) session->Recheck(state);
    session->DropStaleUpstream(now_ - settings().timeouts.upstream_idle);
    if (!session->dead() && now_ >= session->deadline()) session->OnDeadline();
  }
}

void Worker::Sweep() {
  ended_.clear();
  buried_.clear();
  unwatched_.clear();
  std::erase_if(pods_, [](const auto& pod) { return pod->gone && pod->sessions.empty() && pod->idle.empty(); });
}

}  // namespace egress::proxy
