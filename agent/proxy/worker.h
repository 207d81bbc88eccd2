// A worker: one thread with its own epoll, which serves the connections that it accepted.
//
// All but Post(), Stop(), session_count() and reports() belongs to the worker's thread; the control thread reaches it
// by Post().
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/proxy/buffer.h"
#include "agent/proxy/original.h"
#include "agent/proxy/pod.h"
#include "agent/proxy/reports.h"
#include "agent/proxy/session.h"
#include "agent/proxy/settings.h"
#include "agent/proxy/states.h"
#include "agent/proxy/upstream.h"

namespace egress::proxy {

// A listener as one worker watches it.
struct ListenerWatch {
  ListenerWatch(ListenerPtr fd, PodSlot* slot) : listener(std::move(fd)), pod(slot) {}
  Pollable events{Pollable::Kind::kListener, this};
  ListenerPtr listener;
  PodSlot* pod;
  bool paused = false;  // no descriptors were left; tried again at the next tick
};

// A pod as one worker sees it.
struct PodSlot {
  PodSlot(std::shared_ptr<Pod> shared_pod, BlockPool* pool, const Bounds& bounds)
      : pod(std::move(shared_pod)),
        memory{.pool = pool, .most = bounds.pod_buffers, .max_large = bounds.large_blocks},
        idle(bounds.idle_upstreams, bounds.idle_of_pod, &pod->idle_upstreams) {}

  std::shared_ptr<Pod> pod;
  BufferAccount memory;
  IdleUpstreams idle;
  std::vector<std::unique_ptr<ListenerWatch>> listeners;
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<Session*> waiting;  // for upstream sockets, the first come first
  std::deque<Pollable*> queue;    // what has to wait until the other pods have had their turn
  std::uint64_t turn = 0;         // number of the turn that `steps` counts
  std::uint32_t steps = 0;        // that its sessions have made in it
  PodState seen;                  // state under which the sessions were judged last
  bool gone = false;              // what is live may end, nothing new begins
};

// What all workers share.
class Worker;

struct Environment {
  Settings settings;
  StateTable states;
  OriginalLookup lookup;
  EventBudget refusals;
  EventBudget others;
  std::atomic<std::uint32_t> connections{0};
  std::vector<Worker*> workers;    // all of them; set before any runs
  std::function<void()> on_quiet;  // a worker that leaves has no session any more; called from its thread

  Environment(const Settings& all, StateTable table, OriginalLookup original)
      : settings(all),
        states(std::move(table)),
        lookup(std::move(original)),
        refusals(all.bounds.refusal_events),
        others(all.bounds.allowed_events) {}
};

class Worker {
 public:
  static Result<std::unique_ptr<Worker>> Create(Environment* environment);
  ~Worker();

  void Run();  // until Stop()
  void Stop();
  void Post(std::function<void()> task);
  std::size_t session_count() const { return session_count_.load(std::memory_order_relaxed); }
  Reports& reports() { return reports_; }

  // ---- Tasks that the control thread posts ----
  void AddPod(std::shared_ptr<Pod> pod, const std::vector<ListenerPtr>& listeners);
  void SetListeners(std::uint32_t slot, const std::vector<ListenerPtr>& listeners);  // instead of those it has
  void RemovePod(std::uint32_t slot, bool reset);
  void Drain();     // nothing new; what is idle ends
  void ResetAll();  // what is left ends now

  // ---- For the sessions ----
  const Settings& settings() const { return environment_.settings; }
  Clock::time_point now() const { return now_; }
  PodState StateOf(const PodSlot& pod) const { return environment_.states.Load(pod.pod->slot); }
  bool draining() const { return draining_; }
  bool Register(int fd, Pollable* events);
  // Before an upstream socket is closed: the agent may still hold it too, and then closing ends no registration.
  void Unregister(int fd);
  void Again(PodSlot* pod, Pollable* events);  // goes on after other sessions had their turn
  void Charge(PodSlot* pod, int steps);        // what a session has done counts against its pod's turn
  void Ended(Session* session);                // destroyed once no event can name it any more
  void Bury(UpstreamPtr upstream);
  void Park(UpstreamPtr upstream);                                  // keeps it for the next request, or closes it
  Fd TakeSocket(Session* session, PodSlot* pod, SocketClass kind);  // invalid: SocketsArrived() will be called
  void StopWaiting(Session* session, PodSlot* pod);
  // Has one idle connection that counts against `usage` closed, in whichever worker it is, and then calls
  // session->ConnectionsReclaimed(), perhaps at once.
  void Reclaim(Session* session, std::shared_ptr<Usage> usage);

 private:
  explicit Worker(Environment* environment);
  void Dispatch(Pollable* events, std::uint32_t flags);
  void DispatchNow(Pollable* events, std::uint32_t flags);
  void Queue(PodSlot* pod, Pollable* events, std::uint32_t flags);
  void Unqueue(PodSlot* pod, Pollable* events);
  bool TurnIsOver(PodSlot* pod);
  void OnUpstream(Upstream* upstream, std::uint32_t flags);
  void Accept(ListenerWatch* watch);
  void Admit(PodSlot* pod, Fd fd);
  void RefuseFull(PodSlot* pod, Fd fd, const socket_verdict& verdict);
  void RunPosted();
  void RunQueues();
  void Tick();
  void TickPod(PodSlot* pod);
  void ServeWaiting(std::uint32_t slot);
  bool ReleaseOne(std::uint32_t slot, const Usage* usage);
  void Reclaimed(std::uint32_t slot, std::uint64_t session);
  void CloseIdle(PodSlot* pod);
  void Unwatch(PodSlot* pod);
  void Listen(PodSlot* pod, const std::vector<ListenerPtr>& listeners);
  bool Watch(ListenerWatch* watch);
  void Sweep();  // destroys what has ended
  int WaitMilliseconds() const;

  Environment& environment_;
  Reports reports_;
  Fd epoll_;
  Fd wake_;
  Pollable wake_events_{Pollable::Kind::kWake, nullptr};
  BlockPool blocks_;
  std::vector<std::unique_ptr<PodSlot>> pods_;
  std::size_t queued_ = 0;  // in the queues of all pods
  std::uint64_t turn_ = 1;
  std::vector<std::unique_ptr<Session>> ended_;
  std::vector<UpstreamPtr> buried_;
  std::vector<std::unique_ptr<ListenerWatch>> unwatched_;
  Clock::time_point now_;
  Clock::time_point next_tick_;
  bool draining_ = false;
  bool running_ = true;
  std::uint64_t sessions_begun_ = 0;
  std::atomic<std::size_t> session_count_{0};
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;
};

}  // namespace egress::proxy
