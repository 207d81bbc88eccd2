// Resource: a kind of object, as the API server serves it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/policy/model.h"

namespace egress::source {

struct Resource {
  std::string kind;                   // "Egress"
  std::string group;                  // "policy.openservicemesh.io"; empty: core
  std::vector<std::string> versions;  // the one that is preferred first
  std::string plural;                 // "egresses"
  std::string field_selector;         // "spec.nodeName=node1"; empty: all objects
  bool optional = false;              // made by a CustomResourceDefinition, which may not be there

  // "policy.openservicemesh.io/v1alpha1", "v1".
  std::string ApiVersion(const std::string& version) const { return group.empty() ? version : group + "/" + version; }
  // "/apis/policy.openservicemesh.io/v1alpha1", "/api/v1".
  std::string VersionPath(const std::string& version) const {
    return (group.empty() ? "/api/" : "/apis/" + group + "/") + version;
  }
  // Of one namespace, or of all.
  std::string ListPath(const std::string& version, const std::string& ns = "") const {
    return VersionPath(version) + (ns.empty() ? "" : "/namespaces/" + ns) + "/" + plural;
  }
  // Of Namespaces `id.ns` is empty.
  std::string ObjectPath(const std::string& version, const policy::ObjectId& id) const {
    return ListPath(version, id.ns) + "/" + id.name;
  }
};

// What policy is made of, with the Pods of `node_name` only.
std::vector<Resource> PolicyResources(const std::string& node_name);

// An object as the API server sent it, cut down to what anybody here reads.
struct Object {
  policy::ObjectId id;
  std::string uid;
  std::string resource_version;
  std::string node_name;  // of a Pod: spec.nodeName
  std::string text;       // JSON, for policy::Store
};

// Of our own kinds all of `spec` stays, and fields that nobody knows, so that they are reported; of metadata only the
// name; status goes. Of Namespaces and Pods only the fields stay that policy::Parse reads, and of a Pod's annotations
// none that would mean something in a manifest.
Result<Object> ReadObject(const Resource& resource, const std::string& version, const nlohmann::json& json);
Result<Object> ParseObject(const Resource& resource, const std::string& version, std::string_view text);

}  // namespace egress::source
