#include "cmd/egressd/node_pods.h"

#include <net/if.h>
#include <sys/epoll.h>

#include "agent/node/interface_guard.h"

namespace egress::agent {

Result<std::unique_ptr<NodePods>> NodePods::Create(EventLoop& loop, Callbacks callbacks) {
  auto paths = node::NetnsPathWatch::Create();
  if (!paths) return std::move(paths).error();
  auto links = node::LinkMonitor::Open();
  if (!links) return std::move(links).error();
  std::unique_ptr<NodePods> pods(
      new NodePods(loop, std::move(callbacks), *std::move(paths), *std::move(links)));
  if (auto done = pods->Watch(); !done) return std::move(done).error();
  return pods;
}

NodePods::NodePods(EventLoop& loop, Callbacks callbacks, node::NetnsPathWatch paths, node::LinkMonitor links)
    : loop_(loop), callbacks_(std::move(callbacks)), paths_(std::move(paths)), links_(std::move(links)) {}

NodePods::~NodePods() {
  loop_.Unwatch(paths_.fd());
  loop_.Unwatch(links_.fd());
  for (const auto& [cookie, monitor] : pod_links_) loop_.Unwatch(monitor->fd());
}

Result<void> NodePods::Watch() {
  if (auto done = loop_.Watch(paths_.fd(), EPOLLIN, [this](std::uint32_t) { OnPaths(); }); !done) return done;
  return loop_.Watch(links_.fd(), EPOLLIN, [this](std::uint32_t) { OnNodeLinks(); });
}

NodePod* NodePods::FindByObject(const policy::ObjectId& id) {
  for (auto& [cookie, pod] : pods_) {
    if (pod.object->id == id && !pod.object_gone) return &pod;
  }
  return nullptr;
}

void NodePods::Update(const policy::ObjectId& id, const policy::Store::PodView& view) {
  if (view.pod && view.governed) {
    const auto known = objects_.find(id);
    if (known != objects_.end() && known->second->netns_path != view.pod->netns_path) {
      paths_.Remove(known->second->netns_path);
    }
    objects_[id] = view.pod;
    Resolve(id);
    return;
  }
  const auto known = objects_.find(id);
  if (known == objects_.end()) return;
  NodePod* pod = FindByObject(id);
  waiting_.erase(id);
  if (view.pod) {  // not governed any more
    paths_.Remove(known->second->netns_path);
    objects_.erase(known);
    if (pod != nullptr) Drop(pod->interface.cookie, false);
    return;
  }
  const std::string path = known->second->netns_path;
  objects_.erase(known);
  if (pod == nullptr) {
    paths_.Remove(path);
    return;
  }
  pod->object_gone = true;
  if (pod->netns && !node::SameNetns(path, *pod->netns)) Release(*pod);
}

void NodePods::KeepLeftover(const policy::ObjectId& id, const policy::ServiceAccount& account,
                            const node::PodInterface& interface) {
  auto object = std::make_shared<policy::Pod>();
  object->id = id;
  object->service_account = account;
  NodePod& pod = pods_[interface.cookie];
  pod = {std::move(object), interface, nullptr, true};
  callbacks_.present(pod);
}

void NodePods::Resolve(const policy::ObjectId& id) {
  const auto object = objects_.at(id);
  const std::string& path = object->netns_path;
  if (path.empty()) {
    waiting_[id] = "the annotation egressd.io/netns is missing";
    return;
  }
  if (auto done = paths_.Add(path); !done) callbacks_.problem("watch " + path + ": " + done.error().message);
  auto netns = node::OpenNetns(path);
  auto cookie = netns ? node::NetnsCookie(*netns) : Result<std::uint64_t>(netns.error());
  NodePod* before = FindByObject(id);
  if (before != nullptr && (!cookie || *cookie != before->interface.cookie)) {
    before->object_gone = true;  // the namespace it had stays governed until it ends
    Release(*before);
  }
  if (!cookie) {
    waiting_[id] = cookie.error().message;
    return;
  }
  waiting_.erase(id);
  NodePod& pod = pods_[*cookie];
  pod.object = object;
  pod.object_gone = false;
  if (!pod.netns) {
    pod.netns = std::make_shared<const Fd>(*std::move(netns));
    WatchPodLinks(*cookie);
  }
  pod.interface.cookie = *cookie;
  Look(pod);
  callbacks_.present(pod);
}

// What was there when the pod was first seen stays its own: a MAC or address that it gives itself later is not.
void NodePods::Look(NodePod& pod) {
  auto found = node::FindPodInterface(*pod.netns, pod.object->addresses);
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
    if (pod.object->addresses.empty()) pod.interface.addresses = before.addresses;
  }
  if (pod.interface.host_ifindex == 0 && before.host_ifindex != 0) {
    pod.interface.host_ifindex = before.host_ifindex;  // still guarded there, whatever else the pod has now
    pod.interface.host_name = before.host_name;
    char name[IF_NAMESIZE];
    if (::if_indextoname(static_cast<unsigned>(before.host_ifindex), name) == nullptr) pod.interface.host_ifindex = 0;
  }
  KeepVisible(pod);
}

void NodePods::KeepVisible(const NodePod& pod) {
  if (pod.interface.host_ifindex == 0) return;
  const auto report = node::KeepSocketsVisible(pod.interface.host_ifindex);
  const std::string who = pod.object->id.ToString() + " (" + pod.interface.host_name + ")";
  if (!report) {
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

void NodePods::OnPodLinks(std::uint64_t cookie) {
  const auto changes = pod_links_.at(cookie)->Poll();
  if (!changes) callbacks_.problem("links of a pod: " + changes.error().message);
  NodePod& pod = pods_.at(cookie);
  const node::PodInterface before = pod.interface;
  Look(pod);
  const node::PodInterface& now = pod.interface;
  if (before.guarded != now.guarded || before.host_ifindex != now.host_ifindex || before.mac != now.mac ||
      before.addresses != now.addresses || before.why_unguarded != now.why_unguarded) {
    callbacks_.present(pod);
  }
}

void NodePods::OnPaths() {
  for (const std::string& path : paths_.Poll()) {
    std::vector<policy::ObjectId> ids;
    for (const auto& [id, object] : objects_) {
      if (object->netns_path == path) ids.push_back(id);
    }
    for (const auto& id : ids) Resolve(id);
    for (auto& [cookie, pod] : pods_) {
      if (pod.object_gone && pod.netns && pod.object->netns_path == path && !node::SameNetns(path, *pod.netns)) {
        Release(pod);
        break;  // Release may drop it
      }
    }
    if (ids.empty()) paths_.Remove(path);
  }
}

void NodePods::OnNodeLinks() {
  const auto changes = links_.Poll();
  if (!changes) {
    callbacks_.problem("links of the node: " + changes.error().message);
    return;
  }
  std::set<std::uint64_t> over;
  for (const auto& [cookie, pod] : pods_) {
    if (pod.interface.host_ifindex == 0) continue;
    bool removed = false;
    for (const auto& link : changes->links) {
      if (link.ifindex != pod.interface.host_ifindex) continue;
      removed = link.removed;
      if (!link.removed) KeepVisible(pod);
    }
    char name[IF_NAMESIZE];
    if (changes->resync) {
      removed = ::if_indextoname(static_cast<unsigned>(pod.interface.host_ifindex), name) == nullptr;
    }
    if (removed) over.insert(cookie);
  }
  for (const std::uint64_t cookie : over) OnInterfaceGone(cookie);
}

void NodePods::OnInterfaceGone(std::uint64_t cookie) {
  NodePod& pod = pods_.at(cookie);
  if (pod.object_gone || !pod.netns || !node::SameNetns(pod.object->netns_path, *pod.netns)) {
    Drop(cookie, true);
    return;
  }
  pod.interface.host_ifindex = 0;  // the namespace lives on, without a way out that could be guarded
  Look(pod);
  callbacks_.present(pod);
}

void NodePods::Release(NodePod& pod) {
  const std::uint64_t cookie = pod.interface.cookie;
  callbacks_.release(pod);
  if (const auto monitor = pod_links_.find(cookie); monitor != pod_links_.end()) {
    loop_.Unwatch(monitor->second->fd());
    pod_links_.erase(monitor);
  }
  pod.netns.reset();
  char name[IF_NAMESIZE];
  if (pod.interface.host_ifindex == 0 ||
      ::if_indextoname(static_cast<unsigned>(pod.interface.host_ifindex), name) == nullptr) {
    Drop(cookie, true);
  }
}

void NodePods::Drop(std::uint64_t cookie, bool over) {
  const auto known = pods_.find(cookie);
  if (known == pods_.end()) return;
  const NodePod pod = std::move(known->second);
  pods_.erase(known);
  if (const auto monitor = pod_links_.find(cookie); monitor != pod_links_.end()) {
    loop_.Unwatch(monitor->second->fd());
    pod_links_.erase(monitor);
  }
  callbacks_.gone(pod, over);
}

}  // namespace egress::agent
