#include "agent/cni/conflist.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace egress::cni {

using nlohmann::ordered_json;

namespace {

std::string Dump(const ordered_json& value) {
  return value.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

bool IsOurs(const ordered_json& plugin) {
  const auto type = plugin.is_object() ? plugin.find("type") : plugin.end();
  return plugin.is_object() && type != plugin.end() && type->is_string() &&
         type->get_ref<const std::string&>() == kPluginType;
}

ordered_json EntryJson(const PluginEntry& entry) {
  return {{"type", kPluginType},
          {"socket", entry.socket},
          {"known", entry.known},
          {"systemNamespaces", entry.system_namespaces},
          {"audit", entry.audit}};
}

// The runtime takes one of these, so the plugin has to speak them all.
Result<void> CheckVersion(const ordered_json& list) {
  ordered_json versions = list.contains("cniVersions") ? list["cniVersions"] : ordered_json::array();
  if (!versions.is_array()) return Error{"cniVersions is no list"};
  versions.push_back(list.contains("cniVersion") ? list["cniVersion"] : ordered_json("0.1.0"));
  for (const auto& version : versions) {
    if (version.is_string() && std::ranges::count(kVersions, version.get_ref<const std::string&>()) > 0) continue;
    return Error{"cniVersion " + version.dump() + " is none that egress-cni speaks (0.3.1, 0.4.0, 1.0.0, 1.1.0)"};
  }
  return {};
}

Result<ordered_json> Object(const std::string& text) {
  ordered_json value = ordered_json::parse(text, nullptr, false);
  if (value.is_discarded()) return Error{"does not parse as JSON"};
  if (!value.is_object()) return Error{"is no JSON object"};
  return value;
}

}  // namespace

Result<std::string> AddPlugin(const std::string& list, const PluginEntry& entry) {
  auto parsed = Object(list);
  if (!parsed) return std::move(parsed).error();
  ordered_json value = *std::move(parsed);
  if (auto done = CheckVersion(value); !done) return std::move(done).error();
  const auto plugins = value.find("plugins");
  if (plugins == value.end() || !plugins->is_array() || plugins->empty()) {
    return Error{"has no plugins to chain to"};
  }
  const ordered_json ours = EntryJson(entry);
  const auto there = std::find_if(plugins->begin(), plugins->end(), IsOurs);
  if (there == plugins->begin()) return Error{"has egress-cni as its first plugin, which makes no network"};
  if (there == plugins->end()) {
    plugins->push_back(ours);
  } else if (*there == ours) {
    return list;
  } else {
    *there = ours;
  }
  return Dump(value);
}

Result<std::string> WrapConf(const std::string& conf, const PluginEntry& entry) {
  auto parsed = Object(conf);
  if (!parsed) return std::move(parsed).error();
  const ordered_json value = *std::move(parsed);
  if (!value.contains("type") || !value["type"].is_string()) return Error{"has no plugin type"};
  ordered_json list;
  for (const char* key : {"cniVersion", "name"}) {
    if (value.contains(key)) list[key] = value[key];
  }
  list["plugins"] = ordered_json::array({value});
  return AddPlugin(Dump(list), entry);
}

std::optional<std::string> RemovePlugin(const std::string& list) {
  auto parsed = Object(list);
  if (!parsed) return std::nullopt;
  ordered_json value = *std::move(parsed);
  const auto plugins = value.find("plugins");
  if (plugins == value.end() || !plugins->is_array()) return std::nullopt;
  ordered_json left = ordered_json::array();
  for (const auto& plugin : *plugins) {
    if (!IsOurs(plugin)) left.push_back(plugin);
  }
  if (left.size() == plugins->size()) return std::nullopt;
  *plugins = std::move(left);
  return Dump(value);
}

}  // namespace egress::cni
