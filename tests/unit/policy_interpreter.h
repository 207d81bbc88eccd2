// What the kernel does with a RuleSet, in a few lines: the longest prefix is the whole answer.
#pragma once

#include <string>
#include <string_view>

#include "agent/policy/compile.h"

namespace egress::policy {

// The class of an address and port; nullptr: nothing is allowed there.
inline const RuleClass* Lookup(const RuleSet& rules, const Address& address, std::uint16_t port) {
  const PrefixRule* longest = nullptr;
  for (const PrefixRule& rule : rules.rules) {
    if (rule.port != port || !rule.prefix.Contains(address)) continue;
    const auto length = [](const Prefix& prefix) {
      return prefix.family == Prefix::Family::kAny ? -1 : static_cast<int>(prefix.length);
    };
    if (longest == nullptr || length(rule.prefix) > length(longest->prefix)) longest = &rule;
  }
  return longest == nullptr ? nullptr : &rules.classes[longest->rule_class];
}

// The policy that lists a server name in one of the class's groups, as the name itself or a wildcard around it.
inline const ObjectId* FindName(const RuleSet& rules, const RuleClass& rule_class, std::string_view sni) {
  std::string name;
  for (const char c : sni) name += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  if (name.ends_with('.')) name.pop_back();
  if (name.empty() || name.starts_with('.') || name.find("..") != std::string::npos) return nullptr;
  for (const std::uint32_t group : rule_class.groups) {
    for (const HostGroup::Name& listed : rules.groups[group].names) {
      const bool wildcard = listed.name.starts_with('.');
      if (wildcard ? name.size() > listed.name.size() && name.ends_with(listed.name) : name == listed.name) {
        return &listed.policy;
      }
    }
  }
  return nullptr;
}

}  // namespace egress::policy
