// Every row of the validation table (SEMANTICS 7), as `egressctl validate` prints it. Each case has a twin that is in
// order, so that a check which fires always is noticed.

#include <gtest/gtest.h>

#include "agent/policy/store.h"
#include "tests/unit/policy_manifests.h"

namespace egress::policy {
namespace {

struct Case {
  const char* name;
  std::string text;      // the manifest with the problem
  std::string expected;  // the start of the one finding
  std::string mended;    // the manifest without it
};

std::string NameOf(const testing::TestParamInfo<Case>& test) { return test.param.name; }

void PrintTo(const Case& test_case, std::ostream* stream) { *stream << test_case.name; }

// An Egress whose spec is sources and these lines, from line 6 on.
std::string Web(const std::string& spec) {
  return "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: web, namespace: curl}\nspec:\n"
         "  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]\n" +
         spec;
}

std::string Routes(const std::string& match) {
  return "apiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: routes, namespace: curl}\n"
         "spec:\n  matches:\n  - " +
         match;
}

std::string Setting(const std::string& spec) {
  return "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: UpstreamTrafficSetting\n"
         "metadata: {name: limits, namespace: curl}\nspec:\n  host: x.test\n" +
         spec;
}

const std::string kTcp = "  ports: [{number: 5000, protocol: tcp}]\n";
const std::string kHttp = "  hosts: [x.test]\n  ports: [{number: 80, protocol: http}]\n";
const std::string kError = "web.yaml:6: error: Egress curl/web: ";
const std::string kWarning = "web.yaml:6: warning: Egress curl/web: ";

class Findings : public testing::TestWithParam<Case> {};

TEST_P(Findings, TellObjectFieldAndLine) {
  const Case& test_case = GetParam();
  Settings settings;
  settings.mesh_cidrs = {*ParsePrefix("10.96.0.0/12"), *ParsePrefix("fd00:10:244::/56")};
  Store store(settings);
  store.SetUnit("namespace.yaml", kEnrolledNamespace);
  store.SetUnit("web.yaml", test_case.text);
  store.Commit();
  const std::vector<Finding> findings = store.Findings();
  ASSERT_EQ(findings.size(), 1U) << TextOf(findings);
  EXPECT_EQ(findings[0].ToString().substr(0, test_case.expected.size()), test_case.expected);
  // Whatever an error is about is inert; a warning changes nothing.
  const bool egress = findings[0].kind == "Egress";
  if (egress) {
    EXPECT_EQ(store.PoliciesOf({"curl", "curl"}).empty(), findings[0].severity == Severity::kError);
  }
  store.SetUnit("web.yaml", test_case.mended);
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "");
  if (egress) {
    EXPECT_EQ(store.PoliciesOf({"curl", "curl"}).size(), 1U);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Errors, Findings,
    testing::Values(
        Case{
            "UnknownField", Web("  host: [x.test]\n" + kTcp),
            kError + "spec.host: is an unknown field; the fields here are: hosts, ipAddresses, matches, ports, sources",
            Web(kTcp)},
        Case{"UnknownFieldOfAPort", Web("  ports: [{number: 5000, protocol: tcp, name: x}]\n"),
             kError + "spec.ports[0].name: is an unknown field; the fields here are: number, protocol", Web(kTcp)},
        Case{"UnknownFieldOfMetadata",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata:\n  name: web\n  namespace: curl\n"
             "  label: {a: b}\nspec:\n  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]\n" +
                 kTcp,
             kError + "metadata.label: is an unknown field", Web(kTcp)},
        Case{"WrongTypeOfAPort", Web("  ports: [{number: \"5000\", protocol: tcp}]\n"),
             kError + "spec.ports[0].number: must be an integer, is a string (\"5000\"); write it in decimal",
             Web(kTcp)},
        Case{"FloatingPort", Web("  ports: [{number: 80.0, protocol: tcp}]\n"),
             kError + "spec.ports[0].number: must be an integer, is a number (\"80.0\")", Web(kTcp)},
        Case{"HexPort", Web("  ports: [{number: 0x50, protocol: tcp}]\n"),
             kError + "spec.ports[0].number: must be an integer, is a number (\"0x50\")", Web(kTcp)},
        Case{"OctalPort", Web("  ports: [{number: 0120, protocol: tcp}]\n"),
             kError + "spec.ports[0].number: must be an integer, is a number (\"0120\")", Web(kTcp)},
        Case{"WrongTypeOfAList", Web("  hosts: x.test\n" + kTcp), kError + "spec.hosts: must be a list, is a string",
             Web(kTcp)},
        Case{"EmptyValue", Web("  ipAddresses:\n" + kTcp), kError + "spec.ipAddresses: must be a list, is empty",
             Web("  ipAddresses: []\n" + kTcp)},
        Case{"WrongTypeOfAHost", Web("  hosts: [8]\n  ports: [{number: 80, protocol: http}]\n"),
             kError + "spec.hosts[0]: must be a string, is an integer (\"8\"); put it in quotes", Web(kHttp)},
        Case{"MissingPorts", Web(""), "web.yaml:4: error: Egress curl/web: spec.ports: is missing", Web(kTcp)},
        Case{"EmptyPorts", Web("  ports: []\n"), kError + "spec.ports: is empty", Web(kTcp)},
        Case{"MissingProtocol", Web("  ports:\n  - number: 80\n"),
             "web.yaml:7: error: Egress curl/web: spec.ports[0].protocol: is missing; it is required", Web(kTcp)},
        Case{"UnknownProtocol", Web("  ports:\n  - number: 81\n    protocol: grpc\n"),
             "web.yaml:8: error: Egress curl/web: spec.ports[0].protocol: \"grpc\" is unknown; write http, https, tcp "
             "or "
             "tcp-server-first",
             Web(kTcp)},
        Case{"PortTooLarge", Web("  ports: [{number: 70000, protocol: tcp}]\n"),
             kError + "spec.ports[0].number: must be in 1..65535, is 70000", Web(kTcp)},
        Case{"PortTooSmall", Web("  ports: [{number: 0, protocol: tcp}]\n"),
             kError + "spec.ports[0].number: must be in 1..65535, is 0", Web(kTcp)},
        Case{"HugePort", Web("  ports: [{number: 99999999999999999999, protocol: tcp}]\n"),
             kError + "spec.ports[0].number: must be in 1..65535, is 9999", Web(kTcp)},
        Case{"NoCidr", Web("  ipAddresses: [999.1.1.1/32]\n" + kTcp),
             kError + "spec.ipAddresses[0]: \"999.1.1.1/32\" is not a CIDR; write ADDRESS/LENGTH", Web(kTcp)},
        Case{"AddressWithoutLength", Web("  ipAddresses: [\"2001:db8::1\"]\n" + kTcp),
             kError + "spec.ipAddresses[0]: \"2001:db8::1\" is not a CIDR; write 2001:db8::1/128", Web(kTcp)},
        Case{"HostBits", Web("  ipAddresses: [198.51.100.7/24]\n" + kTcp),
             kError + "spec.ipAddresses[0]: \"198.51.100.7/24\" has host bits set; write 198.51.100.0/24", Web(kTcp)},
        Case{"HostBitsOfIpv6", Web("  ipAddresses: [\"2001:db8::7/64\"]\n" + kTcp),
             kError + "spec.ipAddresses[0]: \"2001:db8::7/64\" has host bits set; write 2001:db8::/64", Web(kTcp)},
        Case{"HttpWithoutHosts", Web("  ports: [{number: 80, protocol: http}]\n"),
             "web.yaml:4: error: Egress curl/web: spec.hosts: a port with protocol http needs hosts", Web(kHttp)},
        Case{"HttpsWithEmptyHosts", Web("  hosts: []\n  ports: [{number: 443, protocol: https}]\n"),
             kError + "spec.hosts: a port with protocol https needs hosts", Web(kHttp)},
        Case{"HostIsNoName", Web("  hosts: [\"x_test!\"]\n  ports: [{number: 80, protocol: http}]\n"),
             kError + "spec.hosts[0]: \"x_test!\" is no DNS name, wildcard or IP literal", Web(kHttp)},
        Case{"HostIsTheStar", Web("  hosts: [\"*\"]\n  ports: [{number: 80, protocol: http}]\n"),
             kError + "spec.hosts[0]: \"*\" alone is not allowed", Web(kHttp)},
        Case{
            "HostWithPort", Web("  hosts: [\"x.test:80\"]\n  ports: [{number: 80, protocol: http}]\n"),
            kError + "spec.hosts[0]: \"x.test:80\" is neither a name nor an IP literal; a port belongs into spec.ports",
            Web(kHttp)},
        Case{"SourceInAnotherNamespace",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: web, namespace: "
             "curl}\nspec:\n"
             "  sources:\n  - {kind: ServiceAccount, name: curl, namespace: shop}\n" +
                 kTcp,
             kError + "spec.sources[0].namespace: is \"shop\", another namespace", Web(kTcp)},
        Case{"NameThatKubernetesRefuses",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: a/b, namespace: "
             "curl}\nspec:\n"
             "  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]\n" +
                 kTcp,
             "web.yaml:3: error: Egress curl/a/b: metadata.name: \"a/b\" is no name", Web(kTcp)},
        Case{"EmptySourceName",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: web, namespace: "
             "curl}\nspec:\n"
             "  sources:\n  - {kind: ServiceAccount, name: \"\", namespace: curl}\n" +
                 kTcp,
             kError + "spec.sources[0].name: \"\" is no name", Web(kTcp)},
        Case{"SourceIsNoServiceAccount",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: web, namespace: "
             "curl}\nspec:\n"
             "  sources:\n  - {kind: Pod, name: curl, namespace: curl}\n" +
                 kTcp,
             kError + "spec.sources[0].kind: must be ServiceAccount, is \"Pod\"", Web(kTcp)},
        Case{"Mtls",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: web, namespace: "
             "curl}\nspec:\n"
             "  sources:\n  - {kind: ServiceAccount, name: curl, namespace: curl, mtls: {issuer: osm}}\n" +
                 kTcp,
             kError + "spec.sources[0].mtls: is not supported", Web(kTcp)},
        Case{"MissingTrafficSetting",
             Web("  matches: [{apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: "
                 "no}]\n" +
                 kTcp),
             kError + "spec.matches[0].name: UpstreamTrafficSetting curl/no does not exist (yet)", Web(kTcp)},
        Case{"RouteGroupOfAnotherKind",
             Web("  matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: TrafficTarget, name: r}]\n" + kHttp),
             kError + "spec.matches[0].kind: Expected 'matches.kind' for match 'r' to be 'HTTPRouteGroup', got: "
                      "TrafficTarget",
             Web(kHttp)},
        Case{"TrafficSettingOfAnotherKind",
             Web("  matches: [{apiGroup: policy.openservicemesh.io/v1alpha1, kind: Egress, name: r}]\n" + kHttp),
             kError +
                 "spec.matches[0].kind: Expected 'matches.kind' for match 'r' to be 'UpstreamTrafficSetting', got: "
                 "Egress",
             Web(kHttp)},
        Case{"UnknownApiGroup", Web("  matches: [{apiGroup: specs.smi-spec.io/v1alpha3, kind: X, name: r}]\n" + kHttp),
             kError + "spec.matches[0].apiGroup: Expected 'matches.apiGroup' to be one of [specs.smi-spec.io/v1alpha4 "
                      "policy.openservicemesh.io/v1alpha1], got: specs.smi-spec.io/v1alpha3",
             Web(kHttp)},
        Case{"TwoTrafficSettings",
             Web("  matches: [{apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: a}, "
                 "{apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: b}]\n" +
                 kTcp),
             kError + "spec.matches: Cannot have more than 1 UpstreamTrafficSetting match", Web(kTcp)},
        Case{"DuplicateKey", Web("  hosts: [a.test]\n" + kHttp),
             "web.yaml:7: error: Egress curl/web: spec.hosts: stands twice here (first in line 6)", Web(kHttp)},
        Case{"AnotherApiVersion",
             "kind: Egress\napiVersion: policy.openservicemesh.io/v1\nmetadata: {name: web, namespace: curl}\n",
             "web.yaml:2: error: Egress curl/web: apiVersion: must be policy.openservicemesh.io/v1alpha1", Web(kTcp)}),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    Warnings, Findings,
    testing::Values(
        Case{"TcpWithHosts", Web("  hosts: [x.test]\n" + kTcp),
             kWarning + "spec.hosts: are not used by a port with protocol tcp", Web(kTcp)},
        Case{"ShadowedByTcp",
             Web("  ports: [{number: 80, protocol: tcp}]\n") + "---\n" +
                 "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\n"
                 "metadata: {name: named, namespace: curl}\nspec:\n"
                 "  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]\n" +
                 kHttp,
             "web.yaml:14: warning: Egress curl/named: spec.ports[0].protocol: the http rule on port 80 (any) is "
             "shadowed "
             "by a tcp rule of Egress curl/web",
             Web(kHttp)},
        Case{"HttpAndHttps",
             Web("  hosts: [x.test]\n  ports:\n  - {number: 80, protocol: http}\n  - {number: 80, protocol: https}\n"),
             "web.yaml:9: warning: Egress curl/web: spec.ports[1].protocol: http and https on one port, 80",
             Web(kHttp)},
        Case{"DuplicateHost", Web("  hosts: [x.test, X.TEST.]\n  ports: [{number: 80, protocol: http}]\n"),
             kWarning + "spec.hosts[1]: stands in the list before: x.test", Web(kHttp)},
        Case{"DuplicatePort", Web("  ports: [{number: 80, protocol: tcp}, {number: 80, protocol: TCP}]\n"),
             kWarning + "spec.ports[1]: stands in the list before: 80 tcp", Web(kTcp)},
        Case{"DuplicateCidr", Web("  ipAddresses: [198.51.100.0/24, 198.51.100.0/24]\n" + kTcp),
             kWarning + "spec.ipAddresses[1]: stands in the list before: 198.51.100.0/24", Web(kTcp)},
        Case{"DuplicateSource",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: web, namespace: curl}\n"
             "spec:\n  sources: [{kind: ServiceAccount, name: curl, namespace: curl},\n"
             "    {kind: ServiceAccount, name: curl, namespace: curl}]\n" +
                 kTcp,
             kWarning + "spec.sources[1]: stands in the list before: curl/curl", Web(kTcp)},
        Case{"CidrInsideTheMesh", Web("  ipAddresses: [10.96.0.80/32]\n" + kTcp),
             kWarning + "spec.ipAddresses[0]: 10.96.0.80/32 is inside meshCIDRs (10.96.0.0/12)", Web(kTcp)},
        Case{"ServiceHost", Web("  hosts: [web.shop.svc]\n  ports: [{number: 80, protocol: http}]\n"),
             kWarning + "spec.hosts[0]: web.shop.svc is inside the mesh", Web(kHttp)},
        Case{"MissingRouteGroup",
             Web("  matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: no}]\n" + kHttp),
             kWarning + "spec.matches[0].name: HTTPRouteGroup curl/no does not exist (yet)", Web(kHttp)},
        Case{"LiteralForHttps", Web("  hosts: [198.51.100.7]\n  ports: [{number: 443, protocol: https}]\n"),
             kWarning + "spec.hosts[0]: 198.51.100.7 is an IP literal: clients send no SNI then", Web(kHttp)}),
    NameOf);

INSTANTIATE_TEST_SUITE_P(
    OtherKinds, Findings,
    testing::Values(
        Case{"BadPath", Routes("{name: a, pathRegex: \"/(\"}\n"),
             "web.yaml:6: error: HTTPRouteGroup curl/routes: spec.matches[0].pathRegex: \"/(\" is not a regex that RE2 "
             "accepts: missing ): /(",
             Routes("{name: a, pathRegex: /a}\n")},
        Case{"RepetitionTooLarge", Routes("{name: a, pathRegex: \"((a{100}){100}){100}\"}\n"),
             "web.yaml:6: error: HTTPRouteGroup curl/routes: spec.matches[0].pathRegex: ",
             Routes("{name: a, pathRegex: a.*}\n")},
        Case{"RegexTooLong", Routes("{name: a, pathRegex: \"" + std::string(5000, 'a') + "\"}\n"),
             "web.yaml:6: error: HTTPRouteGroup curl/routes: spec.matches[0].pathRegex: \"" + std::string(120, 'a') +
                 "...\" is longer than the limit of 4096 bytes",
             Routes("{name: a}\n")},
        Case{"BadHeaderValue", Routes("{name: a, headers: [{x-a: \"[\"}]}\n"),
             "web.yaml:6: error: HTTPRouteGroup curl/routes: spec.matches[0].headers[0].x-a: \"[\" is not a regex",
             Routes("{name: a, headers: [{x-a: b}]}\n")},
        Case{"TwoHeadersInOneItem", Routes("{name: a, headers: [{x-a: b, x-c: d}]}\n"),
             "web.yaml:6: error: HTTPRouteGroup curl/routes: spec.matches[0].headers[0]: has 2 keys",
             Routes("{name: a, headers: [{x-a: b}, {x-c: d}]}\n")},
        Case{"MethodInLowerCase", Routes("{name: a, methods: [get]}\n"),
             "web.yaml:6: error: HTTPRouteGroup curl/routes: spec.matches[0].methods[0]: \"get\" is unknown",
             Routes("{name: a, methods: [GET]}\n")},
        Case{"RouteWithoutName", Routes("{pathRegex: /a}\n"),
             "web.yaml:6: error: HTTPRouteGroup curl/routes: spec.matches[0].name: is missing",
             Routes("{name: a, pathRegex: /a}\n")},
        Case{"RateLimit", Setting("  rateLimit: {local: {tcp: {connections: 1, unit: second}}}\n"),
             "web.yaml:6: warning: UpstreamTrafficSetting curl/limits: spec.rateLimit: is not supported yet",
             Setting("")},
        Case{"MaxRetries", Setting("  connectionSettings: {http: {maxRetries: 1}}\n"),
             "web.yaml:6: warning: UpstreamTrafficSetting curl/limits: spec.connectionSettings.http.maxRetries: is not "
             "supported yet",
             Setting("")},
        Case{"SettingWithoutHost",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: UpstreamTrafficSetting\n"
             "metadata: {name: limits, namespace: curl}\nspec: {}\n",
             "web.yaml:4: error: UpstreamTrafficSetting curl/limits: spec.host: is missing; it is required",
             Setting("")},
        Case{"BadTimeout", Setting("  connectionSettings: {tcp: {connectTimeout: 5}}\n"),
             "web.yaml:6: error: UpstreamTrafficSetting curl/limits: spec.connectionSettings.tcp.connectTimeout: must "
             "be "
             "a string, is an integer",
             Setting("  connectionSettings: {tcp: {connectTimeout: 5s}}\n")},
        Case{"NegativeLimit", Setting("  connectionSettings: {tcp: {maxConnections: -1}}\n"),
             "web.yaml:6: error: UpstreamTrafficSetting curl/limits: spec.connectionSettings.tcp.maxConnections: must "
             "be "
             "at least 0, is -1",
             Setting("  connectionSettings: {tcp: {maxConnections: 1}}\n")},
        Case{"EgressGateway",
             "apiVersion: policy.openservicemesh.io/v1alpha1\nkind: EgressGateway\nmetadata: {name: g, namespace: "
             "curl}\n",
             "web.yaml:2: warning: EgressGateway curl/g: kind: is not supported and ignored", Setting("")},
        Case{"AnotherKind", "apiVersion: v1\nkind: Secret\nmetadata: {name: s, namespace: curl}\n",
             "web.yaml:2: warning: Secret curl/s: kind: is none of the kinds that egress policy is made of",
             Setting("")},
        Case{"MeshConfigOfAnotherName",
             "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshConfig\n"
             "metadata:\n  name: other\n  namespace: osm-system\n",
             "web.yaml:4: warning: MeshConfig osm-system/other: metadata.name: only osm-system/osm-mesh-config is read",
             Setting("")},
        Case{"UnknownFieldOfMeshConfig",
             "apiVersion: config.openservicemesh.io/v1alpha1\nkind: MeshConfig\n"
             "metadata: {name: osm-mesh-config, namespace: osm-system}\nspec:\n  traffic:\n    enableEgres: true\n",
             "web.yaml:6: error: MeshConfig osm-system/osm-mesh-config: spec.traffic.enableEgres: is an unknown field",
             Setting("")},
        Case{"YesIsNoBoolean",
             "apiVersion: config.openservicemesh.io/v1alpha1\nkind: MeshConfig\n"
             "metadata: {name: osm-mesh-config, namespace: osm-system}\nspec:\n  traffic:\n    enableEgress: yes\n",
             "web.yaml:6: error: MeshConfig osm-system/osm-mesh-config: spec.traffic.enableEgress: must be true or "
             "false, "
             "is a string (\"yes\")",
             Setting("")},
        Case{"NoKind", "apiVersion: v1\nmetadata: {name: s}\n", "web.yaml:1: error: kind: is missing", Setting("")},
        Case{"NoName", "apiVersion: v1\nkind: Pod\nmetadata: {}\n", "web.yaml:1: error: Pod: metadata.name: is missing",
             Setting("")},
        Case{"NoYaml", "kind: Egress\n  metadata: [\n", "web.yaml:2: error: is not valid YAML: ", Setting("")},
        Case{"NoMap", "- a\n- b\n", "web.yaml:1: error: is no object", Setting("")}),
    NameOf);

TEST(FindingsAcrossObjects, TheSameObjectTwiceWithDifferentContentNamesBothFiles) {
  Store store{Settings()};
  store.SetUnit("namespace.yaml", kEnrolledNamespace);
  store.SetUnit("a.yaml", Web(kTcp));
  store.SetUnit("b.yaml", Web(kTcp));
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "") << "equal content is counted once";
  EXPECT_EQ(store.PoliciesOf({"curl", "curl"}).size(), 1U);

  store.SetUnit("b.yaml", Web(kHttp));
  store.Commit();
  EXPECT_EQ(
      TextOf(store.Findings()),
      "a.yaml:1: error: Egress curl/web: stands with different content in b.yaml, line 1, too; keep one of them\n"
      "b.yaml:1: error: Egress curl/web: stands with different content in a.yaml, line 1, too; keep one of them\n");
  EXPECT_TRUE(store.PoliciesOf({"curl", "curl"}).empty());
  EXPECT_EQ(store.EgressCount().invalid, 1);

  store.RemoveUnit("a.yaml");
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "");
  EXPECT_EQ(store.PoliciesOf({"curl", "curl"}).size(), 1U);
}

TEST(FindingsAcrossObjects, ANamespaceThatIsNotEnrolledIsAWarningOnlyWhereItIsKnown) {
  Store store{Settings()};
  store.SetUnit("web.yaml", Web(kTcp));
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings()), "");
  store.SetUnit("namespace.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: curl}\n");
  store.Commit();
  EXPECT_EQ(TextOf(store.Findings())
                .find("web.yaml:3: warning: Egress curl/web: metadata.namespace: namespace curl lacks "
                      "the label openservicemesh.io/monitored-by"),
            0U)
      << TextOf(store.Findings());
  EXPECT_TRUE(store.PoliciesOf({"curl", "curl"}).empty());
  EXPECT_EQ(store.EgressCount().valid, 1) << "a warning changes nothing";
}

TEST(FindingsAcrossObjects, LinesAreThoseOfTheFieldInTheConformanceExample) {
  Store store{Settings()};
  store.SetUnit("bad.yaml", R"(apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: fine, namespace: curl}
spec:
  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]
  ports: [{number: 443, protocol: tcp}]
---
apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: broken, namespace: curl}
spec:
  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]
  ipAddresses: [198.51.100.7/24]
  ports:
  - {number: 80, protocol: tcp}
  - {number: 70000, protocol: tcp}
  - {number: 81, protocol: grpc}
)");
  store.Commit();
  EXPECT_EQ(
      TextOf(store.Findings()),
      "bad.yaml:13: error: Egress curl/broken: spec.ipAddresses[0]: \"198.51.100.7/24\" has host bits set; write "
      "198.51.100.0/24\n"
      "bad.yaml:16: error: Egress curl/broken: spec.ports[1].number: must be in 1..65535, is 70000\n"
      "bad.yaml:17: error: Egress curl/broken: spec.ports[2].protocol: \"grpc\" is unknown; write http, https, tcp "
      "or tcp-server-first\n");
}

}  // namespace
}  // namespace egress::policy
