#include <charconv>

#include "agent/policy/decide.h"
#include "agent/policy/host.h"

namespace egress::policy {
namespace {

// Digits without a leading zero, 1..65535.
std::optional<std::uint16_t> ParsePort(std::string_view text) {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || text.front() == '0' || error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return port;
}

std::optional<std::string> ParseHost(std::string_view text, bool bracketed) {
  if (bracketed) {
    const auto address = text.find(':') == std::string_view::npos ? std::nullopt : ParseAddress(text);
    if (!address) return std::nullopt;
    return address->ToString();
  }
  return NormalizeServerName(text);
}

}  // namespace

std::optional<Authority> ParseAuthority(std::string_view text) {
  Authority authority;
  std::string_view host = text;
  std::string_view rest;
  const bool bracketed = text.starts_with('[');
  if (bracketed) {
    const std::size_t close = text.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    host = text.substr(1, close - 1);
    rest = text.substr(close + 1);
  } else if (const std::size_t colon = text.find(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    rest = text.substr(colon);
  }
  if (!rest.empty()) {
    if (rest.front() != ':') return std::nullopt;
    authority.port = ParsePort(rest.substr(1));
    if (!authority.port) return std::nullopt;
  }
  auto normal = ParseHost(host, bracketed);
  if (!normal) return std::nullopt;
  authority.host = std::move(*normal);
  return authority;
}

bool IsPlainPath(std::string_view path) {
  path = path.substr(0, path.find_first_of("?#"));
  for (std::size_t at = path.find('%'); at != std::string_view::npos; at = path.find('%', at + 1)) {
    const std::string_view code = path.substr(at + 1, 2);
    for (const std::string_view refused : {"2f", "2F", "5c", "5C", "2e", "2E", "00"}) {
      if (code == refused) return false;
    }
  }
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    const std::string_view segment = path.substr(0, slash);
    if (segment == "." || segment == "..") return false;
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
  }
  return true;
}

}  // namespace egress::policy
