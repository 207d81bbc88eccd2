// Names to addresses, as a pod would resolve them: from its network namespace, with its resolv.conf and hosts file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"
#include "cmd/egressctl/resolver_config.h"

namespace egress::ctl {

// Where a pod resolves.
struct ResolveFrom {
  std::string netns_path;                // empty: here
  std::optional<ResolverConfig> config;  // nullopt: as this process resolves
  std::string hosts;                     // text of the hosts file; not used without `config`
};

// All addresses of `host`, of both families, sorted. Fails where there is none.
Result<std::vector<Address>> ResolveName(const std::string& host, const ResolveFrom& from);

}  // namespace egress::ctl
