#include "agent/datapath/network_sync.h"

#include <arpa/inet.h>

#include <algorithm>
#include <set>

namespace egress::datapath {
namespace {

network_key NetworkKey(const Prefix& prefix) {
  network_key key = {};
  if (prefix.family == Prefix::Family::kAny) return key;
  key.prefixlen = EGRESS_NETWORK_KEY_FAMILY + prefix.length;
  key.family = htons(prefix.family == Prefix::Family::kV4 ? 4 : 6);
  std::copy(prefix.address.bytes.begin(), prefix.address.bytes.end(), key.addr);
  return key;
}

Prefix PrefixOf(const network_key& key) {
  if (key.prefixlen < EGRESS_NETWORK_KEY_FAMILY) return {};
  Prefix prefix;
  prefix.family = ntohs(key.family) == 4 ? Prefix::Family::kV4 : Prefix::Family::kV6;
  prefix.length = static_cast<std::uint8_t>(key.prefixlen - EGRESS_NETWORK_KEY_FAMILY);
  std::copy(std::begin(key.addr), std::end(key.addr), prefix.address.bytes.begin());
  return prefix;
}

// Flags that a table gives to `prefix`: its own, or those of the longest prefix that covers it.
std::uint32_t FlagsAt(const std::map<Prefix, std::uint32_t>& table, const Prefix& prefix) {
  if (const auto own = table.find(prefix); own != table.end()) return own->second;
  const std::pair<const Prefix, std::uint32_t>* best = nullptr;
  for (const auto& entry : table) {
    if (entry.first.Contains(prefix) && (best == nullptr || best->first.Contains(entry.first))) best = &entry;
  }
  return best != nullptr ? best->second : 0;
}

}  // namespace

NetworkSync::NetworkSync(const KernelObject& kernel)
    : kernel_(kernel),
      networks_map_(kernel.Map<network_key, struct network>("networks")),
      ports_map_(kernel.Map<__be16, struct network>("ports")) {
  const std::uint32_t generation = kernel.config()->generation;
  const auto in_force = [generation](const struct network& entry) {
    return generation >= entry.generation ? entry.next : entry.now;
  };
  networks_map_.ForEachKey([&](const network_key& key) {
    if (const auto entry = networks_map_.Get(key)) networks_[PrefixOf(key)] = in_force(*entry);
  });
  ports_map_.ForEachKey([&](__be16 port) {
    if (const auto entry = ports_map_.Get(port)) ports_[ntohs(port)] = in_force(*entry);
  });
}

Result<void> NetworkSync::Stage(std::uint32_t generation, const policy::NetworkPolicy& network) {
  kernel_.config()->other_protocols = network.other_protocols_allowed;  // only the configuration file sets it
  if (auto done = StageNetworks(generation, policy::CompileNetworks(network)); !done) return done;
  return StagePorts(generation, network.excluded_ports);
}

Result<void> NetworkSync::StageNetworks(std::uint32_t generation, const std::vector<policy::NetworkRule>& next) {
  std::map<Prefix, std::uint32_t> wanted;
  for (const auto& rule : next) wanted[rule.prefix] = rule.flags;
  std::set<Prefix> prefixes;
  for (const auto& [prefix, flags] : networks_) prefixes.insert(prefix);
  for (const auto& [prefix, flags] : wanted) prefixes.insert(prefix);
  for (const Prefix& prefix : prefixes) {
    const std::uint32_t now = FlagsAt(networks_, prefix);
    const std::uint32_t then = FlagsAt(wanted, prefix);
    if (!wanted.contains(prefix)) dead_networks_.push_back(prefix);
    if (now == then && networks_.contains(prefix) && wanted.contains(prefix)) continue;
    if (auto done = networks_map_.Set(NetworkKey(prefix), {generation, now, then}); !done) return done;
  }
  networks_ = std::move(wanted);
  return {};
}

Result<void> NetworkSync::StagePorts(std::uint32_t generation, const std::vector<std::uint16_t>& next) {
  const std::set<std::uint16_t> wanted(next.begin(), next.end());
  if (!wanted.empty()) kernel_.config()->port_exclusions = 1;
  for (const auto& [port, flags] : ports_) {
    if (wanted.contains(port)) continue;
    if (auto done = ports_map_.Set(htons(port), {generation, flags, 0}); !done) return done;
    dead_ports_.push_back(port);
  }
  for (const std::uint16_t port : wanted) {
    if (ports_.contains(port) && ports_[port] != 0) continue;
    if (auto done = ports_map_.Set(htons(port), {generation, 0, EGRESS_NET_EXCLUDED}); !done) return done;
  }
  ports_.clear();
  for (const std::uint16_t port : wanted) ports_[port] = EGRESS_NET_EXCLUDED;
  return {};
}

void NetworkSync::Sweep() {
  for (const Prefix& prefix : dead_networks_) (void)networks_map_.Delete(NetworkKey(prefix));
  for (const std::uint16_t port : dead_ports_) (void)ports_map_.Delete(htons(port));
  dead_networks_.clear();
  dead_ports_.clear();
}

}  // namespace egress::datapath
