// Asking name servers (RFC 1035) with glibc's resolver, told which servers to ask.
#pragma once

#include <string>
#include <vector>

#include "agent/base/address.h"

namespace egress::ctl {

// The addresses of `name` (taken as it is, no search list), asked from the network namespace of the calling thread.
// Empty where there is none; `why` then says why.
std::vector<Address> AskNameServers(const std::vector<Address>& servers, const std::string& name, std::string& why);

}  // namespace egress::ctl
