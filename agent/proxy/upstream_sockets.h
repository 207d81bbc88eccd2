// The sockets that the agent made in a pod's network namespace: the only ones that may go out for that pod.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "agent/base/fd.h"

namespace egress::proxy {

// Which rules judge an upstream socket, and its family.
struct SocketClass {
  bool tls = false;
  bool v6 = false;
  std::size_t index() const { return (tls ? 2U : 0U) + (v6 ? 1U : 0U); }
};

// Unconnected sockets of one pod. Thread-safe.
class UpstreamSockets {
 public:
  static constexpr std::uint32_t kBatch = 16;          // asked for at a time
  static constexpr std::size_t kLow = 6;               // asked for again when no more are left
  static constexpr std::chrono::seconds kPatience{1};  // for an answer; then it is asked for once more

  // `ask` is called, from any thread, where more sockets are needed.
  using Ask = std::function<void(SocketClass, std::uint32_t count)>;
  explicit UpstreamSockets(Ask ask) : ask_(std::move(ask)) {}

  // One socket, or an invalid Fd; then `waiter` is called once sockets arrive (only once, however often it asked).
  // An answer without sockets wakes nobody: who waits asks again in its own time.
  using Waiter = std::function<void()>;
  Fd Take(SocketClass kind, const void* who, const Waiter& waiter);
  void Add(SocketClass kind, std::vector<Fd> sockets);
  // Asks for a batch where there is none and none is under way, so that it is there when it is needed.
  void Prepare(SocketClass kind);
  // Closes all and takes no more.
  void Close();

 private:
  struct Shelf {
    std::vector<Fd> sockets;
    std::chrono::steady_clock::time_point asked_at;
    bool under_way = false;
    std::vector<std::pair<const void*, Waiter>> waiters;
  };
  std::uint32_t Missing(Shelf* shelf) const;  // how many to ask for now

  Ask ask_;
  std::mutex mutex_;
  std::array<Shelf, 4> shelves_;
  bool closed_ = false;
};

}  // namespace egress::proxy
