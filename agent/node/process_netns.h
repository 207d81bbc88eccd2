// From the cgroup of a pod to the network namespaces of its processes.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::node {

struct ProcessNetns {
  std::shared_ptr<const Fd> netns;
  std::string path;  // /proc/PID/ns/net of a process in it: good while that one lives, so `netns` is what counts
};

struct PodProcesses {
  std::vector<ProcessNetns> namespaces;  // different ones; without the node's own
  bool in_node_netns = false;            // a process works in the node's namespace: hostNetwork, or not set up yet
  bool hidden = false;                   // there are processes that this pid namespace does not see
};

// Looks at the processes in the containers of a pod, whose cgroup `folders` are given, a few of each cgroup: the
// containers of a pod share a namespace, and what a container makes for itself is nested in there. `node` is the
// node's namespace, `proc` a mounted procfs.
//
// A pid stands for a process only while that lives: each is looked up in the same cgroup again once its namespace is open.
// Needs the pid namespace of the node (hostPID) and CAP_SYS_PTRACE; without the first `hidden` is set, and the pod's
// namespace has to be known from what the container runtime or the CNI plugin says.
PodProcesses ProcessesOf(std::span<const std::string> folders, const Fd& node, const std::string& proc = "/proc");

// Are the two the same namespace?
bool IsSameNetns(const Fd& a, const Fd& b);

}  // namespace egress::node
