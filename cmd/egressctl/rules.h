// The rows of `egressctl rules`: one for each pod, policy, port and CIDR.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "agent/datapath/pinned_view.h"

namespace egress::ctl {

// Array of {pod, serviceAccount, policy, port, protocol, cidr, hosts, routes, allRoutes, limits}. `cidr` is "any"
// where the policy names none; `hosts` is empty for tcp, which does not use them. `routes` holds {name, path,
// methods, headers}: path null is every path, no methods all of them; where allRoutes is true it is empty and every
// request passes.
nlohmann::json RuleRows(const std::vector<datapath::PodPolicy>& pods);

std::string RuleTable(const nlohmann::json& rows);

// "GET,POST /get x-token=abc; /status.*": the routes of a row in words; "all" where all pass, "none" where none does.
std::string RoutesInWords(const nlohmann::json& row);

}  // namespace egress::ctl
