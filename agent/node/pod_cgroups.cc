#include "agent/node/pod_cgroups.h"

#include <sys/inotify.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <utility>

#include "agent/base/file.h"
#include "agent/node/cgroup.h"
#include "agent/node/pod_cgroup_name.h"

namespace egress::node {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kFolderEvents = IN_CREATE | IN_DELETE | IN_ONLYDIR;

// Names of the folders in `path`; none where it is gone.
std::vector<std::string> Folders(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (at->is_directory(gone)) names.push_back(at->path().filename().string());
  }
  return names;
}

// Is there a folder of pods below `path`?
bool HoldsKubepods(const std::string& path, int depth) {
  for (const std::string& name : Folders(path)) {
    if (IsKubepodsFolder(name)) return true;
    if (depth + 1 < PodCgroups::kMaxDepth && !name.ends_with(".service") && !name.ends_with(".scope") &&
        HoldsKubepods(path + "/" + name, depth + 1)) {
      return true;
    }
  }
  return false;
}

}  // namespace

Result<PodCgroups> PodCgroups::Create(std::vector<std::string> roots) {
  PodCgroups cgroups;
  cgroups.roots_ = std::move(roots);
  cgroups.inotify_.Reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!cgroups.inotify_) return ErrnoError("inotify_init1 (see fs.inotify.max_user_instances)");
  cgroups.ScanAll();
  return cgroups;
}

void PodCgroups::ScanAll() {
  std::set<std::string> told;
  for (const std::string& root : roots_) Enter(root, Role::kParent, 0, &told);
}

bool PodCgroups::Watch(const std::string& path, std::uint32_t events, Watched what) {
  if (what.role == Role::kParent && parents_ >= kMaxParents) {
    problems_.push_back("more than " + std::to_string(kMaxParents) +
                        " cgroups that may hold pods: name the one that does with --cgroup-root");
    return false;
  }
  const int watch = ::inotify_add_watch(inotify_.get(), path.c_str(), events);
  if (watch < 0) {
    if (errno != ENOENT)
      problems_.push_back(ErrnoError("watch " + path + " (see fs.inotify.max_user_watches)").message);
    return false;
  }
  if (what.role == Role::kParent && !watches_.contains(watch)) ++parents_;
  watches_[watch] = std::move(what);
  return true;
}

void PodCgroups::Enter(const std::string& path, Role role, int depth, std::set<std::string>* told) {
  (void)Watch(path, kFolderEvents, {role, path, "", depth});
  for (const std::string& name : Folders(path)) Consider(path, role, depth, name, told);
}

void PodCgroups::Consider(const std::string& parent, Role role, int depth, const std::string& name,
                          std::set<std::string>* told) {
  const std::string path = parent + "/" + name;
  if (role == Role::kParent) {
    if (IsKubepodsFolder(name)) {
      Enter(path, Role::kKubepods, depth + 1, told);
    } else if (depth + 1 < kMaxDepth && !name.ends_with(".service") && !name.ends_with(".scope")) {
      Enter(path, Role::kParent, depth + 1, told);
    }
    return;
  }
  if (const auto uid = PodUidOf(name)) {
    EnterPod(path, *uid, told);
  } else if (role == Role::kKubepods && IsQosFolder(name)) {
    Enter(path, Role::kQos, depth + 1, told);
  }
}

void PodCgroups::EnterPod(const std::string& path, const std::string& uid, std::set<std::string>* told) {
  (void)Watch(path, kFolderEvents, {Role::kPod, path, uid, 0});
  // Not in cgroup v1, where processes of new containers are all there is to see.
  (void)Watch(path + "/cgroup.events", IN_MODIFY, {Role::kPodEvents, path, uid, 0});
  pods_[uid].insert(path);
  told->insert(uid);
}

std::set<std::string> PodCgroups::Poll() {
  std::set<std::string> told;
  alignas(inotify_event) std::array<char, 16 << 10> buffer;
  bool overflow = false;
  for (ssize_t size; (size = ::read(inotify_.get(), buffer.data(), buffer.size())) > 0;) {
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      at += static_cast<ssize_t>(sizeof(inotify_event) + event->len);
      overflow |= (event->mask & IN_Q_OVERFLOW) != 0;
      OnEvent(event->wd, event->mask, event->len > 0 ? event->name : "", &told);
    }
  }
  if (overflow) {
    for (const auto& [uid, folders] : pods_) told.insert(uid);
    pods_.clear();
    for (const std::string& root : roots_) Enter(root, Role::kParent, 0, &told);
  }
  return told;
}

void PodCgroups::OnEvent(int watch, std::uint32_t mask, const std::string& name, std::set<std::string>* told) {
  const auto known = watches_.find(watch);
  if (known == watches_.end()) return;
  if ((mask & IN_IGNORED) != 0) {  // what was watched is gone
    if (known->second.role == Role::kParent) --parents_;
    watches_.erase(known);
    return;
  }
  const Watched what = known->second;
  if (what.role == Role::kPod || what.role == Role::kPodEvents) {
    told->insert(what.uid);
  } else if ((mask & IN_ISDIR) != 0 && (mask & IN_CREATE) != 0) {
    Consider(what.path, what.role, what.depth, name, told);
  } else if ((mask & IN_ISDIR) != 0 && what.role != Role::kParent) {  // IN_DELETE
    const auto uid = PodUidOf(name);
    const auto pod = uid ? pods_.find(*uid) : pods_.end();
    if (pod == pods_.end()) return;
    pod->second.erase(what.path + "/" + name);
    if (pod->second.empty()) pods_.erase(pod);
    told->insert(*uid);
  }
}

std::vector<std::string> PodCgroups::FoldersOf(const std::string& uid) const {
  std::vector<std::string> folders;
  const auto pod = pods_.find(uid);
  if (pod == pods_.end()) return folders;
  for (const std::string& root : roots_) {
    for (const std::string& folder : pod->second) {
      if (IsBelow(folder, root)) folders.push_back(folder);
    }
  }
  return folders;
}

std::set<std::string> PodCgroups::Uids() const {
  std::set<std::string> uids;
  for (const auto& [uid, folders] : pods_) uids.insert(uid);
  return uids;
}

std::vector<std::string> PodCgroups::TakeProblems() { return std::exchange(problems_, {}); }

std::vector<std::string> PodCgroupRoots(const std::string& cgroup2_root, const std::string& proc) {
  std::vector<std::string> roots = {cgroup2_root};
  if (HoldsKubepods(cgroup2_root, 0)) return roots;
  const auto mountinfo = ReadFile(proc + "/mountinfo");
  if (!mountinfo) return roots;
  for (const std::string& root : Cgroup1Mounts(*mountinfo)) {
    if (!HoldsKubepods(root, 0)) continue;
    roots.push_back(root);
    break;
  }
  return roots;
}

}  // namespace egress::node
