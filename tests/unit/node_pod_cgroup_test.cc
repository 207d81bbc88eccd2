// What folder names say of pods, and what libcni's cache says.
#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "agent/node/cgroup.h"
#include "agent/node/pod_cgroup_name.h"
#include "agent/node/sandbox.h"

namespace egress::node {
namespace {

constexpr const char* kUid = "0a1b2c3d-1111-2222-3333-444455556666";

TEST(PodUidOf, ReadsEveryDriverAndQosClass) {
  const std::string hash = "d8c4f2a3b5e6978012345678deadbeef";  // of a static pod
  const struct {
    std::string name;
    std::optional<std::string> uid;
  } cases[] = {
      {"pod0a1b2c3d-1111-2222-3333-444455556666", kUid},
      {"kubepods-pod0a1b2c3d_1111_2222_3333_444455556666.slice", kUid},
      {"kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice", kUid},
      {"kubepods-besteffort-pod0a1b2c3d_1111_2222_3333_444455556666.slice", kUid},
      {"kubelet-kubepods-burstable-pod0a1b2c3d_1111_2222_3333_444455556666.slice", kUid},
      {"my-podfarm-kubepods-besteffort-pod0a1b2c3d_1111_2222_3333_444455556666.slice", kUid},
      {"pod" + hash, hash},
      {"kubepods-burstable-pod" + hash + ".slice", hash},
      {"pod", std::nullopt},
      {"kubepods-pod.slice", std::nullopt},
      {"pod0a1b/../x", std::nullopt},
      {"kubepods-burstable.slice", std::nullopt},
      {"burstable", std::nullopt},
      {"system-podx.slice", std::nullopt},
      {"cri-containerd-0a1b.scope", std::nullopt},
      {"pod" + std::string(65, 'a'), std::nullopt},
  };
  for (const auto& [name, uid] : cases) EXPECT_EQ(PodUidOf(name), uid) << name;
}

TEST(KubepodsFolder, IsKnownByItsNameAlone) {
  for (const char* name : {"kubepods", "kubepods.slice", "kubelet-kubepods.slice"}) {
    EXPECT_TRUE(IsKubepodsFolder(name)) << name;
    EXPECT_FALSE(IsQosFolder(name)) << name;
  }
  for (const char* name :
       {"burstable", "besteffort", "kubepods-burstable.slice", "kubelet-kubepods-besteffort.slice"}) {
    EXPECT_TRUE(IsQosFolder(name)) << name;
    EXPECT_FALSE(IsKubepodsFolder(name)) << name;
  }
  for (const char* name : {"system.slice", "mykubepods", "mykubepods.slice", "kubepods.service", "guaranteed"}) {
    EXPECT_FALSE(IsKubepodsFolder(name) || IsQosFolder(name)) << name;
  }
}

TEST(ContainerFolder, TheMonitorOfCriOIsNone) {
  EXPECT_TRUE(IsContainerFolder("cri-containerd-0a1b.scope"));
  EXPECT_TRUE(IsContainerFolder("crio-0a1b.scope"));
  EXPECT_TRUE(IsContainerFolder("0a1b"));
  EXPECT_FALSE(IsContainerFolder("crio-conmon-0a1b.scope"));
}

TEST(Cgroup1Mounts, AreThoseOfWholeHierarchies) {
  const auto mounts = Cgroup1Mounts(
      "31 30 0:28 / /sys/fs/cgroup/cpu rw shared:3 - cgroup cgroup rw,cpu\n"
      "32 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
      "33 30 0:30 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n");
  EXPECT_EQ(mounts, std::vector<std::string>{"/sys/fs/cgroup/cpu"});
}

std::string Cached(const std::string& more, const std::string& interface = "eth0") {
  return R"({"kind":"cniCacheV1","containerId":"c1","config":"e30=","ifName":")" + interface +
         R"(","networkName":"net","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","curl"],)"
         R"(["K8S_POD_NAME","client"],["K8S_POD_UID","u1"]])" +
         more + "}";
}

constexpr const char* kResult =
    R"(,"result":{"cniVersion":"0.3.1","interfaces":[{"name":"veth1","mac":"02:00:00:00:00:01"},)"
    R"({"name":"eth0","sandbox":"/var/run/netns/cni-1"}],)"
    R"("ips":[{"address":"10.0.0.2/24","interface":1},{"address":"fd00::2/64","interface":1},)"
    R"({"address":"10.0.0.1/24","interface":0},{"address":"?"}]})";

TEST(CachedSandbox, NamesThePodItsNamespaceAndItsAddressesWithoutTheNodes) {
  const auto sandbox = ParseCachedSandbox(Cached(kResult));
  ASSERT_TRUE(sandbox.has_value());
  EXPECT_EQ(sandbox->container_id, "c1");
  EXPECT_EQ(sandbox->pod_namespace, "curl");
  EXPECT_EQ(sandbox->pod_name, "client");
  EXPECT_EQ(sandbox->pod_uid, "u1");
  EXPECT_EQ(sandbox->netns, "/var/run/netns/cni-1");
  EXPECT_EQ(sandbox->addresses, (std::vector{*ParseAddress("10.0.0.2"), *ParseAddress("fd00::2")}));
}

TEST(CachedSandbox, NamesTheResolversThatKubeletGave) {
  const auto sandbox = ParseCachedSandbox(
      Cached(std::string(kResult) + R"(,"capabilityArgs":{"dns":{"Servers":["169.254.20.10",7,"x"]}})"));
  ASSERT_TRUE(sandbox.has_value());
  EXPECT_EQ(sandbox->resolvers, std::vector{*ParseAddress("169.254.20.10")});
}

TEST(CachedSandbox, NewerOnesNameTheNamespaceThemselves) {
  const auto sandbox = ParseCachedSandbox(Cached(R"(,"netns":"/run/netns/x")"));
  ASSERT_TRUE(sandbox.has_value());
  EXPECT_EQ(sandbox->netns, "/run/netns/x");
}

TEST(CachedSandbox, WhatIsNoSandboxOfAPodIsPassedOver) {
  const std::string cases[] = {
      "",
      "{",
      "[]",
      "null",
      R"({"kind":"other"})",
      R"({"kind":1})",
      Cached(kResult, "lo"),                                                 // the loopback network
      Cached(""),                                                            // no namespace
      R"({"kind":"cniCacheV1","containerId":"c1","netns":"/run/netns/x"})",  // no pod
      R"({"kind":"cniCacheV1","containerId":"c1","netns":["x"],"cniArgs":{"a":1},"result":[]})",
  };
  for (const std::string& text : cases) EXPECT_FALSE(ParseCachedSandbox(text).has_value()) << text;
}

}  // namespace
}  // namespace egress::node
