// Store: all objects known, what is wrong with them, and what follows for each ServiceAccount.
//
// Pure: no files, sockets, clocks or logging. One thread uses it. A source (directory, API) calls Upsert/Remove as
// things change, then Commit() once, which says what that touched; cost follows the change (indexes from groups,
// settings, namespaces and ServiceAccounts to the Egress objects that depend on them).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/effective.h"
#include "agent/policy/model.h"

namespace egress::policy {

// What a Commit() touched. All sorted, without duplicates.
struct Changes {
  std::vector<ServiceAccount> service_accounts;  // PoliciesOf() differs from before
  std::vector<ObjectId> policies;                // Effective() of these Egress objects differs (or is gone)
  std::vector<ObjectId> pods;                    // added, changed, gone, or enrolment changed
  bool network = false;                          // Network() differs
  bool findings = false;                         // Findings() differs
  bool namespaces = false;                       // Enrolments() differs
  bool empty() const {
    return service_accounts.empty() && policies.empty() && pods.empty() && !network && !findings && !namespaces;
  }
};

class Store {
 public:
  explicit Store(Settings settings);
  ~Store();
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;

  // Replaces everything that the source unit `unit` (a file name; for the API, kind/namespace/name) held by what
  // `text` (YAML, several documents, or JSON) holds now. Text that does not parse keeps its objects known but
  // invalid ("the objects that it held are invalid, not deleted"); RemoveUnit deletes them.
  // The same object in two units with different content is an error at both and inert; with equal content it is
  // counted once.
  // `file` is what findings name; without it they name the unit. Empty for what came from the API.
  void SetUnit(const std::string& unit, std::string_view text);
  void SetUnit(const std::string& unit, std::string_view text, const std::string& file);
  // As text that does not parse, for a unit that is there but cannot be read; `message` says why.
  void SetUnreadableUnit(const std::string& unit, const std::string& message, const std::string& file);
  void RemoveUnit(const std::string& unit);

  // What a restart must not forget. A unit that holds the MeshConfig, also where its text no longer parses, is listed
  // by MeshConfigUnits(); one that was remembered before it is first set counts as an invalid MeshConfig for as long
  // as it does not parse. (Without that, a text that does not parse counts as one where it says so itself.)
  std::vector<std::string> MeshConfigUnits() const;
  void RememberMeshConfigUnit(const std::string& unit);

  // Resolves what changed since the last call.
  Changes Commit();

  // Findings of all objects, sorted by file and line.
  std::vector<Finding> Findings() const;

  NetworkPolicy Network() const;

  // The policies that count for a ServiceAccount, sorted by id. Empty while enableEgressPolicy is false.
  // (With enableEgress the caller passes everything by Network().open.)
  std::vector<PolicyPtr> PoliciesOf(const ServiceAccount& account) const;
  // nullptr: there is none, it is invalid, or it is inert; also while enableEgressPolicy is false.
  PolicyPtr Effective(const ObjectId& egress) const;

  // Pods as known; `governed` says whether the pod's namespace is enrolled (SEMANTICS 2: a namespace that cannot be
  // read is governed, with no rules, except system namespaces; hostNetwork pods are not governed).
  struct PodView {
    std::shared_ptr<const Pod> pod;
    bool governed = false;
    std::string why;  // where not governed: the reason in words; else empty
  };
  std::vector<PodView> Pods() const;
  // pod == nullptr where there is none.
  PodView FindPod(const ObjectId& pod) const;

  // The namespaces that can be read, and whether they are enrolled.
  std::map<std::string, bool> Enrolments() const;
  // nullopt: it cannot be read.
  std::optional<bool> IsEnrolled(const std::string& ns) const;

  struct Count {
    int valid = 0;
    int invalid = 0;
  };
  Count EgressCount() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace egress::policy
