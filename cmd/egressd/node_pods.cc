#include "cmd/egressd/node_pods.h"

#include <sys/epoll.h>

#include <algorithm>

#include "agent/base/link_name.h"

namespace egress::agent {

Result<std::unique_ptr<NodePods>> NodePods::Create(EventLoop& loop, Callbacks callbacks,
                                                   std::optional<node::PodLocator::Folders> folders) {
  auto paths = node::NetnsPathWatch::Create();
  if (!paths) return std::move(paths).error();
  auto links = node::LinkMonitor::Open();
  if (!links) return std::move(links).error();
  std::unique_ptr<node::PodLocator> locator;
  if (folders) {
    auto opened = node::PodLocator::Open(*std::move(folders));
    if (!opened) return std::move(opened).error();
    locator = *std::move(opened);
  }
  std::unique_ptr<NodePods> pods(
      new NodePods(loop, std::move(callbacks), *std::move(paths), *std::move(links), std::move(locator)));
  if (auto done = pods->Watch(); !done) return std::move(done).error();
  return pods;
}

NodePods::NodePods(EventLoop& loop, Callbacks callbacks, node::NetnsPathWatch paths, node::LinkMonitor links,
                   std::unique_ptr<node::PodLocator> locator)
    : loop_(loop),
      callbacks_(std::move(callbacks)),
      paths_(std::move(paths)),
      links_(std::move(links)),
      locator_(std::move(locator)) {}

NodePods::~NodePods() {
  loop_.Unwatch(paths_.fd());
  loop_.Unwatch(links_.fd());
  if (locator_) loop_.Unwatch(locator_->fd());
  for (const auto& [cookie, monitor] : pod_links_) loop_.Unwatch(monitor->fd());
}

Result<void> NodePods::Watch() {
  if (auto done = loop_.Watch(paths_.fd(), EPOLLIN, [this](std::uint32_t) { OnPaths(); }); !done) return done;
  if (auto done = loop_.Watch(links_.fd(), EPOLLIN, [this](std::uint32_t) { OnNodeLinks(); }); !done) return done;
  if (!locator_) return {};
  return loop_.Watch(locator_->fd(), EPOLLIN, [this](std::uint32_t) { OnNode(); });
}

NodePod* NodePods::FindByObject(const policy::ObjectId& id) {
  for (auto& [cookie, pod] : pods_) {
    if (pod.object->id == id && !pod.object_gone) return &pod;
  }
  return nullptr;
}

void NodePods::Update(const policy::ObjectId& id, const policy::Store::PodView& view) {
  if (view.pod && view.governed) {
    objects_[id] = view.pod;
    Resolve(id);
    return;
  }
  if (objects_.erase(id) == 0) return;
  waiting_.erase(id);
  NodePod* pod = FindByObject(id);
  if (pod != nullptr && view.pod) {  // not governed any more
    Drop(pod->interface.cookie, false);
  } else if (pod != nullptr) {
    pod->object_gone = true;
    if (pod->netns && !node::SameNetns(pod->netns_path, *pod->netns)) Release(*pod);
  }
  UnwatchPath(id);
}

void NodePods::KeepLeftover(const policy::ObjectId& id, const policy::ServiceAccount& account,
                            const node::PodInterface& interface, const std::string& path) {
  auto object = std::make_shared<policy::Pod>();
  object->id = id;
  object->service_account = account;
  NodePod& pod = pods_[interface.cookie];
  pod = {};
  pod.object = std::move(object);
  pod.interface = interface;
  pod.object_gone = true;
  pod.netns_path = path;
  if (auto netns = path.empty() ? Result<Fd>(Error{}) : node::OpenNetns(path); netns) {
    pod.netns = std::make_shared<const Fd>(*std::move(netns));
    if (auto done = paths_.Add(path); !done) callbacks_.problem("watch " + path + ": " + done.error().message);
    WatchPodLinks(interface.cookie);
  }
  callbacks_.present(pod);
}

node::PodLocator::Pod NodePods::Describe(const policy::Pod& object) const {
  node::PodLocator::Pod pod{object.id.ns, object.id.name, object.uid, object.config_hash, object.addresses};
  if (pod.static_uid.empty()) return pod;
  // A mirror that names the UID of a pod with an object of its own mirrors nothing.
  const bool taken = std::any_of(objects_.begin(), objects_.end(),
                                 [&pod](const auto& other) { return other.second->uid == pod.static_uid; });
  if (taken) pod.static_uid.clear();
  return pod;
}

Result<node::PodLocator::Place> NodePods::Locate(const policy::Pod& object) {
  if (!locator_) {
    const std::string& path = object.netns_path;
    if (path.empty()) return Error{"the annotation egressd.io/netns is missing"};
    WatchPath(object.id, path);
    auto netns = node::OpenNetns(path);
    if (!netns) return std::move(netns).error();
    return node::PodLocator::Place{std::make_shared<const Fd>(*std::move(netns)), path, object.cgroup_path, {}, ""};
  }
  const auto taken = [this, &object](std::uint64_t cookie) { return !MayTake(object, cookie); };
  auto place = locator_->Find(Describe(object), taken);
  if (!place) return place;
  WatchPath(object.id, place->path);
  // What changed before the watch stood is not told.
  if (!node::SameNetns(place->path, *place->netns)) return Error{place->path + " leads elsewhere now"};
  return place;
}

// Is the namespace nobody else's? One whose object is gone may be what its successor of the same name has now.
bool NodePods::MayTake(const policy::Pod& object, std::uint64_t cookie) const {
  const auto known = pods_.find(cookie);
  return known == pods_.end() || known->second.object_gone || known->second.object->id == object.id;
}

void NodePods::WatchPath(const policy::ObjectId& id, const std::string& path) {
  if (const auto known = watched_.find(id); known != watched_.end() && known->second == path) return;
  UnwatchPath(id);
  watched_[id] = path;
  if (auto done = paths_.Add(path); !done) callbacks_.problem("watch " + path + ": " + done.error().message);
}

void NodePods::UnwatchPath(const policy::ObjectId& id) {
  const auto known = watched_.find(id);
  if (known == watched_.end()) return;
  const std::string path = std::move(known->second);
  watched_.erase(known);
  ForgetPath(path);
}

// Unless somebody still needs to know about it.
void NodePods::ForgetPath(const std::string& path) {
  for (const auto& [id, other] : watched_) {
    if (other == path) return;
  }
  for (const auto& [cookie, pod] : pods_) {
    if (pod.object_gone && pod.netns && pod.netns_path == path) return;
  }
  paths_.Remove(path);
}

void NodePods::Resolve(const policy::ObjectId& id) {
  const auto object = objects_.at(id);
  auto place = Locate(*object);
  auto cookie = place ? node::NetnsCookie(*place->netns) : Result<std::uint64_t>(place.error());
  NodePod* before = FindByObject(id);
  if (!cookie && locator_ && before != nullptr && before->object->uid == object->uid && before->netns &&
      node::SameNetns(before->netns_path, *before->netns)) {
    // Whoever named its namespace is silent now, which does not move the pod.
    const NodePod known = *before;
    WatchPath(id, before->netns_path);
    before->object = object;
    PresentIfChanged(known, *before);
    return;
  }
  if (before != nullptr && (!cookie || *cookie != before->interface.cookie)) {
    before->object_gone = true;  // the namespace it had stays governed until it ends
    Release(*before);
  }
  if (!cookie) {
    if (object->phase == "Succeeded" || object->phase == "Failed") {
      waiting_.erase(id);  // its sandbox has gone for good
    } else {
      waiting_[id] = cookie.error().message;
    }
    return;
  }
  waiting_.erase(id);
  NodePod& pod = pods_[*cookie];
  const NodePod known = pod;
  if (pod.object && pod.object->id != id && !pod.object_gone) {
    waiting_[pod.object->id] = "its network namespace " + place->path + " is that of " + id.ToString();
  }
  pod.object = object;
  pod.object_gone = false;
  pod.netns_path = place->path;
  pod.cgroup_path = place->cgroup;
  pod.given = place->addresses.empty() ? object->addresses : std::move(place->addresses);
  if (place->conflict != pod.conflict && !place->conflict.empty()) {
    callbacks_.problem(id.ToString() + ": " + place->conflict + ": it reaches nothing but the mesh");
  }
  pod.conflict = std::move(place->conflict);
  if (!pod.netns) {
    pod.netns = std::move(place->netns);
    WatchPodLinks(*cookie);
  }
  pod.interface.cookie = *cookie;
  Look(pod);
  PresentIfChanged(known, pod);
}

// The object of a pod on a cluster changes often, in what is of no concern here.
void NodePods::PresentIfChanged(const NodePod& before, const NodePod& now) {
  const bool same = before.object && before.netns && before.object_gone == now.object_gone &&
                    before.object->id == now.object->id && before.interface == now.interface &&
                    before.object->service_account == now.object->service_account;
  if (!same) callbacks_.present(now);
}

void NodePods::AddSandbox(const node::Sandbox& sandbox) {
  if (!locator_) return;
  locator_->AddSandbox(sandbox);
  node::PodLocator::Changes changes;
  changes.names.insert({sandbox.pod_namespace, sandbox.pod_name});
  LookAgain(changes);
}

void NodePods::RemoveSandbox(const std::string& container_id) {
  if (locator_) locator_->RemoveSandbox(container_id);
}

std::string NodePods::CgroupOf(const policy::Pod& pod) const {
  return locator_ ? locator_->CgroupOf(Describe(pod)) : pod.cgroup_path;
}

std::vector<Address> NodePods::ResolversOf(const policy::Pod& pod) const {
  return locator_ ? locator_->ResolversOf(Describe(pod)) : std::vector<Address>();
}

void NodePods::OnNode() {
  const auto changes = locator_->Poll();
  for (const std::string& problem : changes.problems) callbacks_.problem(problem);
  LookAgain(changes);
}

void NodePods::LookAgain(const node::PodLocator::Changes& changes) {
  std::vector<policy::ObjectId> ids;
  for (const auto& [id, object] : objects_) {
    if (changes.Concern(Describe(*object))) ids.push_back(id);
  }
  for (const auto& id : ids) Resolve(id);
  std::vector<std::uint64_t> over;
  for (const auto& [cookie, pod] : pods_) {
    if (!pod.object_gone || !pod.netns || !changes.Concern(Describe(*pod.object))) continue;
    if (!node::SameNetns(pod.netns_path, *pod.netns)) over.push_back(cookie);
  }
  for (const std::uint64_t cookie : over) Release(pods_.at(cookie));
}

void NodePods::OnPaths() {
  for (const std::string& path : paths_.Poll()) {
    std::vector<policy::ObjectId> ids;
    for (const auto& [id, watched] : watched_) {
      if (watched == path) ids.push_back(id);
    }
    for (const auto& id : ids) Resolve(id);
    for (auto& [cookie, pod] : pods_) {
      if (pod.object_gone && pod.netns && pod.netns_path == path && !node::SameNetns(path, *pod.netns)) {
        Release(pod);
        break;  // Release may drop it
      }
    }
    ForgetPath(path);
  }
}

void NodePods::Release(NodePod& pod) {
  const std::uint64_t cookie = pod.interface.cookie;
  callbacks_.release(pod);
  UnwatchPodLinks(cookie);
  pod.netns.reset();
  if (LinkName(pod.interface.host_ifindex).empty()) Drop(cookie, true);
}

void NodePods::Drop(std::uint64_t cookie, bool over) {
  const auto known = pods_.find(cookie);
  if (known == pods_.end()) return;
  const NodePod pod = std::move(known->second);
  pods_.erase(known);
  UnwatchPodLinks(cookie);
  callbacks_.gone(pod, over);
}

}  // namespace egress::agent
