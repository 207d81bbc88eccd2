// NodePods: the interfaces of the pods that are present, as they change.
#include <sys/epoll.h>

#include "agent/base/link_name.h"
#include "agent/node/interface_guard.h"
#include "cmd/egressd/node_pods.h"

namespace egress::agent {

// What was there when the pod was first seen stays its own: a MAC or address that it gives itself later is not.
void NodePods::Look(NodePod& pod) {
  auto found = node::FindPodInterface(*pod.netns, pod.given);
  if (!found) {
    pod.interface.guarded = false;
    pod.interface.why_unguarded = found.error().message;
    return;
  }
  const node::PodInterface before = pod.interface;
  const std::uint64_t cookie = pod.interface.cookie;
  pod.interface = *std::move(found);
  pod.interface.cookie = cookie;
  if (before.host_ifindex != 0 && before.host_ifindex == pod.interface.host_ifindex) {
    pod.interface.mac = before.mac;
    if (pod.given.empty()) pod.interface.addresses = before.addresses;
  }
  if (pod.interface.host_ifindex == 0 && before.host_ifindex != 0) {
    pod.interface.host_ifindex = before.host_ifindex;  // still guarded there, whatever else the pod has now
    pod.interface.host_name = before.host_name;
    if (LinkName(before.host_ifindex).empty()) pod.interface.host_ifindex = 0;
  }
  if (!pod.conflict.empty()) {
    pod.interface.guarded = false;
    pod.interface.why_unguarded = pod.conflict;
  }
  KeepVisible(pod);
}

void NodePods::KeepVisible(const NodePod& pod) {
  if (pod.interface.host_ifindex == 0) return;
  const auto report = node::KeepSocketsVisible(pod.interface.host_ifindex);
  const std::string who = pod.object->id.ToString() + " (" + pod.interface.host_name + ")";
  if (!report) {
    if (LinkName(pod.interface.host_ifindex).empty()) return;  // on its way out: the next event says so
    callbacks_.problem(who + ": " + report.error().message);
  } else if (!report->fault.empty()) {
    callbacks_.problem(who + ": " + report->fault);
  }
}

void NodePods::WatchPodLinks(std::uint64_t cookie) {
  auto monitor = node::LinkMonitor::OpenIn(*pods_.at(cookie).netns);
  if (!monitor) {
    callbacks_.problem(pods_.at(cookie).object->id.ToString() + ": watch links: " + monitor.error().message);
    return;
  }
  auto owned = std::make_unique<node::LinkMonitor>(*std::move(monitor));
  const int fd = owned->fd();
  pod_links_[cookie] = std::move(owned);
  if (auto done = loop_.Watch(fd, EPOLLIN, [this, cookie](std::uint32_t) { OnPodLinks(cookie); }); !done) {
    callbacks_.problem("watch links: " + done.error().message);
  }
}

void NodePods::UnwatchPodLinks(std::uint64_t cookie) {
  const auto monitor = pod_links_.find(cookie);
  if (monitor == pod_links_.end()) return;
  loop_.Unwatch(monitor->second->fd());
  pod_links_.erase(monitor);
}

void NodePods::OnPodLinks(std::uint64_t cookie) {
  const auto changes = pod_links_.at(cookie)->Poll();
  if (!changes) callbacks_.problem("links of a pod: " + changes.error().message);
  NodePod& pod = pods_.at(cookie);
  const node::PodInterface before = pod.interface;
  Look(pod);
  if (before != pod.interface) callbacks_.present(pod);
}

void NodePods::OnNodeLinks() {
  const auto changes = links_.Poll();
  if (!changes) {
    callbacks_.problem("links of the node: " + changes.error().message);
    return;
  }
  std::map<int, bool> last;  // of each link: whether it is removed
  for (const auto& link : changes->links) last[link.ifindex] = link.removed;
  std::set<std::uint64_t> over;
  for (const auto& [cookie, pod] : pods_) {
    if (pod.interface.host_ifindex == 0) continue;
    const auto change = last.find(pod.interface.host_ifindex);
    bool removed = change != last.end() && change->second;
    if (change != last.end() && !removed) KeepVisible(pod);
    if (changes->resync) removed = LinkName(pod.interface.host_ifindex).empty();
    if (removed) over.insert(cookie);
  }
  for (const std::uint64_t cookie : over) OnInterfaceGone(cookie);
}

void NodePods::OnInterfaceGone(std::uint64_t cookie) {
  NodePod& pod = pods_.at(cookie);
  if (pod.object_gone || !pod.netns || !node::SameNetns(pod.netns_path, *pod.netns)) {
    Drop(cookie, true);
    return;
  }
  pod.interface.host_ifindex = 0;  // the namespace lives on, without a way out that could be guarded
  Look(pod);
  callbacks_.present(pod);
}

}  // namespace egress::agent
