// ProxyProcess: starts egress-proxy, watches it, and feeds it: policy, pods with their listeners, upstream sockets.
//
// While there is no proxy, or it does not answer, no pod has a listener, and the kernel refuses http. TCP and TLS go on.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/base/event_loop.h"
#include "agent/proxy/channel.h"
#include "cmd/egressd/enforcer.h"
#include "cmd/egressd/node_pods.h"
#include "cmd/egressd/status.h"

namespace egress::agent {

class ProxyProcess {
 public:
  struct Callbacks {
    std::function<void(const nlohmann::json& counts)> requests;  // "counts" of the message `requests`
    std::function<void(const nlohmann::json& message)> events;
    std::function<void(const std::string&)> problem;
  };

  // `program` is the path of egress-proxy. Nothing is started yet.
  ProxyProcess(EventLoop& loop, Enforcer& enforcer, std::string program, std::string log_level, Callbacks callbacks);
  ~ProxyProcess();

  // Starts the proxy, and again whenever it ends.
  void Start();
  bool ready() const { return ready_; }

  // A pod has come or changed: it gets listeners on its addresses.
  void SetPod(const NodePod& pod);
  // `reset`: what is live is cut; otherwise it goes on.
  void RemovePod(std::uint64_t cookie, bool reset);

  // Hands over a change and waits until the proxy has taken it. A proxy that does not is ended.
  void Commit(std::uint32_t generation, const Enforcer::Documents& documents);

  // Ends the proxy: it drains for at most `seconds`.
  void Stop(int seconds);

  report::ProxyStatus Status() const;

 private:
  struct Pod {
    NodePod pod;
    datapath::ProxyListeners listeners;
    int retries = 0;
  };

  Result<void> Spawn();
  void SendAll();
  void SendPolicies(std::uint32_t generation, const Enforcer::Documents& documents);
  void SendPod(Pod& pod);
  Result<void> OfferListeners(Pod& pod);
  void OnChannel();
  void OnMessage(const proxy::Message& message);
  void OnWant(const nlohmann::json& body);
  void Send(const nlohmann::json& body, std::span<const int> fds = {});
  void Flush();
  void Down(const std::string& why);
  void Lost(const Error& error);
  std::string HowItEnded() const;
  void Reap();

  EventLoop& loop_;
  Enforcer& enforcer_;
  std::string program_;
  std::string log_level_;
  Callbacks callbacks_;
  std::unique_ptr<proxy::Channel> channel_;
  pid_t pid_ = 0;
  Fd pidfd_;
  int restarts_ = 0;
  int backoff_ms_ = 0;
  bool stopping_ = false;
  bool ready_ = false;
  std::uint32_t committed_ = 0;
  std::map<std::uint64_t, Pod> pods_;  // by netns cookie
  EventLoop::TimerId restart_timer_ = 0;
};

}  // namespace egress::agent
