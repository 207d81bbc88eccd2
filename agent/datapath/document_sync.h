// DocumentSync: EffectivePolicies -> the map `routes`, the texts that the proxy starts from and egressctl reads.
//
// Every version of an Egress is a document of its own, in force from one generation until another.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/kernel_object.h"
#include "agent/policy/effective.h"

namespace egress::datapath {

class DocumentSync {
 public:
  explicit DocumentSync(const KernelObject& kernel);

  // The Egress reads `policy` (nullptr: is gone) from `generation` on. False: it did so before, and nothing is written.
  Result<bool> Stage(std::uint32_t generation, const policy::ObjectId& id, policy::PolicyPtr policy);
  // What is in force, or staged; nullptr where there is none.
  policy::PolicyPtr Current(const policy::ObjectId& id) const;
  const std::map<policy::ObjectId, policy::PolicyPtr> All() const;

  // Takes over, before the first change, the documents in force at `generation` that an agent before this one has left,
  // so that they can be served. Stage() goes on from them.
  void Adopt(std::uint32_t generation);

  // Deletes what no pod sees any more.
  void Sweep();
  // After the first change of an agent: deletes what agents before it have left.
  void SweepForeign();

 private:
  struct Document {
    std::uint32_t number = 0;
    std::uint32_t from = 0;
    std::uint32_t chunks = 0;
    policy::PolicyPtr policy;
  };
  struct ById {
    bool operator()(const policy::ObjectId* a, const policy::ObjectId* b) const { return *a < *b; }
  };
  using Documents = std::map<const policy::ObjectId*, Document, ById>;  // keys are the ids of the policies themselves
  void Share(Documents::iterator known, policy::PolicyPtr policy);
  Result<void> Write(const Document& document, std::string_view text, std::uint32_t until);

  const KernelObject& kernel_;
  std::uint32_t first_number_;
  BpfMap<route_key, struct route> map_;
  Documents documents_;
  std::vector<Document> dead_;
};

}  // namespace egress::datapath
