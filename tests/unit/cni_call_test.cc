// Answers of egress-cni as the CNI specification 1.1.0 has them.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cmd/egress-cni/call.h"

namespace egress::cni {
namespace {

using nlohmann::json;

std::optional<Call> added, deleted;

constexpr Actions kActions = {[](const Call& call) { added = call; }, [](const Call& call) { deleted = call; }};

// Spaces, key order and a number that no parser writes back: it has to come out as it went in.
constexpr const char* kPrevious =
    R"({ "ips":[{"address": "10.244.1.5/24","gateway":"10.244.1.1","interface":1},)"
    R"({"address":"fd00:10:244:1::5/64", "interface":1}, {"address":"10.244.1.1/24","interface":0}],)"
    "\n\t"
    R"("cniVersion" : "1.0.0", "interfaces":[{"name":"veth1"},{"name":"eth0","sandbox":"/run/netns/x"}],)"
    R"( "mtu": 1.50e3, "text": "}{\"][\\" })";

std::string Configuration(const std::string& version = "1.0.0", const std::string& more = "") {
  return R"({"cniVersion":")" + version + R"(","name":"pods","type":"egress-cni","socket":"/run/egressd/cni.sock",)" +
         R"("known":"/var/lib/egressd/cni.json","systemNamespaces":["kube-system"],"prevResult":)" + kPrevious + more +
         "}";
}

Environment Of(const std::string& command) {
  return {
      command, "0123abc", "/run/netns/x", "eth0",
      "IgnoreUnknown=1;K8S_POD_NAMESPACE=curl;K8S_POD_NAME=curl-1;K8S_POD_INFRA_CONTAINER_ID=0123abc;K8S_POD_UID=u-1"};
}

Answer Call1(const Environment& environment, const std::string& input) {
  added.reset();
  deleted.reset();
  return Run(environment, input, kActions);
}

void ExpectFailure(const Answer& answer, int code, const std::string& version = "1.0.0") {
  EXPECT_NE(answer.status, 0);
  const json text = json::parse(answer.text);
  EXPECT_EQ(text["cniVersion"], version);
  EXPECT_EQ(text["code"], code) << answer.text;
  EXPECT_TRUE(text["msg"].is_string() && !text["msg"].get<std::string>().empty());
  EXPECT_FALSE(added || deleted);
}

TEST(CniCall, AddHandsThePreviousResultOnByteByByte) {
  for (const char* version : {"0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    const Answer answer = Call1(Of("ADD"), Configuration(version));
    EXPECT_EQ(answer.status, 0);
    EXPECT_EQ(answer.text, std::string(kPrevious) + "\n") << version;
  }
}

TEST(CniCall, AddKnowsThePodItsAddressesAndTheAgent) {
  ASSERT_EQ(Call1(Of("ADD"), Configuration()).status, 0);
  ASSERT_TRUE(added);
  EXPECT_EQ(added->pod_namespace, "curl");
  EXPECT_EQ(added->pod_name, "curl-1");
  EXPECT_EQ(added->pod_uid, "u-1");
  EXPECT_EQ(added->socket, "/run/egressd/cni.sock");
  EXPECT_EQ(added->known, "/var/lib/egressd/cni.json");
  EXPECT_EQ(added->system_namespaces, std::vector<std::string>{"kube-system"});
  EXPECT_FALSE(added->audit);
  ASSERT_EQ(added->addresses.size(), 2u);  // not the bridge's
  EXPECT_EQ(added->addresses[0].ToString(), "10.244.1.5");
  EXPECT_EQ(added->addresses[1].ToString(), "fd00:10:244:1::5");
}

TEST(CniCall, AddWithoutPreviousResultIsNoChain) {
  ExpectFailure(Call1(Of("ADD"), R"({"cniVersion":"1.0.0","name":"pods","type":"egress-cni"})"), 7);
}

TEST(CniCall, AStrangePreviousResultIsHandedOnAllTheSame) {
  for (const char* previous : {"{}", R"({"ips":7,"interfaces":"x"})", R"({"ips":[null,{"address":5},{"interface":9}]})",
                               R"({"ips":[{"address":"10.0.0.1/8","interface":99}]})"}) {
    const Answer answer = Call1(Of("ADD"), R"({"cniVersion":"1.0.0","name":"pods","type":"egress-cni","prevResult":)" +
                                               std::string(previous) + "}");
    EXPECT_EQ(answer.status, 0) << answer.text;
    EXPECT_EQ(answer.text, std::string(previous) + "\n");
    EXPECT_TRUE(added);
  }
}

TEST(CniCall, DelSaysNothingAndNeedsNeitherNetnsNorPreviousResult) {
  Environment environment = Of("DEL");
  environment.netns.clear();
  const Answer answer = Call1(environment, R"({"cniVersion":"0.3.1","name":"pods","type":"egress-cni"})");
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.text, "");
  ASSERT_TRUE(deleted);
  EXPECT_EQ(deleted->environment.container_id, "0123abc");
}

TEST(CniCall, CheckGcAndStatusSucceedFromTheVersionThatHasThem) {
  struct Case {
    const char* command;
    const char* since;
    const char* before;
  };
  for (const auto& [command, since, before] :
       {Case{"CHECK", "0.4.0", "0.3.1"}, Case{"GC", "1.1.0", "1.0.0"}, Case{"STATUS", "1.1.0", "1.0.0"}}) {
    const Answer answer = Call1(Of(command), Configuration(since));
    EXPECT_EQ(answer.status, 0) << command << answer.text;
    EXPECT_EQ(answer.text, "");
    ExpectFailure(Call1(Of(command), Configuration(before)), 1, before);
  }
  Environment bare;
  bare.command = "GC";
  EXPECT_EQ(Call1(bare, Configuration("1.1.0", R"(,"cni.dev/valid-attachments":[])")).status, 0);
}

TEST(CniCall, VersionListsAllThatAreSpoken) {
  Environment environment;
  environment.command = "VERSION";
  for (const auto& [input, expected] : {std::pair{R"({"cniVersion":"0.4.0"})", "0.4.0"}, std::pair{"", "1.1.0"}}) {
    const Answer answer = Call1(environment, input);
    EXPECT_EQ(answer.status, 0);
    const json text = json::parse(answer.text);
    EXPECT_EQ(text["cniVersion"], expected);
    EXPECT_EQ(text["supportedVersions"], json({"0.3.1", "0.4.0", "1.0.0", "1.1.0"}));
  }
}

TEST(CniCall, WhatIsMissingInTheEnvironmentIsNamed) {
  for (auto member : {&Environment::container_id, &Environment::netns, &Environment::interface}) {
    Environment environment = Of("ADD");
    (environment.*member).clear();
    const Answer answer = Call1(environment, Configuration());
    ExpectFailure(answer, 4);
    EXPECT_NE(json::parse(answer.text)["details"].get<std::string>().find("CNI_"), std::string::npos);
  }
  Environment environment = Of("ADD");
  environment.container_id = "../x";
  ExpectFailure(Call1(environment, Configuration()), 4);
  environment = Of("ADD");
  environment.interface = "a/b";
  ExpectFailure(Call1(environment, Configuration()), 4);
  ExpectFailure(Call1(Of("UPDATE"), Configuration()), 4);
  ExpectFailure(Call1(Of(""), Configuration()), 4);
}

TEST(CniCall, AConfigurationThatIsNotUnderstoodIsAnErrorOfItsKind) {
  ExpectFailure(Call1(Of("ADD"), "{"), 6, "1.1.0");
  ExpectFailure(Call1(Of("ADD"), "[]"), 6, "1.1.0");
  ExpectFailure(Call1(Of("ADD"), Configuration("0.2.0")), 1, "1.1.0");
  ExpectFailure(Call1(Of("ADD"), Configuration("2.0.0")), 1, "1.1.0");
  ExpectFailure(Call1(Of("ADD"), R"({"cniVersion":"1.0.0","type":"egress-cni","prevResult":{}})"), 7);
}

TEST(CniCall, RawMemberTakesTheLastOfSeveralAtTheTopOnly) {
  EXPECT_EQ(RawMember(R"({"a":{"b":1},"b": [1, "]"] ,"c":2})", "b"), R"([1, "]"])");
  EXPECT_EQ(RawMember(R"({"b":1,"b":2})", "b"), "2");
  EXPECT_EQ(RawMember(R"({"\u0062":true})", "b"), "true");
  EXPECT_EQ(RawMember(R"({"x":"\"b\":1"})", "b"), std::nullopt);
  EXPECT_EQ(RawMember("{}", "b"), std::nullopt);
  EXPECT_EQ(RawMember(" {\n\"b\" :\t-1.5e3\n} ", "b"), "-1.5e3");
}

}  // namespace
}  // namespace egress::cni
