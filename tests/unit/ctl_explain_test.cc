#include "cmd/egressctl/explain.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

namespace egress::ctl {
namespace {

policy::PolicyPtr MakePolicy(const std::string& name, std::vector<policy::Port> ports,
                             std::vector<std::string> hosts = {}, const std::string& cidr = "") {
  policy::EffectivePolicy policy;
  policy.id = {"curl", name};
  policy.service_accounts = {{"curl", "curl"}};
  policy.ports = std::move(ports);
  policy.cidrs = {cidr.empty() ? Prefix{} : *ParsePrefix(cidr)};
  policy.hosts = std::move(hosts);
  return std::make_shared<const policy::EffectivePolicy>(policy);
}

datapath::PodPolicy MakePod() {
  datapath::PodPolicy pod;
  pod.pod.pod.proxy_port4 = htons(15001);
  pod.pod.pod.proxy_port6 = htons(15001);
  pod.pod.pod.address_count = 1;
  const Address own = *ParseAddress("10.244.1.10");
  std::copy(own.bytes.begin(), own.bytes.end(), pod.pod.pod.addresses[0]);
  pod.network.mesh = {*ParsePrefix("10.96.0.0/12")};
  pod.policies = {
      MakePolicy("both", {{8443, policy::Protocol::kHttp}, {8443, policy::Protocol::kHttps}}, {"both.test"}),
      MakePolicy("range", {{5000, policy::Protocol::kTcp}}, {}, "198.51.100.32/27"),
      MakePolicy("web", {{80, policy::Protocol::kHttp}, {443, policy::Protocol::kHttps}},
                 {"*.wild.test", "httpbin.org"}),
  };
  return pod;
}

struct Ask {
  std::string to;
  std::optional<std::string> sni;
  std::optional<std::string> http;
  std::vector<Header> headers;
};

Answer Explain(const Ask& ask, datapath::PodPolicy pod = MakePod(), const char* address = "198.51.100.10") {
  Question question;
  question.target = *ParseTarget(ask.to);
  question.sni = ask.sni;
  if (ask.http) question.request = *ParseRequest(*ask.http);
  question.headers = ask.headers;
  return Explainer(std::move(pod)).Decide(question.target.address.value_or(*ParseAddress(address)), question);
}

struct Case {
  const char* name;
  Ask ask;
  const char* verdict;
  const char* reason;
  const char* policy;
};

class ExplainTable : public ::testing::TestWithParam<Case> {};

TEST_P(ExplainTable, Decides) {
  const Case& expected = GetParam();
  const Answer answer = Explain(expected.ask);
  EXPECT_EQ(answer.verdict, expected.verdict) << answer.ToJson();
  EXPECT_EQ(answer.reason, expected.reason) << answer.ToJson();
  if (answer.verdict == "allow") {
    EXPECT_EQ(answer.policy, expected.policy) << answer.ToJson();
  }
}

INSTANTIATE_TEST_SUITE_P(
    Flows, ExplainTable,
    ::testing::Values(
        Case{"TlsWithAListedName", {"198.51.100.10:443", "httpbin.org", {}, {}}, "allow", "rule", "curl/web"},
        Case{"TlsWithAWildcard", {"198.51.100.10:443", "a.wild.test", {}, {}}, "allow", "rule", "curl/web"},
        Case{"TlsWithAnotherName", {"198.51.100.10:443", "evil.test", {}, {}}, "deny", "sni-mismatch", ""},
        Case{"TlsWithAnEmptyName", {"198.51.100.10:443", "", {}, {}}, "deny", "no-sni", ""},
        Case{"HttpsUrl", {"198.51.100.10:443", {}, "GET https://httpbin.org/get", {}}, "allow", "rule", "curl/web"},
        Case{"HttpsUrlOfAnother", {"198.51.100.10:443", {}, "GET https://evil.test/", {}}, "deny", "sni-mismatch", ""},
        Case{"PlainHttpOnATlsPort", {"198.51.100.10:443", {}, "GET http://httpbin.org/", {}}, "deny", "not-tls", ""},
        Case{"TlsOnAnHttpPort", {"198.51.100.10:80", "httpbin.org", {}, {}}, "deny", "http-malformed", ""},
        Case{"Http", {"198.51.100.10:80", {}, "GET http://httpbin.org/get", {}}, "allow", "rule", "curl/web"},
        Case{"HttpToAnotherHost", {"198.51.100.10:80", {}, "GET http://evil.test/get", {}}, "deny", "http-host", ""},
        Case{"HttpWithAHostHeaderOfItsOwn",
             {"198.51.100.10:80", {}, "GET http://httpbin.org/get", {{"host", "evil.test"}}},
             "deny",
             "http-host",
             ""},
        Case{"HttpWithAHostThatIsNone",
             {"198.51.100.10:80", {}, "GET http://httpbin.org/get", {{"Host", "a b"}}},
             "deny",
             "http-malformed",
             ""},
        Case{"HttpByPathWithTheNameOfTheTarget", {"httpbin.org:80", {}, "GET /get", {}}, "allow", "rule", "curl/web"},
        Case{"NameServesAsSni", {"httpbin.org:443", {}, {}, {}}, "allow", "rule", "curl/web"},
        Case{"OtherNameServesAsSni", {"evil.test:443", {}, {}, {}}, "deny", "sni-mismatch", ""},
        Case{"NameServesAsHost", {"httpbin.org:80", {}, {}, {}}, "allow", "rule", "curl/web"},
        Case{"OtherNameServesAsHost", {"evil.test:80", {}, {}, {}}, "deny", "http-host", ""},
        Case{"BothProtocolsWithAName", {"both.test:8443", {}, {}, {}}, "allow", "rule", "curl/both"},
        Case{"BothProtocolsWithAnSni", {"198.51.100.10:8443", "both.test", {}, {}}, "allow", "rule", "curl/both"},
        Case{"BothProtocolsWithARequest",
             {"198.51.100.10:8443", {}, "GET http://both.test:8443/", {}},
             "allow",
             "rule",
             "curl/both"},
        Case{"AddressAloneOnATlsPort", {"198.51.100.10:443", {}, {}, {}}, "deny", "no-sni", ""},
        Case{"AddressAloneOnAnHttpPort", {"198.51.100.10:80", {}, {}, {}}, "deny", "http-host", ""},
        Case{"AddressInATcpRange", {"198.51.100.40:5000", {}, {}, {}}, "allow", "rule", "curl/range"},
        Case{"AddressOutsideATcpRange", {"198.51.100.10:5000", {}, {}, {}}, "deny", "policy", ""},
        Case{"PortWithoutRule", {"198.51.100.10:22", {}, {}, {}}, "deny", "policy", ""},
        Case{"Mesh", {"10.96.0.80:80", {}, {}, {}}, "allow", "mesh", ""},
        Case{"OwnAddress", {"10.244.1.10:80", {}, {}, {}}, "allow", "mesh", ""},
        Case{"Loopback", {"127.0.0.1:80", {}, {}, {}}, "allow", "mesh", ""},
        Case{"Loopback6", {"[::1]:80", {}, {}, {}}, "allow", "mesh", ""}),
    [](const auto& flow) { return flow.param.name; });

TEST(Explain, AnAddressAloneListsTheNamesThatWouldPass) {
  const Answer answer = Explain({"198.51.100.10:443", {}, {}, {}});
  EXPECT_NE(answer.note.find("*.wild.test, httpbin.org"), std::string::npos) << answer.note;
  EXPECT_EQ(answer.note.find("both.test"), std::string::npos) << answer.note;
}

TEST(Explain, WithoutAProxyHttpIsRefusedAndTlsIsNot) {
  datapath::PodPolicy pod = MakePod();
  pod.pod.pod.proxy_port4 = 0;
  const Ask http{"198.51.100.10:80", {}, "GET http://httpbin.org/get", {}};
  EXPECT_EQ(Explain(http, pod).reason, "proxy-unavailable");
  EXPECT_EQ(Explain({"198.51.100.10:8443", "both.test", {}, {}}, pod).reason, "proxy-unavailable");
  EXPECT_EQ(Explain({"198.51.100.10:443", "httpbin.org", {}, {}}, pod).verdict, "allow");
  pod.network.audit = true;  // goes direct
  EXPECT_EQ(Explain(http, pod).verdict, "allow");
}

TEST(Explain, AFamilyOfWhichThePodHasNoAddressNeedsNoProxy) {
  datapath::PodPolicy pod = MakePod();
  pod.pod.pod.proxy_port6 = 0;
  const Answer answer = Explain({"[2001:db8::1]:80", {}, "GET http://httpbin.org/get", {}}, pod);
  EXPECT_EQ(answer.verdict, "allow") << answer.ToJson();
  EXPECT_NE(answer.note.find("no IPv6 address"), std::string::npos) << answer.note;
  const Address own = *ParseAddress("2001:db8:1::10");
  std::copy(own.bytes.begin(), own.bytes.end(), pod.pod.pod.addresses[1]);
  pod.pod.pod.address_count = 2;
  EXPECT_EQ(Explain({"[2001:db8::1]:80", {}, "GET http://httpbin.org/get", {}}, pod).reason, "proxy-unavailable");
}

TEST(Explain, LimitsAreMentioned) {
  datapath::PodPolicy pod = MakePod();
  policy::EffectivePolicy limited = *pod.policies[1];
  EXPECT_EQ(Explain({"198.51.100.40:5000", {}, {}, {}}, pod).note, "");
  limited.limits.max_connections = 1;
  pod.policies[1] = std::make_shared<const policy::EffectivePolicy>(limited);
  EXPECT_NE(Explain({"198.51.100.40:5000", {}, {}, {}}, pod).note.find("limits"), std::string::npos);
}

TEST(Explain, AuditReportsWhatWouldBeDeniedAndLetsItPass) {
  datapath::PodPolicy pod = MakePod();
  pod.network.audit = true;
  const Answer answer = Explain({"198.51.100.10:22", {}, {}, {}}, pod);
  EXPECT_EQ(answer.verdict, "audit");
  EXPECT_EQ(answer.reason, "policy");
  EXPECT_TRUE(answer.passes());
  EXPECT_FALSE(Explain({"198.51.100.10:22", {}, {}, {}}).passes());
}

TEST(Explain, EnableEgressPassesEverything) {
  datapath::PodPolicy pod = MakePod();
  pod.network.open = true;
  const Answer answer = Explain({"198.51.100.10:22", {}, {}, {}}, pod);
  EXPECT_EQ(answer.verdict, "allow");
  EXPECT_EQ(answer.reason, "open");
}

TEST(Explain, TargetsOfAllFormsAreRead) {
  EXPECT_EQ(ParseTarget("httpbin.org:80")->host, "httpbin.org");
  EXPECT_FALSE(ParseTarget("httpbin.org:80")->address.has_value());
  EXPECT_EQ(ParseTarget("192.0.2.1:443")->address, ParseAddress("192.0.2.1"));
  EXPECT_EQ(ParseTarget("[2001:db8::1]:443")->address, ParseAddress("2001:db8::1"));
  EXPECT_EQ(ParseTarget("[2001:db8::1]:443")->port, 443);
  for (const char* wrong : {"", ":80", "httpbin.org", "httpbin.org:", "httpbin.org:0", "httpbin.org:65536",
                            "2001:db8::1:443", "[192.0.2.1]:80", "[x]:80", "httpbin.org:80x"}) {
    EXPECT_FALSE(ParseTarget(wrong).ok()) << wrong;
  }
}

TEST(Explain, RequestsAreReadAsAClientWouldSendThem) {
  const auto request = ParseRequest("POST http://httpbin.org:8080/a/b?c=d#e");
  ASSERT_TRUE(request.ok());
  EXPECT_EQ(request->method, "POST");
  EXPECT_EQ(request->authority, "httpbin.org:8080");
  EXPECT_EQ(request->path, "/a/b?c=d");
  EXPECT_EQ(ParseRequest("GET http://httpbin.org")->path, "/");
  EXPECT_EQ(ParseRequest("GET http://httpbin.org?x")->path, "/?x");
  EXPECT_EQ(ParseRequest("GET /get")->authority, "");
  EXPECT_TRUE(ParseRequest("GET https://httpbin.org/")->tls);
  for (const char* wrong : {"", "GET", "GET ", "http://httpbin.org/", "GET ftp://x/", "GET http://", "GET x y"}) {
    EXPECT_FALSE(ParseRequest(wrong).ok()) << wrong;
  }
}

TEST(Explain, HeadersAreReadWithoutBlanksAroundTheirValue) {
  EXPECT_EQ(*ParseHeader("x-token:  a b "), Header("x-token", "a b"));
  EXPECT_EQ(*ParseHeader("x-empty:"), Header("x-empty", ""));
  EXPECT_FALSE(ParseHeader("no colon").ok());
  EXPECT_FALSE(ParseHeader(": value").ok());
}

}  // namespace
}  // namespace egress::ctl
