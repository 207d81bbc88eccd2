// KernelObject: the loaded BPF object and its maps. Takes over pinned maps of an agent before this one.
//
// Programs are loaded against the pinned maps where their layout is the one of this build. A map whose layout differs is
// made anew: what cannot be compiled again is moved into it, the rest is filled as at a first start, and it takes the
// pin's place when Publish() is called. Until this agent's programs are attached those of the agent before go on with
// their own maps, which nobody touches any more. The sockets' storage never changes its layout (egress.h: append only),
// since what it holds of live connections could not be found out again.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/datapath/bpf_map.h"
#include "bpf/egress.h"

struct egress_bpf;
struct bpf_program;

namespace egress::datapath {

class KernelObject {
 public:
  // `bpffs` is the folder of the pins; made if it is not there. Explains what a kernel, mount or privilege lacks.
  static Result<std::unique_ptr<KernelObject>> Load(const std::string& bpffs);
  ~KernelObject();
  KernelObject(const KernelObject&) = delete;
  KernelObject& operator=(const KernelObject&) = delete;

  // Pins the maps that were made anew, in the place of those of another layout.
  Result<void> Publish();

  const std::string& bpffs() const { return bpffs_; }
  // The maps of policy are not those that the programs attached now read: all must be in force in them before this
  // object's programs take their place.
  bool policy_replaced() const { return policy_replaced_; }

  egress_bpf* skeleton() const { return skeleton_; }
  bpf_program* FindProgram(const char* name) const;
  int MapFd(const char* name) const;
  template <typename Key, typename Value>
  BpfMap<Key, Value> Map(const char* name) const {
    return BpfMap<Key, Value>(MapFd(name), name);
  }
  // A descriptor of a map that can only be read, for the proxy.
  Result<Fd> ReadOnlyMap(const char* name) const;

  // One word per slot, shared with the kernel: see struct pod_state.
  static constexpr std::size_t kStateStride = (sizeof(pod_state) + 7) / 8 * 8;  // arrays round up to 8 bytes
  struct pod_state* State(std::uint32_t slot) const;
  // Shared with the kernel.
  egress_config* config() const { return config_; }

  // An LRU for what comes in to one pod, to be put into `inbound`.
  Result<Fd> MakeInboundMap() const;

 private:
  explicit KernelObject(std::string bpffs);
  Result<void> OpenAndLoad();
  Result<void> ReusePins();
  Result<void> ComparePins(std::map<std::string, Fd>& pins);
  Result<void> MigrateKept();
  Result<void> MapShared();
  void InitializeConfig();

  std::string bpffs_;
  egress_bpf* skeleton_ = nullptr;
  std::vector<std::string> replaced_;   // maps whose layout has changed
  std::map<std::string, Fd> previous_;  // of those that are to be moved
  bool policy_replaced_ = false;
  std::vector<std::string> unpinned_;  // maps without a pin of their own yet
  char* states_ = nullptr;             // mmapped
  egress_config* config_ = nullptr;    // mmapped
};

// Takes away all pins below `bpffs`, programs first, so that nothing is left to judge by maps that are gone.
Result<void> RemovePins(const std::string& bpffs);

}  // namespace egress::datapath
