#include <unistd.h>

#include <cstdlib>

#include "agent/source/cluster_access.h"

namespace egress::source {
namespace {

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

Result<ClusterAccess> InClusterAccess(const std::string& folder) {
  const std::string host = Environment("KUBERNETES_SERVICE_HOST");
  const std::string port = Environment("KUBERNETES_SERVICE_PORT");
  if (host.empty() || port.empty()) {
    return Error{
        "this is no pod of a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): give "
        "--kubeconfig FILE, or --manifests DIR to do without Kubernetes"};
  }
  ClusterAccess access;
  access.server = "https://" + (host.find(':') != std::string::npos ? "[" + host + "]" : host) + ":" + port;
  access.token_file = folder + "/token";
  access.ca_file = folder + "/ca.crt";
  for (const std::string& file : {access.token_file, access.ca_file}) {
    if (::access(file.c_str(), R_OK) != 0) {
      return ErrnoError("read " + file + " (automountServiceAccountToken must not be false)");
    }
  }
  return access;
}

}  // namespace egress::source
