#include "agent/node/pod_locator.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>

#include "agent/node/netns.h"
#include "agent/node/pod_interface.h"
#include "agent/node/process_netns.h"

namespace egress::node {
namespace {

std::int64_t NowNs() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool IsOf(const Sandbox& sandbox, const PodLocator::Pod& pod) {
  // A name alone would also be that of the pod's predecessor.
  if (!sandbox.pod_uid.empty()) return sandbox.pod_uid == pod.uid || sandbox.pod_uid == pod.static_uid;
  return sandbox.pod_namespace == pod.ns && sandbox.pod_name == pod.name;
}

// Of the namespaces of a pod's processes the one that is the pod's: a container may make others, nested in there, but
// neither binds them on the node nor has a link to the node in them.
const ProcessNetns& OwnOf(const std::vector<ProcessNetns>& namespaces, const NetnsFolder& bound) {
  for (const ProcessNetns& one : namespaces) {
    if (bound.PathOf(*one.netns)) return one;
  }
  for (const ProcessNetns& one : namespaces) {
    const auto interface = FindPodInterface(*one.netns, {});
    if (interface && interface->host_ifindex != 0) return one;
  }
  return namespaces.front();
}

}  // namespace

Result<std::unique_ptr<PodLocator>> PodLocator::Open(Folders folders) {
  auto node = CurrentNetns();
  if (!node) return std::move(node).error();
  auto cgroups = PodCgroups::Create(PodCgroupRoots(folders.cgroup2_root, folders.proc + "/self"));
  if (!cgroups) return std::move(cgroups).error().Wrap("watch the cgroups of pods");
  auto cache = SandboxCache::Open(folders.sandboxes);
  if (!cache) return std::move(cache).error().Wrap("watch " + folders.sandboxes);
  std::unique_ptr<PodLocator> locator(
      new PodLocator(std::move(folders), *std::move(node), *std::move(cgroups), *std::move(cache)));
  (void)locator->cache_.Poll();
  locator->epoll_.Reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!locator->epoll_) return ErrnoError("epoll_create1");
  for (const int fd : {locator->cgroups_.fd(), locator->cache_.fd()}) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = 0}};
    if (::epoll_ctl(locator->epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return ErrnoError("epoll_ctl");
  }
  return locator;
}

PodLocator::PodLocator(Folders folders, Fd node, PodCgroups cgroups, SandboxCache cache)
    : folders_(std::move(folders)),
      node_(std::move(node)),
      cgroups_(std::move(cgroups)),
      cache_(std::move(cache)),
      bound_(folders_.netns) {}

bool PodLocator::Changes::Concern(const Pod& pod) const {
  return names.contains({pod.ns, pod.name}) || uids.contains(pod.uid) ||
         (!pod.static_uid.empty() && uids.contains(pod.static_uid));
}

PodLocator::Changes PodLocator::Poll() {
  Changes changes;
  changes.uids = cgroups_.Poll();
  changes.names = cache_.Poll();
  changes.problems = cgroups_.TakeProblems();
  return changes;
}

void PodLocator::AddSandbox(const Sandbox& sandbox) { told_[sandbox.container_id] = {sandbox, NowNs()}; }

void PodLocator::RemoveSandbox(const std::string& container_id) { told_.erase(container_id); }

// The newest: the sandbox of a pod that gets another one lives on for a while.
const Sandbox* PodLocator::SandboxOf(const Pod& pod) const {
  const Sandbox* newest = nullptr;
  std::int64_t at = 0;
  const auto consider = [&](const Sandbox& sandbox, std::int64_t when) {
    if (!IsOf(sandbox, pod) || (newest != nullptr && when < at)) return;
    newest = &sandbox;
    at = when;
  };
  for (const auto& [name, entry] : cache_.entries()) consider(entry.sandbox, entry.written_ns);
  for (const auto& [id, told] : told_) consider(told.sandbox, told.at_ns);
  return newest;
}

// The node's folder may be mounted elsewhere here, and /var/run need not lead to /run.
std::string PodLocator::LocalPath(const std::string& path) const {
  using std::string_view_literals::operator""sv;
  for (const std::string_view folder : {"/var/run/netns/"sv, "/run/netns/"sv}) {
    if (path.starts_with(folder)) return folders_.netns + "/" + path.substr(folder.size());
  }
  return path;
}

std::vector<std::string> PodLocator::CgroupsOf(const Pod& pod) const {
  auto folders = cgroups_.FoldersOf(pod.uid);
  if (folders.empty() && !pod.static_uid.empty()) folders = cgroups_.FoldersOf(pod.static_uid);
  return folders;
}

std::string PodLocator::CgroupOf(const Pod& pod) const {
  const auto folders = CgroupsOf(pod);
  return folders.empty() ? std::string() : folders.front();
}

std::vector<Address> PodLocator::ResolversOf(const Pod& pod) const {
  for (const auto& [name, entry] : cache_.entries()) {
    if (IsOf(entry.sandbox, pod) && !entry.sandbox.resolvers.empty()) return entry.sandbox.resolvers;
  }
  return {};
}

Result<PodLocator::Place> PodLocator::Find(const Pod& pod, const std::function<bool(std::uint64_t)>& taken) {
  const auto cgroups = CgroupsOf(pod);
  const Sandbox* sandbox = SandboxOf(pod);
  const PodProcesses processes = ProcessesOf(cgroups, node_, folders_.proc);
  auto place = sandbox != nullptr ? FindBySandbox(*sandbox) : Result<Place>(Error{"no sandbox yet"});
  if (!place && !processes.namespaces.empty()) {
    const ProcessNetns& own = OwnOf(processes.namespaces, bound_);
    place = Place{own.netns, bound_.PathOf(*own.netns).value_or(own.path), "", {}, ""};
  } else if (place && !processes.namespaces.empty()) {
    const bool agreed = std::any_of(processes.namespaces.begin(), processes.namespaces.end(),
                                    [&](const ProcessNetns& one) { return IsSameNetns(*one.netns, *place->netns); });
    if (!agreed) place->conflict = "its processes are not in the network namespace that the CNI names, " + place->path;
  } else if (!place && processes.in_node_netns) {
    return Error{"its processes are in the network namespace of the node"};
  } else if (!place && !pod.addresses.empty()) {
    auto found = FindByAddress(pod, taken);
    if (found || sandbox == nullptr) place = std::move(found);
  }
  if (!place) return place;
  if (IsSameNetns(*place->netns, node_)) return Error{place->path + " is the network namespace of the node"};
  if (!cgroups.empty()) place->cgroup = cgroups.front();
  return place;
}

Result<PodLocator::Place> PodLocator::FindBySandbox(const Sandbox& sandbox) const {
  const std::string path = LocalPath(sandbox.netns);
  // A number that means something to the runtime's procfs only.
  if (path.starts_with("/proc/")) return Error{"the CNI names its network namespace by a process: " + path};
  auto netns = OpenNetns(path);
  if (!netns) return std::move(netns).error();
  return Place{std::make_shared<const Fd>(*std::move(netns)), path, "", sandbox.addresses, ""};
}

Result<PodLocator::Place> PodLocator::FindByAddress(const Pod& pod, const std::function<bool(std::uint64_t)>& taken) {
  struct Candidate {
    Place place;
    bool linked = false;  // to the node
    std::size_t others = 0;
  };
  std::vector<Candidate> candidates;
  for (const auto& match : bound_.WithAddresses(pod.addresses, taken)) {
    auto netns = OpenNetns(match.path);
    const auto interface = netns ? FindPodInterface(*netns, {}) : Result<PodInterface>(netns.error());
    if (!interface || interface->elsewhere) continue;  // of another node on this machine
    Place place{std::make_shared<const Fd>(*std::move(netns)), match.path, "", {}, ""};
    candidates.push_back({std::move(place), interface->host_ifindex != 0, match.others});
  }
  if (candidates.empty()) {
    return Error{"no network namespace in " + folders_.netns + " has its address " + pod.addresses.front().ToString()};
  }
  std::stable_sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::pair(!a.linked, a.others) < std::pair(!b.linked, b.others);
  });
  Candidate& first = candidates.front();
  if (candidates.size() > 1 && candidates[1].linked == first.linked && candidates[1].others == first.others) {
    first.place.conflict = "its address is also in " + candidates[1].place.path;
  }
  return std::move(first.place);
}

}  // namespace egress::node
