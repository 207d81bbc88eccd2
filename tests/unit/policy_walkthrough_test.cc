// The manifests of the upstream walkthroughs, as they stand there: no findings, and the verdicts that the guide shows.

#include <gtest/gtest.h>

#include "agent/policy/decide.h"
#include "agent/policy/store.h"
#include "tests/unit/policy_manifests.h"

namespace egress::policy {
namespace {

std::string MeshConfig(bool enabled) {
  return std::string(R"(apiVersion: config.openservicemesh.io/v1alpha2
kind: MeshConfig
metadata:
  name: osm-mesh-config
  namespace: osm-system
spec:
  featureFlags:
    enableEgressPolicy: )") +
         (enabled ? "true\n" : "false\n");
}

std::string Egress(const std::string& name, const std::string& rest) {
  return "kind: Egress\napiVersion: policy.openservicemesh.io/v1alpha1\nmetadata:\n  name: " + name +
         "\n  namespace: curl\nspec:\n  sources:\n  - kind: ServiceAccount\n    name: curl\n    namespace: curl\n" +
         rest;
}

class Walkthrough : public testing::Test {
 protected:
  Walkthrough() {
    store_.SetUnit("namespace.yaml", kEnrolledNamespace);
    Apply("mesh.yaml", MeshConfig(true));
  }

  void Apply(const std::string& file, const std::string& text) {
    store_.SetUnit(file, text);
    store_.Commit();
    EXPECT_EQ(TextOf(store_.Findings()), "");
    index_ = std::make_unique<PolicyIndex>(store_.PoliciesOf({"curl", "curl"}));
  }
  void Delete(const std::string& file) {
    store_.RemoveUnit(file);
    store_.Commit();
    index_ = std::make_unique<PolicyIndex>(store_.PoliciesOf({"curl", "curl"}));
  }

  ConnectDecision Connect(std::uint16_t port) { return index_->Connect(store_.Network(), kServer, port); }
  bool Get(const char* path) { return index_->Http(kServer, 80, {"HEAD", "httpbin.org:80", path, {}}).allowed; }

  const Address kServer = Ip("198.51.100.10");
  Store store_{Settings()};
  std::unique_ptr<PolicyIndex> index_;
};

TEST_F(Walkthrough, Http) {
  EXPECT_FALSE(Connect(80).allowed);
  Apply("httpbin.yaml",
        Egress("httpbin-80", "  hosts:\n  - httpbin.org\n  ports:\n  - number: 80\n    protocol: http\n"));
  EXPECT_EQ(Connect(80).protocols, EGRESS_HTTP);
  EXPECT_TRUE(Get("/get"));
  Apply("mesh.yaml", MeshConfig(false));
  EXPECT_FALSE(Connect(80).allowed);
  Apply("mesh.yaml", MeshConfig(true));
  EXPECT_TRUE(Connect(80).allowed);
  Delete("httpbin.yaml");
  EXPECT_FALSE(Connect(80).allowed);
}

TEST_F(Walkthrough, Https) {
  EXPECT_FALSE(Connect(443).allowed);
  Apply("httpbin.yaml",
        Egress("httpbin-443", "  hosts:\n  - httpbin.org\n  ports:\n  - number: 443\n    protocol: https\n"));
  EXPECT_EQ(Connect(443).protocols, EGRESS_HTTPS);
  EXPECT_TRUE(index_->Tls({}, kServer, 443, "httpbin.org").allowed);
  EXPECT_FALSE(index_->Tls({}, kServer, 443, "openservicemesh.io").allowed);
  Delete("httpbin.yaml");
  EXPECT_FALSE(Connect(443).allowed);
}

TEST_F(Walkthrough, Tcp) {
  EXPECT_FALSE(Connect(443).allowed);
  Apply("tcp.yaml", Egress("tcp-443", "  ports:\n  - number: 443\n    protocol: tcp\n"));
  EXPECT_TRUE(Connect(443).any_bytes);
  EXPECT_FALSE(Connect(80).allowed);
  Delete("tcp.yaml");
  EXPECT_FALSE(Connect(443).allowed);
}

TEST_F(Walkthrough, HttpWithRoutes) {
  const std::string group =
      "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata:\n  name: egress-http-route\n"
      "  namespace: curl\nspec:\n  matches:\n  - name: get\n    pathRegex: /get\n";
  Apply("group.yaml", group);
  Apply("httpbin.yaml", Egress("httpbin-80",
                               "  hosts:\n  - httpbin.org\n  ports:\n  - number: 80\n    protocol: http\n  matches:\n"
                               "  - apiGroup: specs.smi-spec.io/v1alpha4\n    kind: HTTPRouteGroup\n"
                               "    name: egress-http-route\n"));
  EXPECT_TRUE(Get("/get"));
  EXPECT_FALSE(Get("/status/200"));
  Apply("group.yaml", group + "  - name: status\n    pathRegex: /status.*\n");
  EXPECT_TRUE(Get("/get"));
  EXPECT_TRUE(Get("/status/200"));
  EXPECT_FALSE(Get("/headers"));
}

}  // namespace
}  // namespace egress::policy
