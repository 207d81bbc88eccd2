// PolicyIndex: verdicts on connections, server names and requests (SEMANTICS 3 and 4).

#include "agent/policy/decide.h"

#include <gtest/gtest.h>

#include "agent/policy/store.h"
#include "tests/unit/policy_manifests.h"

namespace egress::policy {
namespace {

// The policies of curl/curl, from manifests: what people write is what is judged.
std::vector<PolicyPtr> Policies(const std::string& text) {
  Store store{Settings()};
  store.SetUnit("ns", kEnrolledNamespace);
  store.SetUnit("policies", text);
  store.Commit();
  for (const Finding& finding : store.Findings()) {
    EXPECT_EQ(finding.severity, Severity::kWarning) << finding.ToString();
  }
  return store.PoliciesOf({"curl", "curl"});
}

std::string Egress(const std::string& name, const std::string& spec) {
  return "---\napiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: " + name +
         ", namespace: curl}\nspec:\n  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]\n" + spec;
}

std::string Group(const std::string& name, const std::string& matches) {
  return "---\napiVersion: specs.smi-spec.io/v1alpha4\nkind: HTTPRouteGroup\nmetadata: {name: " + name +
         ", namespace: curl}\nspec:\n  matches:\n" + matches;
}

std::string Matches(const std::string& group) {
  return "  matches: [{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: " + group + "}]\n";
}

const std::string kHttp = "  hosts: [httpbin.org]\n  ports: [{number: 80, protocol: http}]\n";

struct Flow {
  const char* name;
  const char* address;
  std::uint16_t port;
  bool allowed;
  egress_reason reason;
};
std::string NameOf(const testing::TestParamInfo<Flow>& test) { return test.param.name; }
void PrintTo(const Flow& flow, std::ostream* stream) { *stream << flow.name; }

class Connect : public testing::TestWithParam<Flow> {};

TEST_P(Connect, IsDecidedByAddressAndPort) {
  const PolicyIndex index(Policies(Egress("range",
                                          "  ipAddresses: [198.51.100.16/28, \"2001:db8::/64\"]\n"
                                          "  ports: [{number: 5000, protocol: tcp-server-first}]\n") +
                                   Egress("web", "  hosts: [a.test]\n  ports: [{number: 443, protocol: https}]\n")));
  NetworkPolicy network;
  network.mesh = {Cidr("10.0.0.0/8")};
  network.excluded = {Cidr("203.0.113.0/24")};
  network.excluded_ports = {5002};
  network.dns_servers = {Ip("192.0.2.53")};
  const Flow& flow = GetParam();
  const ConnectDecision decision = index.Connect(network, Ip(flow.address), flow.port);
  EXPECT_EQ(decision.allowed, flow.allowed);
  EXPECT_STREQ(ReasonName(decision.reason), ReasonName(flow.reason));
  EXPECT_EQ(decision.any_bytes, flow.allowed && flow.port != 443);
}

INSTANTIATE_TEST_SUITE_P(Table, Connect,
                         testing::Values(Flow{"FirstOfTheRange", "198.51.100.16", 5000, true, EGRESS_REASON_RULE},
                                         Flow{"LastOfTheRange", "198.51.100.31", 5000, true, EGRESS_REASON_RULE},
                                         Flow{"BeforeTheRange", "198.51.100.15", 5000, false, EGRESS_REASON_POLICY},
                                         Flow{"BehindTheRange", "198.51.100.32", 5000, false, EGRESS_REASON_POLICY},
                                         Flow{"AnotherPort", "198.51.100.16", 5001, false, EGRESS_REASON_POLICY},
                                         Flow{"Mapped", "::ffff:198.51.100.16", 5000, true, EGRESS_REASON_RULE},
                                         Flow{"Ipv6", "2001:db8::1", 5000, true, EGRESS_REASON_RULE},
                                         Flow{"Ipv6Outside", "2001:db8:0:1::1", 5000, false, EGRESS_REASON_POLICY},
                                         Flow{"Https", "192.0.2.1", 443, true, EGRESS_REASON_RULE},
                                         Flow{"Mesh", "10.1.2.3", 22, true, EGRESS_REASON_MESH},
                                         Flow{"Excluded", "203.0.113.9", 22, true, EGRESS_REASON_EXCLUDED},
                                         Flow{"ExcludedPort", "192.0.2.1", 5002, true, EGRESS_REASON_EXCLUDED},
                                         Flow{"Dns", "192.0.2.53", 53, true, EGRESS_REASON_DNS},
                                         Flow{"DnsOnAnotherPort", "192.0.2.53", 54, false, EGRESS_REASON_POLICY},
                                         Flow{"LinkLocal", "169.254.169.254", 80, false, EGRESS_REASON_POLICY}),
                         NameOf);

TEST(ConnectSwitches, OpenPassesAllAndDisabledPoliciesGrantNothing) {
  const PolicyIndex index(Policies(Egress("p", "  ports: [{number: 5000, protocol: tcp}]\n")));
  NetworkPolicy network;
  EXPECT_TRUE(index.Connect(network, Ip("192.0.2.1"), 5000).allowed);
  network.policies_enabled = false;
  EXPECT_FALSE(index.Connect(network, Ip("192.0.2.1"), 5000).allowed);
  network.open = true;
  EXPECT_EQ(index.Connect(network, Ip("192.0.2.1"), 1).reason, EGRESS_REASON_OPEN);
  network = {};
  network.included = {Cidr("198.51.100.0/24")};
  EXPECT_EQ(index.Connect(network, Ip("192.0.2.1"), 1).reason, EGRESS_REASON_EXCLUDED);
  EXPECT_FALSE(index.Connect(network, Ip("198.51.100.1"), 1).allowed);
}

TEST(ConnectSwitches, HttpAndHttpsOnOnePortAreBothToBeJudged) {
  const PolicyIndex index(Policies(
      Egress("p", "  hosts: [a.test]\n  ports: [{number: 80, protocol: http}, {number: 80, protocol: https}]\n")));
  EXPECT_EQ(index.Connect({}, Ip("192.0.2.1"), 80).protocols, EGRESS_HTTP | EGRESS_HTTPS);
  EXPECT_FALSE(index.Connect({}, Ip("192.0.2.1"), 80).any_bytes);
}

struct Name {
  const char* name;
  std::string sni;
  egress_reason reason;  // EGRESS_REASON_RULE: allowed
};
std::string NameOfName(const testing::TestParamInfo<Name>& test) { return test.param.name; }
void PrintTo(const Name& name, std::ostream* stream) { *stream << name.name; }

class Tls : public testing::TestWithParam<Name> {};

TEST_P(Tls, IsDecidedByTheServerName) {
  const PolicyIndex index(Policies(Egress(
      "p", "  hosts: [httpbin.org, \"*.wild.test\", 198.51.100.7]\n  ports: [{number: 443, protocol: HTTPS}]\n")));
  const Decision decision = index.Tls({}, Ip("192.0.2.1"), 443, GetParam().sni);
  EXPECT_STREQ(ReasonName(decision.reason), ReasonName(GetParam().reason));
  EXPECT_EQ(decision.allowed, GetParam().reason == EGRESS_REASON_RULE);
  EXPECT_EQ(decision.policy, (ObjectId{"curl", "p"}));
}

INSTANTIATE_TEST_SUITE_P(Table, Tls,
                         testing::Values(Name{"Listed", "httpbin.org", EGRESS_REASON_RULE},
                                         Name{"UpperCase", "HTTPBIN.org", EGRESS_REASON_RULE},
                                         Name{"TrailingDot", "httpbin.org.", EGRESS_REASON_RULE},
                                         Name{"OneLabel", "a.wild.test", EGRESS_REASON_RULE},
                                         Name{"TwoLabels", "b.a.wild.test", EGRESS_REASON_RULE},
                                         Name{"Literal", "198.51.100.7", EGRESS_REASON_RULE},
                                         Name{"NotTheWildcardItself", "wild.test", EGRESS_REASON_SNI_MISMATCH},
                                         Name{"NotByItsEnd", "evilwild.test", EGRESS_REASON_SNI_MISMATCH},
                                         Name{"NotByItsMiddle", "a.wild.test.evil.test", EGRESS_REASON_SNI_MISMATCH},
                                         Name{"Subdomain", "www.httpbin.org", EGRESS_REASON_SNI_MISMATCH},
                                         Name{"TwoTrailingDots", "httpbin.org..", EGRESS_REASON_NO_SNI},
                                         Name{"Empty", "", EGRESS_REASON_NO_SNI},
                                         Name{"Dot", ".", EGRESS_REASON_NO_SNI},
                                         Name{"LeadingDot", ".wild.test", EGRESS_REASON_NO_SNI},
                                         Name{"EmptyLabel", "a..wild.test", EGRESS_REASON_NO_SNI},
                                         Name{"Nul", std::string("a\0.wild.test", 12), EGRESS_REASON_NO_SNI},
                                         Name{"Port", "httpbin.org:443", EGRESS_REASON_NO_SNI},
                                         Name{"TooLong", std::string(246, 'a') + ".wild.test", EGRESS_REASON_NO_SNI},
                                         Name{"Longest", std::string(245, 'a') + ".wild.test", EGRESS_REASON_RULE}),
                         NameOfName);

TEST(TlsAddresses, ANameCountsOnlyForTheAddressesOfItsPolicy) {
  const std::string https = "  ports: [{number: 443, protocol: https}]\n";
  const PolicyIndex index(
      Policies(Egress("a", "  hosts: [a.test]\n  ipAddresses: [198.51.100.0/24]\n" + https) +
               Egress("b", "  hosts: [b.test]\n  ipAddresses: [203.0.113.0/24]\n" + https) +
               Egress("raw", "  ipAddresses: [203.0.113.9/32]\n  ports: [{number: 443, protocol: tcp}]\n")));
  EXPECT_TRUE(index.Tls({}, Ip("198.51.100.1"), 443, "a.test").allowed);
  EXPECT_EQ(index.Tls({}, Ip("198.51.100.1"), 443, "b.test").reason, EGRESS_REASON_SNI_MISMATCH);
  EXPECT_TRUE(index.Tls({}, Ip("203.0.113.1"), 443, "b.test").allowed);
  EXPECT_EQ(index.Tls({}, Ip("203.0.113.1"), 443, "a.test").reason, EGRESS_REASON_SNI_MISMATCH);
  EXPECT_EQ(index.Tls({}, Ip("192.0.2.1"), 443, "a.test").reason, EGRESS_REASON_POLICY);
  EXPECT_EQ(index.Tls({}, Ip("203.0.113.9"), 443, "").policy, (ObjectId{"curl", "raw"}))
      << "a tcp rule allows any bytes";
}

// 64:ff9b::c633:6407 is 198.51.100.7 behind NAT64; 2002:c633:6407:: the same by 6to4; in 2001:0:... the server comes first,
// and the client's bits are inverted.
TEST(Forms, OfAnAddressAreAllJudged) {
  const auto port = [](const char* protocol) {
    return std::string("  ports: [{number: 443, protocol: ") + protocol + "}]\n";
  };
  const PolicyIndex all6(Policies(Egress("all6", "  ipAddresses: [\"::/0\"]\n" + port("tcp"))));
  const PolicyIndex both(Policies(Egress("all6", "  ipAddresses: [\"::/0\"]\n" + port("tcp")) +
                                  Egress("v4", "  ipAddresses: [198.51.100.0/24]\n" + port("tcp"))));
  const PolicyIndex any(Policies(Egress("any", port("tcp"))));
  const auto allows = [](const PolicyIndex& index, const char* address) {
    return index.Connect({}, Ip(address), 443).allowed;
  };
  for (const char* address : {"64:ff9b::c633:6407", "2002:c633:6407::1", "2001:0:c633:6407::39cc:9bf8"}) {
    EXPECT_FALSE(allows(all6, address)) << address;
    EXPECT_TRUE(allows(both, address)) << address;
    EXPECT_TRUE(allows(any, address)) << address;
  }
  for (const char* address :
       {"64:ff9b::cb00:7109", "2002:cb00:7109::1", "2001:0:cb00:7109::39cc:9bf8", "2001:0:c633:6407::34ff:8ef6"}) {
    EXPECT_FALSE(allows(both, address)) << address;
    EXPECT_TRUE(allows(any, address)) << address;
  }
  for (const char* address : {"64:ff9b:1::c633:6407", "64:ff9b::1:0:c633:6407", "2003:c633:6407::1", "2001:1::1"}) {
    EXPECT_TRUE(allows(all6, address)) << address << " stands for nothing but itself";
  }
  NetworkPolicy mesh;
  mesh.mesh = {Cidr("64:ff9b::/96"), Cidr("10.0.0.0/8")};
  EXPECT_EQ(any.Connect(mesh, Ip("64:ff9b::a00:1"), 80).reason, EGRESS_REASON_MESH);
  EXPECT_EQ(any.Connect(mesh, Ip("64:ff9b::c633:6407"), 443).reason, EGRESS_REASON_RULE);
  EXPECT_FALSE(any.Connect(mesh, Ip("64:ff9b::c633:6407"), 80).allowed);
}

TEST(Forms, OfAnAddressEachHaveToAllowTheNameAndTheRequest) {
  const std::string https = "  ports: [{number: 443, protocol: https}, {number: 80, protocol: http}]\n";
  const PolicyIndex index(
      Policies(Egress("six", "  hosts: [a.test, six.test]\n  ipAddresses: [\"::/0\"]\n" + https) +
               Egress("four", "  hosts: [a.test, four.test]\n  ipAddresses: [0.0.0.0/0]\n" + https)));
  const Address address = Ip("64:ff9b::c633:6407");
  EXPECT_EQ(index.Connect({}, address, 443).protocols, EGRESS_HTTPS);
  EXPECT_EQ(index.Connect({}, address, 80).protocols, EGRESS_HTTP);
  const auto http = [&](std::string_view host) { return index.Http(address, 80, {"GET", host, "/", {}}); };
  EXPECT_TRUE(index.Tls({}, address, 443, "a.test").allowed);
  EXPECT_TRUE(http("a.test").allowed);
  for (const char* host : {"six.test", "four.test"}) {
    EXPECT_EQ(index.Tls({}, address, 443, host).reason, EGRESS_REASON_SNI_MISMATCH) << host;
    EXPECT_EQ(http(host).reason, EGRESS_REASON_HTTP_HOST) << host;
  }
  EXPECT_TRUE(index.Tls({}, Ip("2001:db8::1"), 443, "six.test").allowed);
  NetworkPolicy excluded;
  excluded.excluded = {Cidr("64:ff9b::/96")};
  EXPECT_TRUE(index.Tls(excluded, address, 443, "four.test").allowed) << "the other form is not governed";
  EXPECT_FALSE(index.Tls(excluded, address, 443, "six.test").allowed);
  EXPECT_FALSE(index.Connect(excluded, address, 80).allowed) << "the proxy knows no exclusions";
}

struct Ask {
  const char* name;
  const char* method;
  const char* authority;
  const char* path;
  std::vector<std::pair<std::string_view, std::string_view>> headers;
  egress_reason reason;
};
std::string NameOfAsk(const testing::TestParamInfo<Ask>& test) { return test.param.name; }
void PrintTo(const Ask& ask, std::ostream* stream) { *stream << ask.name; }

class Http : public testing::TestWithParam<Ask> {};

TEST_P(Http, IsDecidedByHostAndRoute) {
  const PolicyIndex index(Policies(
      Egress("routed", kHttp + Matches("routes")) +
      Egress("all",
             "  hosts: [all.test, \"*.wild.test\", \"2001:db8::1\", 198.51.100.7]\n"
             "  ports: [{number: 80, protocol: http}]\n") +
      Group("routes",
            "  - {name: get, pathRegex: /get, methods: [GET]}\n  - {name: status, pathRegex: \"/status/[0-9]+\"}\n"
            "  - {name: token, pathRegex: /headers, headers: [{X-Token: \"[a-f0-9]{4}\"}, {x-user: .*}]}\n"
            "  - {name: host, pathRegex: /host, headers: [{host: \"httpbin.org:80\"}]}\n"
            "  - {name: upload, pathRegex: /post, methods: [\"*\"]}\n"
            "  - {name: tunnel, pathRegex: /tunnel, methods: [CONNECT, \"*\"]}\n")));
  const Ask& ask = GetParam();
  const Decision decision = index.Http(Ip("192.0.2.1"), 80, {ask.method, ask.authority, ask.path, ask.headers});
  EXPECT_STREQ(ReasonName(decision.reason), ReasonName(ask.reason));
  EXPECT_EQ(decision.allowed, ask.reason == EGRESS_REASON_RULE);
}

constexpr egress_reason kRule = EGRESS_REASON_RULE;
constexpr egress_reason kHost = EGRESS_REASON_HTTP_HOST;
constexpr egress_reason kRoute = EGRESS_REASON_HTTP_ROUTE;
constexpr egress_reason kMalformed = EGRESS_REASON_HTTP_MALFORMED;

INSTANTIATE_TEST_SUITE_P(Hosts, Http,
                         testing::Values(Ask{"Host", "GET", "httpbin.org", "/get", {}, kRule},
                                         Ask{"UpperCase", "GET", "HttpBin.ORG", "/get", {}, kRule},
                                         Ask{"TrailingDot", "GET", "httpbin.org.", "/get", {}, kRule},
                                         Ask{"Port", "GET", "httpbin.org:80", "/get", {}, kRule},
                                         Ask{"AnotherPort", "GET", "httpbin.org:81", "/get", {}, kHost},
                                         Ask{"AnotherHost", "GET", "evil.test", "/get", {}, kHost},
                                         Ask{"Wildcard", "GET", "b.a.wild.test:80", "/x", {}, kRule},
                                         Ask{"WildcardItself", "GET", "wild.test", "/x", {}, kHost},
                                         Ask{"WildcardByItsEnd", "GET", "evilwild.test", "/x", {}, kHost},
                                         Ask{"Ipv6", "GET", "[2001:DB8:0::1]:80", "/x", {}, kRule},
                                         Ask{"AnotherIpv6", "GET", "[2001:db8::2]", "/x", {}, kHost},
                                         Ask{"Ipv4", "GET", "198.51.100.7", "/x", {}, kRule},
                                         Ask{"Ipv6WithoutBrackets", "GET", "2001:db8::1", "/x", {}, kMalformed},
                                         Ask{"Userinfo", "GET", "a@httpbin.org", "/get", {}, kMalformed},
                                         Ask{"Empty", "GET", "", "/get", {}, kMalformed},
                                         Ask{"EmptyPort", "GET", "httpbin.org:", "/get", {}, kMalformed},
                                         Ask{"Blank", "GET", "httpbin.org ", "/get", {}, kMalformed}),
                         NameOfAsk);

INSTANTIATE_TEST_SUITE_P(
    Routes, Http,
    testing::Values(Ask{"Path", "GET", "httpbin.org", "/get", {}, kRule},
                    Ask{"Query", "GET", "httpbin.org", "/get?x=1", {}, kRule},
                    Ask{"TrailingSlash", "GET", "httpbin.org", "/get/", {}, kRoute},
                    Ask{"LongerPath", "GET", "httpbin.org", "/getx", {}, kRoute},
                    Ask{"CaseOfThePath", "GET", "httpbin.org", "/Get", {}, kRoute},
                    Ask{"AnotherMethod", "POST", "httpbin.org", "/get", {}, kRoute},
                    Ask{"CaseOfTheMethod", "get", "httpbin.org", "/get", {}, kRoute},
                    Ask{"Regex", "DELETE", "httpbin.org", "/status/200", {}, kRule},
                    Ask{"RegexAsAWhole", "GET", "httpbin.org", "/status/200x", {}, kRoute},
                    Ask{"AnyMethod", "PURGE", "httpbin.org", "/post", {}, kRule},
                    Ask{"ConnectIsNotAnyMethod", "CONNECT", "httpbin.org", "/post", {}, kRoute},
                    Ask{"ConnectWhereNoneIsNamed", "CONNECT", "httpbin.org", "/status/1", {}, kRoute},
                    Ask{"ConnectNamed", "CONNECT", "httpbin.org", "/tunnel", {}, kRule},
                    Ask{"AnyMethodBesideConnect", "PUT", "httpbin.org", "/tunnel", {}, kRule},
                    Ask{"ConnectWithoutRoutes", "CONNECT", "all.test", "/", {}, kRoute},
                    Ask{"AllRoutes", "PUT", "all.test", "/anything", {}, kRule},
                    Ask{"DotSegment", "GET", "all.test", "/a/../b", {}, kMalformed},
                    Ask{"EncodedSlash", "GET", "all.test", "/a%2Fb", {}, kMalformed},
                    Ask{"EncodedDot", "GET", "all.test", "/%2e", {}, kMalformed},
                    Ask{"DotsInTheQuery", "GET", "all.test", "/a?x=../%2f", {}, kRule},
                    Ask{"DotsInAName", "GET", "all.test", "/a..b/.c", {}, kRule}),
    NameOfAsk);

INSTANTIATE_TEST_SUITE_P(
    Headers, Http,
    testing::Values(
        Ask{"All", "GET", "httpbin.org", "/headers", {{"X-Token", "beef"}, {"X-USER", "a b"}}, kRule},
        Ask{"OneIsMissing", "GET", "httpbin.org", "/headers", {{"X-Token", "beef"}}, kRoute},
        Ask{"ValueAsAWhole", "GET", "httpbin.org", "/headers", {{"X-Token", "beefx"}, {"x-user", ""}}, kRoute},
        Ask{"EveryLineOfItMustMatch",
            "GET",
            "httpbin.org",
            "/headers",
            {{"X-Token", "beef"}, {"x-token", "no"}, {"x-user", ""}},
            kRoute},
        Ask{"EveryLineMatches",
            "GET",
            "httpbin.org",
            "/headers",
            {{"X-Token", "beef"}, {"x-token", "dead"}, {"x-user", ""}},
            kRule},
        Ask{"HostIsTheAuthorityAsSent", "GET", "httpbin.org:80", "/host", {}, kRule},
        Ask{"HostOtherwiseSent", "GET", "httpbin.org", "/host", {{"Host", "httpbin.org:80"}}, kRoute}),
    NameOfAsk);

TEST(HttpUnion, EveryPolicyIsConsideredAndOneWithoutLimitsIsNamed) {
  const std::string setting =
      "---\napiVersion: policy.openservicemesh.io/v1alpha1\nkind: UpstreamTrafficSetting\n"
      "metadata: {name: s, namespace: curl}\nspec: {host: x, connectionSettings: {http: {maxRequests: 0}}}\n";
  const std::string limited =
      "  matches: [{apiGroup: policy.openservicemesh.io/v1alpha1, kind: UpstreamTrafficSetting, name: s}]\n";
  const PolicyIndex index(Policies(setting + Egress("a", kHttp + limited) + Egress("z", kHttp + Matches("g")) +
                                   Group("g", "  - {name: get, pathRegex: /get}\n")));
  const auto judge = [&](const char* path) {
    return index.Http(Ip("192.0.2.1"), 80, {"GET", "httpbin.org", path, {}});
  };
  EXPECT_EQ(judge("/get").policy, (ObjectId{"curl", "z"}));
  EXPECT_EQ(judge("/get").rule, "port 80 http, host httpbin.org, route get");
  EXPECT_EQ(judge("/other").policy, (ObjectId{"curl", "a"}));
  EXPECT_TRUE(judge("/other").allowed);
  ASSERT_NE(index.LimitsOf({"curl", "a"}), nullptr);
  EXPECT_EQ(index.LimitsOf({"curl", "a"})->max_requests, 0U);
  EXPECT_EQ(index.LimitsOf({"curl", "b"}), nullptr);
}

TEST(HttpUnion, AGroupThatDoesNotExistAllowsNoRequest) {
  const PolicyIndex index(Policies(Egress("a", kHttp + Matches("none"))));
  EXPECT_TRUE(index.Connect({}, Ip("192.0.2.1"), 80).allowed);
  EXPECT_EQ(index.Http(Ip("192.0.2.1"), 80, {"GET", "httpbin.org", "/get", {}}).reason, EGRESS_REASON_HTTP_ROUTE);
}

TEST(HttpUnion, RoutesDoNotConcernHttpsAndTcp) {
  const PolicyIndex index(Policies(
      Egress("a", "  hosts: [a.test]\n  ports: [{number: 443, protocol: https}, {number: 500, protocol: tcp}]\n" +
                      Matches("none"))));
  EXPECT_TRUE(index.Tls({}, Ip("192.0.2.1"), 443, "a.test").allowed);
  EXPECT_TRUE(index.Connect({}, Ip("192.0.2.1"), 500).any_bytes);
}

TEST(Reasons, NamesAreThoseOfTheMetricAndBack) {
  for (int i = 0; i < EGRESS_REASON_MAX; ++i) {
    const auto reason = static_cast<egress_reason>(i);
    EXPECT_EQ(ReasonFromName(ReasonName(reason)), reason);
  }
  EXPECT_STREQ(ReasonName(EGRESS_REASON_SNI_MISMATCH), "sni-mismatch");
  EXPECT_STREQ(ReasonName(EGRESS_REASON_HOST_BINDING), "host-binding");
  EXPECT_STREQ(ReasonName(EGRESS_REASON_INBOUND), "inbound");
  EXPECT_EQ(ReasonFromName("x"), std::nullopt);
}

}  // namespace
}  // namespace egress::policy
