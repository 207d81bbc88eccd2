// NetnsFolder: the network namespaces that are bound in a folder, /run/netns of the node: those of the pods (containerd and
// CRI-O bind them there for the CNI plugins), and others.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/fd.h"

namespace egress::node {

class NetnsFolder {
 public:
  explicit NetnsFolder(std::string folder) : folder_(std::move(folder)) {}

  // Where `netns` is bound; nullopt: nowhere in here.
  std::optional<std::string> PathOf(const Fd& netns) const;

  struct Match {
    std::string path;
    std::size_t others = 0;  // global addresses that it has besides those asked for
  };
  // The namespaces that have all of `addresses` on their links; without those whose cookie is `taken`. What an address says is only as good as the pod is honest: one with CAP_NET_ADMIN can give itself
  // the address of another. So addresses are kept as they were when they were first seen.
  std::vector<Match> WithAddresses(std::span<const Address> addresses,
                                   const std::function<bool(std::uint64_t cookie)>& taken);

 private:
  struct Known {
    std::uint64_t cookie = 0;
    std::vector<Address> addresses;
  };
  void Refresh();

  std::string folder_;
  std::map<std::string, Known> known_;  // by path
};

}  // namespace egress::node
