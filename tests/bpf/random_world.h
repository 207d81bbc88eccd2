// Random policies, networks and flows that meet each other often: prefixes around few addresses, names over few labels.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "agent/policy/effective.h"

namespace egress::test {

// A TCP connection, with the name that its client says, or a datagram.
struct Question {
  Address destination;
  std::uint16_t port = 0;
  std::uint8_t protocol = 0;  // IPPROTO_*
  std::string name;           // as a client may say it; empty: none
};

class RandomWorld {
 public:
  explicit RandomWorld(std::uint64_t seed) : random_(seed) {}

  std::size_t Below(std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_); }
  bool Chance(int percent) { return Below(100) < static_cast<std::size_t>(percent); }

  // A few policies, sometimes so many that host groups have to be merged. Sorted by id; ids are NS/pN.
  std::vector<policy::PolicyPtr> Policies(const std::string& ns);
  // Some of them changed, gone or joined by others.
  std::vector<policy::PolicyPtr> Change(const std::string& ns, std::vector<policy::PolicyPtr> policies);
  policy::NetworkPolicy Network();

  // Mostly something that the policies or the network speak of.
  Question Ask(const policy::NetworkPolicy& network, const std::vector<policy::PolicyPtr>& policies);
  Address AnyAddress();

 private:
  policy::PolicyPtr Policy(const std::string& ns, std::size_t number);
  Prefix AnyPrefix();
  // An IPv6 address that stands for an IPv4 one, by NAT64, 6to4 or Teredo; other addresses as they are.
  Address Embed(const Address& address);
  std::vector<Prefix> Prefixes(std::size_t most);
  Address Inside(const Prefix& prefix);
  std::string AnyName();
  std::string AnyHost();
  std::string NameFor(const std::string& host);
  std::uint16_t AnyPort();

  std::mt19937_64 random_;
};

}  // namespace egress::test
