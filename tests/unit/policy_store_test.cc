// Store: what objects mean together, and what a change touches.

#include "agent/policy/store.h"

#include <gtest/gtest.h>

#include <chrono>

#include "bpf/egress.h"
#include "tests/unit/policy_manifests.h"

namespace egress::policy {
namespace {

using Accounts = std::vector<ServiceAccount>;
using Ids = std::vector<ObjectId>;

const ServiceAccount kCurl{"curl", "curl"};

std::string Egress(const std::string& name, const std::string& spec, const std::string& ns = "curl") {
  return "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: " + name +
         ", namespace: " + ns + "}\nspec:\n  sources: [{kind: ServiceAccount, name: curl, namespace: " + ns + "}]\n" +
         spec;
}

const std::string kTcp = "  ports: [{number: 5000, protocol: tcp}]\n";
const std::string kHttpWithGroup =
    "  hosts: [x.test]\n  ports: [{number: 80, protocol: http}]\n"
    "  matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: group}]\n";
const std::string kTcpWithLimit =
    "  ports: [{number: 5000, protocol: tcp}]\n"
    "  matches: [{apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: limit}]\n";

std::string Group(const std::string& regex) {
  return "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: group, namespace: curl}\n"
         "spec: {matches: [{name: a, pathRegex: \"" +
         regex + "\"}]}\n";
}

std::string MeshConfig(const std::string& spec) {
  return "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n"
         "metadata: {name: osm-mesh-config, namespace: osm-system}\nspec: " +
         spec + "\n";
}

Store Enrolled(Settings settings = {}) {
  Store store(std::move(settings));
  store.SetUnit("namespace.yaml", kEnrolledNamespace);
  store.Commit();
  return store;
}

TEST(Store, AnEgressOfAnEnrolledNamespaceCountsUntilItsUnitGoes) {
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kTcp));
  const Changes changes = store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "");
  EXPECT_EQ(changes.service_accounts, Accounts{kCurl});
  EXPECT_EQ(changes.policies, (Ids{{"curl", "web"}}));
  ASSERT_EQ(store.PoliciesOf(kCurl).size(), 1U);
  EXPECT_TRUE(store.PoliciesOf({"curl", "other"}).empty());

  store.RemoveUnit("web.yaml");
  EXPECT_EQ(store.Commit().policies, (Ids{{"curl", "web"}}));
  EXPECT_TRUE(store.PoliciesOf(kCurl).empty());
}

TEST(Store, TellsWhichNamespacesAreEnrolledAndWhenThatChanges) {
  Store store = Enrolled();
  EXPECT_EQ(store.Enrolments(), (std::map<std::string, bool>{{"curl", true}}));
  store.SetUnit("free.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: free}\n");
  EXPECT_TRUE(store.Commit().namespaces);
  EXPECT_EQ(store.IsEnrolled("free"), false);
  store.SetUnit("free.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: free, labels: 7}\n");
  EXPECT_TRUE(store.Commit().namespaces);
  EXPECT_EQ(store.IsEnrolled("free"), std::nullopt) << "one that is invalid is unknown";
  store.SetUnit("web.yaml", Egress("web", kTcp));
  EXPECT_FALSE(store.Commit().namespaces);
  store.RemoveUnit("namespace.yaml");
  EXPECT_TRUE(store.Commit().namespaces);
  EXPECT_EQ(store.Enrolments(), (std::map<std::string, bool>{}));
}

TEST(Store, ARewrittenOrRenamedFileOfEqualContentChangesNothing) {
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kTcp));
  store.Commit();
  store.SetUnit("web.yaml", Egress("web", kTcp));
  EXPECT_TRUE(store.Commit().empty());
  store.SetUnit("web.yaml", "# a comment\n" + Egress("web", kTcp));
  EXPECT_TRUE(store.Commit().empty());
  store.RemoveUnit("web.yaml");
  store.SetUnit("renamed.yaml", Egress("web", kTcp));
  EXPECT_TRUE(store.Commit().empty());
  EXPECT_EQ(store.PoliciesOf(kCurl).size(), 1U);
}

TEST(Store, AChangeTouchesOnlyItsOwnServiceAccount) {
  Store store = Enrolled();
  store.SetUnit("a.yaml", Egress("a", kTcp));
  store.SetUnit("b.yaml",
                "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\n"
                "metadata: {name: b, namespace: curl}\nspec:\n"
                "  sources: [{kind: ServiceAccount, name: wget, namespace: curl}]\n" +
                    kTcp);
  EXPECT_EQ(store.Commit().service_accounts, (Accounts{kCurl, {"curl", "wget"}}));
  store.SetUnit("a.yaml", Egress("a", "  ports: [{number: 5001, protocol: tcp}]\n"));
  const Changes changes = store.Commit();
  EXPECT_EQ(changes.service_accounts, Accounts{kCurl});
  EXPECT_EQ(changes.policies, (Ids{{"curl", "a"}}));
}

TEST(Store, AnInvalidVersionWithdrawsWhatTheValidOneGranted) {
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kTcp) + "---\n" + Egress("other", kTcp));
  store.Commit();
  store.SetUnit("web.yaml",
                Egress("web", "  ports: [{number: 5000, protocol: x}]\n") + "---\n" + Egress("other", kTcp));
  EXPECT_EQ(store.Commit().policies, (Ids{{"curl", "web"}})) << "the other one is not disturbed";
  EXPECT_EQ(store.PoliciesOf(kCurl).size(), 1U);
  EXPECT_EQ(store.EgressCount().valid, 1);
  EXPECT_EQ(store.EgressCount().invalid, 1);
}

TEST(Store, ARouteGroupAppliesWhenItAppearsChangesAndGoes) {
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kHttpWithGroup));
  store.Commit();
  ASSERT_EQ(store.PoliciesOf(kCurl).size(), 1U);
  EXPECT_FALSE(store.PoliciesOf(kCurl)[0]->all_routes);
  EXPECT_TRUE(store.PoliciesOf(kCurl)[0]->routes.empty()) << "no group, no route";

  store.SetUnit("group.yaml", Group("/get"));
  EXPECT_EQ(store.Commit().service_accounts, Accounts{kCurl});
  ASSERT_EQ(store.PoliciesOf(kCurl)[0]->routes.size(), 1U);
  EXPECT_EQ(store.PoliciesOf(kCurl)[0]->routes[0].path_regex, "/get");

  store.SetUnit("group.yaml", Group("("));
  store.Commit();
  EXPECT_FALSE(store.PoliciesOf(kCurl)[0]->all_routes);
  EXPECT_TRUE(store.PoliciesOf(kCurl)[0]->routes.empty()) << "an invalid group contributes no route";

  store.SetUnit("group.yaml", Group("/x"));
  store.Commit();
  EXPECT_EQ(store.PoliciesOf(kCurl)[0]->routes.size(), 1U);
  store.RemoveUnit("group.yaml");
  store.Commit();
  EXPECT_TRUE(store.PoliciesOf(kCurl)[0]->routes.empty());
}

TEST(Store, AMissingTrafficSettingMakesTheEgressInertUntilItAppears) {
  Store store = Enrolled();
  store.SetUnit("db.yaml", Egress("db", kTcpWithLimit));
  store.Commit();
  EXPECT_TRUE(store.PoliciesOf(kCurl).empty());
  EXPECT_EQ(store.Effective({"curl", "db"}), nullptr);
  EXPECT_EQ(store.EgressCount().invalid, 1);
  store.SetUnit("limit.yaml",
                "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: UpstreamTrafficSetting\n"
                "metadata: {name: limit, namespace: curl}\n"
                "spec: {host: x, connectionSettings: {tcp: {maxConnections: 3, connectTimeout: 1m0.5s}}}\n");
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "");
  ASSERT_EQ(store.PoliciesOf(kCurl).size(), 1U);
  EXPECT_EQ(store.PoliciesOf(kCurl)[0]->limits.max_connections, 3U);
  EXPECT_EQ(store.PoliciesOf(kCurl)[0]->limits.connect_timeout_ms, 60500U);
  store.RemoveUnit("limit.yaml");
  store.Commit();
  EXPECT_TRUE(store.PoliciesOf(kCurl).empty()) << "without its limit it would grant more than it says";
}

TEST(Store, ObjectsOfAFileThatNoLongerParsesAreInvalidNotDeleted) {
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kTcp));
  store.SetUnit("other.yaml", Egress("other", kTcp));
  store.Commit();
  store.SetUnit("web.yaml", "kind: [\n");
  EXPECT_EQ(store.Commit().policies, (Ids{{"curl", "web"}}));
  EXPECT_EQ(store.EgressCount().invalid, 1);
  EXPECT_EQ(store.EgressCount().valid, 1);
  EXPECT_EQ(store.Findings().size(), 1U);
  // The file is still what holds the object: another one with that name is a second version.
  store.SetUnit("again.yaml", Egress("web", kTcp));
  store.Commit();
  EXPECT_EQ(store.EgressCount().invalid, 1);
  store.RemoveUnit("web.yaml");
  store.Commit();
  EXPECT_EQ(store.EgressCount().invalid, 0);
  EXPECT_EQ(store.EgressCount().valid, 2);
}

TEST(Store, AFileThatCannotBeReadHoldsWhatItHeldInvalid) {
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kTcp));
  store.SetUnit("mesh.yaml", MeshConfig("{}"));
  store.Commit();
  store.SetUnreadableUnit("mesh.yaml", "cannot be read: Permission denied", "/m/mesh.yaml");
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "/m/mesh.yaml:1: error: cannot be read: Permission denied\n");
  EXPECT_FALSE(store.Network().policies_enabled);
  store.SetUnit("mesh.yaml", MeshConfig("{}"));
  store.SetUnreadableUnit("web.yaml", "cannot be read: Permission denied", "/m/web.yaml");
  store.Commit();
  EXPECT_TRUE(store.Network().policies_enabled);
  EXPECT_TRUE(store.PoliciesOf(kCurl).empty());
  EXPECT_EQ(store.EgressCount().invalid, 1);
}

TEST(Store, ATruncatedFileIsNoDeletion) {
  const std::string whole = MeshConfig("{featureFlags: {enableEgressPolicy: false}}");
  for (std::size_t length = 1; length < whole.size() - 1; ++length) {
    Store store = Enrolled();
    store.SetUnit("mesh.yaml", whole);
    store.Commit();
    EXPECT_FALSE(store.Network().policies_enabled);
    store.SetUnit("mesh.yaml", whole.substr(0, length));
    store.Commit();
    // Without its spec it is a whole manifest of another meaning, which nobody can tell from one that was cut off.
    const std::string left = whole.substr(0, length);
    if (left.ends_with("osm-system}") || left.ends_with("osm-system}\n")) continue;
    EXPECT_FALSE(store.Network().policies_enabled) << left;
  }
}

struct MeshCase {
  const char* name;
  std::string text;
  bool policies_enabled;
  bool open;
};
std::string NameOf(const testing::TestParamInfo<MeshCase>& test) { return test.param.name; }
void PrintTo(const MeshCase& test_case, std::ostream* stream) { *stream << test_case.name; }

class StoreMeshConfig : public testing::TestWithParam<MeshCase> {};

TEST_P(StoreMeshConfig, SetsTheSwitches) {
  const MeshCase& test_case = GetParam();
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kTcp));
  store.SetUnit("mesh.yaml", test_case.text);
  store.Commit();
  EXPECT_EQ(store.Network().policies_enabled, test_case.policies_enabled);
  EXPECT_EQ(store.Network().open, test_case.open);
  EXPECT_EQ(store.PoliciesOf(kCurl).size(), test_case.policies_enabled ? 1U : 0U);
  EXPECT_EQ(store.Effective({"curl", "web"}) != nullptr, test_case.policies_enabled);
  // Gone is as never there.
  store.RemoveUnit("mesh.yaml");
  const Changes changes = store.Commit();
  EXPECT_EQ(changes.service_accounts, test_case.policies_enabled ? Accounts{} : Accounts{kCurl});
  EXPECT_TRUE(store.Network().policies_enabled);
  EXPECT_FALSE(store.Network().open);
  EXPECT_EQ(store.PoliciesOf(kCurl).size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(
    Table, StoreMeshConfig,
    testing::Values(MeshCase{"Missing", "", true, false}, MeshCase{"Empty", MeshConfig("{}"), true, false},
                    MeshCase{"Open", MeshConfig("{traffic: {enableEgress: true}}"), true, true},
                    MeshCase{"PolicyOff", MeshConfig("{featureFlags: {enableEgressPolicy: false}}"), false, false},
                    MeshCase{"Invalid", MeshConfig("{traffic: {enableEgress: yes}}"), false, false},
                    MeshCase{"InvalidList",
                             MeshConfig("{traffic: {enableEgress: true, outboundIPRangeExclusionList: [10.0.0.1/8]}}"),
                             false, false},
                    MeshCase{"UnreadFromTheStart", MeshConfig("{") + "[", false, false},
                    MeshCase{"UnreadJson", "{\"kind\" : \"MeshConfig\", ", false, false},
                    MeshCase{"UnreadWithoutKind", "apiVersion: config.openservicemesh.io/v1alpha2\n", false, false},
                    MeshCase{"NamespaceIsNoString",
                             "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n"
                             "metadata: {name: osm-mesh-config, namespace: 5}\n",
                             false, false},
                    MeshCase{"UnreadOtherKind", "kind: Egress\nmetadata: [ # MeshConfig\n", true, false},
                    MeshCase{"AnotherVersion",
                             "apiVersion: config.openservicemesh.io/v1\nkind: MeshConfig\n"
                             "metadata: {name: osm-mesh-config, namespace: osm-system}\n",
                             false, false},
                    MeshCase{"AnotherName",
                             "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n"
                             "metadata: {name: x, namespace: osm-system}\nspec: {traffic: {enableEgress: true}}\n",
                             true, false}),
    NameOf);

TEST(Store, AMeshConfigThatNoLongerParsesClosesUntilItIsMendedOrRemoved) {
  Store store = Enrolled();
  store.SetUnit("web.yaml", Egress("web", kTcp));
  store.SetUnit("mesh.yaml", MeshConfig("{traffic: {enableEgress: true, outboundPortExclusionList: [5002]}}"));
  store.Commit();
  EXPECT_TRUE(store.Network().open);
  EXPECT_EQ(store.Network().excluded_ports, std::vector<std::uint16_t>{5002});
  store.SetUnit("mesh.yaml", "gibberish: [");
  const Changes changes = store.Commit();
  EXPECT_TRUE(changes.network);
  EXPECT_EQ(changes.service_accounts, Accounts{kCurl});
  EXPECT_FALSE(store.Network().open);
  EXPECT_FALSE(store.Network().policies_enabled);
  EXPECT_TRUE(store.Network().excluded_ports.empty());
  store.SetUnit("mesh.yaml", MeshConfig("{}"));
  store.Commit();
  EXPECT_TRUE(store.Network().policies_enabled);
}

TEST(Store, ARestartForgetsNothingOfAnUnreadableMeshConfig) {
  Store before = Enrolled();
  before.SetUnit("mesh.yaml", MeshConfig("{}"));
  before.SetUnit("web.yaml", Egress("web", kTcp));
  before.Commit();
  EXPECT_EQ(before.MeshConfigUnits(), std::vector<std::string>{"mesh.yaml"});
  before.SetUnit("mesh.yaml", "[");
  before.Commit();
  EXPECT_EQ(before.MeshConfigUnits(), std::vector<std::string>{"mesh.yaml"});

  Store after = Enrolled();
  for (const std::string& unit : before.MeshConfigUnits()) after.RememberMeshConfigUnit(unit);
  after.SetUnit("web.yaml", Egress("web", kTcp));
  after.SetUnit("mesh.yaml", "[");
  after.Commit();
  EXPECT_FALSE(after.Network().policies_enabled);
  EXPECT_EQ(after.MeshConfigUnits(), std::vector<std::string>{"mesh.yaml"});

  Store elsewhere = Enrolled();
  elsewhere.SetUnit("mesh.yaml", "[");
  elsewhere.Commit();
  EXPECT_TRUE(elsewhere.Network().policies_enabled) << "nothing says that this was one";
}

TEST(Store, SourcesOfOtherNamespacesCountOnlyWhereAllowedAndEnrolled) {
  const std::string text =
      "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: web, namespace: curl}\nspec:\n"
      "  sources: [{kind: ServiceAccount, name: curl, namespace: curl},\n"
      "    {kind: ServiceAccount, name: shop, namespace: shop}]\n" +
      kTcp;
  const std::string shop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: ";
  Store refused = Enrolled();
  refused.SetUnit("web.yaml", text);
  refused.Commit();
  EXPECT_TRUE(refused.PoliciesOf(kCurl).empty()) << "invalid as a whole";

  Settings settings;
  settings.allow_cross_namespace_sources = true;
  Store allowed = Enrolled(settings);
  allowed.SetUnit("web.yaml", text);
  allowed.SetUnit("shop.yaml", shop + "{}}\n");
  allowed.Commit();
  EXPECT_EQ(allowed.PoliciesOf(kCurl).size(), 1U);
  EXPECT_TRUE(allowed.PoliciesOf({"shop", "shop"}).empty());
  allowed.SetUnit("shop.yaml", shop + "{openservicemesh.io/monitored-by: osm}}\n");
  EXPECT_EQ(allowed.Commit().service_accounts, (Accounts{kCurl, {"shop", "shop"}}));
  EXPECT_EQ(allowed.PoliciesOf({"shop", "shop"}).size(), 1U);
}

struct EnrolmentCase {
  const char* name;
  std::string metadata;  // of namespace "curl"; empty: no object
  bool governed;
  bool has_rules;
};
std::string NameOfEnrolment(const testing::TestParamInfo<EnrolmentCase>& test) { return test.param.name; }
void PrintTo(const EnrolmentCase& test_case, std::ostream* stream) { *stream << test_case.name; }

class Enrolment : public testing::TestWithParam<EnrolmentCase> {};

TEST_P(Enrolment, DecidesWhoIsGovernedAndWhatCounts) {
  const EnrolmentCase& test_case = GetParam();
  Store store{Settings()};
  store.SetUnit("web.yaml", Egress("web", kTcp));
  store.SetUnit("pod.yaml",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: curl}\n"
                "spec: {serviceAccountName: curl, containers: []}\n");
  if (!test_case.metadata.empty()) {
    store.SetUnit("ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: curl, " + test_case.metadata + "}\n");
  }
  store.Commit();
  const Store::PodView view = store.FindPod({"curl", "p"});
  ASSERT_NE(view.pod, nullptr);
  EXPECT_EQ(view.governed, test_case.governed) << view.why;
  EXPECT_EQ(view.governed, view.why.empty());
  EXPECT_EQ(store.PoliciesOf(kCurl).size(), test_case.has_rules ? 1U : 0U);
}

INSTANTIATE_TEST_SUITE_P(
    Table, Enrolment,
    testing::Values(EnrolmentCase{"Enrolled", "labels: {openservicemesh.io/monitored-by: osm}", true, true},
                    EnrolmentCase{"NoLabel", "labels: {}", false, false},
                    EnrolmentCase{"AnotherMesh", "labels: {openservicemesh.io/monitored-by: other}", false, false},
                    EnrolmentCase{"Ignored",
                                  "labels: {openservicemesh.io/monitored-by: osm, openservicemesh.io/ignore: \"\"}",
                                  false, false},
                    EnrolmentCase{"InjectionDisabled",
                                  "labels: {openservicemesh.io/monitored-by: osm}, annotations: "
                                  "{openservicemesh.io/sidecar-injection: Disabled}",
                                  false, false},
                    EnrolmentCase{"InjectionNo",
                                  "labels: {openservicemesh.io/monitored-by: osm}, annotations: "
                                  "{openservicemesh.io/sidecar-injection: \"NO\"}",
                                  false, false},
                    EnrolmentCase{"InjectionOtherwise",
                                  "labels: {openservicemesh.io/monitored-by: osm}, annotations: "
                                  "{openservicemesh.io/sidecar-injection: \"off\"}",
                                  true, true},
                    EnrolmentCase{"Missing", "", true, false},
                    EnrolmentCase{"Invalid", "labels: {openservicemesh.io/monitored-by: true}", true, false}),
    NameOfEnrolment);

TEST(Store, SystemNamespacesAreNotGovernedWhileUnknown) {
  Store store{Settings()};
  std::string pods;
  for (const char* ns : {"kube-system", "osm-system", "egressd", "unknown"}) {
    pods += std::string("---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: ") + ns + "}\n";
  }
  pods += "---\napiVersion: v1\nkind: Pod\nmetadata: {name: host, namespace: unknown}\nspec: {hostNetwork: true}\n";
  store.SetUnit("pods.yaml", pods);
  store.Commit();
  EXPECT_EQ(store.Pods().size(), 5U);
  for (const Store::PodView& view : store.Pods()) {
    EXPECT_EQ(view.governed, view.pod->id == (ObjectId{"unknown", "p"})) << view.pod->id.ToString();
    EXPECT_EQ(view.pod->service_account.name, "default");
  }
  store.SetUnit("ns.yaml",
                "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system, labels: "
                "{openservicemesh.io/monitored-by: osm}}\n");
  EXPECT_EQ(store.Commit().pods, (Ids{{"kube-system", "p"}}));
  EXPECT_TRUE(store.FindPod({"kube-system", "p"}).governed) << "enrolled by hand";
}

TEST(Store, APodIsReadWithItsAddressesAndAnnotations) {
  Store store = Enrolled();
  store.SetUnit("pod.json", R"({"apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "p", "namespace": "curl", "uid": "u-1", "unknown": 3,
      "annotations": {"egressd.io/netns": "/run/netns/p", "egressd.io/cgroup": "/sys/fs/cgroup/p"}},
    "spec": {"serviceAccount": "old"},
    "status": {"podIP": "10.244.1.10", "podIPs": [{"ip": "10.244.1.10"}, {"ip": "fd00::10"}]}})");
  EXPECT_EQ(store.Commit().pods, (Ids{{"curl", "p"}}));
  EXPECT_EQ(TextOf(store.Findings()), "");
  const auto pod = store.FindPod({"curl", "p"}).pod;
  EXPECT_EQ(pod->uid, "u-1");
  EXPECT_EQ(pod->service_account, (ServiceAccount{"curl", "old"}));
  EXPECT_EQ(pod->addresses, (std::vector<Address>{Ip("10.244.1.10"), Ip("fd00::10")}));
  EXPECT_EQ(pod->netns_path, "/run/netns/p");
  EXPECT_EQ(pod->cgroup_path, "/sys/fs/cgroup/p");
}

TEST(Store, APodIsReadWithWhatKubernetesSaysOfIt) {
  Store store = Enrolled();
  const auto read = [&](const std::string& more_metadata, const std::string& spec, const std::string& status) {
    store.SetUnit("pod.json", R"({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "curl")" +
                                  more_metadata + R"(}, "spec": )" + spec + R"(, "status": )" + status + "}");
    store.Commit();
    return *store.FindPod({"curl", "p"}).pod;
  };
  const Pod full = read(R"(, "deletionTimestamp": "2026-01-01T00:00:00Z", "annotations": {
      "kubernetes.io/config.hash": "0123abcd", "kubernetes.io/config.mirror": "0123abcd",
      "kubernetes.io/config.source": "file"})",
                        R"({"nodeName": "node1", "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.53"]},
      "initContainers": [{"name": "osm-init", "securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}}],
      "containers": [{"name": "app"}, {"name": "envoy"}]})",
                        R"({"phase": "Running", "qosClass": "Burstable"})");
  EXPECT_EQ(TextOf(store.Findings()), "");
  EXPECT_EQ(full.node_name, "node1");
  EXPECT_EQ(full.name_servers, std::vector<std::string>{"192.0.2.53"});
  EXPECT_EQ(full.config_hash, "0123abcd");
  EXPECT_EQ(full.phase, "Running");
  EXPECT_EQ(full.containers, (std::vector<std::string>{"osm-init", "app", "envoy"}));
  EXPECT_TRUE(full.net_admin);
  const Pod bare = read("", R"({"containers": [{"name": "app", "securityContext": {"capabilities":
      {"add": ["NET_RAW"], "drop": ["NET_ADMIN"]}}}]})",
                        "{}");
  EXPECT_FALSE(bare.net_admin);
  EXPECT_EQ(bare.phase, "");
  EXPECT_TRUE(read("", R"({"containers": [{"securityContext": {"privileged": true}}]})", "{}").net_admin);
}

TEST(Store, AnErrorInAPodDoesNotSetItFree) {
  Store store = Enrolled();
  store.SetUnit("pod.yaml",
                "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: curl}\n"
                "spec: {hostNetwork: \"true\", serviceAccountName: 5}\n");
  store.Commit();
  EXPECT_TRUE(store.FindPod({"curl", "p"}).governed);
  EXPECT_EQ(store.FindPod({"curl", "p"}).pod->service_account.name, "") << "nobody's rules are its own";
  store.SetUnit("pod.yaml", "[");
  store.Commit();
  EXPECT_TRUE(store.FindPod({"curl", "p"}).governed);
  store.RemoveUnit("pod.yaml");
  EXPECT_EQ(store.Commit().pods, (Ids{{"curl", "p"}}));
  EXPECT_EQ(store.FindPod({"curl", "p"}).pod, nullptr);
}

TEST(Store, AListIsReadAsItsItems) {
  Store store{Settings()};
  store.SetUnit("list.yaml",
                "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n"
                "    name: curl\n    labels: {openservicemesh.io/monitored-by: osm}\n"
                "- apiVersion: v1\n  kind: Pod\n  metadata: {name: p, namespace: curl}\n");
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "");
  EXPECT_TRUE(store.FindPod({"curl", "p"}).governed);
}

TEST(Store, OneChangeAmongTenThousandPoliciesCostsLittle) {
  Store store = Enrolled();
  for (int i = 0; i < 10000; ++i) {
    store.SetUnit("p" + std::to_string(i), Egress("p" + std::to_string(i), kTcp));
  }
  store.Commit();
  ASSERT_EQ(store.PoliciesOf(kCurl).size(), 10000U);
  const auto start = std::chrono::steady_clock::now();
  constexpr int kChanges = 50;
  for (int i = 0; i < kChanges; ++i) {
    store.SetUnit("p77", Egress("p77", "  ports: [{number: " + std::to_string(6000 + i) + ", protocol: tcp}]\n"));
    EXPECT_EQ(store.Commit().policies.size(), 1U);
  }
  const auto spent = std::chrono::steady_clock::now() - start;
  const double each = std::chrono::duration<double, std::milli>(spent).count() / kChanges;
  RecordProperty("milliseconds_each", std::to_string(each));
  EXPECT_LT(each, 5) << "milliseconds; it is about 0.1 on an idle machine";
}

}  // namespace
}  // namespace egress::policy
