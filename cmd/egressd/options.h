// The flags of egressd, and the configuration they name.
#pragma once

#include <optional>
#include <string>

#include "agent/base/result.h"
#include "agent/policy/settings.h"

namespace egress::agent {

struct Options {
  std::string config_file;  // empty: all defaults
  std::string manifests;    // empty: Kubernetes
  std::string kubeconfig;
  std::string node_name;
  std::string run_dir = "/run/egressd";
  std::string state_dir = "/var/lib/egressd";  // what a reboot must not forget; Kubernetes only
  std::string bpffs = "/sys/fs/bpf/egressd";
  std::string cgroup_root;  // empty: the root of the mounted cgroup2
  std::string metrics_listen = "127.0.0.1:9469";
  std::string log_level = "info";
  std::string log_format = "text";
  bool check = false;
  bool uninstall = false;
  bool version = false;
  policy::Config config;  // filled by LoadConfig()
};

// Reads the command line. An int is the exit status to end with (help was printed, or the flags are wrong).
std::optional<int> ParseFlags(int argc, char** argv, Options& options);

// Reads options.config_file into options.config. Every problem is an error here.
Result<void> LoadConfig(Options& options);

}  // namespace egress::agent
