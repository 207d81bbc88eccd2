// Edits of CNI configuration texts (CNI spec, section 1). Pure. What is not ours stays as it is, key order included.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace egress::cni {

inline constexpr std::string_view kPluginType = "egress-cni";
// Of the network configuration and of results; the same form from the first to the last.
inline constexpr std::string_view kVersions[] = {"0.3.1", "0.4.0", "1.0.0", "1.1.0"};

// The plugin's own part of a network configuration.
struct PluginEntry {
  std::string socket;                          // of the agent
  std::string known;                           // file of agent/cni/known.h
  std::vector<std::string> system_namespaces;  // never unknown, our own and the control plane's among them
  bool audit = false;                          // nothing is denied
};

// `list` (a network configuration list) with our plugin as the last of its plugins; where it is there already it stays
// in its place, and text that needs no change is returned as it is. Fails where the text is no such list, has no plugin
// to chain to, or is of a version that the plugin does not speak.
Result<std::string> AddPlugin(const std::string& list, const PluginEntry& entry);
// A list made of the single network configuration `conf`, as runtimes make one, with our plugin as the last.
Result<std::string> WrapConf(const std::string& conf, const PluginEntry& entry);
// `list` without our plugin; nullopt where it is not there (or the text is no list).
std::optional<std::string> RemovePlugin(const std::string& list);

}  // namespace egress::cni
