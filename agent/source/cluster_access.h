// ClusterAccess: where the API server of a Kubernetes cluster is, and as whom to speak to it.
#pragma once

#include <string>
#include <vector>

#include "agent/base/result.h"

namespace egress::source {

struct ClusterAccess {
  std::string server;   // "https://10.96.0.1:443", without a slash at the end
  std::string ca_file;  // PEM; read for every connection
  std::string ca_data;  // PEM; without both, the certificates that the system trusts
  bool skip_tls_verify = false;
  std::string tls_server_name;  // instead of the server's own name, in SNI and certificate
  std::string proxy_url;        // empty: what HTTPS_PROXY and NO_PROXY say
  std::string token;
  std::string token_file;  // instead of `token`; read for every request, since its content rotates
  std::string certificate_file, certificate_data;  // PEM, of the client
  std::string key_file, key_data;
  std::vector<std::string> headers;  // "Impersonate-User: jane"
};

// The configuration of a pod: KUBERNETES_SERVICE_HOST and _PORT, and the ServiceAccount in `folder`.
Result<ClusterAccess> InClusterAccess(const std::string& folder = "/var/run/secrets/kubernetes.io/serviceaccount");

// `context` of kubeconfig files, or their current-context where it is empty. Of several files (KUBECONFIG may list
// some) the first that names a thing counts, and those that do not exist are passed over. Relative paths are relative
// to the file that they stand in. What would need a program to be run (exec, auth-provider) is refused.
Result<ClusterAccess> ReadKubeconfig(const std::vector<std::string>& files, const std::string& context = "");

// The files that kubectl would read: those of KUBECONFIG, else ~/.kube/config.
std::vector<std::string> DefaultKubeconfigFiles();

}  // namespace egress::source
