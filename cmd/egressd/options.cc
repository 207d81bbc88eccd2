#include "cmd/egressd/options.h"

#include <CLI/CLI.hpp>
#include <fstream>
#include <sstream>

namespace egress::agent {

std::optional<int> ParseFlags(int argc, char** argv, Options& options) {
  CLI::App app{"egressd: enforces per-pod egress policy on this node, in the kernel"};
  app.add_option("--config", options.config_file, "configuration file (YAML)");
  auto* manifests =
      app.add_option("--manifests", options.manifests,
                     "read objects from the *.yaml, *.yml and *.json of this directory, without Kubernetes");
  app.add_option("--kubeconfig", options.kubeconfig, "read objects from the Kubernetes API that this file names")
      ->excludes(manifests);
  app.add_option("--node-name", options.node_name, "name of this node");
  app.add_option("--run-dir", options.run_dir, "folder of the control socket")->capture_default_str();
  app.add_option("--state-dir", options.state_dir, "folder of what a reboot must not forget (with Kubernetes)")
      ->capture_default_str();
  app.add_option("--bpffs", options.bpffs, "folder of the pinned maps and links")->capture_default_str();
  app.add_option("--cgroup-root", options.cgroup_root,
                 "cgroup2 directory below which governed pods live (default: the root of the mounted cgroup2)");
  app.add_option("--metrics-listen", options.metrics_listen, "address of /metrics, /healthz and /readyz")
      ->capture_default_str();
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn, error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error"}))
      ->capture_default_str();
  app.add_option("--log-format", options.log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
  app.add_flag("--check", options.check, "check configuration and manifests, and end");
  app.add_flag("--uninstall", options.uninstall, "remove all that egressd put on this node, and end");
  app.add_flag("--version", options.version, "print the version, and end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

Result<void> LoadConfig(Options& options) {
  if (options.config_file.empty()) return {};
  std::ifstream file(options.config_file);
  if (!file) return ErrnoError("open configuration " + options.config_file);
  std::ostringstream text;
  text << file.rdbuf();
  std::vector<policy::Finding> findings;
  auto config = policy::ParseConfig(options.config_file, text.str(), &findings);
  if (!config) {
    std::string message = std::move(config).error().message;
    for (const auto& finding : findings) message += "\n" + finding.ToString();
    return Error{message};
  }
  options.config = *std::move(config);
  return {};
}

}  // namespace egress::agent
