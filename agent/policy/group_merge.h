// GroupTable: the host groups of one port while it is compiled, and how many of them become few.
//
// A class refers to at most EGRESS_MAX_GROUPS groups. Where more cover a prefix, the smallest are merged into one that
// stands for all of them. A merged group is only ever given to prefixes that each of its parts covers, so it widens
// nothing.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "agent/policy/compile.h"

namespace egress::policy {

class GroupTable {
 public:
  // The group of the policy's CIDR list, with the policy's hosts added.
  std::uint32_t Add(const EffectivePolicy& policy);
  // To be called between the last Add() and the first Join().
  void SortNames();

  // The groups of a prefix: those around it and its own, at most EGRESS_MAX_GROUPS. `around` is sorted and within
  // the limit, as is what it returns.
  std::vector<std::uint32_t> Join(const std::vector<std::uint32_t>& around, std::vector<std::uint32_t> own);

  // Unique among the groups of a port. The identity of a merged group lists the CIDR lists of its parts, each with a
  // separator in front that is no CIDR, so that it is never that of a group which somebody wrote.
  const std::vector<Prefix>& Identity(std::uint32_t group) const { return groups_[group].cidrs; }
  HostGroup Make(std::uint32_t group, std::uint16_t port) const;

 private:
  struct Name {
    const std::string* name;
    const EffectivePolicy* policy;
  };
  struct Group {
    std::vector<Prefix> cidrs;
    std::vector<Name> names;           // sorted by name, unique after SortNames()
    std::vector<std::uint32_t> parts;  // of a merged group: sorted indexes of groups that are not merged
  };

  static void SortUnique(std::vector<Name>* names);
  std::vector<std::uint32_t> Reduce(const std::vector<std::uint32_t>& groups, std::size_t most);
  std::uint32_t Merge(const std::vector<std::uint32_t>& groups);

  std::vector<Group> groups_;
  std::map<std::vector<Prefix>, std::uint32_t> by_cidrs_;
  std::map<std::vector<std::uint32_t>, std::uint32_t> by_parts_;
};

}  // namespace egress::policy
