#include "tests/e2e/node_cgroup_world.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "agent/base/fd.h"
#include "agent/node/cgroup.h"

namespace egress::node {

namespace fs = std::filesystem;

CgroupWorld::CgroupWorld() {
  const auto all = Cgroup2Root();
  EXPECT_TRUE(all.ok()) << all.error().message;
  static int number = 0;
  root_ = *all + "/egress-node-" + std::to_string(::getpid()) + "-" + std::to_string(number++);
  fs::create_directory(root_);
}

CgroupWorld::~CgroupWorld() {
  while (!processes_.empty()) End(processes_.back());
  std::vector<std::string> folders = {root_};
  for (const auto& entry : fs::recursive_directory_iterator(root_)) {
    if (entry.is_directory()) folders.push_back(entry.path());
  }
  std::sort(folders.rbegin(), folders.rend());  // the deepest of each first
  for (const std::string& folder : folders) EXPECT_EQ(::rmdir(folder.c_str()), 0) << folder;
}

std::string CgroupWorld::Make(const std::string& path) {
  fs::create_directories(root_ + "/" + path);
  return root_ + "/" + path;
}

void CgroupWorld::Remove(const std::string& path) { EXPECT_EQ(::rmdir((root_ + "/" + path).c_str()), 0) << path; }

pid_t CgroupWorld::Start(const std::string& cgroup, const std::string& netns) {
  int ready[2];
  EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
  const pid_t process = ::fork();
  if (process == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const Fd procs(::open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    bool done = ::write(procs.get(), "0", 1) == 1;
    if (!netns.empty()) {
      const Fd fd(::open(netns.c_str(), O_RDONLY | O_CLOEXEC));
      done = done && ::setns(fd.get(), CLONE_NEWNET) == 0;
    }
    if (!done || ::write(ready[1], "x", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  ::close(ready[1]);
  char byte = 0;
  EXPECT_EQ(::read(ready[0], &byte, 1), 1) << "the process could not enter " << cgroup << " or " << netns;
  ::close(ready[0]);
  processes_.push_back(process);
  return process;
}

void CgroupWorld::End(pid_t process) {
  ::kill(process, SIGKILL);
  ::waitpid(process, nullptr, 0);
  std::erase(processes_, process);
}

}  // namespace egress::node
