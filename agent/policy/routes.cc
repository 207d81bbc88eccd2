#include "agent/policy/routes.h"

#include <algorithm>

namespace egress::policy {
namespace {

// `lower` is in lower case.
bool SameName(std::string_view lower, std::string_view name) {
  return std::equal(lower.begin(), lower.end(), name.begin(), name.end(),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? static_cast<char>(b - 'A' + 'a') : b); });
}

}  // namespace

bool MethodListed(std::span<const std::string> methods, std::string_view method) {
  const bool wildcard = methods.empty() || methods.front() == "*";
  if (wildcard && method != "CONNECT") return true;
  return std::find(methods.begin(), methods.end(), method) != methods.end();
}

Route::Route(const HttpMatch& match) : name_(match.name), methods_(match.methods) {
  if (match.path_regex) path_ = SharedRegex(*match.path_regex);
  for (const auto& [name, regex] : match.headers) headers_.emplace_back(name, SharedRegex(regex));
  // "*" in front, where MethodListed() looks for it.
  std::sort(methods_.begin(), methods_.end());
}

bool Route::Matches(std::string_view path, const HttpRequest& request) const {
  if (!MethodListed(methods_, request.method)) return false;
  if (path_ != nullptr && !path_->Matches(path)) return false;
  return std::all_of(headers_.begin(), headers_.end(),
                     [&](const auto& header) { return MatchesHeader(header.first, *header.second, request); });
}

bool Route::MatchesHeader(std::string_view name, const Regex& value, const HttpRequest& request) const {
  if (name == "host") return value.Matches(request.authority);
  bool found = false;
  for (const auto& [sent, text] : request.headers) {
    if (!SameName(name, sent)) continue;
    if (!value.Matches(text)) return false;
    found = true;
  }
  return found;
}

}  // namespace egress::policy
