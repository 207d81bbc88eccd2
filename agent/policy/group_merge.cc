#include "agent/policy/group_merge.h"

#include <algorithm>
#include <tuple>

#include "agent/policy/rank.h"
#include "bpf/egress.h"

namespace egress::policy {
namespace {

// No CIDR: stands in front of each part of a merged group's identity.
constexpr Prefix kSeparator{Prefix::Family::kAny, 255, {}};

}  // namespace

std::uint32_t GroupTable::Add(const EffectivePolicy& policy) {
  const auto [entry, added] = by_cidrs_.try_emplace(policy.cidrs, static_cast<std::uint32_t>(groups_.size()));
  if (added) groups_.push_back({policy.cidrs, {}, {}});
  std::vector<Name>& names = groups_[entry->second].names;
  for (const std::string& host : policy.hosts) {
    if (host.find(':') != std::string::npos) continue;  // an IPv6 literal is no name that TLS can carry
    names.push_back({&host, &policy});
  }
  return entry->second;
}

void GroupTable::SortNames() {
  for (Group& group : groups_) SortUnique(&group.names);
}

void GroupTable::SortUnique(std::vector<Name>* names) {
  std::sort(names->begin(), names->end(), [](const Name& a, const Name& b) {
    const int order = a.name->compare(*b.name);
    return order != 0 ? order < 0 : PreferredOver(*a.policy, *b.policy);
  });
  names->erase(
      std::unique(names->begin(), names->end(), [](const Name& a, const Name& b) { return *a.name == *b.name; }),
      names->end());
}

std::vector<std::uint32_t> GroupTable::Join(const std::vector<std::uint32_t>& around, std::vector<std::uint32_t> own) {
  std::sort(own.begin(), own.end());
  own.erase(std::unique(own.begin(), own.end()), own.end());
  // A group whose CIDR list also holds a wider prefix is there already, alone or as a part of a merged one.
  std::erase_if(own, [&](std::uint32_t group) {
    return std::any_of(around.begin(), around.end(), [&](std::uint32_t other) {
      const auto& parts = groups_[other].parts;
      return other == group || std::binary_search(parts.begin(), parts.end(), group);
    });
  });
  std::vector<std::uint32_t> joined = around;
  if (around.size() + own.size() > EGRESS_MAX_GROUPS) {
    // Each side gets what the other does not need, but at least half. What is around is merged by itself: all
    // prefixes inside share the outcome.
    const std::size_t half = EGRESS_MAX_GROUPS / 2;
    const std::size_t for_own = EGRESS_MAX_GROUPS - std::min(half, around.size());
    own = Reduce(own, for_own);
    joined = Reduce(around, EGRESS_MAX_GROUPS - own.size());
  }
  joined.insert(joined.end(), own.begin(), own.end());
  std::sort(joined.begin(), joined.end());
  return joined;
}

std::vector<std::uint32_t> GroupTable::Reduce(const std::vector<std::uint32_t>& groups, std::size_t most) {
  if (groups.size() <= most) return groups;
  std::vector<std::uint32_t> sorted = groups;
  std::sort(sorted.begin(), sorted.end(), [&](std::uint32_t a, std::uint32_t b) {
    return std::tuple(groups_[a].names.size(), std::tie(groups_[a].cidrs)) <
           std::tuple(groups_[b].names.size(), std::tie(groups_[b].cidrs));
  });
  const std::size_t merged = sorted.size() - most + 1;
  const std::uint32_t group = Merge({sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(merged)});
  sorted.erase(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(merged));
  sorted.push_back(group);
  return sorted;
}

std::uint32_t GroupTable::Merge(const std::vector<std::uint32_t>& groups) {
  std::vector<std::uint32_t> parts;
  for (const std::uint32_t group : groups) {
    const auto& inner = groups_[group].parts;
    if (inner.empty()) {
      parts.push_back(group);
    } else {
      parts.insert(parts.end(), inner.begin(), inner.end());
    }
  }
  std::sort(parts.begin(), parts.end());
  parts.erase(std::unique(parts.begin(), parts.end()), parts.end());
  const auto [entry, added] = by_parts_.try_emplace(parts, static_cast<std::uint32_t>(groups_.size()));
  if (!added) return entry->second;

  Group merged;
  std::vector<const std::vector<Prefix>*> lists;
  for (const std::uint32_t part : parts) {
    lists.push_back(&groups_[part].cidrs);
    merged.names.insert(merged.names.end(), groups_[part].names.begin(), groups_[part].names.end());
  }
  std::sort(lists.begin(), lists.end(), [](const auto* a, const auto* b) { return *a < *b; });
  for (const auto* list : lists) {
    merged.cidrs.push_back(kSeparator);
    merged.cidrs.insert(merged.cidrs.end(), list->begin(), list->end());
  }
  SortUnique(&merged.names);
  merged.parts = std::move(parts);
  groups_.push_back(std::move(merged));
  return entry->second;
}

HostGroup GroupTable::Make(std::uint32_t group, std::uint16_t port) const {
  HostGroup made;
  made.port = port;
  made.cidrs = groups_[group].cidrs;
  made.names.reserve(groups_[group].names.size());
  for (const Name& name : groups_[group].names) {
    // A wildcard is written without its star: ".example.com".
    made.names.push_back({name.name->starts_with("*.") ? name.name->substr(1) : *name.name, name.policy->id});
  }
  std::sort(made.names.begin(), made.names.end());
  return made;
}

}  // namespace egress::policy
