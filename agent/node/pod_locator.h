// PodLocator: from a pod of the Kubernetes API to its cgroup and network namespace on this node.
//
// Three sources tell of the namespace, and the first that speaks decides:
//
// 1. the CNI: what the chained plugin says, and libcni's cache, in which the runtime keeps the same for every sandbox. Both
//    name the pod's UID and the path of the namespace before the first container starts. Nothing of it comes from a pod.
// 2. the processes in the pod's cgroup, where this process sees them: with the pid namespace of the node (hostPID) and
//    CAP_SYS_PTRACE. Neither is needed where one of the others speaks.
// 3. the addresses of status.podIPs, looked for among the namespaces that are bound in /run/netns: for a pod that neither
//    of the others knows. The API names them some time after the pod has started.
//
// So without hostPID the agent needs the node's /run/netns (mount propagation HostToContainer) and /var/lib/cni, both to
// read. Where two sources speak they have to agree: a pod about which they do not reaches nothing but the mesh.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/node/netns_folder.h"
#include "agent/node/pod_cgroups.h"
#include "agent/node/sandbox.h"
#include "agent/node/sandbox_cache.h"

namespace egress::node {

class PodLocator {
 public:
  struct Folders {
    std::string cgroup2_root;
    std::string netns = "/run/netns";
    std::string sandboxes = "/var/lib/cni/results";
    std::string proc = "/proc";
  };
  // The caller's network namespace is the node's.
  static Result<std::unique_ptr<PodLocator>> Open(Folders folders);

  struct Pod {
    std::string ns;
    std::string name;
    std::string uid;
    std::string static_uid;  // of the static pod whose mirror this is; its cgroup and sandbox bear it. Else empty
    std::vector<Address> addresses;
  };
  struct Place {
    std::shared_ptr<const Fd> netns;
    std::string path;                // that leads there
    std::string cgroup;              // folder; empty where there is none (yet)
    std::vector<Address> addresses;  // those that the CNI gave
    std::string conflict;            // in words: the sources do not agree, or it cannot be told which one is the pod's
  };
  // `taken` says whether the namespace of a cookie is that of another pod. The error says what is missing.
  Result<Place> Find(const Pod& pod, const std::function<bool(std::uint64_t cookie)>& taken);
  // The folder of its cgroup; empty where there is none.
  std::string CgroupOf(const Pod& pod) const;

  // The resolvers that its containers were given; empty where nobody says.
  std::vector<Address> ResolversOf(const Pod& pod) const;

  // The chained plugin's word, from ADD until DEL. Tell the pod's own Find() afterwards.
  void AddSandbox(const Sandbox& sandbox);
  void RemoveSandbox(const std::string& container_id);

  // Readable when Poll() may have something to tell.
  int fd() const { return epoll_.get(); }

  // Pods about which something has changed on the node: look for them again.
  struct Changes {
    std::set<std::string> uids;
    std::set<std::pair<std::string, std::string>> names;  // namespace, name
    std::vector<std::string> problems;                    // in words, for an operator
    bool Concern(const Pod& pod) const;
  };
  Changes Poll();

 private:
  struct Told {
    Sandbox sandbox;
    std::int64_t at_ns = 0;  // since 1970
  };

  PodLocator(Folders folders, Fd node, PodCgroups cgroups, SandboxCache cache);
  const Sandbox* SandboxOf(const Pod& pod) const;
  std::string LocalPath(const std::string& path) const;
  std::vector<std::string> CgroupsOf(const Pod& pod) const;
  Result<Place> FindBySandbox(const Sandbox& sandbox) const;
  Result<Place> FindByAddress(const Pod& pod, const std::function<bool(std::uint64_t cookie)>& taken);

  Folders folders_;
  Fd node_;
  PodCgroups cgroups_;
  SandboxCache cache_;
  NetnsFolder bound_;
  std::map<std::string, Told> told_;  // by container id
  Fd epoll_;
};

}  // namespace egress::node
