#include "agent/datapath/pinned_routes.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/policy/compile.h"

namespace egress::datapath {
namespace {

using Chunk = std::pair<route_key, route>;

policy::EffectivePolicy MakePolicy(const std::string& name, const std::string& account = "curl") {
  policy::EffectivePolicy policy;
  policy.id = {"curl", name};
  policy.service_accounts = {{"curl", account}};
  policy.ports = {{443, policy::Protocol::kHttps}};
  policy.cidrs = {Prefix{}};
  policy.hosts = {"httpbin.org"};
  return policy;
}

std::vector<Chunk> Split(const std::string& text, std::uint32_t document, std::uint32_t from, std::uint32_t until,
                         std::size_t size = EGRESS_ROUTE_TEXT) {
  std::vector<Chunk> chunks;
  for (std::size_t at = 0; at < text.size(); at += size) {
    Chunk& chunk = chunks.emplace_back();
    chunk.first = {document, static_cast<std::uint32_t>(chunks.size() - 1)};
    const std::string part = text.substr(at, size);
    chunk.second.from = from;
    chunk.second.until = until;
    chunk.second.length = static_cast<std::uint32_t>(part.size());
    std::copy(part.begin(), part.end(), chunk.second.text);
  }
  for (Chunk& chunk : chunks) chunk.second.chunks = static_cast<std::uint32_t>(chunks.size());
  return chunks;
}

std::vector<std::string> Names(const std::vector<policy::PolicyPtr>& policies) {
  std::vector<std::string> names;
  for (const auto& policy : policies) names.push_back(policy->id.ToString());
  return names;
}

TEST(PinnedRoutes, ChunksAreJoinedInAnyOrder) {
  auto chunks = Split("abcdefghij", 1, 1, 0, 3);
  std::reverse(chunks.begin(), chunks.end());
  EXPECT_EQ(JoinChunks(chunks), "abcdefghij");
}

TEST(PinnedRoutes, WhatIsNotOneWholeDocumentIsNotJoined) {
  const auto whole = Split("abcdefghij", 1, 1, 0, 3);
  auto missing = whole;
  missing.erase(missing.begin() + 1);
  EXPECT_EQ(JoinChunks(missing), std::nullopt);
  auto without_end = whole;
  without_end.pop_back();
  EXPECT_EQ(JoinChunks(without_end), std::nullopt);
  auto mixed = whole;
  mixed[2].second.from = 2;
  EXPECT_EQ(JoinChunks(mixed), std::nullopt);
  auto too_long = whole;
  too_long[0].second.length = EGRESS_ROUTE_TEXT + 1;
  EXPECT_EQ(JoinChunks(too_long), std::nullopt);
  EXPECT_EQ(JoinChunks({}), std::nullopt);
}

TEST(PinnedRoutes, ADocumentIsInForceFromItsFirstToBeforeItsLastGeneration) {
  const auto chunks = Split(policy::ToDocument(MakePolicy("web")), 1, 5, 8);
  const auto documents = ReadDocuments(chunks, {4, 5, 7, 8});
  ASSERT_TRUE(documents.ok()) << documents.error().message;
  EXPECT_TRUE(documents->InForce(4, "curl/curl").empty());
  EXPECT_EQ(Names(documents->InForce(5, "curl/curl")), std::vector<std::string>{"curl/web"});
  EXPECT_EQ(Names(documents->InForce(7, "curl/curl")), std::vector<std::string>{"curl/web"});
  EXPECT_TRUE(documents->InForce(8, "curl/curl").empty());
}

TEST(PinnedRoutes, OnlyItsServiceAccountsSeeAPolicy) {
  auto chunks = Split(policy::ToDocument(MakePolicy("web")), 1, 1, 0);
  const auto other = Split(policy::ToDocument(MakePolicy("other", "db")), 2, 1, 0);
  chunks.insert(chunks.end(), other.begin(), other.end());
  const auto documents = ReadDocuments(chunks, {1});
  ASSERT_TRUE(documents.ok());
  EXPECT_EQ(Names(documents->InForce(1, "curl/curl")), std::vector<std::string>{"curl/web"});
  EXPECT_EQ(Names(documents->InForce(1, "curl/db")), std::vector<std::string>{"curl/other"});
  EXPECT_TRUE(documents->InForce(1, "other/curl").empty());
}

TEST(PinnedRoutes, OfTwoDocumentsOfOnePolicyTheLaterHolds) {
  auto old_policy = MakePolicy("web");
  old_policy.hosts = {"old.test"};
  auto chunks = Split(policy::ToDocument(MakePolicy("web")), 9, 5, 0);
  const auto old = Split(policy::ToDocument(old_policy), 1, 1, 0);
  chunks.insert(chunks.end(), old.begin(), old.end());
  const auto documents = ReadDocuments(chunks, {4, 5});
  ASSERT_TRUE(documents.ok());
  ASSERT_EQ(documents->InForce(5, "curl/curl").size(), 1U);
  EXPECT_EQ(documents->InForce(5, "curl/curl")[0]->hosts, std::vector<std::string>{"httpbin.org"});
  EXPECT_EQ(documents->InForce(4, "curl/curl")[0]->hosts, std::vector<std::string>{"old.test"});
}

TEST(PinnedRoutes, AHalfWrittenDocumentMattersOnlyToThoseWhoSeeIt) {
  auto chunks = Split(policy::ToDocument(MakePolicy("web")), 1, 5, 0, 20);
  chunks.pop_back();
  EXPECT_TRUE(ReadDocuments(chunks, {4}).ok());
  EXPECT_FALSE(ReadDocuments(chunks, {5}).ok());
}

std::vector<std::pair<network_key, network>> Entries(const std::vector<policy::NetworkRule>& rules,
                                                     std::uint32_t generation, bool old) {
  std::vector<std::pair<network_key, network>> entries;
  for (const auto& rule : rules) {
    network_key key{};
    const bool any = rule.prefix.family == Prefix::Family::kAny;
    key.prefixlen = any ? 0 : EGRESS_NETWORK_KEY_FAMILY + rule.prefix.length;
    key.family = htons(any ? 0 : rule.prefix.family == Prefix::Family::kV4 ? 4 : 6);
    std::copy(rule.prefix.address.bytes.begin(), rule.prefix.address.bytes.end(), key.addr);
    entries.push_back({key, {generation, old ? rule.flags : 0, old ? 0 : rule.flags}});
  }
  return entries;
}

policy::NetworkPolicy EveryList() {
  policy::NetworkPolicy network;
  network.mesh = {*ParsePrefix("10.0.0.0/8"), *ParsePrefix("fd00::/8")};
  network.excluded = {*ParsePrefix("10.1.0.0/16"), *ParsePrefix("198.51.100.0/24")};
  network.included = {*ParsePrefix("198.51.0.0/16"), *ParsePrefix("2001:db8::/32")};
  network.dns_servers = {*ParseAddress("192.0.2.53"), *ParseAddress("198.51.7.53")};
  return network;
}

TEST(PinnedRoutes, NetworksReadBackMeanWhatWasCompiled) {
  for (const bool with_inclusion_list : {true, false}) {
    policy::NetworkPolicy network = EveryList();
    if (!with_inclusion_list) network.included.clear();
    const auto compiled = policy::CompileNetworks(network);
    const auto read = NetworkPolicyAt(7, Entries(compiled, 7, false), {});
    EXPECT_EQ(read.dns_servers, network.dns_servers);
    EXPECT_EQ(read.included.empty(), !with_inclusion_list);
    EXPECT_EQ(policy::CompileNetworks(read), compiled);
  }
}

TEST(PinnedRoutes, NetworksFollowTheGenerationOfThePod) {
  const auto compiled = policy::CompileNetworks(EveryList());
  EXPECT_TRUE(NetworkPolicyAt(6, Entries(compiled, 7, false), {}).mesh.empty());
  EXPECT_FALSE(NetworkPolicyAt(7, Entries(compiled, 7, false), {}).mesh.empty());
  EXPECT_FALSE(NetworkPolicyAt(6, Entries(compiled, 7, true), {}).mesh.empty());
  EXPECT_TRUE(NetworkPolicyAt(7, Entries(compiled, 7, true), {}).mesh.empty());
}

TEST(PinnedRoutes, ExcludedPortsAreThoseWhoseFlagIsInForce) {
  const std::vector<std::pair<__be16, network>> ports = {{htons(3306), {3, 0, EGRESS_NET_EXCLUDED}},
                                                         {htons(53), {3, EGRESS_NET_EXCLUDED, 0}}};
  EXPECT_EQ(NetworkPolicyAt(3, {}, ports).excluded_ports, std::vector<std::uint16_t>{3306});
  EXPECT_EQ(NetworkPolicyAt(2, {}, ports).excluded_ports, std::vector<std::uint16_t>{53});
}

}  // namespace
}  // namespace egress::datapath
