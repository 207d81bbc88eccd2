// Cni: the agent's side of egress-cni. Puts the plugin into the node's CNI configuration, answers it, and keeps for it
// what is known, for the times when the agent is away.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/cni/installer.h"
#include "agent/cni/known.h"
#include "cmd/egressd/cni_server.h"
#include "cmd/egressd/enforcer.h"
#include "cmd/egressd/node_pods.h"
#include "cmd/egressd/options.h"

namespace egress::agent {

class Cni {
 public:
  using Refresh = decltype(CniServer::Callbacks::refresh);
  struct Parts {
    const policy::Store& store;
    Enforcer& enforcer;
    NodePods& pods;
    Refresh refresh;
    std::function<void(const std::string&)> problem;
  };

  // To be called once what is known at start is in force.
  static Result<std::unique_ptr<Cni>> Start(EventLoop& loop, const Options& options, Parts parts);

  // Policy or pods have changed, and the change is in force. `namespaces`: their enrolment may differ.
  void OnChange(bool namespaces);
  // The plugin is where it belongs, or is not wanted: pods that start from here on are governed from their first packet.
  bool in_place() const { return not_installed_.empty() && (!installer_ || installer_->problem().empty()); }
  // In words, for `status`.
  std::vector<std::string> Problems() const;

 private:
  Cni(const Options& options, Parts parts) : options_(options), parts_(std::move(parts)) {}
  void Remember();
  Result<void> Install(EventLoop& loop);
  CniServer::State StateOf(const cni::Request& request) const;

  const Options& options_;
  Parts parts_;
  cni::Known known_;  // as written
  bool written_ = false;
  std::unique_ptr<CniServer> server_;
  std::unique_ptr<cni::Installer> installer_;  // nullptr: cni: off
  std::string not_installed_;                  // why the installer could not be started at all
};

// Takes the plugin and what it has attached off the node.
Result<void> UninstallCni(const Options& options);

}  // namespace egress::agent
