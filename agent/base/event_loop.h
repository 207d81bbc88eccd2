// EventLoop: one thread's epoll, with timers and a way in from other threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "agent/base/result.h"

namespace egress {

class EventLoop {
 public:
  using Callback = std::function<void(std::uint32_t events)>;  // EPOLLIN ...
  using TimerId = std::uint64_t;

  static Result<EventLoop> Create();
  EventLoop(EventLoop&&) noexcept;
  EventLoop& operator=(EventLoop&&) noexcept;
  ~EventLoop();

  // Watches `fd` (level-triggered unless `events` holds EPOLLET). The fd stays the caller's; Unwatch() before close.
  // A callback may watch and unwatch anything, also itself.
  Result<void> Watch(int fd, std::uint32_t events, Callback callback);
  Result<void> Modify(int fd, std::uint32_t events);
  void Unwatch(int fd);

  // Runs `callback` once after `delay`. Cancel() of a timer that has fired does nothing.
  TimerId After(std::chrono::milliseconds delay, std::function<void()> callback);
  void Cancel(TimerId timer);

  // Runs `callback` in the loop's thread as soon as possible. The only call that other threads may make.
  void Post(std::function<void()> callback);

  // Until Stop().
  void Run();
  void Stop();

 private:
  EventLoop();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace egress
