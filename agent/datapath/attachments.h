// Attachments: which programs are attached where. Links are pinned, so they outlive the agent; a new agent replaces
// the program of a link in one step, so there is no moment without.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/kernel_object.h"

namespace egress::datapath {

class Attachments {
 public:
  explicit Attachments(const KernelObject& kernel) : kernel_(kernel) {}

  // The socket programs, at each of `cgroups` (directories of a cgroup2): --cgroup-root, and the agent's own, where
  // it is not below: there the proxy's sockets are made.
  Result<void> AttachSockets(const std::vector<std::string>& cgroups);

  // The boundary, in both directions, at the node's side of a pod's veth: tcx, or clsact where there is no tcx.
  Result<void> Guard(int host_ifindex, const std::string& host_name);
  bool Guards(int host_ifindex) const { return guarded_.contains(host_ifindex); }
  // The interface is gone, or its pod is not governed any more.
  void Unguard(int host_ifindex);
  // Looks whether all is attached as it was, the boundary first in its chain, and puts it right: the kernel makes no event of
  // such a change. What was wrong, in words; in that time frames may have left unjudged.
  std::vector<std::string> Repair();
  // Takes away what an agent before this one has left on interfaces that are not guarded now.
  void SweepForeign();

  bool uses_tcx() const { return tcx_; }
  // (program, where), for `egressctl status`.
  std::vector<std::pair<std::string, std::string>> List() const;

 private:
  Result<void> AttachToCgroup(const char* program, const std::string& cgroup, const std::string& pin);
  Result<bool> UpdatePinned(const char* program, const std::string& pin, std::uint64_t cgroup_id);
  Result<void> AttachTcx(const char* program, int ifindex, int attach_type);
  Result<void> AttachClsact(const char* program, int ifindex, bool egress);
  std::string Fault(const char* program, int ifindex, bool egress);
  Result<void> MoveToFront(const char* program, int ifindex, bool egress);
  bool SocketsAttached() const;
  std::string TcPin(const char* program, int ifindex) const {
    return LinkPath("tc-" + std::to_string(ifindex) + "-" + program);
  }
  std::string LinkPath(const std::string& name) const { return kernel_.bpffs() + "/links/" + name; }

  const KernelObject& kernel_;
  bool tcx_ = true;
  std::vector<std::string> cgroups_;
  std::set<std::string> socket_pins_;  // of the links to them
  std::map<int, std::string> guarded_;
  std::map<std::pair<int, bool>, __u32> first_links_;  // (interface, egress) -> our link, once seen to be the first
};

// Takes the boundary off interfaces that carry it by clsact, which has no pins; for --uninstall.
void RemoveClsactFilters();

}  // namespace egress::datapath
