// The pods of a node as egressd follows them on a cluster: from the object to the network namespace and back.
#include "cmd/egressd/node_pods.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "tests/e2e/node_cgroup_world.h"
#include "tests/e2e/node_world.h"

namespace egress::agent {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUid = "0a1b2c3d-1111-2222-3333-444455556666";

class NodePodsOnACluster : public testing::Test {
 protected:
  void SetUp() override {
    NodePods::Callbacks callbacks{[this](const NodePod& pod) { present_ = pod; },
                                  [this](const NodePod& pod, bool over) {
                                    gone_ = {pod.interface.cookie, over};
                                  },
                                  [this](const NodePod& pod) { released_ = pod.interface.cookie; },
                                  [](const std::string& problem) { ADD_FAILURE() << problem; }};
    node::PodLocator::Folders folders{cgroups_.root(), fs::path(world_.Path("a")).parent_path(), world_.Path("cache")};
    auto pods = NodePods::Create(loop_, std::move(callbacks), std::move(folders));
    ASSERT_TRUE(pods.ok()) << pods.error().message;
    pods_ = *std::move(pods);
  }

  static std::shared_ptr<policy::Pod> Object(const std::string& name = "client", const std::string& uid = kUid) {
    auto pod = std::make_shared<policy::Pod>();
    pod->id = {"curl", name};
    pod->uid = uid;
    pod->service_account = {"curl", "curl"};
    pod->netns_path = "/proc/self/ns/net";  // what a pod says of itself means nothing here
    return pod;
  }

  void Apply(const std::shared_ptr<policy::Pod>& pod) { pods_->Update(pod->id, {pod, true, ""}); }

  // Runs the loop until `done`; false after five seconds.
  bool Until(const std::function<bool()>& done) {
    bool late = false;
    const auto timer = loop_.After(std::chrono::seconds(5), [&] {
      late = true;
      loop_.Stop();
    });
    std::function<void()> look = [&] {
      if (done() || late) {
        loop_.Stop();
      } else {
        loop_.After(std::chrono::milliseconds(1), look);
      }
    };
    loop_.Post(look);
    loop_.Run();
    loop_.Cancel(timer);
    return !late;
  }

  std::string Container(const std::string& uid = kUid) { return cgroups_.Make("kubepods/pod" + uid + "/c1"); }
  static std::uint64_t CookieOf(const std::string& path) { return node::NetnsCookie(*node::OpenNetns(path)).value(); }
  node::Sandbox SandboxAt(const std::string& name, const std::string& container = "s1", const std::string& uid = kUid) {
    return {container, "curl", "client", uid, "/var/run/netns/" + name, {*ParseAddress("192.0.2.10")}, {}};
  }

  node::World world_;
  node::CgroupWorld cgroups_;
  EventLoop loop_ = std::move(EventLoop::Create().value());
  std::unique_ptr<NodePods> pods_;
  NodePod present_;
  std::pair<std::uint64_t, bool> gone_;
  std::uint64_t released_ = 0;
};

TEST_F(NodePodsOnACluster, APodIsThereAsSoonAsAProcessIsInItsCgroup) {
  const std::string path = world_.AddPod("a", 10);
  Apply(Object());
  EXPECT_TRUE(pods_->waiting().contains({"curl", "client"}));
  cgroups_.Start(Container(), path);
  ASSERT_TRUE(Until([&] { return present_.object != nullptr; }));
  EXPECT_EQ(present_.interface.cookie, CookieOf(path));
  EXPECT_EQ(present_.interface.host_name, "v-a");
  EXPECT_TRUE(present_.interface.guarded);
  EXPECT_EQ(present_.netns_path, path);
  EXPECT_EQ(present_.cgroup_path, cgroups_.root() + "/kubepods/pod" + kUid);
  EXPECT_TRUE(pods_->waiting().empty());
}

TEST_F(NodePodsOnACluster, ThePluginsWordIsEnoughAtOnce) {
  const std::string path = world_.AddPod("a", 10);
  Apply(Object());
  pods_->AddSandbox(SandboxAt("a"));
  ASSERT_NE(present_.object, nullptr);
  EXPECT_EQ(present_.interface.cookie, CookieOf(path));
  EXPECT_EQ(present_.given, std::vector{*ParseAddress("192.0.2.10")});
}

TEST_F(NodePodsOnACluster, ThePluginMaySpeakBeforeTheObjectIsKnown) {
  world_.AddPod("a", 10);
  pods_->AddSandbox(SandboxAt("a"));
  EXPECT_EQ(present_.object, nullptr);
  Apply(Object());
  EXPECT_NE(present_.object, nullptr);
}

TEST_F(NodePodsOnACluster, ANewSandboxReplacesTheOldWhichStaysGovernedUntilItsInterfaceGoes) {
  const std::string old = world_.AddPod("a", 10);
  const auto old_cookie = CookieOf(old);
  Apply(Object());
  pods_->AddSandbox(SandboxAt("a"));
  const std::string path = world_.AddPod("b", 11);
  pods_->AddSandbox(SandboxAt("b", "s2"));
  EXPECT_EQ(present_.interface.cookie, CookieOf(path));
  EXPECT_EQ(pods_->present().size(), 2U);
  pods_->RemoveSandbox("s1");
  world_.Run("ip link del v-a");
  ASSERT_TRUE(Until([&] { return gone_.first == old_cookie; }));
  EXPECT_TRUE(gone_.second);
  EXPECT_EQ(pods_->present().size(), 1U);
}

TEST_F(NodePodsOnACluster, APodDeletedByForceStaysGovernedWhileItRuns) {
  const std::string path = world_.AddPod("a", 10);
  const auto cookie = CookieOf(path);
  Apply(Object());
  const pid_t process = cgroups_.Start(Container(), path);
  ASSERT_TRUE(Until([&] { return present_.object != nullptr; }));
  pods_->Update({"curl", "client"}, {});
  ASSERT_TRUE(pods_->present().contains(cookie));
  EXPECT_TRUE(pods_->present().at(cookie).object_gone);
  cgroups_.End(process);
  world_.RemoveNetns("a");
  present_ = {};  // which would hold the namespace
  ASSERT_TRUE(Until([&] { return gone_.first == cookie; }));
  EXPECT_TRUE(gone_.second);
}

TEST_F(NodePodsOnACluster, ASuccessorOfTheSameNameIsAPodOfItsOwn) {
  const std::string old = world_.AddPod("a", 10);
  const auto old_cookie = CookieOf(old);
  Apply(Object());
  pods_->AddSandbox(SandboxAt("a"));
  Apply(Object("client", "99999999-1111"));
  EXPECT_TRUE(pods_->present().at(old_cookie).object_gone);
  EXPECT_TRUE(pods_->waiting().contains({"curl", "client"}));
  const std::string path = world_.AddPod("b", 11);
  pods_->AddSandbox(SandboxAt("b", "s2", "99999999-1111"));
  EXPECT_EQ(present_.interface.cookie, CookieOf(path));
  EXPECT_TRUE(pods_->present().contains(old_cookie));
}

TEST_F(NodePodsOnACluster, ASourceThatFallsSilentMovesNoPod) {
  const std::string path = world_.AddPod("a", 10);
  Apply(Object());
  pods_->AddSandbox(SandboxAt("a"));
  pods_->RemoveSandbox("s1");
  Apply(Object());
  EXPECT_FALSE(pods_->present().at(CookieOf(path)).object_gone);
  EXPECT_EQ(released_, 0U);
}

TEST_F(NodePodsOnACluster, TheMirrorOfAStaticPodIsFoundByItsHashUnlessThatIsAnothersUid) {
  const std::string path = world_.AddPod("a", 10);
  pods_->AddSandbox(SandboxAt("a", "s1", "0123abcd"));
  const auto mirror = Object("client", "99999999-1111");
  mirror->config_hash = "0123abcd";
  Apply(mirror);
  EXPECT_EQ(present_.interface.cookie, CookieOf(path));
  pods_->Update(mirror->id, {});
  Apply(Object("other", "0123abcd"));  // the pod that really has it
  EXPECT_EQ(pods_->present().at(CookieOf(path)).object->id.name, "other");
  Apply(mirror);
  EXPECT_EQ(pods_->present().at(CookieOf(path)).object->id.name, "other");
  EXPECT_TRUE(pods_->waiting().contains(mirror->id));
}

TEST_F(NodePodsOnACluster, TheNamespaceOfTheNodeIsNoPods) {
  Apply(Object());
  cgroups_.Start(Container());
  ASSERT_TRUE(Until([&] {
    const auto waits = pods_->waiting().find({"curl", "client"});
    return waits != pods_->waiting().end() && waits->second.find("of the node") != std::string::npos;
  }));
  EXPECT_TRUE(pods_->present().empty());
}

TEST_F(NodePodsOnACluster, APodThatIsNotGovernedAnyMoreIsLetGo) {
  const std::string path = world_.AddPod("a", 10);
  Apply(Object());
  pods_->AddSandbox(SandboxAt("a"));
  pods_->Update({"curl", "client"}, {Object(), false, "not enrolled"});
  EXPECT_EQ(gone_, std::pair(CookieOf(path), false));
  EXPECT_TRUE(pods_->present().empty());
}

}  // namespace
}  // namespace egress::agent
