// Cgroups and processes of pods for tests, gone when the test ends.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace egress::node {

// A folder of the test's own below the root of cgroup2. Needs root.
class CgroupWorld {
 public:
  CgroupWorld();
  ~CgroupWorld();
  CgroupWorld(const CgroupWorld&) = delete;
  CgroupWorld& operator=(const CgroupWorld&) = delete;

  const std::string& root() const { return root_; }
  // Makes a cgroup below it, with those above; its folder.
  std::string Make(const std::string& path);
  void Remove(const std::string& path);

  // A process that waits in a cgroup and, where `netns` is given, in that network namespace; else in the caller's.
  pid_t Start(const std::string& cgroup, const std::string& netns = "");
  void End(pid_t process);

 private:
  std::string root_;
  std::vector<pid_t> processes_;
};

}  // namespace egress::node
