#pragma once

#include <string>

namespace egress {

// The name of a link in the caller's network namespace; empty where there is none of this number.
std::string LinkName(int ifindex);

}  // namespace egress
