// A proxy in this process, over loopback: the test is the agent (on the other end of a real channel), the client and
// the origin, step by step in one thread. What only the kernel knows, an accepted connection's original destination,
// is a value here.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/base/fd.h"
#include "agent/proxy/channel.h"
#include "agent/proxy/proxy.h"

namespace egress::proxy {

// A blocking TCP connection; every wait ends after kPatience at the latest.
class Peer {
 public:
  static constexpr int kPatience = 5;  // seconds

  Peer() = default;
  explicit Peer(Fd fd);
  bool valid() const { return fd_.valid(); }
  int fd() const { return fd_.get(); }

  bool Send(std::string_view bytes);  // false: the other side does not take them
  // Exactly `count` bytes, or what came before the end.
  std::string Read(std::size_t count);
  // Up to and including `mark`.
  std::string ReadUntil(std::string_view mark);
  std::string ReadHead() { return ReadUntil("\r\n\r\n"); }
  // A response: its head, and as many bytes of body as Content-Length says.
  std::string ReadResponse(bool to_head = false);
  enum class Ending { kNone, kFin, kReset };
  // Drops what still comes and says how the connection ends; kNone after kPatience.
  Ending ReadEnding();
  bool Silent(int milliseconds);  // nothing comes, not even an end
  void EndWriting();
  void Reset();
  void Close() { fd_.Reset(); }

 private:
  bool Fill();

  Fd fd_;
  std::string read_;
  bool reset_ = false;
};

class World {
 public:
  explicit World(Settings settings = FastSettings());
  ~World();
  static Settings FastSettings();  // ticks of 20 ms

  static constexpr std::uint32_t kSlot = 7;

  // ---- The agent ----
  void Send(const nlohmann::json& message, std::vector<Fd> fds = {});
  // Replaces the policy NS/NAME "curl/NAME" from `generation` on, and waits until it is committed.
  void SetPolicy(const std::string& name, std::uint32_t generation, const nlohmann::json& changes = {});
  void RemovePolicy(const std::string& name, std::uint32_t generation);
  void Commit(std::uint32_t generation);
  enum Flags { kGoverned = 1, kOpen = 2, kAudit = 4 };
  void Flip(std::uint32_t generation, int flags = kGoverned);  // the word in `states`
  void RemovePod(bool reset);
  // Waits for a message of that type that fits, and takes it.
  std::optional<nlohmann::json> Await(const std::string& type);
  // Counts of `requests` messages so far, waiting until `wanted` requests of {code, verdict, reason} were counted.
  bool AwaitCount(int code, const std::string& verdict, const std::string& reason, std::uint64_t wanted);
  std::optional<nlohmann::json> AwaitEvent(const std::string& verdict, const std::string& reason);
  bool AwaitEnd();  // the proxy's Run() has returned
  std::atomic<bool> supplies_sockets{true};
  std::atomic<bool> keeps_sockets{false};  // the agent does not close its own descriptors of them

  // ---- The client and the origin ----
  Peer Connect();
  Peer Accept();
  bool NoConnection(int milliseconds);  // nobody connects to the origin
  std::uint16_t origin_port() const { return origin_port_; }
  void CloseOrigin() { origin_.Reset(); }
  std::atomic<int> protocols{EGRESS_HTTP};
  std::atomic<bool> known{true};  // the kernel has noted the connections

 private:
  void RunAgent();
  void OnMessage(Message message);

  Fd origin_;
  std::uint16_t origin_port_ = 0;
  std::uint16_t listener_port_ = 0;
  Fd states_;
  char* state_memory_ = nullptr;
  std::unique_ptr<Channel> channel_;
  std::mutex channel_mutex_;
  std::unique_ptr<Proxy> proxy_;
  std::thread proxy_thread_;
  std::thread agent_thread_;
  Fd stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<nlohmann::json> messages_;
  std::vector<nlohmann::json> events_;
  std::map<std::string, std::uint64_t> counts_;
  bool ended_ = false;
  std::vector<Fd> kept_;  // the agent's thread
};

}  // namespace egress::proxy
