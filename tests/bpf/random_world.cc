#include "tests/bpf/random_world.h"

#include <netinet/in.h>

#include <algorithm>
#include <array>

namespace egress::test {
namespace {

constexpr std::array kAddresses = {"198.51.100.7",     "198.51.100.200", "198.51.101.9", "203.0.113.9", "192.0.2.1",
                                   "2001:db8:1::7",    "2001:db8:1::8",  "2001:db8:2::", "2001:db9::1", "::5:0:0:1",
                                   "64:ff9b::c633:64", "127.0.0.1",      "::1",          "0.0.0.0",     "::"};
constexpr std::array kForms = {"64:ff9b::/96", "2002::/16", "2001::/32", "::/0", "0.0.0.0/0"};
constexpr std::array kLabels = {"a", "b", "xn--c", "_d", "0"};
constexpr std::array<std::uint16_t, 5> kPorts = {53, 80, 443, 5000, 65535};

template <typename T>
void Tidy(std::vector<T>* list) {
  std::sort(list->begin(), list->end());
  list->erase(std::unique(list->begin(), list->end()), list->end());
}

}  // namespace

std::uint16_t RandomWorld::AnyPort() { return kPorts[Below(kPorts.size())]; }

Address RandomWorld::AnyAddress() {
  Address address = *ParseAddress(kAddresses[Below(kAddresses.size())]);
  if (Chance(60)) address.bytes[15] = static_cast<std::uint8_t>(Below(256));
  if (Chance(10)) address.bytes[14] = static_cast<std::uint8_t>(Below(256));
  return address;
}

Address RandomWorld::Embed(const Address& address) {
  if (!address.IsV4()) return address;
  const auto put = [](const char* head, const Address& ip4, std::size_t at, std::uint8_t inverted) {
    Address made = *ParseAddress(head);
    for (std::size_t i = 0; i < 4; ++i) made.bytes[at + i] = ip4.bytes[12 + i] ^ inverted;
    return made;
  };
  const std::size_t form = Below(3);
  if (form == 0) return put("64:ff9b::", address, 12, 0);
  if (form == 1) return put("2002::7", address, 2, 0);
  Address server = AnyAddress();
  if (!server.IsV4() || Chance(30)) server = address;
  const Address teredo = put("2001::", address, 12, 0xff);
  return put(teredo.ToString().c_str(), server, 4, 0);
}

Prefix RandomWorld::AnyPrefix() {
  if (Chance(4)) return {};
  if (Chance(10)) return *ParsePrefix(kForms[Below(kForms.size())]);
  const Address address = AnyAddress();
  const std::size_t shortest = address.IsV4() ? 96 : 0;
  std::size_t length = 112 + Below(17);
  if (Chance(30)) length = shortest + Below(129 - shortest);
  if (Chance(5)) length = shortest;
  if (Chance(20)) length = 128;
  return MakePrefix(address, static_cast<std::uint8_t>(length));
}

std::vector<Prefix> RandomWorld::Prefixes(std::size_t most) {
  std::vector<Prefix> prefixes;
  for (std::size_t left = Below(most + 1); left > 0; --left) {
    const Prefix prefix = AnyPrefix();
    if (prefix.family != Prefix::Family::kAny) prefixes.push_back(prefix);
  }
  Tidy(&prefixes);
  return prefixes;
}

// Host bits at random, often only the lowest ones, so that longer prefixes are hit too.
Address RandomWorld::Inside(const Prefix& prefix) {
  if (prefix.family == Prefix::Family::kAny) return AnyAddress();
  Address address = prefix.address;
  const int from = Chance(70) ? std::max<int>(prefix.length, 120) : prefix.length;
  for (int bit = from; bit < 128; ++bit) {
    if (Chance(50)) address.bytes[bit / 8] |= static_cast<std::uint8_t>(0x80 >> (bit % 8));
  }
  return address;
}

std::string RandomWorld::AnyName() {
  std::string name = Chance(3) ? std::string(61 + Below(3), 'l') + "." + std::string(63, 'm') + "." +
                                     std::string(60, 'n') + "." + std::string(55 + Below(6), 'o')
                               : "test";
  for (std::size_t labels = Below(4); labels > 0 && name.size() < 240; --labels) {
    name.insert(0, std::string(kLabels[Below(kLabels.size())]) + ".");
  }
  return name;
}

std::string RandomWorld::AnyHost() {
  if (Chance(4)) return Chance(50) ? "198.51.100.7" : "2001:db8:1::7";
  return (Chance(35) ? "*." : "") + AnyName();
}

// A name that a host of a policy covers, or one close to it.
std::string RandomWorld::NameFor(const std::string& host) {
  std::string name = host;
  if (name.starts_with("*.")) name = (Chance(20) ? "a.b." : "x.") + name.substr(2);
  if (Chance(10)) name.insert(0, "x");
  if (Chance(10)) name.insert(0, "a.");
  if (Chance(5)) name.erase(0, 1 + name.find('.'));
  if (Chance(5)) name += "a";
  if (Chance(5)) name.back() = 'z';
  if (Chance(10)) name += ".";
  if (Chance(20)) {
    for (char& c : name) c = static_cast<char>(std::toupper(c));
  }
  return name;
}

policy::PolicyPtr RandomWorld::Policy(const std::string& ns, std::size_t number) {
  using policy::Protocol;
  policy::EffectivePolicy made;
  made.id = {ns, "p" + std::to_string(number)};
  made.service_accounts = {{ns, "sa"}};
  constexpr std::array kProtocols = {Protocol::kHttps, Protocol::kHttps, Protocol::kHttps,
                                     Protocol::kHttp,  Protocol::kTcp,   Protocol::kTcpServerFirst};
  for (std::size_t left = 1 + Below(2); left > 0; --left) {
    made.ports.push_back({AnyPort(), kProtocols[Below(kProtocols.size())]});
  }
  if (Chance(75)) {
    for (std::size_t left = 1 + Below(4); left > 0; --left) made.cidrs.push_back(AnyPrefix());
  }
  if (made.cidrs.empty()) made.cidrs.emplace_back();
  for (std::size_t left = 1 + Below(4); left > 0; --left) made.hosts.push_back(AnyHost());
  if (Chance(40)) made.limits.max_connections = static_cast<std::uint32_t>(Below(4));
  Tidy(&made.ports);
  Tidy(&made.cidrs);
  Tidy(&made.hosts);
  return std::make_shared<const policy::EffectivePolicy>(std::move(made));
}

std::vector<policy::PolicyPtr> RandomWorld::Policies(const std::string& ns) {
  std::vector<policy::PolicyPtr> policies;
  const std::size_t count = Chance(25) ? 40 + Below(100) : 1 + Below(8);
  for (std::size_t number = 0; number < count; ++number) policies.push_back(Policy(ns, number));
  std::sort(policies.begin(), policies.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  return policies;
}

std::vector<policy::PolicyPtr> RandomWorld::Change(const std::string& ns, std::vector<policy::PolicyPtr> policies) {
  if (Chance(4)) return {};
  if (policies.empty() || Chance(8)) return Policies(ns);
  for (std::size_t edits = 1 + Below(3); edits > 0; --edits) {
    const std::size_t at = Below(policies.size() + 1);
    if (at == policies.size()) {
      policies.push_back(Policy(ns, 1000 + Below(1000)));
    } else if (Chance(30) && policies.size() > 1) {
      policies.erase(policies.begin() + static_cast<std::ptrdiff_t>(at));
    } else {
      policies[at] = Policy(ns, std::stoul(policies[at]->id.name.substr(1)));
    }
  }
  std::sort(policies.begin(), policies.end(), [](const auto& a, const auto& b) { return a->id < b->id; });
  const auto same = [](const auto& a, const auto& b) { return a->id == b->id; };
  policies.erase(std::unique(policies.begin(), policies.end(), same), policies.end());
  return policies;
}

policy::NetworkPolicy RandomWorld::Network() {
  policy::NetworkPolicy network;
  network.mesh = Prefixes(2);
  network.excluded = Prefixes(2);
  if (Chance(25)) {
    network.included = Prefixes(3);
    if (Chance(60)) network.included.push_back(MakePrefix(*ParseAddress("192.0.2.1"), 96));
    if (Chance(60)) network.included.push_back(MakePrefix(*ParseAddress("2001:db8::"), 0));
    Tidy(&network.included);
  }
  for (std::size_t left = Below(3); left > 0; --left) network.dns_servers.push_back(AnyAddress());
  for (std::size_t left = Below(2); left > 0; --left) network.excluded_ports.push_back(AnyPort());
  network.open = Chance(4);
  network.policies_enabled = !Chance(4);
  return network;
}

Question RandomWorld::Ask(const policy::NetworkPolicy& network, const std::vector<policy::PolicyPtr>& policies) {
  Question question{AnyAddress(), AnyPort(), IPPROTO_TCP, AnyName()};
  if (Chance(12)) question.protocol = Chance(70) ? IPPROTO_UDP : IPPROTO_ICMP;
  if (Chance(10)) {
    std::vector<Prefix> prefixes = network.mesh;
    prefixes.insert(prefixes.end(), network.excluded.begin(), network.excluded.end());
    prefixes.insert(prefixes.end(), network.included.begin(), network.included.end());
    for (const Address& server : network.dns_servers) prefixes.push_back(MakePrefix(server, 128));
    if (!prefixes.empty()) question.destination = Inside(prefixes[Below(prefixes.size())]);
  } else if (!policies.empty() && Chance(85)) {
    const policy::EffectivePolicy& policy = *policies[Below(policies.size())];
    question.destination = Inside(policy.cidrs[Below(policy.cidrs.size())]);
    question.port = policy.ports[Below(policy.ports.size())].number;
    question.name = NameFor(policy.hosts[Below(policy.hosts.size())]);
  }
  if (Chance(3)) question.name.clear();
  if (Chance(20)) question.destination = Embed(question.destination);
  return question;
}

}  // namespace egress::test
