// Proxy: the control thread. Takes the agent's messages (channel.h), owns workers, pods and policies, sends reports.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/proxy/accounts.h"
#include "agent/proxy/channel.h"
#include "agent/proxy/pod.h"
#include "agent/proxy/settings.h"
#include "agent/proxy/worker.h"

namespace egress::proxy {

class Proxy {
 public:
  // `lookup` replaces the look-up in the map `sockets`, which no test without a kernel program could fill.
  Proxy(const Settings& settings, Channel channel, OriginalLookup lookup = nullptr);
  ~Proxy();

  // Called once all threads run, and before anything of a pod is at hand; where it fails, so does Run().
  void set_before_ready(std::function<Result<void>()> call) { before_ready_ = std::move(call); }

  // Until the agent closes the channel, or a drain has ended. SIGTERM, read from `signal_fd` (a signalfd; -1: none),
  // drains for kTermSeconds.
  Result<void> Run(int signal_fd);
  static constexpr int kTermSeconds = 5;

 private:
  struct Want {
    std::uint32_t slot;
    SocketClass kind;
    std::uint32_t count;
  };

  Result<void> ReceiveAll();
  Result<void> Handle(Message message);
  Result<void> Start(std::vector<Fd> fds);
  Result<void> AddPod(const nlohmann::json& body, std::vector<Fd> fds);
  UpstreamSockets::Ask AskFor(std::uint32_t slot);
  void RemovePod(std::uint32_t slot, bool reset);
  void AddSockets(const nlohmann::json& body, std::vector<Fd> fds);
  void SetPolicy(const nlohmann::json& body);
  void Drain(std::chrono::seconds most);
  Result<void> SendWants();
  Result<void> SendReports();
  void Wake();
  int WaitMilliseconds(std::chrono::steady_clock::time_point now) const;
  std::size_t SessionCount() const;
  void StopWorkers();

  Settings settings_;
  Channel channel_;
  OriginalLookup lookup_;
  std::function<Result<void>()> before_ready_;
  Fd wake_;
  Fd sockets_map_;
  Accounts accounts_;
  std::map<std::uint32_t, std::shared_ptr<Pod>> pods_;
  std::unique_ptr<Environment> environment_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::thread> threads_;
  std::optional<std::chrono::steady_clock::time_point> drained_by_;
  std::chrono::steady_clock::time_point next_report_;
  bool reported_ = false;  // the last report had something to tell
  std::mutex wants_mutex_;
  std::vector<Want> wants_;
};

}  // namespace egress::proxy
