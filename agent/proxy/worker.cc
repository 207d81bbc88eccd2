#include "agent/proxy/worker.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <utility>

namespace egress::proxy {

Worker::Worker(Environment* environment)
    : environment_(*environment),
      reports_(&environment->refusals, &environment->others),
      blocks_(environment->settings.bounds.buffers),
      now_(Clock::now()),
      next_tick_(Clock::time_point::max()) {}

Result<std::unique_ptr<Worker>> Worker::Create(Environment* environment) {
  std::unique_ptr<Worker> worker(new Worker(environment));
  worker->epoll_ = Fd(::epoll_create1(EPOLL_CLOEXEC));
  worker->wake_ = Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!worker->epoll_ || !worker->wake_) return ErrnoError("make a worker's epoll");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &worker->wake_events_;
  if (::epoll_ctl(worker->epoll_.get(), EPOLL_CTL_ADD, worker->wake_.get(), &event) != 0) {
    return ErrnoError("watch a worker's inbox");
  }
  return worker;
}

Worker::~Worker() {
  ResetAll();
  Sweep();
}

void Worker::Post(std::function<void()> task) {
  {
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(task));
  }
  const std::uint64_t one = 1;
  // The counter cannot be full; a worker that is awake already finds the task all the same.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

void Worker::Stop() {
  Post([this] { running_ = false; });
}

void Worker::RunPosted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(wake_.get(), &count, sizeof count);
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(posted_mutex_);
    tasks.swap(posted_);
  }
  for (const auto& task : tasks) task();
}

void Worker::AddPod(std::shared_ptr<Pod> pod, const std::vector<ListenerPtr>& listeners) {
  pods_.push_back(std::make_unique<PodSlot>(std::move(pod), &blocks_, settings().bounds));
  pods_.back()->seen = StateOf(*pods_.back());
  Listen(pods_.back().get(), listeners);
}

void Worker::SetListeners(std::uint32_t slot, const std::vector<ListenerPtr>& listeners) {
  for (const auto& pod : pods_) {
    if (pod->gone || pod->pod->slot != slot) continue;
    Unwatch(pod.get());
    Listen(pod.get(), listeners);
  }
}

void Worker::Listen(PodSlot* pod, const std::vector<ListenerPtr>& listeners) {
  if (draining_) return;
  for (const ListenerPtr& listener : listeners) {
    pod->listeners.push_back(std::make_unique<ListenerWatch>(listener, pod));
    pod->listeners.back()->paused = !Watch(pod->listeners.back().get());
  }
}

void Worker::RemovePod(std::uint32_t slot, bool reset) {
  for (const auto& pod : pods_) {
    if (pod->gone || pod->pod->slot != slot) continue;
    pod->gone = true;
    Unwatch(pod.get());
    CloseIdle(pod.get());
    const std::vector<Session*> sessions = [&] {
      std::vector<Session*> all;
      for (const auto& session : pod->sessions) all.push_back(session.get());
      return all;
    }();
    for (Session* session : sessions) reset ? session->Cut() : session->Leave();
  }
}

void Worker::Drain() {
  draining_ = true;
  for (const auto& pod : pods_) {
    Unwatch(pod.get());
    for (std::size_t i = pod->sessions.size(); i-- > 0;) {
      if (i < pod->sessions.size()) pod->sessions[i]->Leave();
    }
  }
  next_tick_ = now_;
}

void Worker::ResetAll() {
  for (const auto& pod : pods_) {
    Unwatch(pod.get());
    CloseIdle(pod.get());
    while (!pod->sessions.empty()) pod->sessions.back()->Cut();
  }
}

void Worker::Unwatch(PodSlot* pod) {
  for (auto& watch : pod->listeners) {
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, watch->listener->get(), nullptr);
    watch->listener.reset();
    // An event of this round may still name it.
    unwatched_.push_back(std::move(watch));
  }
  pod->listeners.clear();
}

void Worker::CloseIdle(PodSlot* pod) {
  for (UpstreamPtr& upstream : pod->idle.TakeAll()) Bury(std::move(upstream));
}

bool Worker::Watch(ListenerWatch* watch) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  event.data.ptr = &watch->events;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, watch->listener->get(), &event) == 0;
}

bool Worker::Register(int fd, Pollable* events) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = events;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

void Worker::Unregister(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

void Worker::Again(PodSlot* pod, Pollable* events) { Queue(pod, events, 0); }

void Worker::Ended(Session* session) {
  PodSlot& pod = session->pod();
  StopWaiting(session, &pod);
  Unqueue(&pod, session->events());
  const std::size_t at = session->index();
  ended_.push_back(std::move(pod.sessions[at]));
  if (at + 1 < pod.sessions.size()) {
    pod.sessions[at] = std::move(pod.sessions.back());
    pod.sessions[at]->set_index(at);
  }
  pod.sessions.pop_back();
  pod.pod->connections.fetch_sub(1, std::memory_order_relaxed);
  environment_.connections.fetch_sub(1, std::memory_order_relaxed);
  session_count_.fetch_sub(1, std::memory_order_relaxed);
}

void Worker::Bury(UpstreamPtr upstream) {
  Unqueue(upstream->pod, &upstream->events);
  if (upstream->socket.valid()) Unregister(upstream->socket.fd());
  upstream->socket.Close();
  upstream->connection.Release();
  upstream->owner = nullptr;
  buried_.push_back(std::move(upstream));
}

void Worker::Park(UpstreamPtr upstream) {
  PodSlot* pod = upstream->pod;
  if (!pod->gone && !draining_) upstream = pod->idle.Put(std::move(upstream), now_);
  if (upstream) Bury(std::move(upstream));
}

Fd Worker::TakeSocket(Session* session, PodSlot* pod, SocketClass kind) {
  const std::uint32_t slot = pod->pod->slot;
  // Those that came first are served first.
  const bool first = pod->waiting.empty() || pod->waiting.front() == session;
  Fd fd;
  if (first) {
    fd = pod->pod->sockets.Take(kind, this, [this, slot] { Post([this, slot] { ServeWaiting(slot); }); });
  }
  const bool waits = std::find(pod->waiting.begin(), pod->waiting.end(), session) != pod->waiting.end();
  if (!fd && !waits) pod->waiting.push_back(session);
  if (fd && waits) StopWaiting(session, pod);
  return fd;
}

void Worker::StopWaiting(Session* session, PodSlot* pod) { std::erase(pod->waiting, session); }

void Worker::ServeWaiting(std::uint32_t slot) {
  for (const auto& pod : pods_) {
    if (pod->gone || pod->pod->slot != slot) continue;
    // Each takes itself off the list when it is served; the rest wait on.
    while (!pod->waiting.empty()) {
      Session* first = pod->waiting.front();
      first->SocketsArrived();
      if (!pod->waiting.empty() && pod->waiting.front() == first) return;
    }
  }
}

bool Worker::ReleaseOne(std::uint32_t slot, const Usage* usage) {
  for (const auto& pod : pods_) {
    if (pod->gone || pod->pod->slot != slot) continue;
    if (UpstreamPtr idle = pod->idle.RemoveCounting(usage)) {
      Bury(std::move(idle));
      return true;
    }
    for (const auto& session : pod->sessions) {
      if (session->ReleaseUpstream(usage)) return true;
    }
  }
  return false;
}

void Worker::Reclaim(Session* session, std::shared_ptr<Usage> usage) {
  const std::uint32_t slot = session->pod().pod->slot;
  if (ReleaseOne(slot, usage.get()) || environment_.workers.size() < 2) return session->ConnectionsReclaimed();
  // The others are asked; the first that has closed one answers, or the last that had none.
  auto silent = std::make_shared<std::atomic<std::size_t>>(environment_.workers.size() - 1);
  auto answered = std::make_shared<std::atomic<bool>>(false);
  for (Worker* other : environment_.workers) {
    if (other == this) continue;
    other->Post([this, other, slot, usage, silent, answered, number = session->number()] {
      const bool released = !answered->load() && other->ReleaseOne(slot, usage.get());
      const bool last = silent->fetch_sub(1) == 1;
      if ((released || last) && !answered->exchange(true)) Post([this, slot, number] { Reclaimed(slot, number); });
    });
  }
}

void Worker::Reclaimed(std::uint32_t slot, std::uint64_t session) {
  for (const auto& pod : pods_) {
    if (pod->gone || pod->pod->slot != slot) continue;
    for (const auto& one : pod->sessions) {
      if (one->number() == session) return one->ConnectionsReclaimed();
    }
  }
}

}  // namespace egress::proxy
