// Object: one manifest document, parsed and checked as far as that is possible without the others.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/policy/model.h"

namespace egress::policy {

enum class Kind : std::uint8_t { kEgress, kHttpRouteGroup, kUpstreamTrafficSetting, kMeshConfig, kNamespace, kPod };
const char* KindName(Kind kind);

struct Key {
  Kind kind = Kind::kEgress;
  ObjectId id;
  auto operator<=>(const Key&) const = default;
};

// `model` is there for every object without errors, and for every Pod: what is unknown of a Pod is empty, so that an
// error in its manifest does not set it free. A Pod is large, and a node has few of them beside thousands of Egress.
struct Object {
  using Model =
      std::variant<std::monostate, Egress, HttpRouteGroup, UpstreamTrafficSetting, MeshConfig, Namespace, PodPtr>;

  Key key;
  Location location;
  bool valid = false;
  Model model;
  std::vector<Finding> findings;
};
using ObjectPtr = std::shared_ptr<const Object>;

// Whether two objects mean the same, wherever they stand.
bool SameContent(const Object& a, const Object& b);

}  // namespace egress::policy
