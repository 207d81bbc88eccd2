#include "agent/base/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/base/fd.h"

namespace egress {
namespace {

using Clock = std::chrono::steady_clock;

// Watches are told apart by a number that is never used again, not by the fd: within one batch of events a callback
// may close an fd and watch another that got the same number.
using Token = std::uint64_t;
constexpr Token kWakeUp = 0;

constexpr std::size_t kBatch = 64;

}  // namespace

struct EventLoop::Impl {
  struct WatchEntry {
    int fd = -1;
    // Shared, since a callback may unwatch itself while it runs.
    std::shared_ptr<Callback> callback;
  };

  Fd epoll;
  Fd wake_up;  // eventfd, written by Post()
  bool stopped = false;

  Token next_token = kWakeUp + 1;
  std::unordered_map<Token, WatchEntry> watches;
  std::unordered_map<int, Token> token_of_fd;

  TimerId next_timer = 1;
  std::map<std::pair<Clock::time_point, TimerId>, std::function<void()>> timers;
  std::unordered_map<TimerId, Clock::time_point> due_of_timer;

  std::mutex mutex;  // guards `posted`
  std::vector<std::function<void()>> posted;

  int TimeoutMs() const;
  void RunTimers();
  void RunPosted();
  void Dispatch(const epoll_event& event);
};

EventLoop::EventLoop() : impl_(std::make_unique<Impl>()) {}
EventLoop::EventLoop(EventLoop&&) noexcept = default;
EventLoop& EventLoop::operator=(EventLoop&&) noexcept = default;
EventLoop::~EventLoop() = default;

Result<EventLoop> EventLoop::Create() {
  EventLoop loop;
  loop.impl_->epoll.Reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!loop.impl_->epoll) return ErrnoError("epoll_create1");
  loop.impl_->wake_up.Reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!loop.impl_->wake_up) return ErrnoError("eventfd");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = kWakeUp}};
  if (::epoll_ctl(loop.impl_->epoll.get(), EPOLL_CTL_ADD, loop.impl_->wake_up.get(), &event) != 0) {
    return ErrnoError("watch the eventfd of the event loop");
  }
  return loop;
}

Result<void> EventLoop::Watch(int fd, std::uint32_t events, Callback callback) {
  if (impl_->token_of_fd.contains(fd)) return ErrnoError("watch fd " + std::to_string(fd), EEXIST);
  const Token token = impl_->next_token++;
  epoll_event event{.events = events, .data = {.u64 = token}};
  if (::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return ErrnoError("watch fd " + std::to_string(fd));
  }
  impl_->watches[token] = {fd, std::make_shared<Callback>(std::move(callback))};
  impl_->token_of_fd[fd] = token;
  return {};
}

Result<void> EventLoop::Modify(int fd, std::uint32_t events) {
  const auto found = impl_->token_of_fd.find(fd);
  if (found == impl_->token_of_fd.end()) return ErrnoError("modify watch of fd " + std::to_string(fd), ENOENT);
  epoll_event event{.events = events, .data = {.u64 = found->second}};
  if (::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_MOD, fd, &event) != 0) {
    return ErrnoError("modify watch of fd " + std::to_string(fd));
  }
  return {};
}

void EventLoop::Unwatch(int fd) {
  const auto found = impl_->token_of_fd.find(fd);
  if (found == impl_->token_of_fd.end()) return;
  ::epoll_ctl(impl_->epoll.get(), EPOLL_CTL_DEL, fd, nullptr);
  impl_->watches.erase(found->second);
  impl_->token_of_fd.erase(found);
}

EventLoop::TimerId EventLoop::After(std::chrono::milliseconds delay, std::function<void()> callback) {
  const TimerId id = impl_->next_timer++;
  const auto due = Clock::now() + delay;
  impl_->timers[{due, id}] = std::move(callback);
  impl_->due_of_timer[id] = due;
  return id;
}

void EventLoop::Cancel(TimerId timer) {
  const auto found = impl_->due_of_timer.find(timer);
  if (found == impl_->due_of_timer.end()) return;
  impl_->timers.erase({found->second, timer});
  impl_->due_of_timer.erase(found);
}

void EventLoop::Post(std::function<void()> callback) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->posted.push_back(std::move(callback));
  }
  // Fails only when the counter is full, and then the loop is about to wake up anyway.
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(impl_->wake_up.get(), &one, sizeof one);
}

void EventLoop::Run() {
  std::array<epoll_event, kBatch> events;
  while (!impl_->stopped) {
    const int count = ::epoll_wait(impl_->epoll.get(), events.data(), kBatch, impl_->TimeoutMs());
    // Anything but EINTR means that the epoll fd itself is broken, which no caller could mend.
    assert(count >= 0 || errno == EINTR);
    for (int i = 0; i < count && !impl_->stopped; ++i) impl_->Dispatch(events[i]);
    if (!impl_->stopped) impl_->RunTimers();
  }
  impl_->stopped = false;
}

void EventLoop::Stop() { impl_->stopped = true; }

int EventLoop::Impl::TimeoutMs() const {
  if (timers.empty()) return -1;
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(timers.begin()->first.first - Clock::now());
  return static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, std::int64_t{60} * 60 * 1000));
}

void EventLoop::Impl::RunTimers() {
  const auto now = Clock::now();
  const TimerId first_new = next_timer;  // a timer that a callback starts waits for the next round
  auto next = timers.begin();
  while (!stopped && next != timers.end() && next->first.first <= now) {
    if (next->first.second >= first_new) {
      ++next;
      continue;
    }
    const auto callback = std::move(next->second);
    due_of_timer.erase(next->first.second);
    timers.erase(next);
    callback();
    next = timers.begin();  // the callback may have cancelled any of them
  }
}

void EventLoop::Impl::RunPosted() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t size = ::read(wake_up.get(), &count, sizeof count);
  std::vector<std::function<void()>> callbacks;
  {
    const std::lock_guard lock(mutex);
    callbacks.swap(posted);
  }
  // All of them, even after a Stop(): what was posted before it is not lost.
  for (const auto& callback : callbacks) callback();
}

void EventLoop::Impl::Dispatch(const epoll_event& event) {
  if (event.data.u64 == kWakeUp) return RunPosted();
  const auto found = watches.find(event.data.u64);
  if (found == watches.end()) return;  // unwatched by a callback of this batch
  const std::shared_ptr<Callback> callback = found->second.callback;
  (*callback)(event.events);
}

}  // namespace egress
