// The commands of egressctl. Each writes its answer to stdout, complaints to stderr, and returns the exit status.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "cmd/egressctl/output.h"

namespace egress::ctl {

int StatusCommand(const Options& options);
int PodsCommand(const Options& options);

// `pod` empty: all.
int RulesCommand(const Options& options, const std::string& pod);

struct ExplainArguments {
  std::string pod;
  std::string to;
  std::optional<std::string> sni;
  std::optional<std::string> http;
  std::vector<std::string> headers;
};
int ExplainCommand(const Options& options, const ExplainArguments& arguments);

struct EventsArguments {
  bool follow = false;
  std::string pod;      // empty: all
  std::string verdict;  // empty: all
};
int EventsCommand(const Options& options, const EventsArguments& arguments);

// `config` empty: the default configuration.
int ValidateCommand(const Options& options, const std::string& config, const std::vector<std::string>& files);

enum class NamespaceAction { kAdd, kRemove, kList };
struct NamespaceArguments {
  NamespaceAction action = NamespaceAction::kList;
  std::string kubeconfig;  // empty: as kubectl finds it, else that of the pod this runs in
  std::string context;     // empty: the current one
  std::vector<std::string> namespaces;
  std::string mesh_name;  // kList: empty for all
  bool disable_injection = false;
};
int NamespaceCommand(const Options& options, const NamespaceArguments& arguments);

int VersionCommand(const Options& options);

}  // namespace egress::ctl
