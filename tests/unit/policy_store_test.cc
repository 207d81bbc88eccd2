// Store: what objects mean together, and what a change touches.

#include "agent/policy/store.h"

#include <gtest/gtest.h>

namespace egress::policy {
namespace {

constexpr const char* kNamespace = R"(
apiVersion: v1
kind: Namespace
metadata: {name: curl, labels: {openservicemesh.io/monitored-by: osm}}
)";

constexpr const char* kEgress = R"(
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: web, namespace: curl}
spec:
  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]
  hosts: [httpbin.org]
  ports: [{number: 80, protocol: http}, {number: 443, protocol: HTTPS}]
)";

std::string Text(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) text += finding.ToString() + "\n";
  return text;
}

TEST(Store, AnEgressOfAnEnrolledNamespaceCounts) {
  Store store{Settings()};
  store.SetUnit("ns.yaml", kNamespace);
  store.SetUnit("web.yaml", kEgress);
  const Changes changes = store.Commit();
  EXPECT_EQ(Text(store.Findings()), "");
  EXPECT_EQ(changes.service_accounts, (std::vector<ServiceAccount>{{"curl", "curl"}}));
  ASSERT_EQ(store.PoliciesOf({"curl", "curl"}).size(), 1U);
  EXPECT_TRUE(store.PoliciesOf({"curl", "other"}).empty());

  store.RemoveUnit("web.yaml");
  EXPECT_EQ(store.Commit().policies, (std::vector<ObjectId>{{"curl", "web"}}));
  EXPECT_TRUE(store.PoliciesOf({"curl", "curl"}).empty());
}

}  // namespace
}  // namespace egress::policy
