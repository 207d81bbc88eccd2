// Where cgroup2 and bpffs are mounted, and what to do where they are not.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace egress::node {

struct Cgroup2Mount {
  std::string mount_point;
  std::string root;  // the cgroup that shows there: "/", or a part of the hierarchy
};

// From the text of /proc/PID/mountinfo (proc(5)), in its order.
std::vector<Cgroup2Mount> Cgroup2Mounts(std::string_view mountinfo);

// Mount points of whole hierarchies of cgroup v1, in the same way.
std::vector<std::string> Cgroup1Mounts(std::string_view mountinfo);

// The folder that is the root of the mounted cgroup2, also where cgroup v1 is mounted beside it, or of several mounts
// the one that shows most: what lies above a cgroup namespace, or its own part. `proc` is the folder of a process, whose
// cgroup is always there or below. The error says how to mount it.
Result<std::string> Cgroup2Root(const std::string& proc = "/proc/self");

// The folder of this process's own cgroup.
Result<std::string> OwnCgroup(const std::string& proc = "/proc/self");

// Is `path` the folder `root` or below it? By the text alone: links are not followed, `..` is.
bool IsBelow(std::string_view path, std::string_view root);

// Each error says what is there, and what to do.
Result<void> CheckCgroup2(const std::string& dir);
Result<void> CheckBpffs(const std::string& dir);

// Is `dir` the root of the hierarchy itself? Within a container the root that is mounted is often the container's own
// cgroup: programs attached there see nobody else. (Only the true root has no file `cgroup.type`.)
bool IsHierarchyRoot(const std::string& dir);

}  // namespace egress::node
