// What /etc/resolv.conf and /etc/hosts say, as resolv.conf(5) and hosts(5) describe them. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/address.h"

namespace egress::ctl {

struct ResolverConfig {
  std::vector<Address> servers;     // at most 3; without any: the loopback address
  std::vector<std::string> search;  // suffixes, in order
  int ndots = 1;
};

ResolverConfig ParseResolvConf(std::string_view text);

// The names to ask for, in order: a name with fewer than `ndots` dots is tried with the suffixes first. One that ends
// in a dot is taken as it is.
std::vector<std::string> NamesToTry(const ResolverConfig& config, const std::string& host);

// The addresses that the text of a hosts file gives for `host`.
std::vector<Address> AddressesInHosts(std::string_view text, const std::string& host);

}  // namespace egress::ctl
