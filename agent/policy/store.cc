#include "agent/policy/store.h"

#include <algorithm>
#include <tuple>

#include "agent/policy/enrolment.h"
#include "agent/policy/shadow.h"
#include "agent/policy/store_impl.h"

namespace egress::policy {

Store::Store(Settings settings) : impl_(std::make_unique<Impl>(std::move(settings))) {}
Store::~Store() = default;
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;

void Store::SetUnit(const std::string& unit, std::string_view text) { impl_->SetUnit(unit, text, unit); }

void Store::SetUnit(const std::string& unit, std::string_view text, const std::string& file) {
  impl_->SetUnit(unit, text, file);
}

void Store::SetUnreadableUnit(const std::string& unit, const std::string& message, const std::string& file) {
  impl_->SetUnreadableUnit(unit, message, file);
}

void Store::RemoveUnit(const std::string& unit) { impl_->RemoveUnit(unit); }

std::vector<std::string> Store::MeshConfigUnits() const {
  std::set<std::string> names = impl_->suspects;
  const auto found = impl_->objects.find(impl_->MeshConfigKey());
  if (found != impl_->objects.end()) {
    for (const auto& [unit, object] : found->second.versions) names.insert(*unit);
  }
  return {names.begin(), names.end()};
}

void Store::RememberMeshConfigUnit(const std::string& unit) { impl_->remembered.insert(unit); }

Changes Store::Commit() { return impl_->Commit(); }

std::vector<Finding> Store::Findings() const { return impl_->Findings(); }

NetworkPolicy Store::Network() const { return impl_->network_known ? impl_->network : NetworkPolicy(); }

std::vector<PolicyPtr> Store::PoliciesOf(const ServiceAccount& account) const {
  const auto found = impl_->accounts.find(account);
  if (found == impl_->accounts.end() || !impl_->network.policies_enabled) return {};
  return found->second;
}

PolicyPtr Store::Effective(const ObjectId& egress) const {
  const Impl::EgressState* state = impl_->FindEgress(egress);
  return state == nullptr || !impl_->network.policies_enabled ? nullptr : state->policy;
}

std::vector<Store::PodView> Store::Pods() const {
  std::vector<PodView> views;
  for (const auto& [ns, ids] : impl_->pods_by_namespace) {
    for (const ObjectId& id : ids) views.push_back(FindPod(id));
  }
  return views;
}

Store::PodView Store::FindPod(const ObjectId& pod) const {
  const auto found = impl_->objects.find({Kind::kPod, pod});
  if (found == impl_->objects.end() || found->second.current == nullptr) return {};
  return impl_->View(found->second.current);
}

std::map<std::string, bool> Store::Enrolments() const {
  std::map<std::string, bool> enrolments;
  for (auto entry = impl_->objects.lower_bound({Kind::kNamespace, {}});
       entry != impl_->objects.end() && entry->first.kind == Kind::kNamespace; ++entry) {
    const std::string& name = entry->first.id.name;
    if (const auto enrolled = IsEnrolled(name)) enrolments.emplace(name, *enrolled);
  }
  return enrolments;
}

std::optional<bool> Store::IsEnrolled(const std::string& ns) const {
  const Object* object = impl_->FindCurrent({Kind::kNamespace, {"", ns}});
  if (object == nullptr || !object->valid) return std::nullopt;
  return policy::IsEnrolled(std::get<Namespace>(object->model), impl_->settings);
}

Store::Count Store::EgressCount() const {
  Count count;
  for (auto entry = impl_->objects.lower_bound({Kind::kEgress, {}});
       entry != impl_->objects.end() && entry->first.kind == Kind::kEgress; ++entry) {
    if (entry->second.current == nullptr) continue;  // not committed yet
    bool valid = entry->second.current->valid;
    if (valid && entry->second.egress != nullptr) {
      const auto& findings = entry->second.egress->findings;
      valid = std::none_of(findings.begin(), findings.end(),
                           [](const Finding& finding) { return finding.severity == Severity::kError; });
    }
    ++(valid ? count.valid : count.invalid);
  }
  return count;
}

std::vector<Finding> Store::Impl::Findings() const {
  std::vector<Finding> all;
  const auto add = [&](const std::vector<Finding>& findings) {
    all.insert(all.end(), findings.begin(), findings.end());
  };
  for (const auto& [name, unit] : units) {
    add(unit.findings);
    for (const ObjectPtr& object : unit.objects) add(object->findings);
  }
  for (const auto& [key, entry] : objects) {
    add(entry.conflicts);
    if (entry.egress != nullptr) add(entry.egress->findings);
  }
  const auto egress_of = [&](const ObjectId& id) -> const Object* {
    const Object* object = FindCurrent({Kind::kEgress, id});
    return object != nullptr && object->valid ? object : nullptr;
  };
  std::erase_if(shadows, [&](const auto& entry) { return !accounts.contains(entry.first); });
  for (const auto& [account, policies] : accounts) {
    Shadows& known = shadows[account];
    if (known.stale) known = {false, FindShadows(policies, egress_of)};
    add(known.findings);
  }
  const auto order = [](const Finding& finding) {
    return std::tie(finding.location, finding.object, finding.field, finding.severity, finding.kind, finding.message);
  };
  std::sort(all.begin(), all.end(), [&](const Finding& a, const Finding& b) { return order(a) < order(b); });
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

}  // namespace egress::policy
