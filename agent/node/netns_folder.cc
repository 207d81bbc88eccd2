#include "agent/node/netns_folder.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "agent/node/link.h"
#include "agent/node/netns.h"

namespace egress::node {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> PathsIn(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    paths.push_back(at->path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<Address> GlobalAddresses(const Fd& netns) {
  std::vector<Address> global;
  auto route = NetlinkSocket::OpenIn(netns, NETLINK_ROUTE);
  if (!route) return global;
  const auto all = Addresses(*route);
  if (!all) return global;
  for (const LinkAddress& entry : *all) {
    if (entry.scope == RT_SCOPE_UNIVERSE) global.push_back(entry.address);
  }
  return global;
}

}  // namespace

std::optional<std::string> NetnsFolder::PathOf(const Fd& netns) const {
  for (std::string& path : PathsIn(folder_)) {
    if (SameNetns(path, netns)) return std::move(path);
  }
  return std::nullopt;
}

void NetnsFolder::Refresh() {
  const auto paths = PathsIn(folder_);
  const std::set<std::string> there(paths.begin(), paths.end());
  std::erase_if(known_, [&there](const auto& known) { return !there.contains(known.first); });
  for (const std::string& path : paths) {
    const auto netns = OpenNetns(path);
    const auto cookie = netns ? NetnsCookie(*netns) : Result<std::uint64_t>(netns.error());
    if (!cookie) {
      known_.erase(path);
      continue;
    }
    Known& known = known_[path];
    if (known.cookie != *cookie) known = {*cookie, {}};
    if (known.addresses.empty()) known.addresses = GlobalAddresses(*netns);
  }
}

std::vector<NetnsFolder::Match> NetnsFolder::WithAddresses(std::span<const Address> addresses,
                                                           const std::function<bool(std::uint64_t)>& taken) {
  Refresh();
  std::vector<Match> matches;
  for (const auto& [path, known] : known_) {
    const bool all = std::all_of(addresses.begin(), addresses.end(), [&known](const Address& address) {
      return std::find(known.addresses.begin(), known.addresses.end(), address) != known.addresses.end();
    });
    if (all && !taken(known.cookie)) matches.push_back({path, known.addresses.size() - addresses.size()});
  }
  return matches;
}

}  // namespace egress::node
