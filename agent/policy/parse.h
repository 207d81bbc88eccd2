// Parse: manifest text -> objects with their findings. Knows nothing of other objects.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/policy/object.h"
#include "agent/policy/report.h"
#include "agent/policy/tree.h"

namespace egress::policy {

struct Parsed {
  std::vector<ObjectPtr> objects;
  std::vector<Finding> findings;  // not about one of `objects`: text that does not parse, kinds that are ignored
  bool broken = false;            // the text does not parse: `objects` is empty
  bool unidentified = false;      // some document does not say which object it is
};

Parsed Parse(const std::string& file, std::string_view text, const Settings& settings);

// By kind: `root` has been checked against nothing yet. Each fills the model as far as it can be read and reports
// the rest; the caller drops the model where there are errors.
void ParseEgress(const Node& root, const Settings& settings, Egress* egress, Report* report);
void ParseRouteGroup(const Node& root, HttpRouteGroup* group, Report* report);
void ParseTrafficSetting(const Node& root, UpstreamTrafficSetting* setting, Report* report);
void ParseMeshConfig(const Node& root, const Settings& settings, MeshConfig* mesh_config, Report* report);
void ParseNamespace(const Node& root, Namespace* ns, Report* report);
void ParsePod(const Node& root, Pod* pod, Report* report);

// A list of CIDRs; reports what is none, says the CIDR that was probably meant, and warns of what stands twice.
// `places`, where given, gets the place of each.
std::vector<Prefix> ParsePrefixes(const Node& list, const std::string& path, Report* report,
                                  std::vector<Place>* places = nullptr);

}  // namespace egress::policy
