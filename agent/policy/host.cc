#include "agent/policy/host.h"

#include <algorithm>

#include "agent/base/address.h"

namespace egress::policy {
namespace {

constexpr std::size_t kMaxName = 253;  // RFC 1035, 2.3.4, in text form
constexpr std::size_t kMaxLabel = 63;
constexpr std::size_t kMaxServerName = 255;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || IsDigit(c) || c == '-' || c == '_';
}

// What is wrong with a lower-case name without wildcard; empty where nothing is.
std::string NameProblem(std::string_view name) {
  if (name.empty() || name.size() > kMaxName) return "must have 1 to " + std::to_string(kMaxName) + " characters";
  std::string_view last;
  for (std::string_view rest = name;;) {
    const std::size_t dot = rest.find('.');
    last = rest.substr(0, dot);
    if (last.empty()) return "has an empty label (two dots, or one at an end)";
    if (last.size() > kMaxLabel) return "has a label longer than " + std::to_string(kMaxLabel) + " characters";
    if (last.front() == '-' || last.back() == '-') return "has a label that starts or ends with a hyphen";
    if (!std::all_of(last.begin(), last.end(), IsNameCharacter)) {
      return "may hold letters, digits, hyphens, underscores and dots only (names in other scripts as xn--...)";
    }
    if (dot == std::string_view::npos) break;
    rest = rest.substr(dot + 1);
  }
  if (std::all_of(last.begin(), last.end(), IsDigit)) return "ends like an IPv4 address, but is none";
  return "";
}

// Of any length: Kubernetes bounds the whole name only.
bool IsLowerLabel(std::string_view label) {
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || IsDigit(c); };
  return !label.empty() && plain(label.front()) && plain(label.back()) &&
         std::all_of(label.begin(), label.end(), [&](char c) { return plain(c) || c == '-'; });
}

}  // namespace

std::string LowerName(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  std::string lower(name);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

bool IsNamespaceName(std::string_view name) { return name.size() <= kMaxLabel && IsLowerLabel(name); }

bool IsObjectName(std::string_view name) {
  if (name.size() > kMaxName) return false;
  for (;;) {
    const std::size_t dot = name.find('.');
    if (!IsLowerLabel(name.substr(0, dot))) return false;
    if (dot == std::string_view::npos) return true;
    name = name.substr(dot + 1);
  }
}

bool IsAddressLiteral(std::string_view host) {
  // Every request asks: names are told by their last character, which is a digit only in few of them.
  const bool possible = !host.empty() && (IsDigit(host.back()) || host.find(':') != std::string_view::npos);
  return possible && ParseAddress(host).has_value();
}

Result<std::string> NormalizeHost(std::string_view text) {
  const std::string quoted = "\"" + std::string(text.substr(0, 300)) + "\" ";
  if (text.find("://") != std::string_view::npos) return Error{quoted + "is a URL; write the host name alone"};
  if (text.find('/') != std::string_view::npos) {
    return Error{quoted + "is no host name; write a name alone, and CIDRs in spec.ipAddresses"};
  }
  std::string_view literal = text;
  if (literal.starts_with('[') && literal.ends_with(']')) literal = literal.substr(1, literal.size() - 2);
  if (const auto address = ParseAddress(literal)) return address->ToString();
  if (text == "*") {
    return Error{quoted + "alone is not allowed: it would stand for every host; write *.example.com, or a tcp port"};
  }
  if (text.find(':') != std::string_view::npos) {
    return Error{quoted + "is neither a name nor an IP literal; a port belongs into spec.ports"};
  }
  const std::string lower = LowerName(text);
  std::string_view name = lower;
  if (name.starts_with("*.")) name.remove_prefix(2);
  if (name.find('*') != std::string_view::npos) {
    return Error{quoted + "is no wildcard; a single * may stand for the first labels only: *.example.com"};
  }
  const std::string problem = NameProblem(name);
  if (!problem.empty()) return Error{quoted + "is no DNS name, wildcard or IP literal: it " + problem};
  return lower;
}

std::optional<std::string> NormalizeServerName(std::string_view sni) {
  if (sni.empty() || sni.size() > kMaxServerName) return std::nullopt;
  std::string lower = LowerName(sni);
  bool label = false;
  for (const char c : lower) {
    if (c == '.') {
      if (!label) return std::nullopt;
      label = false;
    } else if (IsNameCharacter(c)) {
      label = true;
    } else {
      return std::nullopt;
    }
  }
  if (!label) return std::nullopt;
  return lower;
}

}  // namespace egress::policy
