// NodePods: the governed pods of this node, from the object to the network namespace and its interface.
//
// Where the namespace is the pod's annotation says (manifests), or the node's PodLocator finds it (Kubernetes).
//
// A pod is governed from the moment that its namespace exists until its interface is gone, or, its object being gone,
// its path no longer leads to that namespace: the end of an object is not the end of the pod's processes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/event_loop.h"
#include "agent/node/link_monitor.h"
#include "agent/node/netns.h"
#include "agent/node/netns_path_watch.h"
#include "agent/node/pod_interface.h"
#include "agent/node/pod_locator.h"
#include "agent/policy/store.h"

namespace egress::agent {

struct NodePod {
  std::shared_ptr<const policy::Pod> object;
  node::PodInterface interface;
  std::shared_ptr<const Fd> netns;  // nullptr: let go, so that the namespace can end
  bool object_gone = false;
  std::string netns_path;
  std::string cgroup_path;     // empty where it is not known
  std::vector<Address> given;  // by the CNI or the API; empty: those of the interface count
  std::string conflict;        // why it cannot be told whether this is the pod's namespace; else empty
};

class NodePods {
 public:
  struct Callbacks {
    // A pod came, or something about its interface changed.
    std::function<void(const NodePod&)> present;
    // `over`: its interface is gone; otherwise it is not governed any more, and its connections go on.
    std::function<void(const NodePod&, bool over)> gone;
    // Its namespace has lost its path: every socket in there must be closed, or it never ends.
    std::function<void(const NodePod&)> release;
    // Something that an operator has to know.
    std::function<void(const std::string&)> problem;
  };

  // Without `folders` the pods' annotations name their namespaces and cgroups; with them nothing that a pod says counts.
  static Result<std::unique_ptr<NodePods>> Create(EventLoop& loop, Callbacks callbacks,
                                                  std::optional<node::PodLocator::Folders> folders = {});
  ~NodePods();

  // The pod's object as it is now; view.pod == nullptr: it is gone.
  void Update(const policy::ObjectId& id, const policy::Store::PodView& view);
  // A pod that an agent before this one governed and whose object is gone, or not known yet. Its interface is looked at.
  // With `path`, which leads to its namespace, it can be served http.
  void KeepLeftover(const policy::ObjectId& id, const policy::ServiceAccount& account,
                    const node::PodInterface& interface, const std::string& path = "");
  // It turns out that such a pod is not governed any more.
  void ForgetLeftover(std::uint64_t cookie) { Drop(cookie, false); }

  // What the chained CNI plugin says, from ADD to DEL (Kubernetes). A pod whose object is known already is present
  // when AddSandbox() returns, else as soon as Update() has told of it.
  void AddSandbox(const node::Sandbox& sandbox);
  void RemoveSandbox(const std::string& container_id);

  // The folder of the pod's cgroup, also of one that is not governed; empty where it is not known.
  std::string CgroupOf(const policy::Pod& pod) const;

  // The resolvers that its containers were given; empty where that is not known.
  std::vector<Address> ResolversOf(const policy::Pod& pod) const;

  bool IsPresent(const policy::ObjectId& id) { return FindByObject(id) != nullptr; }
  const std::map<std::uint64_t, NodePod>& present() const { return pods_; }
  // Governed pods whose namespace does not exist (yet), with the reason.
  const std::map<policy::ObjectId, std::string>& waiting() const { return waiting_; }

 private:
  NodePods(EventLoop& loop, Callbacks callbacks, node::NetnsPathWatch paths, node::LinkMonitor links,
           std::unique_ptr<node::PodLocator> locator);
  Result<void> Watch();
  Result<node::PodLocator::Place> Locate(const policy::Pod& object);
  node::PodLocator::Pod Describe(const policy::Pod& object) const;
  bool MayTake(const policy::Pod& object, std::uint64_t cookie) const;
  void WatchPath(const policy::ObjectId& id, const std::string& path);
  void UnwatchPath(const policy::ObjectId& id);
  void ForgetPath(const std::string& path);
  void LookAgain(const node::PodLocator::Changes& changes);
  void OnNode();
  void Resolve(const policy::ObjectId& id);
  void Look(NodePod& pod);
  void PresentIfChanged(const NodePod& before, const NodePod& now);
  void OnPaths();
  void OnNodeLinks();
  void OnPodLinks(std::uint64_t cookie);
  void OnInterfaceGone(std::uint64_t cookie);
  void Release(NodePod& pod);
  void Drop(std::uint64_t cookie, bool over);
  void WatchPodLinks(std::uint64_t cookie);
  void UnwatchPodLinks(std::uint64_t cookie);
  void KeepVisible(const NodePod& pod);
  NodePod* FindByObject(const policy::ObjectId& id);

  EventLoop& loop_;
  Callbacks callbacks_;
  node::NetnsPathWatch paths_;
  node::LinkMonitor links_;
  std::unique_ptr<node::PodLocator> locator_;                               // nullptr: annotations count
  std::map<policy::ObjectId, std::shared_ptr<const policy::Pod>> objects_;  // governed ones
  std::map<policy::ObjectId, std::string> watched_;                         // paths of their namespaces
  std::map<policy::ObjectId, std::string> waiting_;
  std::map<std::uint64_t, NodePod> pods_;  // by netns cookie
  std::map<std::uint64_t, std::unique_ptr<node::LinkMonitor>> pod_links_;
};

}  // namespace egress::agent
