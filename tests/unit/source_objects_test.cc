// What becomes of the bytes of the API server: objects cut out of a stream, and trimmed.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "agent/policy/store.h"
#include "agent/source/backoff.h"
#include "agent/source/json_stream.h"
#include "agent/source/resource.h"
#include "agent/source/resource_version.h"

namespace egress::source {
namespace {

using Json = nlohmann::json;

TEST(ListSplitter, CutsTheItemsOutHoweverTheBytesCome) {
  const std::string list = R"({"kind":"L","metadata":{"items":[{"no":1}],"resourceVersion":"5"},)"
                           R"("items":[{"a":"}]\\\"{"}, {"b":{"items":[1,{"c":2}]}} ,{}],"tail":"items"})";
  for (std::size_t step = 1; step <= list.size(); ++step) {
    std::vector<std::string> items;
    ListSplitter splitter([&](std::string item) { items.push_back(std::move(item)); });
    for (std::size_t at = 0; at < list.size(); at += step) {
      EXPECT_FALSE(splitter.Rest().ok());
      ASSERT_TRUE(splitter.Feed(std::string_view(list).substr(at, step)).ok());
    }
    EXPECT_EQ(items, (std::vector<std::string>{R"({"a":"}]\\\"{"})", R"({"b":{"items":[1,{"c":2}]}})", "{}"})) << step;
    ASSERT_TRUE(splitter.Rest().ok());
    const Json rest = Json::parse(*splitter.Rest());
    EXPECT_EQ(rest["metadata"]["resourceVersion"], "5");
    EXPECT_EQ(rest["items"], Json::array());
  }
}

TEST(ListSplitter, AListWithoutItemsIsOne) {
  for (const char* items : {"null", "[]"}) {
    ListSplitter splitter([](const std::string&) { FAIL(); });
    ASSERT_TRUE(splitter.Feed(R"({"items":)" + std::string(items) + R"(,"metadata":{}})").ok());
    EXPECT_TRUE(splitter.Rest().ok());
  }
}

TEST(ListSplitter, WhatNeverEndsIsGivenUp) {
  ListSplitter splitter([](const std::string&) { FAIL(); });
  ASSERT_TRUE(splitter.Feed(R"({"items":[{"a":")").ok());
  const std::string chunk(std::size_t{1} << 20, 'x');
  Result<void> done;
  int chunks = 0;
  for (; done.ok() && chunks < 100; ++chunks) done = splitter.Feed(chunk);
  EXPECT_LE(chunks, 9);
}

TEST(LineSplitter, TellsWholeLinesOnly) {
  const std::string text = "{\"a\":1}\n\n{\"b\":2}\n{\"cut";
  for (std::size_t step = 1; step <= text.size(); ++step) {
    std::vector<std::string> lines;
    LineSplitter splitter([&](std::string_view line) { lines.emplace_back(line); });
    for (std::size_t at = 0; at < text.size(); at += step) {
      ASSERT_TRUE(splitter.Feed(std::string_view(text).substr(at, step)).ok());
    }
    EXPECT_EQ(lines, (std::vector<std::string>{"{\"a\":1}", "{\"b\":2}"})) << step;
  }
}

TEST(ResourceVersion, IsANumberOfAnyLength) {
  EXPECT_TRUE(IsOlder("9", "10"));
  EXPECT_TRUE(IsOlder("99999999999999999999", "100000000000000000000"));
  EXPECT_FALSE(IsOlder("10", "10"));
  EXPECT_FALSE(IsOlder("10", "9"));
  EXPECT_FALSE(IsOlder("", "9")) << "what is no number is never passed over";
  EXPECT_FALSE(IsOlder("9", "x"));
}

TEST(Backoff, GrowsToItsBoundAndHeedsTheServer) {
  using Ms = std::chrono::milliseconds;
  Backoff backoff(Ms(100), Ms(1000));
  for (const int most : {100, 200, 400, 800, 1000, 1000}) {
    const Ms wait = backoff.Next();
    EXPECT_GE(wait, Ms(most / 2));
    EXPECT_LE(wait, Ms(most));
  }
  EXPECT_GE(backoff.Next(Ms(5000)), Ms(5000));
  backoff.Reset();
  EXPECT_LE(backoff.Next(), Ms(100));
}

const Resource& Find(const std::vector<Resource>& resources, const std::string& kind) {
  for (const Resource& resource : resources) {
    if (resource.kind == kind) return resource;
  }
  ADD_FAILURE() << kind;
  return resources.front();
}

TEST(Object, OfAPodOnlyWhatIsReadStaysAndNoAnnotationThatAManifestHas) {
  const auto resources = PolicyResources("node1");
  const auto object = ParseObject(Find(resources, "Pod"), "v1", R"({"metadata": {"name": "p", "namespace": "curl",
      "uid": "u-1", "resourceVersion": "7", "labels": {"app": "x"}, "annotations": {
        "egressd.io/netns": "/run/netns/other", "egressd.io/cgroup": "/sys/fs/cgroup/other",
        "kubernetes.io/config.hash": "h", "kubernetes.io/config.mirror": "h", "big": "note"}},
    "spec": {"nodeName": "node1", "serviceAccountName": "curl", "volumes": [{"name": "v"}],
      "containers": [{"name": "app", "image": "x", "env": [{"name": "SECRET"}],
        "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}, "runAsUser": 0}}]},
    "status": {"phase": "Running", "qosClass": "Burstable", "podIPs": [{"ip": "10.244.1.10"}], "conditions": [{}]}})");
  ASSERT_TRUE(object.ok());
  EXPECT_EQ(object->id, (policy::ObjectId{"curl", "p"}));
  EXPECT_EQ(object->uid, "u-1");
  EXPECT_EQ(object->resource_version, "7");
  EXPECT_EQ(object->node_name, "node1");
  for (const char* gone : {"SECRET", "volumes", "egressd.io", "labels", "conditions", "image", "big"}) {
    EXPECT_EQ(object->text.find(gone), std::string::npos) << gone;
  }
  policy::Store store{policy::Settings()};
  store.SetUnit("Pod/curl/p", object->text, "");
  store.Commit();
  EXPECT_TRUE(store.Findings().empty());
  const auto pod = store.FindPod({"curl", "p"}).pod;
  ASSERT_NE(pod, nullptr);
  EXPECT_EQ(pod->netns_path, "");
  EXPECT_EQ(pod->config_hash, "h");
  EXPECT_TRUE(pod->net_admin);
}

TEST(Object, OfOurKindsWhatNobodyKnowsIsReportedAndWhatTheServerAddsIsNot) {
  const auto resources = PolicyResources("node1");
  const auto findings = [&](const std::string& more) {
    const auto object = ParseObject(Find(resources, "Egress"), "v1alpha1", R"({"metadata": {"name": "e",
        "namespace": "curl", "uid": "u", "resourceVersion": "7", "selfLink": "x", "newInThisVersion": {"a": 1},
        "managedFields": [{"manager": "kubectl"}]}, "status": {"currentStatus": "committed", "reason": ""},
      "spec": {"sources": [{"kind": "ServiceAccount", "name": "curl", "namespace": "curl"}],
        "ports": [{"number": 5000, "protocol": "tcp"}])" + more + "}}");
    EXPECT_TRUE(object.ok());
    policy::Store store{policy::Settings()};
    store.SetUnit("Namespace/curl", R"({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "curl",
        "labels": {"openservicemesh.io/monitored-by": "osm"}}})",
                  "");
    store.SetUnit("Egress/curl/e", object->text, "");
    store.Commit();
    std::string text;
    for (const auto& finding : store.Findings()) text += finding.ToString() + "\n";
    return text;
  };
  EXPECT_EQ(findings(""), "");
  const std::string unknown = findings(R"(, "porst": [])");
  EXPECT_EQ(unknown.find("error: Egress curl/e: spec.porst: is an unknown field"), 0U) << unknown;
}

TEST(Object, OfANamespaceTheLabelsOfTheMeshStay) {
  const auto resources = PolicyResources("node1");
  const auto object = ParseObject(Find(resources, "Namespace"), "v1", R"({"metadata": {"name": "curl",
      "labels": {"openservicemesh.io/monitored-by": "osm", "team": "x"},
      "annotations": {"openservicemesh.io/sidecar-injection": "disabled", "note": "long"}},
    "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})");
  ASSERT_TRUE(object.ok());
  EXPECT_EQ(Json::parse(object->text), Json::parse(R"({"apiVersion": "v1", "kind": "Namespace", "metadata": {
      "name": "curl", "labels": {"openservicemesh.io/monitored-by": "osm"},
      "annotations": {"openservicemesh.io/sidecar-injection": "disabled"}}})"));
}

TEST(Object, WhatIsNoObjectIsAnError) {
  const auto resources = PolicyResources("node1");
  for (const char* text : {"", "[]", "5", "{}", R"({"metadata": 5})", R"({"metadata": {"name": 5}})", "{"}) {
    EXPECT_FALSE(ParseObject(Find(resources, "Pod"), "v1", text).ok()) << text;
  }
}

}  // namespace
}  // namespace egress::source
