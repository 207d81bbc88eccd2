#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "agent/node/cgroup.h"

namespace egress::node {
namespace {

namespace fs = std::filesystem;

constexpr const char* kV2Alone =
    "22 27 0:20 / /proc rw,nosuid shared:5 - proc proc rw\n"
    "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* kHybrid =
    "30 29 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
    "31 30 0:28 / /sys/fs/cgroup/cpu rw shared:3 master:4 - cgroup cgroup rw,cpu\n"
    "32 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
constexpr const char* kPart = "29 22 0:26 /kubepods/podx /sys/fs/cgroup ro - cgroup2 cgroup rw\n";

class Cgroup : public testing::Test {
 protected:
  Cgroup() {
    std::string pattern = fs::temp_directory_path() / "cgroup-XXXXXX";
    proc_ = ::mkdtemp(pattern.data());
  }
  ~Cgroup() override { fs::remove_all(proc_); }

  void Proc(const std::string& mountinfo, const std::string& cgroup = "0::/\n") {
    std::ofstream(proc_ / "mountinfo") << mountinfo;
    std::ofstream(proc_ / "cgroup") << cgroup;
  }

  fs::path proc_;
};

TEST_F(Cgroup, TheRootIsWhereCgroup2IsMounted) {
  Proc(kV2Alone);
  EXPECT_EQ(*Cgroup2Root(proc_), "/sys/fs/cgroup");
  Proc(kHybrid);
  EXPECT_EQ(*Cgroup2Root(proc_), "/sys/fs/cgroup/unified");
}

TEST_F(Cgroup, AMountOfTheWholeGoesBeforeOneOfAPart) {
  Proc(std::string(kPart) + kHybrid);
  EXPECT_EQ(*Cgroup2Root(proc_), "/sys/fs/cgroup/unified");
}

TEST_F(Cgroup, InACgroupNamespaceTheRootIsAbove) {
  constexpr const char* kOwn = "41 40 0:30 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
  constexpr const char* kNode = "42 40 0:30 /../../.. /node/cgroup rw - cgroup2 cgroup2 rw\n";
  constexpr const char* kSibling = "43 40 0:30 /../../../other /other rw - cgroup2 cgroup2 rw\n";
  Proc(std::string(kOwn) + kSibling + kNode, "0::/\n");
  EXPECT_EQ(*Cgroup2Root(proc_), "/node/cgroup");
  EXPECT_EQ(*OwnCgroup(proc_), "/sys/fs/cgroup");
  Proc(kNode, "0::/\n");
  EXPECT_EQ(*Cgroup2Root(proc_), "/node/cgroup");
  EXPECT_FALSE(OwnCgroup(proc_).ok());
  Proc(kSibling);
  EXPECT_FALSE(Cgroup2Root(proc_).ok());
}

TEST_F(Cgroup, WithoutOneTheErrorSaysWhatToDo) {
  Proc("31 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
  ASSERT_FALSE(Cgroup2Root(proc_).ok());
  EXPECT_NE(Cgroup2Root(proc_).error().message.find("mount -t cgroup2"), std::string::npos);
  Proc(kPart);
  ASSERT_FALSE(Cgroup2Root(proc_).ok());
  EXPECT_NE(Cgroup2Root(proc_).error().message.find("--cgroup-root"), std::string::npos);
  EXPECT_FALSE(Cgroup2Root((proc_ / "nothing").string()).ok());
}

TEST_F(Cgroup, BlanksInPathsAreReadAsTheKernelWritesThem) {
  const auto mounts = Cgroup2Mounts("1 2 0:3 /a\\040b /mnt/c\\134d\\0 rw - cgroup2 none rw\ngarbage\n\n");
  ASSERT_EQ(mounts.size(), 1U);
  EXPECT_EQ(mounts[0].root, "/a b");
  EXPECT_EQ(mounts[0].mount_point, "/mnt/c\\d\\0");
}

TEST_F(Cgroup, TheOwnCgroupIsFoundBelowItsMount) {
  Proc(kHybrid, "2:cpu:/x\n0::/system.slice/egressd.service\n");
  EXPECT_EQ(*OwnCgroup(proc_), "/sys/fs/cgroup/unified/system.slice/egressd.service");
  Proc(kV2Alone, "0::/\n");
  EXPECT_EQ(*OwnCgroup(proc_), "/sys/fs/cgroup");
  Proc(kPart, "0::/kubepods/podx/c1\n");
  EXPECT_EQ(*OwnCgroup(proc_), "/sys/fs/cgroup/c1");
}

TEST_F(Cgroup, AnOwnCgroupThatDoesNotShowIsAnError) {
  Proc(kPart, "0::/kubepods/pody\n");
  EXPECT_FALSE(OwnCgroup(proc_).ok());
  Proc(kV2Alone, "0::/../other\n");
  EXPECT_FALSE(OwnCgroup(proc_).ok());
  Proc(kV2Alone, "2:cpu:/x\n");
  EXPECT_FALSE(OwnCgroup(proc_).ok());
}

TEST(IsBelow, GoesByWholeNames) {
  EXPECT_TRUE(IsBelow("/sys/fs/cgroup/a", "/sys/fs/cgroup"));
  EXPECT_TRUE(IsBelow("/sys/fs/cgroup/", "/sys/fs/cgroup"));
  EXPECT_TRUE(IsBelow("/a", "/"));
  EXPECT_TRUE(IsBelow("/a//b", "/a/"));
  EXPECT_FALSE(IsBelow("/sys/fs/cgroup2", "/sys/fs/cgroup"));
  EXPECT_FALSE(IsBelow("/sys/fs/cgroup/../x", "/sys/fs/cgroup"));
  EXPECT_FALSE(IsBelow("/sys", "/sys/fs/cgroup"));
  EXPECT_FALSE(IsBelow("", "/"));
}

TEST(FileSystem, TheWrongOneIsAnErrorThatSaysWhatToDo) {
  const auto cgroup = CheckCgroup2("/proc");
  ASSERT_FALSE(cgroup.ok());
  EXPECT_NE(cgroup.error().message.find("mount -t cgroup2"), std::string::npos);
  const auto bpf = CheckBpffs("/proc");
  ASSERT_FALSE(bpf.ok());
  EXPECT_NE(bpf.error().message.find("mount -t bpf bpf /sys/fs/bpf"), std::string::npos);
  EXPECT_FALSE(CheckBpffs("/no/such/folder").ok());
  EXPECT_FALSE(IsHierarchyRoot("/proc"));
}

// Where this machine has them: the checks also say yes.
TEST(FileSystem, TheRightOnePasses) {
  const auto root = Cgroup2Root();
  if (!root.ok()) GTEST_SKIP() << root.error().message;
  const auto checked = CheckCgroup2(*root);
  EXPECT_TRUE(checked.ok()) << checked.error().message;
}

}  // namespace
}  // namespace egress::node
