#include "cmd/egressd/status.h"

#include <gtest/gtest.h>

namespace egress::report {
namespace {

AgentStatus MakeStatus() {
  AgentStatus status;
  status.version = "1.2.3";
  status.source = "manifests in /etc/egressd";
  status.ready = true;
  status.started = "2024-05-01T12:00:00.123Z";
  status.pods_governed = 2;
  status.pods_ungoverned = 1;
  status.policies_valid = 5;
  status.policies_invalid = 4;
  policy::Finding finding;
  finding.severity = policy::Severity::kWarning;
  finding.location = {"a.yaml", 7};
  finding.kind = "Egress";
  finding.object = {"curl", "web"};
  finding.field = "spec.hosts[0]";
  finding.message = "twice";
  status.findings = {finding};
  status.programs = {{"connect4", "/sys/fs/cgroup"}};
  status.features = {{"tcx", "yes (kernel 6.6 and later)"}};
  status.proxy = {"running", 42, 1};
  status.problems = {"p"};
  status.warnings = {"w"};
  status.enforcement = "audit";
  status.generation = 9;
  status.maps = {{"rules", 10, 100}};
  return status;
}

TEST(Status, JsonReadsBackAsItWas) {
  const AgentStatus status = MakeStatus();
  const auto read = StatusFromJson(status.ToJson());
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read->ToJson(), status.ToJson());
  EXPECT_EQ(read->findings, status.findings);
  EXPECT_EQ(read->programs, status.programs);
  EXPECT_EQ(read->maps, status.maps);
  EXPECT_EQ(read->proxy, status.proxy);
}

TEST(Status, PodReadsBackAsItWas) {
  PodStatus pod{"curl/curl",        true,    "", "curl/curl", {"10.244.1.10"}, "/run/netns/x",
                "/sys/fs/cgroup/x", "veth1", 3,  "guarded",   "note"};
  const auto read = PodStatusFromJson(pod.ToJson());
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(*read, pod);
}

TEST(Status, AnswersOfAnotherVersionAreErrorsNotExceptions) {
  nlohmann::json json = MakeStatus().ToJson();
  json.erase("generation");
  EXPECT_FALSE(StatusFromJson(json).ok());
  json = MakeStatus().ToJson();
  json["ready"] = "yes";
  EXPECT_FALSE(StatusFromJson(json).ok());
  EXPECT_FALSE(StatusFromJson(nlohmann::json::array()).ok());
  EXPECT_FALSE(PodStatusFromJson(nlohmann::json::object()).ok());
}

}  // namespace
}  // namespace egress::report
