// NetnsPathWatch: tells when the paths of network namespaces come, go, or lead elsewhere.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::node {

// A path and the folders above it need not exist yet. Two kinds of events are needed: a file or link that comes or
// goes makes an inotify event in its folder, while binding a namespace over an empty file (what `ip netns add` and
// container runtimes do) makes none, but changes the mount table. Each is a reason to look at every path again.
//
// Paths below /proc are compared when something else happens, but make no events of their own.
class NetnsPathWatch {
 public:
  // `mountinfo` is the mount table of this process.
  static Result<NetnsPathWatch> Create(const std::string& mountinfo = "/proc/self/mountinfo");

  // From now on changes of `path` are told; so add first, and look at the path then. Fails where inotify has no
  // watches left; mounts are noticed all the same. Adding twice, or removing what is not there, changes nothing.
  Result<void> Add(const std::string& path);
  void Remove(const std::string& path);

  // Readable when Poll() may have something to tell.
  int fd() const { return epoll_.get(); }

  // The paths that lead to something else than before (also to nothing, or to something at last), sorted.
  std::vector<std::string> Poll();

 private:
  // What stands at a path: device, inode, mount and time of change. Numbers of namespaces are used again at once,
  // so the inode alone would not show that another namespace took the place. Zero: nothing is there.
  using Identity = std::tuple<std::uint64_t, std::uint64_t, std::uint64_t, std::int64_t, std::uint32_t>;

  NetnsPathWatch() = default;
  static Identity Look(const std::string& path);
  Result<void> WatchFolder(const std::string& parent);
  Result<void> WatchFolders();
  void Drain();

  Fd inotify_;
  Fd mounts_;
  Fd epoll_;  // of both
  std::map<std::string, Identity> paths_;
  // The folder that each path is in -> the inotify watch on it or, where it is not there, on the nearest one above. Many
  // pods share few of them.
  std::map<std::string, int> folders_;
};

}  // namespace egress::node
