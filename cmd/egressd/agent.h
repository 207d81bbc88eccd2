// Agent: ties the source of objects, the pods of the node, what is in force, the proxy, and the reports together.
// One thread, one event loop.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "agent/datapath/readers.h"
#include "agent/source/directory.h"
#include "agent/source/event_writer.h"
#include "agent/source/kubernetes.h"
#include "cmd/egressd/cni.h"
#include "cmd/egressd/control.h"
#include "cmd/egressd/enforcer.h"
#include "cmd/egressd/event_log.h"
#include "cmd/egressd/metrics.h"
#include "cmd/egressd/node_pods.h"
#include "cmd/egressd/options.h"
#include "cmd/egressd/pages.h"
#include "cmd/egressd/pod_warnings.h"
#include "cmd/egressd/proxy_process.h"

namespace egress::agent {

class Agent {
 public:
  // Reads every source once, brings all of it into force, and serves the pages. From the Kubernetes API that comes to an
  // end within `loop`: until then what is in force stays. An error tells what to do.
  static Result<std::unique_ptr<Agent>> Start(EventLoop& loop, const Options& options);
  ~Agent();

  // What is in force stays; the proxy drains.
  void Stop();
  // It has stopped the loop, since it cannot do its work. The log says why.
  bool failed() const { return failed_; }

 private:
  Agent(EventLoop& loop, const Options& options);
  // agent.cc: how it starts.
  Result<void> Open();
  Result<void> TakeRunFolder();
  Result<void> OpenSource();
  Result<void> StartPages();
  Result<std::vector<std::string>> Cgroups();
  void WarnOfPodsElsewhere();
  Result<void> Serve();
  void Tick();
  std::optional<std::string> NotReady() const;

  // agent_directory.cc
  Result<void> OpenDirectory();
  void TakeUnits(const std::vector<source::DirectorySource::Change>& changes);
  void OnDirectory();

  // agent_kubernetes.cc
  Result<void> OpenKubernetes();
  void OnObjects(const std::vector<source::ObjectChange>& changes, const source::Resource& resource);
  void OnSynced();
  Result<void> StartCni();
  void FillSource(report::AgentStatus& status) const;
  void ServeWhatIsInForce();
  void LookAtMesh();
  void TellFindings(const std::vector<policy::Finding>& findings);
  void TellUnguarded();
  void TakeOffTaint();

  // agent_changes.cc
  void RememberMeshConfigUnits();
  Result<void> ApplyFirst();
  void KeepLeftovers();
  void Settle(std::chrono::steady_clock::time_point read);
  void OnPodPresent(const NodePod& pod);
  void OnPodGone(const NodePod& pod, bool over);
  void ApplyPending();
  Result<void> Apply(const Change& change);
  void RevokeSoon();
  Result<std::vector<revoked>> FindRevoked() const;
  void Revoke();

  // agent_reports.cc
  void Periodic();
  void OnKernelEvent(const event& event);
  void OnProxyEvents(const nlohmann::json& message);
  void OnProxyRequests(const nlohmann::json& counts);
  void Problem(const std::string& text);
  void LogFindings();
  report::AgentStatus Status() const;
  PodWarningInput WarningInput() const;
  std::vector<report::PodStatus> PodStatuses() const;
  std::vector<report::ConnectionCount> ConnectionCounts() const;

  EventLoop& loop_;
  Options options_;
  policy::Store store_;
  report::EventLog events_;
  report::Metrics metrics_;
  Fd run_lock_;
  std::string state_file_;
  std::vector<std::string> remembered_units_;           // as state_file_ has them
  std::unique_ptr<source::DirectorySource> directory_;  // one of the two
  std::unique_ptr<source::KubernetesSource> kubernetes_;
  std::unique_ptr<source::EventWriter> event_writer_;
  std::unique_ptr<Enforcer> enforcer_;
  std::unique_ptr<ProxyProcess> proxy_;
  std::unique_ptr<NodePods> pods_;
  std::unique_ptr<datapath::EventReader> event_reader_;
  std::optional<datapath::Revoker> revoker_;
  std::unique_ptr<Cni> cni_;  // with Kubernetes, once all is in force
  std::optional<report::Control> control_;
  std::optional<report::Pages> pages_;

  Change pending_;
  bool in_force_ = false;  // the first change is applied
  bool ready_once_ = false;
  bool failed_ = false;
  bool proxy_started_ = false;
  std::map<std::pair<std::string, policy::ObjectId>, std::string> told_;  // Events on objects: what they said
  std::map<std::uint64_t, std::string> unguarded_;                        // as of the last look
  std::string mesh_missing_;                                              // why meshCIDRs has to be set; empty: it is
  std::vector<std::string> mesh_warnings_;
  EventLoop::TimerId revoke_timer_ = 0;
  unsigned periods_ = 0;
  std::uint64_t events_lost_ = 0;
  std::deque<std::string> problems_;                     // the last ones
  std::map<std::uint64_t, policy::ObjectId> pod_names_;  // also of the last pods that went, for events under way
  std::deque<std::uint64_t> gone_names_;
  std::vector<policy::Finding> logged_findings_;
  std::chrono::system_clock::time_point started_ = std::chrono::system_clock::now();
};

}  // namespace egress::agent
