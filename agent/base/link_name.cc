#include "agent/base/link_name.h"

#include <net/if.h>

namespace egress {

std::string LinkName(int ifindex) {
  char name[IF_NAMESIZE];
  return ifindex > 0 && ::if_indextoname(static_cast<unsigned>(ifindex), name) != nullptr ? name : "";
}

}  // namespace egress
