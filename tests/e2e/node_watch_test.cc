// What is noticed while it happens: links that come and go, paths of namespaces that appear and change.
#include <gtest/gtest.h>
#include <linux/netlink.h>

#include <filesystem>
#include <string>
#include <vector>

#include "agent/node/link.h"
#include "agent/node/link_monitor.h"
#include "agent/node/netns.h"
#include "agent/node/netns_path_watch.h"
#include "tests/e2e/node_world.h"

namespace egress::node {
namespace {

namespace fs = std::filesystem;

class LinkWatch : public testing::Test {
 protected:
  int HostIfindex(const std::string& name) {
    auto route = NetlinkSocket::Open(NETLINK_ROUTE);
    const auto links = Links(*route);
    for (const Link& link : *links) {
      if (link.name == name) return link.ifindex;
    }
    return 0;
  }

  World world_;
};

TEST_F(LinkWatch, TheRemovalOfALinkIsSeen) {
  world_.AddPod("a", 10);
  const int ifindex = HostIfindex("v-a");
  auto monitor = LinkMonitor::Open();
  ASSERT_TRUE(monitor.ok()) << monitor.error().message;
  world_.RunIn("a", "ip link del eth0");
  bool removed = false;
  while (!removed && WaitReadable(monitor->fd())) {
    const auto changes = monitor->Poll();
    ASSERT_TRUE(changes.ok());
    for (const LinkChange& change : changes->links) removed |= change.removed && change.ifindex == ifindex;
  }
  EXPECT_TRUE(removed);
}

TEST_F(LinkWatch, ANewLinkInAPodIsSeenFromTheNode) {
  auto monitor = LinkMonitor::OpenIn(*OpenNetns(world_.AddPod("a", 10)));
  ASSERT_TRUE(monitor.ok());
  world_.Run("ip link add v-a2 type veth peer name net1 netns " + world_.Path("a"));
  bool seen = false;
  while (!seen && WaitReadable(monitor->fd())) {
    const auto changes = monitor->Poll();
    ASSERT_TRUE(changes.ok());
    for (const LinkChange& change : changes->links) seen |= !change.removed && change.name == "net1";
  }
  EXPECT_TRUE(seen);
}

TEST_F(LinkWatch, LeavingABridgeIsNoRemoval) {
  world_.AddPod("a", 10);
  const int ifindex = HostIfindex("v-a");
  world_.Run("ip link add br0 type bridge && ip link set v-a master br0");
  auto monitor = LinkMonitor::Open();
  world_.Run("ip link set v-a nomaster && ip link add marker type bridge");
  bool marker = false;
  while (!marker && WaitReadable(monitor->fd())) {
    const auto changes = monitor->Poll();
    ASSERT_TRUE(changes.ok());
    for (const LinkChange& change : changes->links) {
      EXPECT_FALSE(change.removed && change.ifindex == ifindex);
      marker |= change.name == "marker";
    }
  }
  EXPECT_TRUE(marker);
}

TEST_F(LinkWatch, MoreLinkChangesThanTheSocketHoldsAskForAResync) {
  auto monitor = LinkMonitor::Open();
  ASSERT_TRUE(monitor.ok());
  world_.Run(
      "i=0; while [ $i -lt 3000 ]; do echo \"link set lo mtu $((60000 + i % 2))\"; i=$((i + 1)); done | "
      "ip -batch -");
  const auto changes = monitor->Poll();
  ASSERT_TRUE(changes.ok());
  EXPECT_TRUE(changes->resync);
  EXPECT_FALSE(monitor->Poll()->resync) << "told once";
}

class PathWatch : public testing::Test {
 protected:
  PathWatch() : watch_(std::move(NetnsPathWatch::Create().value())) {}

  // What is told once something is; empty where nothing comes.
  std::vector<std::string> Told() {
    for (;;) {
      if (!WaitReadable(watch_.fd())) return {};
      if (auto paths = watch_.Poll(); !paths.empty()) return paths;
    }
  }

  World world_;
  NetnsPathWatch watch_;
};

TEST_F(PathWatch, ALatePathIsToldWhenTheNamespaceIsBound) {
  const std::string path = world_.Path("a");
  ASSERT_TRUE(watch_.Add(path).ok());
  EXPECT_TRUE(watch_.Poll().empty());
  world_.TouchNetns("a");
  EXPECT_EQ(Told(), std::vector{path});
  EXPECT_FALSE(OpenNetns(path).ok());
  world_.BindNetns("a");
  EXPECT_EQ(Told(), std::vector{path});
  EXPECT_TRUE(OpenNetns(path).ok());
}

TEST_F(PathWatch, FoldersMayComeLaterToo) {
  const std::string path = world_.Path("x/y/a");
  ASSERT_TRUE(watch_.Add(path).ok());
  fs::create_directory(world_.Path("x"));
  WaitReadable(watch_.fd());
  EXPECT_TRUE(watch_.Poll().empty());
  fs::create_directory(world_.Path("x/y"));
  WaitReadable(watch_.fd());
  EXPECT_TRUE(watch_.Poll().empty());
  fs::create_symlink("/proc/self/ns/net", path);
  EXPECT_EQ(Told(), std::vector{path});
}

TEST_F(PathWatch, AReplacedNamespaceIsToldThoughItsNumberMayBeTheSame) {
  const std::string path = world_.AddNetns("a");
  ASSERT_TRUE(watch_.Add(path).ok());
  for (int i = 0; i < 5; ++i) {
    world_.RemoveNetns("a", false);
    world_.BindNetns("a");
    EXPECT_EQ(Told(), std::vector{path});
  }
}

TEST_F(PathWatch, AVanishedNamespaceIsToldAndOthersAreNot) {
  const std::string path = world_.AddNetns("a");
  ASSERT_TRUE(watch_.Add(path).ok());
  ASSERT_TRUE(watch_.Add(world_.AddNetns("b")).ok());
  world_.RemoveNetns("a");
  EXPECT_EQ(Told(), std::vector{path});
}

TEST_F(PathWatch, ARemovedPathIsNotTold) {
  ASSERT_TRUE(watch_.Add(world_.Path("a")).ok());
  ASSERT_TRUE(watch_.Add(world_.Path("b")).ok());
  watch_.Remove(world_.Path("a"));
  world_.AddNetns("a");
  world_.AddNetns("b");
  EXPECT_EQ(Told(), std::vector{world_.Path("b")});
}

}  // namespace
}  // namespace egress::node
