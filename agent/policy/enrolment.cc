#include "agent/policy/enrolment.h"

#include <algorithm>

namespace egress::policy {
namespace {

constexpr const char* kMonitoredBy = "openservicemesh.io/monitored-by";
constexpr const char* kIgnore = "openservicemesh.io/ignore";
constexpr const char* kInjection = "openservicemesh.io/sidecar-injection";

bool InjectionDisabled(const Namespace& ns) {
  const auto found = ns.annotations.find(kInjection);
  if (found == ns.annotations.end()) return false;
  std::string value = found->second;
  for (char& c : value) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return value == "disabled" || value == "false" || value == "no";
}

}  // namespace

bool IsEnrolled(const Namespace& ns, const Settings& settings) { return WhyNotEnrolled(ns, settings).empty(); }

std::string WhyNotEnrolled(const Namespace& ns, const Settings& settings) {
  const auto mesh = ns.labels.find(kMonitoredBy);
  if (mesh == ns.labels.end()) return "namespace " + ns.name + " lacks the label " + kMonitoredBy;
  if (mesh->second != settings.mesh_name) {
    return "namespace " + ns.name + " belongs to mesh " + mesh->second + ", not " + settings.mesh_name;
  }
  if (ns.labels.contains(kIgnore)) return "namespace " + ns.name + " bears the label " + kIgnore;
  if (InjectionDisabled(ns)) return "namespace " + ns.name + " has the annotation " + kInjection + " disabled";
  return "";
}

bool IsSystemNamespace(const std::string& name, const Settings& settings) {
  return name == settings.own_namespace || name == settings.control_plane_namespace ||
         std::find(settings.system_namespaces.begin(), settings.system_namespaces.end(), name) !=
             settings.system_namespaces.end();
}

}  // namespace egress::policy
