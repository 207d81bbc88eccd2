// From the pods of a cluster to their cgroups and network namespaces, on real ones.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "agent/node/netns.h"
#include "agent/node/pod_cgroups.h"
#include "agent/node/pod_locator.h"
#include "agent/node/process_netns.h"
#include "tests/e2e/node_cgroup_world.h"
#include "tests/e2e/node_world.h"

namespace egress::node {
namespace {

namespace fs = std::filesystem;

constexpr const char* kUid = "0a1b2c3d-1111-2222-3333-444455556666";
constexpr const char* kSlice =
    "kubepods.slice/kubepods-burstable.slice/"
    "kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice";

// Plain folders make the same events as cgroups, and faster where they are in memory.
class Folders {
 public:
  Folders() {
    std::string pattern = (fs::exists("/dev/shm") ? "/dev/shm" : fs::temp_directory_path().string()) + "/node-XXXXXX";
    root_ = ::mkdtemp(pattern.data());
  }
  ~Folders() { fs::remove_all(root_); }
  Folders(const Folders&) = delete;
  Folders& operator=(const Folders&) = delete;
  const std::string& root() const { return root_; }

 private:
  std::string root_;
};

class Cgroups : public testing::Test {
 protected:
  PodCgroups Open(std::vector<std::string> roots) { return std::move(PodCgroups::Create(std::move(roots)).value()); }

  // What is told once something is; empty where nothing comes.
  static std::set<std::string> Told(PodCgroups& cgroups) {
    for (;;) {
      if (!WaitReadable(cgroups.fd())) return {};
      if (auto uids = cgroups.Poll(); !uids.empty()) return uids;
    }
  }

  CgroupWorld world_;
};

TEST_F(Cgroups, APodIsFoundWhereverAKubeletPutsIt) {
  const std::string uid = kUid;
  const std::string folders[] = {
      kSlice,
      "kubepods.slice/kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice",
      "kubepods/pod" + uid,
      "kubepods/besteffort/pod" + uid,
      "kubepods/burstable/pod" + uid,
      "node1/kubepods/burstable/pod" + uid,
      "kubelet/kubepods/besteffort/pod" + uid,
      "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
      "kubelet-kubepods-besteffort-pod0a1b2c3d_1111_2222_3333_444455556666.slice",
  };
  for (const std::string& folder : folders) {
    CgroupWorld world;
    {
      auto before = Open({world.root()});
      const std::string path = world.Make(folder);
      EXPECT_EQ(Told(before), std::set{uid}) << folder;
      EXPECT_EQ(before.FoldersOf(uid), std::vector{path});
    }
    auto after = Open({world.root()});  // it was there before the watch
    EXPECT_EQ(after.FoldersOf(uid), std::vector{world.root() + "/" + folder});
    world.Remove(folder);
    EXPECT_EQ(Told(after), std::set{uid}) << folder;
    EXPECT_TRUE(after.FoldersOf(uid).empty());
  }
}

TEST_F(Cgroups, WhatIsNoPodIsNot) {
  const std::string uid = kUid;
  for (const std::string& folder :
       {"pod" + uid, "system.slice/pod" + uid, "burstable/pod" + uid, "x.service/kubepods/pod" + uid}) {
    world_.Make(folder);
  }
  EXPECT_TRUE(Open({world_.root()}).Uids().empty());
}

TEST_F(Cgroups, ContainersAndProcessesThatComeAndGoAreTold) {
  const std::string pod = world_.Make(kSlice);
  auto cgroups = Open({world_.root()});
  const std::string container = world_.Make(std::string(kSlice) + "/cri-containerd-c1.scope");
  EXPECT_EQ(Told(cgroups), std::set<std::string>{kUid});
  const pid_t process = world_.Start(container);
  EXPECT_EQ(Told(cgroups), std::set<std::string>{kUid});
  world_.End(process);
  EXPECT_EQ(Told(cgroups), std::set<std::string>{kUid});
  world_.Remove(std::string(kSlice) + "/cri-containerd-c1.scope");
  EXPECT_EQ(Told(cgroups), std::set<std::string>{kUid});
}

TEST_F(Cgroups, Cgroup2GoesBeforeV1AndEitherIsFound) {
  CgroupWorld other;
  const std::string first = world_.Make("kubepods/pod" + std::string(kUid));
  const std::string second = other.Make("kubepods/pod" + std::string(kUid));
  other.Make("kubepods/podonly-there");
  auto cgroups = Open({world_.root(), other.root()});
  EXPECT_EQ(cgroups.FoldersOf(kUid), (std::vector{first, second}));
  EXPECT_EQ(cgroups.FoldersOf("only-there").size(), 1U);
}

TEST_F(Cgroups, V1IsLookedAtWhereCgroup2HasNoPods) {
  const Folders proc;
  const Folders without;
  const Folders with;
  fs::create_directories(with.root() + "/node1/kubepods/burstable");
  std::ofstream(proc.root() + "/mountinfo") << "31 30 0:28 / " << without.root() << " rw - cgroup cgroup rw,cpu\n"
                                            << "32 30 0:29 / " << with.root() << " rw - cgroup cgroup rw,pids\n";
  EXPECT_EQ(PodCgroupRoots(world_.root(), proc.root()), (std::vector{world_.root(), with.root()}));
  world_.Make("kubepods");
  EXPECT_EQ(PodCgroupRoots(world_.root(), proc.root()), std::vector{world_.root()});
}

TEST_F(Cgroups, LostEventsMakeEverythingToBeLookedAtAgain) {
  const Folders files;
  const std::string pods = files.root() + "/kubepods";
  fs::create_directory(pods);
  fs::create_directory(pods + "/podgone");
  auto cgroups = Open({files.root()});
  EXPECT_EQ(cgroups.Uids(), std::set<std::string>{"gone"});
  std::ifstream limit("/proc/sys/fs/inotify/max_queued_events");
  int queued = 0;
  limit >> queued;
  for (int i = 0; i <= queued / 2; ++i) {
    fs::create_directory(pods + "/x");
    fs::remove(pods + "/x");
  }
  fs::remove(pods + "/podgone");
  fs::create_directory(pods + "/podnew");
  EXPECT_EQ(cgroups.Poll(), (std::set<std::string>{"gone", "new"}));
  EXPECT_EQ(cgroups.Uids(), std::set<std::string>{"new"});
  fs::create_directory(pods + "/podnext");
  EXPECT_EQ(Told(cgroups), std::set<std::string>{"next"});
}

TEST_F(Cgroups, WatchesAreBoundedAndWhatIsLeftOutIsSaid) {
  const Folders files;
  for (std::size_t i = 0; i < PodCgroups::kMaxParents; ++i)
    fs::create_directory(files.root() + "/x" + std::to_string(i));
  auto cgroups = Open({files.root()});
  const auto problems = cgroups.TakeProblems();
  ASSERT_FALSE(problems.empty());
  EXPECT_NE(problems[0].find("--cgroup-root"), std::string::npos) << problems[0];
}

class Locator : public testing::Test {
 protected:
  void SetUp() override {
    fs::create_directory(world_.Path("results"));
    auto opened = PodLocator::Open({cgroups_.root(), fs::path(world_.Path("a")).parent_path(), world_.Path("results")});
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    locator_ = *std::move(opened);
  }

  std::string Container() { return cgroups_.Make(std::string(kSlice) + "/cri-containerd-c1.scope"); }

  // As libcni writes it: in one go, into the file itself.
  void Cache(const std::string& netns, const std::string& uid = kUid, const std::string& file = "net-c1-eth0",
             const std::string& annotation = "") {
    std::ofstream(world_.Path("results") + "/" + file)
        << R"({"kind":"cniCacheV1","containerId":")" << file << R"(","ifName":"eth0","cniArgs":[)"
        << R"(["K8S_POD_NAMESPACE","curl"],["K8S_POD_NAME","client"],["K8S_POD_UID",")" << uid << R"("]],)"
        << R"("result":{"interfaces":[{"name":"eth0","sandbox":")" << netns
        << R"("}],"ips":[{"address":"192.0.2.10/24"}]},)"
        << R"("capabilityArgs":{"io.kubernetes.cri.pod-annotations":{"netns":")" << annotation << R"("}}})";
  }

  Result<PodLocator::Place> Find(std::vector<Address> addresses = {}) {
    locator_->Poll();
    return locator_->Find({"curl", "client", kUid, static_uid_, std::move(addresses)},
                          [this](std::uint64_t cookie) { return taken_.contains(cookie); });
  }

  // Waits until something is told of the pod.
  bool Told() {
    while (WaitReadable(locator_->fd())) {
      if (locator_->Poll().Concern({"curl", "client", kUid, "", {}})) return true;
    }
    return false;
  }

  static std::uint64_t CookieOf(const std::string& path) { return NetnsCookie(*OpenNetns(path)).value(); }
  static std::uint64_t CookieOf(const PodLocator::Place& place) { return NetnsCookie(*place.netns).value(); }

  World world_;
  CgroupWorld cgroups_;
  std::unique_ptr<PodLocator> locator_;
  std::set<std::uint64_t> taken_;
  std::string static_uid_;
};

TEST_F(Locator, AProcessInTheCgroupLeadsToTheNamespace) {
  const std::string path = world_.AddPod("a", 10);
  EXPECT_FALSE(Find().ok());
  cgroups_.Start(Container(), path);
  EXPECT_TRUE(Told());
  const auto place = Find();
  ASSERT_TRUE(place.ok()) << place.error().message;
  EXPECT_EQ(CookieOf(*place), CookieOf(path));
  EXPECT_EQ(place->path, path) << "where it is bound, which outlives the process";
  EXPECT_EQ(place->cgroup, cgroups_.root() + "/" + kSlice);
  EXPECT_EQ(place->conflict, "");
}

TEST_F(Locator, ANamespaceThatIsBoundNowhereIsHeldAllTheSame) {
  const std::string path = world_.AddPod("a", 10);
  const auto cookie = CookieOf(path);
  const pid_t process = cgroups_.Start(Container(), path);
  world_.RemoveNetns("a");
  const auto place = Find();
  ASSERT_TRUE(place.ok()) << place.error().message;
  EXPECT_TRUE(place->path.starts_with("/proc/"));
  cgroups_.End(process);
  EXPECT_EQ(CookieOf(*place), cookie);
  EXPECT_FALSE(Find().ok());
}

TEST_F(Locator, ANestedNamespaceIsNotThePods) {
  const std::string path = world_.AddPod("a", 10);
  const std::string nested = world_.AddNetns("nested");
  const std::string deep = cgroups_.Make(std::string(kSlice) + "/cri-containerd-c0.scope/init.scope");
  cgroups_.Start(deep, nested);
  world_.RemoveNetns("nested");
  cgroups_.Start(Container(), path);
  EXPECT_EQ(CookieOf(*Find()), CookieOf(path));
  const auto cookie = CookieOf(path);
  world_.RemoveNetns("a");  // then it is the one with a link to the node
  EXPECT_EQ(CookieOf(*Find()), cookie);
}

TEST_F(Locator, AProcessInTheNodesNamespaceIsNoPodThere) {
  cgroups_.Start(Container());
  const auto place = Find();
  ASSERT_FALSE(place.ok());
  EXPECT_NE(place.error().message.find("network namespace of the node"), std::string::npos) << place.error().message;
  Cache("/proc/self/ns/net");
  EXPECT_FALSE(Find().ok());
}

TEST_F(Locator, TheMonitorOfAContainerIsNotThePod) {
  cgroups_.Start(cgroups_.Make(std::string(kSlice) + "/crio-conmon-c1.scope"));
  const auto place = Find();
  ASSERT_FALSE(place.ok());
  EXPECT_EQ(place.error().message, "no sandbox yet");
}

TEST_F(Locator, ProcessesOfAnotherPidNamespaceAreHidden) {
  const std::string container = Container();
  cgroups_.Start(container, world_.AddPod("a", 10));
  // In a pid namespace of its own, as an agent without hostPID is.
  const pid_t child = ::fork();
  if (child == 0) {
    if (::unshare(CLONE_NEWPID) != 0) ::_exit(9);
    const pid_t inner = ::fork();
    if (inner == 0) {
      const auto found = ProcessesOf(std::vector{container}, *CurrentNetns());
      ::_exit(found.hidden && found.namespaces.empty() && !found.in_node_netns ? 0 : 1);
    }
    int status = 0;
    ::waitpid(inner, &status, 0);
    ::_exit(WEXITSTATUS(status));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_FALSE(ProcessesOf(std::vector{container}, *CurrentNetns()).hidden);
}

TEST_F(Locator, TheCacheOfTheCniNamesTheNamespaceBeforeThereIsAProcess) {
  const std::string path = world_.AddPod("a", 10);
  Cache("/var/run/netns/a");
  EXPECT_TRUE(Told());
  const auto place = Find();
  ASSERT_TRUE(place.ok()) << place.error().message;
  EXPECT_EQ(CookieOf(*place), CookieOf(path));
  EXPECT_EQ(place->path, path);
  EXPECT_EQ(place->addresses, std::vector{*ParseAddress("192.0.2.10")});
  fs::remove(world_.Path("results") + "/net-c1-eth0");
  EXPECT_TRUE(Told());
  EXPECT_FALSE(Find().ok());
}

TEST_F(Locator, WhatAPodBringsIntoTheCacheHidesNothing) {
  world_.AddPod("a", 10);
  std::string annotation;
  for (int i = 0; i < 256 << 10; ++i) annotation += "\\u003c";
  Cache("/run/netns/a", kUid, "net-c1-eth0", annotation);
  EXPECT_TRUE(Find().ok());
}

TEST_F(Locator, TheCacheMayComeWithItsFolder) {
  fs::remove(world_.Path("results"));
  Locator::SetUp();
  fs::remove(world_.Path("results"));
  locator_->Poll();
  world_.AddPod("a", 10);
  fs::create_directory(world_.Path("results"));
  Cache("/run/netns/a");
  EXPECT_TRUE(Told());
  EXPECT_TRUE(Find().ok());
}

TEST_F(Locator, AnotherPodOfTheSameNameIsNotMeant) {
  world_.AddPod("a", 10);
  Cache("/run/netns/a", "99999999-1111-2222-3333-444455556666");  // the one before it
  EXPECT_FALSE(Find().ok());
  static_uid_ = "99999999-1111-2222-3333-444455556666";
  EXPECT_TRUE(Find().ok()) << "the mirror of a static pod";
}

TEST_F(Locator, TheNewestSandboxCounts) {
  world_.AddPod("a", 10);
  const std::string path = world_.AddPod("b", 11);
  Cache("/run/netns/a", kUid, "net-c1-eth0");
  Cache("/run/netns/b", kUid, "net-c0-eth0");
  fs::last_write_time(world_.Path("results") + "/net-c1-eth0",
                      fs::file_time_type::clock::now() - std::chrono::minutes(1));
  Locator::SetUp();
  EXPECT_EQ(CookieOf(*Find()), CookieOf(path));
}

TEST_F(Locator, ThePluginsWordCountsUntilItIsTakenBack) {
  const std::string path = world_.AddPod("a", 10);
  locator_->AddSandbox({"c1", "curl", "client", kUid, "/var/run/netns/a", {}, {}});
  EXPECT_EQ(CookieOf(*Find()), CookieOf(path));
  locator_->RemoveSandbox("c0");
  EXPECT_TRUE(Find().ok());
  locator_->RemoveSandbox("c1");
  EXPECT_FALSE(Find().ok());
}

TEST_F(Locator, SourcesThatDisagreeAreAConflict) {
  const std::string path = world_.AddPod("a", 10);
  cgroups_.Start(Container(), world_.AddPod("b", 11));
  Cache("/run/netns/a");
  const auto place = Find();
  ASSERT_TRUE(place.ok());
  EXPECT_EQ(CookieOf(*place), CookieOf(path));
  EXPECT_NE(place->conflict, "");
  cgroups_.Start(Container(), path);
  EXPECT_EQ(Find()->conflict, "") << "one that nests others in its own agrees";
}

TEST_F(Locator, AddressesLeadToTheNamespaceThatHasThemAll) {
  const std::string path = world_.AddPod("a", 10);
  world_.AddPod("b", 11);
  const auto place = Find({*ParseAddress("192.0.2.10"), *ParseAddress("2001:db8::10")});
  ASSERT_TRUE(place.ok()) << place.error().message;
  EXPECT_EQ(CookieOf(*place), CookieOf(path));
  EXPECT_EQ(place->conflict, "");
  EXPECT_FALSE(Find({*ParseAddress("192.0.2.10"), *ParseAddress("2001:db8::11")}).ok());
  taken_.insert(CookieOf(path));
  EXPECT_FALSE(Find({*ParseAddress("192.0.2.10")}).ok()) << "it is another pod's";
}

TEST_F(Locator, APodThatTakesAnothersAddressDoesNotBecomeThatPod) {
  const std::string path = world_.AddPod("b", 10);
  world_.AddPod("a", 11);
  EXPECT_EQ(CookieOf(*Find({*ParseAddress("192.0.2.10")})), CookieOf(path));
  world_.RunIn("a", "ip addr add 192.0.2.10/24 dev eth0");
  const auto place = Find({*ParseAddress("192.0.2.10")});
  EXPECT_EQ(CookieOf(*place), CookieOf(path));
  EXPECT_EQ(place->conflict, "") << "what a namespace had when it was first seen counts";
}

TEST_F(Locator, ANamespaceThatIsLinkedToAnotherNodeIsNoPodOfThisOne) {
  world_.AddNetns("b");
  world_.AddNetns("other-node");
  world_.RunIn("b", "ip link add eth0 type veth peer name v-b netns " + world_.Path("other-node") +
                        " && ip addr add 192.0.2.10/24 dev eth0 && ip link set eth0 up");
  EXPECT_FALSE(Find({*ParseAddress("192.0.2.10")}).ok());
  const std::string path = world_.AddPod("a", 10);
  const auto place = Find({*ParseAddress("192.0.2.10")});
  ASSERT_TRUE(place.ok()) << place.error().message;
  EXPECT_EQ(CookieOf(*place), CookieOf(path));
  EXPECT_EQ(place->conflict, "");
}

TEST_F(Locator, TwoNamespacesWithTheSameAddressAreAConflict) {
  world_.AddPod("a", 10);
  world_.AddPod("b", 10);
  EXPECT_NE(Find({*ParseAddress("192.0.2.10"), *ParseAddress("2001:db8::10")})->conflict, "");
}

}  // namespace
}  // namespace egress::node
