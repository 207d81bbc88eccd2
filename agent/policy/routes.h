// Routes: one entry of a HTTPRouteGroup, ready to be matched.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/policy/decide.h"
#include "agent/policy/model.h"
#include "agent/policy/regex.h"

namespace egress::policy {

class Route {
 public:
  explicit Route(const HttpMatch& match);

  // `path` is without query. Path, method and all headers must hold.
  bool Matches(std::string_view path, const HttpRequest& request) const;
  const std::string& name() const { return name_; }

 private:
  bool MatchesHeader(std::string_view name, const Regex& value, const HttpRequest& request) const;

  std::string name_;
  std::shared_ptr<const Regex> path_;  // nullptr: every path
  std::vector<std::string> methods_;
  std::vector<std::pair<std::string, std::shared_ptr<const Regex>>> headers_;
};

// Whether a list of methods holds `method`: an empty one, and "*", stand for all but CONNECT.
bool MethodListed(std::span<const std::string> methods, std::string_view method);

}  // namespace egress::policy
