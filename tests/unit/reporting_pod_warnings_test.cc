#include <gtest/gtest.h>

#include <algorithm>

#include "cmd/egressd/pod_warnings.h"

namespace egress::agent {
namespace {

class PodWarning : public testing::Test {
 protected:
  PodWarning() {
    settings_.mesh_cidrs = {*ParsePrefix("10.244.0.0/16"), *ParsePrefix("10.96.0.0/12")};
    settings_.dns_servers = {*ParseAddress("192.0.2.53")};
  }

  policy::Pod& Add(const std::string& name, const std::string& address, bool governed = true) {
    auto pod = std::make_shared<policy::Pod>();
    pod->id = {"curl", name};
    pod->addresses = {*ParseAddress(address)};
    pods_.push_back({pod, governed, ""});
    return *pod;
  }

  std::vector<std::string> Warnings() {
    return PodWarnings({pods_, &settings_, [this](const policy::Pod&) { return resolvers_; },
                        [this](const policy::Pod&) { return http_; }});
  }

  // The only warning, which has to hold all of `words`.
  void ExpectOne(std::vector<std::string> words) {
    const auto warnings = Warnings();
    ASSERT_EQ(warnings.size(), 1U) << testing::PrintToString(warnings);
    for (const auto& word : words) EXPECT_NE(warnings[0].find(word), std::string::npos) << warnings[0];
  }

  policy::Settings settings_;
  std::vector<policy::Store::PodView> pods_;
  std::vector<Address> resolvers_;
  bool http_ = false;
};

TEST_F(PodWarning, NothingIsSaidOfWhatIsInOrder) {
  Add("a", "10.244.1.2").containers = {"app", "envoy"};  // a proxy of the user's own
  Add("b", "10.244.1.3").net_admin = true;               // without http rules
  Add("node", "192.0.2.7", false).host_network = true;
  resolvers_ = {*ParseAddress("10.96.0.10"), *ParseAddress("192.0.2.53"), *ParseAddress("127.0.0.1")};
  EXPECT_EQ(Warnings(), std::vector<std::string>());
}

TEST_F(PodWarning, AResolverThatCannotBeReachedIsNamedOnce) {
  resolvers_ = {*ParseAddress("169.254.20.10")};
  Add("a", "10.244.1.2");
  Add("b", "10.244.1.3");
  Add("c", "10.244.1.4", false);
  ExpectOne({"169.254.20.10", "curl/a and 1 more", "dnsServers"});
}

TEST_F(PodWarning, ThePodsOwnDnsConfigCountsWhereNobodyElseSays) {
  Add("a", "10.244.1.2").name_servers = {"192.0.2.99", "nonsense"};
  ExpectOne({"192.0.2.99", "curl/a"});
  resolvers_ = {*ParseAddress("10.96.0.10")};
  EXPECT_TRUE(Warnings().empty());
}

TEST_F(PodWarning, MeshCidrsThatMissAPodAreSaid) {
  Add("a", "10.245.1.2", false);
  ExpectOne({"10.245.1.2", "curl/a", "pod network"});
}

TEST_F(PodWarning, ASidecarOfOsmInAGovernedPodIsSaid) {
  Add("a", "10.244.1.2").containers = {"osm-init", "app", "envoy"};
  Add("b", "10.244.1.3", false).containers = {"osm-init", "app", "sidecar"};
  ExpectOne({"curl/a", "sidecar of OSM"});
  pods_[0].governed = false;
  pods_[1].governed = true;
  ExpectOne({"curl/b", "sidecar of OSM"});
}

TEST_F(PodWarning, NetAdminWithHttpRulesIsSaid) {
  Add("a", "10.244.1.2").net_admin = true;
  EXPECT_TRUE(Warnings().empty());
  http_ = true;
  ExpectOne({"curl/a", "CAP_NET_ADMIN"});
}

}  // namespace
}  // namespace egress::agent
