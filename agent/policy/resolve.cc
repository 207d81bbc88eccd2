#include "agent/policy/resolve.h"

#include <algorithm>

#include "agent/policy/enrolment.h"
#include "agent/policy/report.h"

namespace egress::policy {
namespace {

class Resolver {
 public:
  Resolver(const Object& object, const Settings& settings, const FindObject& find)
      : id_(object.key.id),
        egress_(std::get<Egress>(object.model)),
        settings_(settings),
        find_(find),
        report_(object.location.file, "Egress", object.key.id),
        policy_(std::make_shared<EffectivePolicy>()) {}

  Resolution Run() {
    const Object* ns = FindNamespace(id_.ns);
    reportable_ = ns != nullptr;
    const bool enrolled = Enrolled(ns);
    if (ns != nullptr && ns->valid && !enrolled) {
      report_.Warning(egress_.namespace_line, "metadata.namespace",
                      WhyNotEnrolled(std::get<Namespace>(ns->model), settings_) +
                          ", so this Egress has no effect; enrol the namespace with openservicemesh.io/monitored-by: " +
                          settings_.mesh_name);
    }
    ResolveSources(enrolled);
    ResolveRoutes();
    const bool limits_known = ResolveLimits();
    if (!enrolled || !limits_known || policy_->service_accounts.empty()) return {nullptr, report_.Take()};
    FillRest();
    return {std::move(policy_), report_.Take()};
  }

 private:
  const Object* FindNamespace(const std::string& name) const { return find_({Kind::kNamespace, {"", name}}); }

  bool Enrolled(const Object* ns) const {
    return ns != nullptr && ns->valid && IsEnrolled(std::get<Namespace>(ns->model), settings_);
  }

  void ResolveSources(bool enrolled) {
    for (const auto& [account, place] : egress_.sources) {
      const bool own = account.ns == id_.ns;
      const Object* ns = own ? nullptr : FindNamespace(account.ns);
      if (own ? enrolled : Enrolled(ns)) {
        policy_->service_accounts.push_back(account);
      } else if (ns != nullptr && ns->valid) {
        report_.Warning(place.line, ItemPath("spec.sources", place.index) + ".namespace",
                        WhyNotEnrolled(std::get<Namespace>(ns->model), settings_) +
                            ", so nothing is granted to this source; enrol that namespace");
      }
    }
    std::sort(policy_->service_accounts.begin(), policy_->service_accounts.end());
  }

  void ResolveRoutes() {
    policy_->all_routes = egress_.route_groups.empty();
    for (const auto& [name, place] : egress_.route_groups) {
      const std::string field = ItemPath("spec.matches", place.index) + ".name";
      const Object* group = find_({Kind::kHttpRouteGroup, {id_.ns, name}});
      if (group != nullptr && group->valid) {
        const auto& matches = std::get<HttpRouteGroup>(group->model).matches;
        policy_->routes.insert(policy_->routes.end(), matches.begin(), matches.end());
      } else if (reportable_) {
        report_.Warning(place.line, field,
                        "HTTPRouteGroup " + id_.ns + "/" + name +
                            (group == nullptr ? " does not exist (yet)" : " is invalid") +
                            "; it allows no request until it is there and valid");
      }
    }
  }

  // False where the limits cannot be known: without them the policy would grant more than it says.
  bool ResolveLimits() {
    if (!egress_.traffic_setting) return true;
    const auto& [name, place] = *egress_.traffic_setting;
    const Object* setting = find_({Kind::kUpstreamTrafficSetting, {id_.ns, name}});
    if (setting != nullptr && setting->valid) {
      policy_->limits = std::get<UpstreamTrafficSetting>(setting->model).limits;
      return true;
    }
    if (reportable_) {
      report_.Error(place.line, ItemPath("spec.matches", place.index) + ".name",
                    "UpstreamTrafficSetting " + id_.ns + "/" + name +
                        (setting == nullptr ? " does not exist (yet)" : " is invalid") +
                        "; this Egress allows nothing until it is there and valid");
    }
    return false;
  }

  void FillRest() {
    policy_->id = id_;
    for (const auto& [port, place] : egress_.ports) policy_->ports.push_back(port);
    std::sort(policy_->ports.begin(), policy_->ports.end());
    policy_->cidrs = egress_.cidrs;
    if (policy_->cidrs.empty()) policy_->cidrs.push_back(Prefix{});
    std::sort(policy_->cidrs.begin(), policy_->cidrs.end());
    policy_->hosts = egress_.hosts;
    std::sort(policy_->hosts.begin(), policy_->hosts.end());
  }

  const ObjectId& id_;
  const Egress& egress_;
  const Settings& settings_;
  const FindObject& find_;
  Report report_;
  std::shared_ptr<EffectivePolicy> policy_;
  bool reportable_ = false;
};

}  // namespace

std::vector<Key> ReferencesOf(const Object& object) {
  const Egress& egress = std::get<Egress>(object.model);
  const std::string& own = object.key.id.ns;
  std::vector<Key> keys = {{Kind::kNamespace, {"", own}}};
  for (const auto& [source, place] : egress.sources) keys.push_back({Kind::kNamespace, {"", source.ns}});
  for (const auto& [group, place] : egress.route_groups) keys.push_back({Kind::kHttpRouteGroup, {own, group}});
  if (egress.traffic_setting) {
    keys.push_back({Kind::kUpstreamTrafficSetting, {own, egress.traffic_setting->value}});
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

Resolution Resolve(const Object& egress, const Settings& settings, const FindObject& find) {
  return Resolver(egress, settings, find).Run();
}

}  // namespace egress::policy
