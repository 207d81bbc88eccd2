// Pages: GET /metrics, /healthz and /readyz over HTTP, for Prometheus and the kubelet.
//
// The server has threads of its own, but what it shows is asked in the thread of the agent's loop, so nothing of the
// agent needs a lock. Where the loop does not answer within 5 s the page is 503 and says so: an agent that hangs is
// not healthy.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "agent/base/event_loop.h"
#include "agent/base/result.h"

namespace egress::report {

// "127.0.0.1:9469", "[::1]:9469", "[::]:9469". The port may be 0: the kernel chooses one (Pages::port()).
struct ListenAddress {
  std::string host;  // without brackets
  int port = 0;
};
Result<ListenAddress> ParseListenAddress(const std::string& text);

class Pages {
 public:
  struct Handlers {
    std::function<std::string()> metrics;
    std::function<std::optional<std::string>()> healthz;  // nullopt: 200; else why not, and 503
    std::function<std::optional<std::string>()> readyz;
  };

  // Listens in the network namespace of the calling thread.
  static Result<Pages> Start(EventLoop& loop, const std::string& listen, Handlers handlers);

  // May be called in the loop's thread: requests that wait for the loop are answered 503.
  ~Pages();
  Pages(Pages&&) noexcept;
  Pages& operator=(Pages&&) noexcept;

  int port() const;

 private:
  struct Impl;
  explicit Pages(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace egress::report
