// What is asked of the API server beside lists and watches: Events, the taint of the node, the networks of the cluster.

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "agent/source/cluster_networks.h"
#include "agent/source/event_writer.h"
#include "agent/source/node_taint.h"
#include "tests/unit/source_http_server.h"

namespace egress::source {
namespace {

using Connection = HttpServer::Connection;
using Json = nlohmann::json;
using Request = HttpServer::Request;

class RequestsTest : public ::testing::Test {
 protected:
  // `answer` says the status and body of each request.
  void Serve(std::function<std::pair<int, std::string>(const Request&)> answer) {
    server_ = std::make_unique<HttpServer>([this, answer](const Request& request, const Connection& connection) {
      const auto [status, body] = answer(request);
      connection.Answer(status, body);
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
      return true;
    });
    loop_.emplace(*EventLoop::Create());
    ClusterAccess access;
    access.server = server_->url();
    http_ = std::make_unique<HttpClient>(*loop_, access, "test");
  }

  void TearDown() override {
    http_.reset();
    server_.reset();
  }

  std::vector<Request> Requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

  void RunUntil(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::function<void()> look = [&] {
      if (done() || std::chrono::steady_clock::now() > end) return loop_->Stop();
      loop_->After(std::chrono::milliseconds(2), look);
    };
    look();
    loop_->Run();
    ASSERT_TRUE(done());
  }

  std::unique_ptr<HttpServer> server_;
  std::optional<EventLoop> loop_;
  std::unique_ptr<HttpClient> http_;
  std::mutex mutex_;  // guards what follows
  std::vector<Request> requests_;
};

ObjectEvent Invalid(const std::string& message) {
  return {"policy.openservicemesh.io/v1alpha1", "Egress", {"curl", "wrong"}, "u-1", "7", "Invalid", message, false};
}

TEST_F(RequestsTest, TheSameFindingIsWrittenOnceAndUnderTheSameNameByEveryNode) {
  Serve([](const Request&) { return std::pair(409, std::string(R"({"message":"already exists"})")); });
  std::vector<std::string> problems;
  const auto problem = [&](const std::string& text) { problems.push_back(text); };
  EventWriter one(*loop_, *http_, "node-1", problem);
  EventWriter other(*loop_, *http_, "node-2", problem);
  one.Write(Invalid("spec.hosts: is missing"));
  one.Write(Invalid("spec.hosts: is missing"));
  other.Write(Invalid("spec.hosts: is missing"));
  one.Write(Invalid("spec.ports: is missing"));
  RunUntil([&] { return Requests().size() == 3; });
  std::map<std::string, int> names;
  for (const Request& request : Requests()) {
    EXPECT_EQ(request.method + " " + request.target, "POST /api/v1/namespaces/curl/events");
    const Json event = Json::parse(request.body);
    ++names[event["metadata"]["name"]];
    EXPECT_EQ(event["involvedObject"]["uid"], "u-1");
    EXPECT_EQ(event["reason"], "Invalid");
  }
  ASSERT_EQ(names.size(), 2U);
  EXPECT_EQ(names.begin()->second + names.rbegin()->second, 3);
  EXPECT_TRUE(problems.empty());
}

TEST_F(RequestsTest, AnEventThatCannotBeWrittenIsTriedAgainAndAForbiddenOneIsToldOnce) {
  std::atomic<int> asked = 0;
  Serve([&](const Request& request) {
    if (request.body.find("hosts") != std::string::npos) {
      return std::pair(asked++ == 0 ? 503 : 201, std::string("{}"));
    }
    return std::pair(403, std::string(R"({"message":"events is forbidden"})"));
  });
  std::vector<std::string> problems;
  EventWriter writer(*loop_, *http_, "node-1", [&](const std::string& text) { problems.push_back(text); });
  writer.Write(Invalid("spec.hosts: is missing"));
  writer.Write(Invalid("first"));
  writer.Write(Invalid("second"));
  RunUntil([&] { return Requests().size() == 4 && asked == 2; });
  ASSERT_EQ(problems.size(), 1U);
  EXPECT_NE(problems[0].find("events is forbidden"), std::string::npos);
}

TEST_F(RequestsTest, ALongMessageIsCutBetweenCharacters) {
  Serve([](const Request&) { return std::pair(201, std::string("{}")); });
  EventWriter writer(*loop_, *http_, "node-1", [](const std::string&) {});
  std::string message = "x";
  for (int i = 0; i < 1000; ++i) message += "\xc3\xa4";
  writer.Write(Invalid(message));
  RunUntil([&] { return Requests().size() == 1; });
  const std::string sent = Json::parse(Requests()[0].body)["message"];
  EXPECT_LE(sent.size(), 1024U);
  EXPECT_TRUE(sent.ends_with("\xc3\xa4 ..."));
}

TEST_F(RequestsTest, OnlyTheTaintOfTheAgentIsTakenOffTheNode) {
  Serve([](const Request& request) {
    if (request.method == "PATCH") return std::pair(200, std::string("{}"));
    return std::pair(200,
                     std::string(R"({"spec": {"taints": [{"key": "egressd.io/agent-not-ready", "effect": "NoSchedule"},
        {"key": "other", "effect": "NoExecute"}, {"key": "egressd.io/agent-not-ready", "effect": "NoExecute"}]}})"));
  });
  std::optional<bool> done;
  RemoveNotReadyTaint(*http_, "node-1", [&](const Result<void>& result) { done = result.ok(); });
  RunUntil([&] { return done.has_value(); });
  EXPECT_TRUE(*done);
  ASSERT_EQ(Requests().size(), 2U);
  const Request patch = Requests()[1];
  EXPECT_EQ(patch.target, "/api/v1/nodes/node-1");
  EXPECT_EQ(patch.headers.at("content-type"), "application/json-patch+json");
  EXPECT_EQ(Json::parse(patch.body), Json::parse(R"([
      {"op": "test", "path": "/spec/taints/2", "value": {"key": "egressd.io/agent-not-ready", "effect": "NoExecute"}},
      {"op": "remove", "path": "/spec/taints/2"},
      {"op": "test", "path": "/spec/taints/0", "value": {"key": "egressd.io/agent-not-ready", "effect": "NoSchedule"}},
      {"op": "remove", "path": "/spec/taints/0"}])"));
}

TEST_F(RequestsTest, ANodeWithoutTheTaintIsLeftAlone) {
  Serve([](const Request&) { return std::pair(200, std::string(R"({"spec": {"taints": [{"key": "other"}]}})")); });
  std::optional<bool> done;
  RemoveNotReadyTaint(*http_, "node-1", [&](const Result<void>& result) { done = result.ok(); });
  RunUntil([&] { return done.has_value(); });
  EXPECT_TRUE(*done);
  EXPECT_EQ(Requests().size(), 1U);
}

TEST_F(RequestsTest, TheNetworksOfTheClusterAreRead) {
  Serve([](const Request& request) {
    if (request.target.starts_with("/api/v1/nodes?")) {
      return std::pair(200, std::string(R"({"metadata": {}, "items": [
          {"metadata": {"name": "a"}, "spec": {"podCIDRs": ["10.244.0.0/24", "fd00:1::/64"]},
           "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "a"}]}},
          {"metadata": {"name": "b"}, "spec": {"podCIDR": "10.245.3.0/24"}}]})"));
    }
    if (request.target.find("servicecidrs") != std::string::npos) return std::pair(404, std::string("{}"));
    return std::pair(200, std::string(R"({"spec": {"clusterIPs": ["10.96.0.1"]}})"));
  });
  std::optional<ClusterNetworks> networks;
  ReadClusterNetworks(*http_, [&](ClusterNetworks read) { networks = std::move(read); });
  RunUntil([&] { return networks.has_value(); });
  std::string probable;
  for (const Prefix& prefix : ProbableMesh(*networks)) probable += prefix.ToString() + " ";
  EXPECT_EQ(probable, "10.244.0.0/15 10.96.0.0/16 fd00:1::/48 ");
  EXPECT_TRUE(MeshWarnings(*networks, ProbableMesh(*networks)).empty());
  const auto warnings = MeshWarnings(*networks, {*ParsePrefix("192.0.0.0/8"), *ParsePrefix("10.244.0.0/16")});
  ASSERT_EQ(warnings.size(), 3U);
  EXPECT_EQ(warnings[0].find("meshCIDRs covers 192.0.2.1 of node a"), 0U) << warnings[0];
  EXPECT_EQ(warnings[1].find("meshCIDRs misses the pod network fd00:1::/64 of node a (and 1 more)"), 0U) << warnings[1];
  EXPECT_EQ(warnings[2].find("meshCIDRs misses 10.96.0.1 of the Service kubernetes"), 0U) << warnings[2];
}

}  // namespace
}  // namespace egress::source
