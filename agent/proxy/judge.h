// The verdict on one request of one pod, under the rules that are in force for it at this moment.
#pragma once

#include <cstdint>
#include <memory>

#include "agent/base/address.h"
#include "agent/policy/decide.h"
#include "agent/proxy/accounts.h"
#include "agent/proxy/http_request.h"

namespace egress::proxy {

struct Ruling {
  policy::Decision decision;
  std::shared_ptr<const PolicySet> policies;  // what decided; keeps `limits` alive
  const policy::Limits* limits = nullptr;     // of the policy that allows; null: none are set
};

// `generation` is the pod's, from `states`. Headers that Connection names are not judged, as they do not pass on.
Ruling Judge(const Account& account, std::uint32_t generation, const Address& address, std::uint16_t port,
             const RequestHead& request);

}  // namespace egress::proxy
