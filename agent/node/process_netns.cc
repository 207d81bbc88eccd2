#include "agent/node/process_netns.h"

#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "agent/node/netns.h"
#include "agent/node/pod_cgroup_name.h"

namespace egress::node {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 4;              // of cgroups within a container
constexpr std::size_t kMaxCgroups = 256;  // of a pod
constexpr std::size_t kMaxProcesses = 8;  // of one cgroup

std::vector<pid_t> Pids(const std::string& cgroup) {
  std::vector<pid_t> pids;
  std::ifstream file(cgroup + "/cgroup.procs");
  for (pid_t pid = 0; file >> pid;) pids.push_back(pid);
  return pids;
}

void AddProcess(const std::string& cgroup, pid_t pid, const Fd& node, const std::string& proc, PodProcesses& found) {
  std::string path = proc + "/" + std::to_string(pid) + "/ns/net";
  auto netns = OpenNetns(path);
  if (!netns) return;  // it has ended
  const auto now = Pids(cgroup);
  if (std::find(now.begin(), now.end(), pid) == now.end()) return;
  if (IsSameNetns(*netns, node)) {
    found.in_node_netns = true;
    return;
  }
  const bool known = std::any_of(found.namespaces.begin(), found.namespaces.end(),
                                 [&](const ProcessNetns& other) { return IsSameNetns(*other.netns, *netns); });
  if (!known) found.namespaces.push_back({std::make_shared<const Fd>(*std::move(netns)), std::move(path)});
}

void Look(const std::string& cgroup, int depth, const Fd& node, const std::string& proc, std::size_t& budget,
          PodProcesses& found) {
  if (budget == 0) return;
  --budget;
  std::size_t looked_at = 0;
  for (const pid_t pid : Pids(cgroup)) {
    if (pid == 0) {
      found.hidden = true;
      break;
    }
    AddProcess(cgroup, pid, node, proc, found);
    if (++looked_at == kMaxProcesses) break;
  }
  if (depth == kMaxDepth) return;
  std::error_code error;
  for (fs::directory_iterator at(cgroup, error), end; !error && at != end; at.increment(error)) {
    std::error_code gone;
    if (at->is_directory(gone) && IsContainerFolder(at->path().filename().string())) {
      Look(at->path().string(), depth + 1, node, proc, budget, found);
    }
  }
}

}  // namespace

PodProcesses ProcessesOf(std::span<const std::string> folders, const Fd& node, const std::string& proc) {
  PodProcesses found;
  for (const std::string& folder : folders) {
    std::size_t budget = kMaxCgroups;
    Look(folder, 0, node, proc, budget, found);
  }
  return found;
}

bool IsSameNetns(const Fd& a, const Fd& b) {
  struct stat one {};
  struct stat other {};
  return ::fstat(a.get(), &one) == 0 && ::fstat(b.get(), &other) == 0 && one.st_dev == other.st_dev &&
         one.st_ino == other.st_ino;
}

}  // namespace egress::node
