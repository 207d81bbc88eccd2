// The inside of PolicyIndex.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/policy/address_set.h"
#include "agent/policy/decide.h"
#include "agent/policy/prefix_table.h"
#include "agent/policy/routes.h"

namespace egress::policy {

// Policies are numbered in the order of PreferredOver(), so of several the smallest number is the one to name.
inline constexpr std::uint32_t kNoPolicy = std::numeric_limits<std::uint32_t>::max();

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

// A value that is kNoPolicy until it is set.
struct Best {
  std::uint32_t policy = kNoPolicy;
  void Offer(std::uint32_t other) { policy = std::min(policy, other); }
  bool found() const { return policy != kNoPolicy; }
};

// The rules of one protocol on one port.
struct ProtocolIndex {
  PrefixTable<Best> cover;
  // Name -> policies in their order; ".example.com" stands for *.example.com. Empty for tcp.
  std::unordered_map<std::string, std::vector<std::uint32_t>, StringHash, std::equal_to<>> hosts;

  void Add(const EffectivePolicy& policy, std::uint32_t number, bool named);
  // The best policy that covers the address.
  Best Covering(const Address& address) const;

  // Calls visit(number, listed host) for each policy that lists the name or a wildcard around it, whatever addresses
  // it is for. visit returns false to skip the rest of one list.
  template <typename Visit>
  void ForEachNaming(std::string_view name, bool literal, Visit visit) const {
    const auto visit_list = [&](std::string_view key) {
      const auto found = hosts.find(key);
      if (found == hosts.end()) return;
      for (const std::uint32_t number : found->second) {
        if (!visit(number, std::string_view(found->first))) return;
      }
    };
    visit_list(name);
    if (literal) return;
    for (std::size_t dot = name.find('.'); dot != std::string_view::npos; dot = name.find('.', dot + 1)) {
      if (dot > 0) visit_list(name.substr(dot));
    }
  }
};

struct PortIndex {
  ProtocolIndex tcp;
  ProtocolIndex https;
  ProtocolIndex http;
};

struct PolicyIndex::Impl {
  struct Entry {
    PolicyPtr policy;
    AddressSet addresses;
    std::vector<Route> routes;
  };

  explicit Impl(std::vector<PolicyPtr> given);
  const PortIndex* Find(std::uint16_t port) const;
  // The route that allows the request: its name, "" where the policy asks for none; nullptr: there is none.
  const std::string* Allows(const Entry& entry, std::string_view path, const HttpRequest& request) const;

  std::vector<PolicyPtr> policies;  // sorted by id
  std::vector<Entry> entries;       // by number
  std::unordered_map<std::uint16_t, PortIndex> ports;
};

}  // namespace egress::policy
