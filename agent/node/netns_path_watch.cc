#include "agent/node/netns_path_watch.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <set>
#include <utility>

namespace egress::node {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t kFolderEvents =
    IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;

std::string ParentOf(const std::string& path) { return fs::path(path).parent_path().string(); }

// The folder `parent` or, where that is not there yet, the nearest one above it that is.
std::string NearestFolder(const std::string& parent) {
  fs::path folder = parent;
  std::error_code error;
  while (folder.has_relative_path() && !fs::is_directory(folder, error)) folder = folder.parent_path();
  return folder.empty() ? "." : folder.string();
}

}  // namespace

Result<NetnsPathWatch> NetnsPathWatch::Create(const std::string& mountinfo) {
  NetnsPathWatch watch;
  watch.inotify_.Reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!watch.inotify_) return ErrnoError("inotify_init1 (see fs.inotify.max_user_instances)");
  watch.mounts_.Reset(::open(mountinfo.c_str(), O_RDONLY | O_CLOEXEC));
  if (!watch.mounts_) return ErrnoError("open " + mountinfo);
  watch.epoll_.Reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!watch.epoll_) return ErrnoError("epoll_create1");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = 0}};
  if (::epoll_ctl(watch.epoll_.get(), EPOLL_CTL_ADD, watch.inotify_.get(), &event) != 0) return ErrnoError("epoll_ctl");
  event.events = EPOLLPRI;  // how proc(5) announces a change of the mount table
  if (::epoll_ctl(watch.epoll_.get(), EPOLL_CTL_ADD, watch.mounts_.get(), &event) != 0) {
    return ErrnoError("watch " + mountinfo);
  }
  return watch;
}

Result<void> NetnsPathWatch::Add(const std::string& path) {
  const auto [entry, added] = paths_.try_emplace(path);
  if (!added) return {};
  // Where others are in the same folder, its watch stands already; should the folder have been replaced since, an event of
  // that waits for Poll().
  const std::string parent = ParentOf(path);
  Result<void> watched;
  if (!folders_.contains(parent) || folders_.at(parent) < 0) watched = WatchFolder(parent);
  entry->second = Look(path);  // only now: what comes between the watch and the look is told once too often
  return watched;
}

void NetnsPathWatch::Remove(const std::string& path) {
  // A watch that is no longer needed goes at the next look.
  paths_.erase(path);
}

std::vector<std::string> NetnsPathWatch::Poll() {
  Drain();
  // Before the look, so that what changes after it is announced. Where no watch is left, looking is all we can do.
  (void)WatchFolders();
  std::vector<std::string> changed;
  for (auto& [path, identity] : paths_) {
    const Identity now = Look(path);
    if (now == identity) continue;
    identity = now;
    changed.push_back(path);
  }
  return changed;
}

NetnsPathWatch::Identity NetnsPathWatch::Look(const std::string& path) {
  struct statx info {};
  constexpr unsigned kWanted = STATX_INO | STATX_CTIME | STATX_MNT_ID;
  if (::statx(AT_FDCWD, path.c_str(), AT_STATX_SYNC_AS_STAT, kWanted, &info) != 0) return {};
  return {(std::uint64_t{info.stx_dev_major} << 32) | info.stx_dev_minor, info.stx_ino, info.stx_mnt_id,
          info.stx_ctime.tv_sec, info.stx_ctime.tv_nsec};
}

Result<void> NetnsPathWatch::WatchFolder(const std::string& parent) {
  std::string folder = NearestFolder(parent);
  for (;;) {
    // The same number as before while the same folder stands there.
    const int watch = ::inotify_add_watch(inotify_.get(), folder.c_str(), kFolderEvents);
    folders_[parent] = watch;
    if (watch < 0) return ErrnoError("watch folder " + folder + " (see fs.inotify.max_user_watches)");
    // A folder that was made before the watch stood has not been announced.
    std::string now = NearestFolder(parent);
    if (now == folder) return {};
    folder = std::move(now);
    const auto same = [watch](const auto& other) { return other.second == watch; };
    if (std::count_if(folders_.begin(), folders_.end(), same) == 1) ::inotify_rm_watch(inotify_.get(), watch);
  }
}

Result<void> NetnsPathWatch::WatchFolders() {
  Result<void> result;
  const std::map<std::string, int> before = std::exchange(folders_, {});
  for (const auto& [path, identity] : paths_) {
    const std::string parent = ParentOf(path);
    if (folders_.contains(parent)) continue;
    if (auto watched = WatchFolder(parent); !watched) result = std::move(watched);
  }
  std::set<int> kept;
  for (const auto& [folder, watch] : folders_) kept.insert(watch);
  for (const auto& [folder, watch] : before) {
    if (watch >= 0 && !kept.contains(watch)) ::inotify_rm_watch(inotify_.get(), watch);
  }
  return result;
}

void NetnsPathWatch::Drain() {
  alignas(inotify_event) std::array<char, 16 << 10> events;
  while (::read(inotify_.get(), events.data(), events.size()) > 0) {
  }
  // Asking is what makes the kernel forget that the mount table changed.
  std::array<epoll_event, 2> ready;
  ::epoll_wait(epoll_.get(), ready.data(), ready.size(), 0);
}

}  // namespace egress::node
