// The configuration of egressd (INTERFACE, "egressd").
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/model.h"

namespace egress::policy {

struct Config {
  Settings settings;  // settings.audit is `enforcement: audit`
  bool revoke_connections = true;
  std::string enforcement = "enforce";  // enforce | audit
  std::string cni = "chained";          // chained | off
  std::string cni_conf_dir = "/etc/cni/net.d";
  std::string cni_bin_dir = "/opt/cni/bin";
  std::string host_binding = "off";
};

// Reads the text of a configuration file; an empty one is all defaults. Every problem goes to `findings`, with file and
// line; the Error says how many errors there are and repeats the first.
Result<Config> ParseConfig(std::string_view file_name, std::string_view text, std::vector<Finding>* findings);

}  // namespace egress::policy
