// GuardedPod: one pod behind a veth in namespaces of its own, and the boundary's programs run on frames of the test's
// choice (BPF_PROG_TEST_RUN).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>

#include "agent/datapath/network_sync.h"
#include "agent/datapath/pod_table.h"
#include "agent/datapath/rule_sync.h"
#include "tests/e2e/node_world.h"
#include "tests/support/packet.h"

struct bpf_program;

namespace egress::test {

inline constexpr Mac kPodMac{2, 0, 0, 0, 0, 7};
inline constexpr Mac kNodeMac{2, 0, 0, 0, 0, 1};
inline constexpr const char* kServiceAccount = "sa";

// What became of a frame: the action of the program, and the frame as it left it.
struct Outcome {
  int action = 0;
  Bytes frame;
  bool passed() const { return action == -1; }   // TC_ACT_UNSPEC: on to the next program
  bool dropped() const { return action == 2; }   // TC_ACT_SHOT
  bool answered() const { return action == 7; }  // TC_ACT_REDIRECT: sent back into the pod
};

// Protocol, verdict, reason, as in struct stat_key.
using Told = std::map<std::tuple<int, int, int>, std::uint64_t>;

class GuardedPod {
 public:
  static Result<std::unique_ptr<GuardedPod>> Make();
  ~GuardedPod();
  GuardedPod(const GuardedPod&) = delete;
  GuardedPod& operator=(const GuardedPod&) = delete;

  // The pod's addresses; of the family of `other`.
  static Address Own(const Address& other);
  // A packet of the pod to `destination`, from the pod's address and MAC.
  static Packet To(const Address& destination, std::uint8_t protocol);

  Outcome Leave(const Bytes& frame) { return Run(kernel_->FindProgram("from_pod"), ifindex_, frame); }
  Outcome Enter(const Bytes& frame) { return Run(kernel_->FindProgram("to_pod"), ifindex_, frame); }
  // As if the frame were on another interface, which must be there.
  Outcome LeaveOn(int ifindex, const Bytes& frame) { return Run(kernel_->FindProgram("from_pod"), ifindex, frame); }
  Outcome Run(const bpf_program* program, int ifindex, const Bytes& frame);

  // Counters that have grown since the last call.
  Told TakeTold();

  // What is in force for the pod from now on.
  void SetMode(datapath::PodMode mode);
  Result<void> SetNetwork(const policy::NetworkPolicy& network);
  Result<void> SetPolicies(const std::vector<policy::PolicyPtr>& policies);
  Result<void> SetProxyPorts(std::uint16_t port4, std::uint16_t port6);

  node::World& world() { return world_; }
  datapath::KernelObject& kernel() { return *kernel_; }
  const datapath::RuleSync& rules() const { return *rules_; }
  std::uint64_t cookie() const { return spec_.cookie; }
  std::uint32_t slot() const { return *table_->SlotOf(spec_.cookie); }
  std::uint32_t generation() const { return generation_; }
  int ifindex() const { return ifindex_; }

 private:
  GuardedPod() = default;
  Result<void> Load();

  node::World world_;
  std::string bpffs_;
  int ifindex_ = 0;
  std::unique_ptr<datapath::KernelObject> kernel_;
  std::unique_ptr<datapath::RuleSync> rules_;
  std::unique_ptr<datapath::NetworkSync> networks_;
  std::unique_ptr<datapath::PodTable> table_;
  datapath::PodSpec spec_;
  datapath::PodMode mode_;
  std::uint32_t generation_ = 1;
  Told told_;
};

// Addresses of this world. Mesh: 10/8 and fd00::/8; excluded: 198.51.100/24 and 2001:db8:e::/48; all else is outside.
struct Place {
  const char* family;
  Address mesh, excluded, outside, dns;
};
const std::array<Place, 2>& Places();
policy::NetworkPolicy PlainNetwork();

}  // namespace egress::test
