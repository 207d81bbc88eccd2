#include "tests/e2e/node_world.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

namespace egress::node {

World::World() : outside_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  std::string pattern = std::filesystem::temp_directory_path() / "egress-node-XXXXXX";
  folder_ = ::mkdtemp(pattern.data());
  // Without it the commands below would work on the machine's own network.
  if (::unshare(CLONE_NEWNET) != 0) {
    std::perror("a network namespace for the test (needs root)");
    std::abort();
  }
  Run("ip link set lo up");
}

World::~World() {
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    while (::umount2(entry.path().c_str(), MNT_DETACH) == 0) {
    }
  }
  std::filesystem::remove_all(folder_);
  EXPECT_EQ(::setns(outside_.get(), CLONE_NEWNET), 0);
}

void World::TouchNetns(const std::string& name) {
  std::filesystem::create_directories(std::filesystem::path(Path(name)).parent_path());
  const Fd file(::open(Path(name).c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
  ASSERT_TRUE(file.valid());
}

void World::BindNetns(const std::string& name) {
  // In a thread, which alone leaves for the new namespace and ends.
  std::thread([this, &name] {
    ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
    ASSERT_EQ(::mount("/proc/thread-self/ns/net", Path(name).c_str(), nullptr, MS_BIND, nullptr), 0);
  }).join();
}

std::string World::AddNetns(const std::string& name) {
  TouchNetns(name);
  BindNetns(name);
  RunIn(name, "ip link set lo up");
  return Path(name);
}

void World::RemoveNetns(const std::string& name, bool unlink) {
  EXPECT_EQ(::umount2(Path(name).c_str(), MNT_DETACH), 0);
  if (unlink) std::filesystem::remove(Path(name));
}

std::string World::AddPod(const std::string& name, int host) {
  const std::string path = AddNetns(name);
  const std::string device = "v-" + name;
  const std::string number = std::to_string(host);
  Run("ip link add " + device + " type veth peer name eth0 netns " + path);
  Run("ip addr add 192.0.2.1/24 dev " + device + " && ip addr add 2001:db8::1/64 dev " + device + " nodad");
  RunIn(name, "ip addr add 192.0.2." + number + "/24 dev eth0 && ip addr add 2001:db8::" + number +
                  "/64 dev eth0 nodad && ip link set eth0 up");
  Run("ip link set " + device + " up");
  return path;
}

void World::Run(const std::string& command) { EXPECT_EQ(std::system(command.c_str()), 0) << command; }

void World::RunIn(const std::string& name, const std::string& command) {
  Run("nsenter --net=" + Path(name) + " sh -c '" + command + "'");
}

bool WaitReadable(int fd) {
  pollfd waiting{fd, POLLIN, 0};
  return ::poll(&waiting, 1, 5000) == 1;
}

}  // namespace egress::node
