// The reading of text: YAML and JSON, hostile text, documents of the routes map, the configuration.

#include <gtest/gtest.h>

#include "agent/policy/duration.h"
#include "agent/policy/effective.h"
#include "agent/policy/host.h"
#include "agent/policy/settings.h"
#include "agent/policy/tree.h"
#include "tests/unit/policy_manifests.h"
#include "tests/unit/policy_random.h"

namespace egress::policy {
namespace {

TEST(Tree, DocumentsKnowLinesAndTypes) {
  const Documents read = ReadDocuments("# comment\na: 1\nb:\n- x\n- {c: yes,\n   d: true}\n---\n---\ne: null\n");
  ASSERT_FALSE(read.failure) << read.failure->message;
  ASSERT_EQ(read.documents.size(), 2U);
  const Node& root = read.documents[0].root;
  EXPECT_EQ(root.Find("a")->type, Node::Type::kInteger);
  EXPECT_EQ(root.Find("b")->line, 3);
  EXPECT_EQ(root.Find("b")->children[0].line, 4);
  EXPECT_EQ(root.Find("b")->children[1].Find("c")->type, Node::Type::kString);
  EXPECT_EQ(root.Find("b")->children[1].Find("d")->type, Node::Type::kBool);
  EXPECT_EQ(root.Find("b")->children[1].Find("d")->line, 6);
  EXPECT_EQ(read.documents[1].root.Find("e")->type, Node::Type::kNull);
}

TEST(Tree, JsonIsReadWithLinesAndDuplicates) {
  const Documents read = ReadDocuments("{\n\t\"a\": {\"b\": 1,\n\t\t\"b\": \"x\\ud83d\\ude00\"},\n\t\"c\": 1.0}");
  ASSERT_FALSE(read.failure) << read.failure->message;
  ASSERT_EQ(read.documents.size(), 1U);
  const Document& document = read.documents[0];
  EXPECT_EQ(document.root.FindPath("a.b")->type, Node::Type::kInteger);
  EXPECT_EQ(document.root.Find("c")->type, Node::Type::kNumber);
  EXPECT_EQ(document.root.Find("c")->line, 4);
  ASSERT_EQ(document.duplicates.size(), 1U);
  EXPECT_EQ(document.duplicates[0].path, "a.b");
  EXPECT_EQ(document.duplicates[0].line, 3);
}

TEST(Tree, AnchorsAreExpanded) {
  const Documents read = ReadDocuments("a: &x {k: [1, 2]}\nb: *x\n");
  ASSERT_FALSE(read.failure);
  EXPECT_EQ(read.documents[0].root.FindPath("b.k")->children.size(), 2U);
  EXPECT_EQ(read.documents[0].root.Find("b")->line, 2);
}

std::string Repeat(const std::string& text, int times) {
  std::string all;
  for (int i = 0; i < times; ++i) all += text;
  return all;
}

std::string Laughs() {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before;
    for (int j = 0; j < 9; ++j) text += ", " + before;
    text += "]\n";
  }
  return text;
}

std::string Chain() {
  std::string text = "- &a0 [x]\n";
  for (int i = 1; i < 3000; ++i) text += "- &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  return text;
}

struct Hostile {
  const char* name;
  std::string text;
  const char* message;  // a part of it
};
std::string NameOf(const testing::TestParamInfo<Hostile>& test) { return test.param.name; }
void PrintTo(const Hostile& hostile, std::ostream* stream) { *stream << hostile.name; }

class HostileText : public testing::TestWithParam<Hostile> {};

TEST_P(HostileText, IsRefusedWithALine) {
  const Documents read = ReadDocuments(GetParam().text);
  ASSERT_TRUE(read.failure);
  EXPECT_TRUE(read.documents.empty());
  EXPECT_GE(read.failure->line, 1);
  EXPECT_NE(read.failure->message.find(GetParam().message), std::string::npos) << read.failure->message;
}

INSTANTIATE_TEST_SUITE_P(
    Table, HostileText,
    testing::Values(Hostile{"DeepFlow", Repeat("[", 100000), ""},
                    Hostile{"DeepJson", Repeat("{\"a\":", 100000), "nested deeper"},
                    Hostile{"DeepBlock", Repeat("- ", 100000), "nested deeper"},
                    Hostile{"DeepKeys", Repeat("? ", 100000), ""},
                    Hostile{"DeepMaps", Repeat("a: {", 50000), "nested deeper"},
                    Hostile{"BillionLaughs", Laughs(), "more than"}, Hostile{"AliasChain", Chain(), "nested deeper"},
                    Hostile{"AliasInItself", "a: &a [*a]\n", ""}, Hostile{"UnknownAlias", "a: *b\n", "anchor"},
                    Hostile{"Nul", std::string("a: b\n\0c: d\n", 11), "control character"},
                    Hostile{"EndOfText", "a: b\n\x04kind: MeshConfig\n", "control character"},
                    Hostile{"Latin1", "a: \xe9\n", "UTF-8"}, Hostile{"Overlong", "a: \xc0\xaf\n", "UTF-8"},
                    Hostile{"Surrogate", "a: \xed\xa0\x80\n", "UTF-8"},
                    Hostile{"TooLarge", std::string((16U << 20) + 1, ' '), "16 MiB"},
                    Hostile{"Tag", "a: !!binary aGFsbG8=\n", "tag"}, Hostile{"CustomTag", "a: !x y\n", "tag"},
                    Hostile{"MapAsKey", "{a: b}: c\n", "field name"},
                    Hostile{"TwoKinds", "kind: Egress\nkind: MeshConfig\n", "twice"},
                    Hostile{"TabIndent", "a:\n\t- b\n", ""}, Hostile{"Unclosed", "a: \"b\n", "scalar"},
                    Hostile{"UnclosedSingle", "a: 'b\n", "scalar"}, Hostile{"CommaFirst", ",a: b\n", "out of place"},
                    Hostile{"BracketFirst", "]\n", ""}, Hostile{"UnclosedList", "a: [b\n", "flow"}),
    NameOf);

TEST(Tree, EmptyTextsHoldNoDocuments) {
  for (const char* text : {"", "\n", "---\n", "# only a comment\n", "---\n---\n...\n", "\xef\xbb\xbf"}) {
    const Documents read = ReadDocuments(text);
    EXPECT_FALSE(read.failure) << text;
    EXPECT_TRUE(read.documents.empty()) << text;
  }
}

TEST(Tree, PlainScalarsHaveTheTypesThatAPersonExpects) {
  using Type = Node::Type;
  const std::pair<const char*, Type> cases[] = {
      {"80", Type::kInteger},   {"-1", Type::kInteger},     {"+80", Type::kInteger},
      {"0", Type::kInteger},    {"080", Type::kNumber},     {"0x50", Type::kNumber},
      {"0o17", Type::kNumber},  {"80.0", Type::kNumber},    {"8e1", Type::kNumber},
      {"1_000", Type::kNumber}, {".inf", Type::kNumber},    {".5", Type::kNumber},
      {"-.inf", Type::kNumber}, {"true", Type::kBool},      {"False", Type::kBool},
      {"yes", Type::kString},   {"on", Type::kString},      {"off", Type::kString},
      {"y", Type::kString},     {"1.2.3.4", Type::kString}, {"10.0.0.0/8", Type::kString},
      {"-", Type::kString},     {".", Type::kString},       {"e5", Type::kString},
      {"~", Type::kNull},       {"null", Type::kNull},      {"Null", Type::kNull},
      {"nil", Type::kString},   {"12a", Type::kString},     {"::1", Type::kString},
      {"1:30", Type::kString},  {"_1", Type::kString}};
  for (const auto& [text, type] : cases) EXPECT_EQ(PlainScalarType(text), type) << text;
}

TEST(Host, NamesWildcardsAndLiteralsAreMadeCanonical) {
  const std::pair<const char*, const char*> good[] = {{"HttpBin.org.", "httpbin.org"},
                                                      {"*.Example.com", "*.example.com"},
                                                      {"localhost", "localhost"},
                                                      {"a_b-c.test", "a_b-c.test"},
                                                      {"198.51.100.7", "198.51.100.7"},
                                                      {"2001:DB8::0:1", "2001:db8::1"},
                                                      {"[2001:db8::1]", "2001:db8::1"},
                                                      {"::ffff:1.2.3.4", "1.2.3.4"},
                                                      {"xn--bcher-kva.example", "xn--bcher-kva.example"}};
  for (const auto& [text, canonical] : good) {
    const auto host = NormalizeHost(text);
    ASSERT_TRUE(host.ok()) << text << host.error().message;
    EXPECT_EQ(*host, canonical);
  }
  for (const char* text : {"",
                           "*",
                           "*.",
                           "*.*.test",
                           "a.*",
                           "*a.test",
                           "a..b",
                           ".a",
                           "a.b..",
                           "-a.test",
                           "a-.test",
                           "b\xc3\xbc"
                           "cher.example",
                           "a b",
                           "http://a.test",
                           "a.test/x",
                           "a.test:80",
                           "999.1.1.1",
                           "1.2.3",
                           "*.1",
                           "[::1",
                           "a@b.test",
                           "fe80::1%eth0"}) {
    EXPECT_FALSE(NormalizeHost(text).ok()) << text;
  }
  EXPECT_FALSE(NormalizeHost(std::string(64, 'a') + ".test").ok());
  EXPECT_TRUE(NormalizeHost(std::string(63, 'a') + ".test").ok());
}

TEST(Duration, IsGos) {
  EXPECT_EQ(ParseDuration("5s"), 5000U);
  EXPECT_EQ(ParseDuration("1m30s"), 90000U);
  EXPECT_EQ(ParseDuration("1.5h"), 5400000U);
  EXPECT_EQ(ParseDuration("250ms"), 250U);
  EXPECT_EQ(ParseDuration("1ns"), 1U) << "rounded up";
  for (const char* text : {"", "0s", "5", "-5s", "s", "5x", "5 s", "1e3s", "99999999999h", ".s"}) {
    EXPECT_EQ(ParseDuration(text), std::nullopt) << text;
  }
}

TEST(Document, OfRandomPoliciesReadsBackAsWritten) {
  RandomPolicies random(3);
  for (int i = 0; i < 500; ++i) {
    EffectivePolicy policy = random.Policy(i);
    if (random.Chance(50)) policy.limits.connect_timeout_ms = 0xffffffffU;
    const auto back = FromDocument(ToDocument(policy));
    ASSERT_TRUE(back.ok()) << back.error().message;
    ASSERT_EQ(*back, policy);
  }
}

TEST(Document, WhatIsNoneIsRefused) {
  const std::string good = ToDocument(RandomPolicies(1).Policy(0));
  ASSERT_TRUE(FromDocument(good).ok());
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(FromDocument(std::string_view(good).substr(0, length)).ok());
  }
  for (const char* text : {"{}", "[]", "null", "{\"policy\": 3}", "{\"policy\": \"a\"}"}) {
    EXPECT_FALSE(FromDocument(text).ok()) << text;
  }
}

TEST(Config, EveryKeyIsRead) {
  std::vector<Finding> findings;
  const auto config = ParseConfig("config.yaml", R"(
meshName: mesh
controlPlaneNamespace: cp
meshCIDRs: [10.244.0.0/16, "fd00::/8"]
dnsServers: [198.51.100.53]
otherProtocols: allow
enforcement: audit
revokeConnections: false
allowCrossNamespaceSources: true
cni: off
systemNamespaces: [kube-system, monitoring]
cniConfDir: /a
cniBinDir: /b
hostBinding: off
)",
                                  &findings);
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(TextOf(findings), "");
  EXPECT_EQ(config->settings.mesh_name, "mesh");
  EXPECT_EQ(config->settings.control_plane_namespace, "cp");
  EXPECT_EQ(config->settings.mesh_cidrs, (std::vector<Prefix>{Cidr("10.244.0.0/16"), Cidr("fd00::/8")}));
  EXPECT_EQ(config->settings.dns_servers, std::vector<Address>{Ip("198.51.100.53")});
  EXPECT_TRUE(config->settings.other_protocols_allowed);
  EXPECT_TRUE(config->settings.audit);
  EXPECT_EQ(config->enforcement, "audit");
  EXPECT_FALSE(config->revoke_connections);
  EXPECT_TRUE(config->settings.allow_cross_namespace_sources);
  EXPECT_EQ(config->cni, "off");
  EXPECT_EQ(config->settings.system_namespaces, (std::vector<std::string>{"kube-system", "monitoring"}));
  EXPECT_EQ(config->cni_conf_dir, "/a");
  EXPECT_EQ(config->cni_bin_dir, "/b");
  EXPECT_EQ(config->host_binding, "off");
}

TEST(Config, AnEmptyOneIsAllDefaults) {
  std::vector<Finding> findings;
  for (const char* text : {"", "{}", "# nothing\n"}) {
    const auto config = ParseConfig("config.yaml", text, &findings);
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config->settings.mesh_name, "osm");
    EXPECT_EQ(config->settings.system_namespaces, std::vector<std::string>{"kube-system"});
    EXPECT_FALSE(config->settings.other_protocols_allowed);
    EXPECT_TRUE(config->revoke_connections);
    EXPECT_EQ(config->cni, "chained");
  }
}

TEST(Config, EveryProblemIsToldWithItsLine) {
  const std::pair<const char*, const char*> cases[] = {
      {"meshNam: osm\n", "c.yaml:1: error: meshNam: is an unknown field; the fields here are: allowCross"},
      {"\nmeshName: 5\n", "c.yaml:2: error: meshName: must be a string, is an integer"},
      {"meshName: \"\"\n", "c.yaml:1: error: meshName: is empty"},
      {"meshCIDRs: [10.244.0.1/16]\n",
       "c.yaml:1: error: meshCIDRs[0]: \"10.244.0.1/16\" has host bits set; write "
       "10.244.0.0/16"},
      {"meshCIDRs: 10.244.0.0/16\n", "c.yaml:1: error: meshCIDRs: must be a list"},
      {"dnsServers:\n- 198.51.100.53/32\n", "c.yaml:2: error: dnsServers[0]: \"198.51.100.53/32\" is no IP address"},
      {"otherProtocols: maybe\n", "c.yaml:1: error: otherProtocols: must be deny or allow, is \"maybe\""},
      {"otherProtocols: true\n", "c.yaml:1: error: otherProtocols: must be a string, is a boolean"},
      {"enforcement: off\n", "c.yaml:1: error: enforcement: must be enforce or audit, is \"off\""},
      {"revokeConnections: \"yes\"\n", "c.yaml:1: error: revokeConnections: must be true or false"},
      {"cni: 5\n", "c.yaml:1: error: cni: must be chained or off"},
      {"hostBinding: strict\n", "c.yaml:1: error: hostBinding: strict is not built yet"},
      {"cni: off\ncni: chained\n", "c.yaml:2: error: cni: stands twice"},
      {"- a\n", "c.yaml:1: error: is no configuration"},
      {"a: [\n", "c.yaml:2: error: is not valid YAML"},
      {"meshName: a\n---\nmeshName: b\n", "c.yaml:3: error: a configuration is one document"}};
  for (const auto& [text, expected] : cases) {
    std::vector<Finding> findings;
    const auto config = ParseConfig("c.yaml", text, &findings);
    EXPECT_FALSE(config.ok()) << text;
    EXPECT_EQ(TextOf(findings).substr(0, std::string_view(expected).size()), expected);
  }
}

TEST(Config, WhatAYaml11WriterMakesOfOffIsOff) {
  std::vector<Finding> findings;
  const auto config = ParseConfig("c.yaml", "cni: false\nhostBinding: false\n", &findings);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->cni, "off");
  EXPECT_EQ(config->host_binding, "off");
}

}  // namespace
}  // namespace egress::policy
