// PodTable: the governed pods -> the maps pods, states, interfaces and inbound.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <set>
#include <string>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"
#include "agent/datapath/kernel_object.h"
#include "agent/policy/model.h"

namespace egress::datapath {

struct PodSpec {
  std::uint64_t cookie = 0;  // of its network namespace
  policy::ObjectId name;
  policy::ServiceAccount service_account;
  int host_ifindex = 0;  // 0: there is no interface to guard
  int netns_id = -1;
  std::array<std::uint8_t, 6> mac{};
  std::vector<Address> addresses;
  bool operator==(const PodSpec&) const = default;
};

// What is in force for a pod; one word in `states`.
struct PodMode {
  std::uint32_t ruleset = 0;  // 0: no rules, nothing but the mesh
  bool open = false;
  bool audit = false;
  bool unguarded = false;
};

// A connection that was opened towards the pod before it was governed. Ports in host order.
struct InboundFlow {
  Address local;
  std::uint16_t local_port = 0;
  Address remote;
  std::uint16_t remote_port = 0;
};

struct ProxyListeners {
  Address address4, address6;
  std::uint16_t port4 = 0;  // host order; 0: none
  std::uint16_t port6 = 0;
};

class PodTable {
 public:
  // Takes over the pods of an agent before this one, with their slots.
  static Result<std::unique_ptr<PodTable>> Open(const KernelObject& kernel);
  ~PodTable();
  PodTable(const PodTable&) = delete;
  PodTable& operator=(const PodTable&) = delete;

  // Makes the inbound records of several pods to come at once: the kernel waits for a grace period after each change of
  // that map, and Set() would once for each pod. What fails here, Set() does.
  void MakeInboundRecords(std::span<const std::uint64_t> cookies);
  // Adds or changes a pod. A new one is in force with `mode` the moment it is there.
  Result<void> Set(const PodSpec& pod, std::uint32_t generation, const PodMode& mode);
  // Switches what is in force for the pod, in one step for the kernel and the proxy.
  void Switch(std::uint64_t cookie, std::uint32_t generation, const PodMode& mode);
  Result<void> SetProxy(std::uint64_t cookie, const ProxyListeners& listeners);
  // For the boundary these came in. Meant for a pod that is not guarded yet.
  Result<void> RecordInbound(std::uint64_t cookie, const std::vector<InboundFlow>& flows);
  void Remove(std::uint64_t cookie);

  // The words of `states` once more, in memory that whoever gets this descriptor can map and not write: a BPF map
  // can be mapped only through a descriptor that may write it, and the proxy must not.
  int mirror() const { return mirror_.get(); }

  std::optional<std::uint32_t> SlotOf(std::uint64_t cookie) const;
  // Pods that an agent before this one has left and that were not Set() since.
  std::vector<PodSpec> Leftovers() const;

 private:
  struct Entry {
    std::uint32_t slot = 0;
    PodSpec spec;
    ProxyListeners proxy;
    bool ours = false;  // Set() by this agent
  };
  explicit PodTable(const KernelObject& kernel);
  Result<void> MakeMirror();
  void StoreWord(std::uint32_t slot, std::uint64_t word);
  Result<std::uint32_t> FreeSlot() const;
  Result<void> Write(const Entry& entry);

  const KernelObject& kernel_;
  BpfMap<std::uint64_t, struct pod> pods_map_;
  BpfMap<std::uint32_t, std::uint64_t> interfaces_map_;
  BpfMap<std::uint64_t, int> inbound_map_;
  std::map<std::uint64_t, Entry> pods_;
  std::set<std::uint32_t> slots_;
  Fd mirror_;
  char* mirrored_ = nullptr;  // mmapped
};

}  // namespace egress::datapath
