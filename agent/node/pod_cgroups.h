// PodCgroups: the cgroups of the pods of this node, found by UID the moment they appear.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::node {

// Follows the folders of pods below each of some roots. Watched are the folders above the pods (down to kMaxDepth below a
// root; services and scopes are not entered, they hold no pods) and for each pod its folder, where containers come and
// go, and its cgroup.events, which tells when its first process comes and its last one ends. The kernel makes inotify
// events for all of these; where it has lost some everything is looked at again.
class PodCgroups {
 public:
  static constexpr int kMaxDepth = 5;
  static constexpr std::size_t kMaxParents = 1024;

  // `roots` in order of preference: the cgroup2 hierarchy, then one of v1 where a kubelet has its pods only there.
  static Result<PodCgroups> Create(std::vector<std::string> roots);

  // Readable when Poll() may have something to tell.
  int fd() const { return inotify_.get(); }

  // UIDs of pods whose cgroup came or went, or whose containers or processes did; sorted.
  std::set<std::string> Poll();

  // The folders of the pod, one for each root that has it, in their order; empty where there is none.
  std::vector<std::string> FoldersOf(const std::string& uid) const;
  std::set<std::string> Uids() const;

  // What could not be watched, in words, since the last call: then pods may be found late.
  std::vector<std::string> TakeProblems();

 private:
  enum class Role { kParent, kKubepods, kQos, kPod, kPodEvents };
  struct Watched {
    Role role = Role::kParent;
    std::string path;
    std::string uid;
    int depth = 0;  // below its root
  };

  PodCgroups() = default;
  void ScanAll();
  // Watches the folder first and looks into it then: what comes meanwhile is told twice, and nothing is missed.
  void Enter(const std::string& path, Role role, int depth, std::set<std::string>* told);
  void Consider(const std::string& parent, Role role, int depth, const std::string& name, std::set<std::string>* told);
  void EnterPod(const std::string& path, const std::string& uid, std::set<std::string>* told);
  bool Watch(const std::string& path, std::uint32_t events, Watched what);
  void OnEvent(int watch, std::uint32_t mask, const std::string& name, std::set<std::string>* told);

  std::vector<std::string> roots_;
  Fd inotify_;
  std::map<int, Watched> watches_;
  std::map<std::string, std::set<std::string>> pods_;  // UID -> folders
  std::size_t parents_ = 0;
  std::vector<std::string> problems_;
};

// The roots below which to look: `cgroup2_root`, and the first hierarchy of cgroup v1 with a folder of pods where
// cgroup2 has none. `proc` is the folder of a process.
std::vector<std::string> PodCgroupRoots(const std::string& cgroup2_root, const std::string& proc = "/proc/self");

}  // namespace egress::node
