// Agent: how what the source says comes into force.
#include <arpa/inet.h>
#include <netinet/tcp.h>

#include "agent/base/file.h"
#include "agent/base/link_name.h"
#include "agent/node/netns.h"
#include "agent/node/sockets.h"
#include "cmd/egressd/agent.h"

namespace egress::agent {
namespace {

// A connection that sends is cut by the boundary at its next frame, with a RST that its program reads as such; the walk
// over the sockets is for idle ones, whose programs get ECONNABORTED. So it comes second, and once for many changes.
constexpr auto kRevokeDelay = std::chrono::milliseconds(250);
constexpr std::size_t kGoneNames = 1024;

// Connections that a pod has accepted: those on a port on which it listens. Asked once, before the pod is guarded;
// later the boundary sees for itself what comes in.
Result<std::vector<datapath::InboundFlow>> AcceptedConnections(const Fd& netns) {
  auto diag = node::NetlinkSocket::OpenIn(netns, NETLINK_SOCK_DIAG);
  if (!diag) return std::move(diag).error();
  auto sockets = node::TcpSockets(*diag);
  if (!sockets) return std::move(sockets).error();
  std::set<std::uint16_t> listening;
  for (const auto& socket : *sockets) {
    if (socket.state == TCP_LISTEN) listening.insert(socket.tuple.local_port);
  }
  std::vector<datapath::InboundFlow> flows;
  for (const auto& [tuple, family, state, ifindex, cookie] : *sockets) {
    if (state == TCP_LISTEN || state == TCP_SYN_SENT || !listening.contains(tuple.local_port)) continue;
    flows.push_back({tuple.local, tuple.local_port, tuple.remote, tuple.remote_port});
  }
  return flows;
}

}  // namespace

void Agent::RememberMeshConfigUnits() {
  const auto units = store_.MeshConfigUnits();
  if (units == remembered_units_) return;
  remembered_units_ = units;
  std::string lines;
  for (const std::string& unit : units) lines += unit + "\n";
  if (auto done = ReplaceFile(state_file_, lines, 0644); !done) Problem(done.error().message);
}

Result<void> Agent::ApplyFirst() {
  store_.Commit();
  RememberMeshConfigUnits();
  LogFindings();
  WarnOfPodsElsewhere();
  for (const auto& view : store_.Pods()) {
    if (view.pod) pods_->Update(view.pod->id, view);
  }
  KeepLeftovers();
  pending_.network = store_.Network();
  for (auto& [account, policies] : pending_.accounts) policies = store_.PoliciesOf(account);
  if (!std::exchange(proxy_started_, true)) proxy_->Start();
  if (auto done = Apply(std::exchange(pending_, {})); !done) return done;
  in_force_ = true;
  for (const auto& [cookie, pod] : pods_->present()) proxy_->SetPod(pod);
  Revoke();
  return {};
}

// Pods that were governed when the agent before this one ended, and whose object is gone since, or not known yet.
void Agent::KeepLeftovers() {
  const auto paths = kubernetes_ ? node::NetnsPaths() : std::map<std::uint64_t, std::string>();
  for (const auto& left : enforcer_->pods().Leftovers()) {
    const auto present = pods_->present().find(left.cookie);
    if (present != pods_->present().end() && !present->second.object_gone) continue;
    // One whose namespace is not found (yet) keeps what it had. With manifests, the path of one that is present leads
    // elsewhere now; from the API it may be the successor of the same name.
    const auto view = store_.FindPod(left.name);
    const bool known = view.pod != nullptr && (!view.governed || (directory_ && pods_->IsPresent(left.name)));
    const std::string name = LinkName(left.host_ifindex);
    if (name.empty() || known) {  // over, or not governed any more, or in another namespace now
      pending_.pods_gone.push_back(left.cookie);
      if (present != pods_->present().end()) pods_->ForgetLeftover(left.cookie);
      continue;
    }
    if (present != pods_->present().end()) {
      OnPodPresent(present->second);
      continue;
    }
    node::PodInterface interface;
    interface.cookie = left.cookie;
    interface.netns_id = left.netns_id;
    interface.host_ifindex = left.host_ifindex;
    interface.host_name = name;
    interface.mac = left.mac;
    interface.addresses = left.addresses;
    interface.guarded = true;
    const auto path = paths.find(left.cookie);
    pods_->KeepLeftover(left.name, left.service_account, interface, path == paths.end() ? "" : path->second);
  }
}

// Brings into force what the store has been told since the last time.
void Agent::Settle(std::chrono::steady_clock::time_point read) {
  const policy::Changes changes = store_.Commit();
  if (changes.empty()) return;
  RememberMeshConfigUnits();
  for (const auto& id : changes.pods) pods_->Update(id, store_.FindPod(id));
  if (changes.network) pending_.network = store_.Network();
  for (const auto& account : changes.service_accounts) {
    if (enforcer_->HasAccount(account) || pending_.accounts.contains(account)) {
      pending_.accounts[account] = store_.PoliciesOf(account);
    }
  }
  ApplyPending();
  metrics_.ObservePolicyApply(std::chrono::steady_clock::now() - read);
  if (cni_) cni_->OnChange(changes.namespaces);
  if (changes.findings) LogFindings();
}

void Agent::OnPodPresent(const NodePod& pod) {
  const auto& account = pod.object->service_account;
  if (!enforcer_->HasAccount(account)) pending_.accounts[account] = store_.PoliciesOf(account);
  GuardedPod guarded;
  guarded.spec = {pod.interface.cookie,       pod.object->id,         account,
                  pod.interface.host_ifindex, pod.interface.netns_id, pod.interface.mac,
                  pod.interface.addresses};
  guarded.host_name = pod.interface.host_name;
  guarded.unguarded = !pod.interface.guarded;
  if (pod.netns && !enforcer_->pods().SlotOf(pod.interface.cookie)) {  // also one that was governed before
    auto accepted = AcceptedConnections(*pod.netns);
    if (accepted) {
      guarded.inbound = *std::move(accepted);
    } else {
      Problem(pod.object->id.ToString() + ": connections towards the pod: " + accepted.error().message);
    }
  }
  pod_names_[pod.interface.cookie] = pod.object->id;
  std::erase_if(pending_.pods, [&](const auto& other) { return other.spec.cookie == guarded.spec.cookie; });
  pending_.pods.push_back(std::move(guarded));
  if (in_force_) {
    loop_.Post([this] { ApplyPending(); });
  }
}

void Agent::OnPodGone(const NodePod& pod, bool over) {
  if (over) metrics_.UpdateConnections();
  gone_names_.push_back(pod.interface.cookie);
  if (gone_names_.size() > kGoneNames) {
    if (!pods_->present().contains(gone_names_.front())) pod_names_.erase(gone_names_.front());
    gone_names_.pop_front();
  }
  proxy_->RemovePod(pod.interface.cookie, over);
  pending_.pods_gone.push_back(pod.interface.cookie);
  std::erase_if(pending_.pods, [&](const auto& other) { return other.spec.cookie == pod.interface.cookie; });
  loop_.Post([this] { ApplyPending(); });
}

void Agent::ApplyPending() {
  if (!pending_.network && pending_.accounts.empty() && pending_.pods.empty() && pending_.pods_gone.empty()) return;
  if (!in_force_) return;
  const Change change = std::exchange(pending_, {});
  if (auto done = Apply(change); !done) Problem(done.error().message);
  for (const auto& pod : change.pods) {
    const auto present = pods_->present().find(pod.spec.cookie);
    if (present != pods_->present().end()) proxy_->SetPod(present->second);
  }
  if (cni_) cni_->OnChange(false);
  RevokeSoon();
}

Result<void> Agent::Apply(const Change& change) {
  auto problems = enforcer_->Apply(
      change, [this](std::uint32_t generation, const auto& documents) { proxy_->Commit(generation, documents); });
  if (!problems) return std::move(problems).error();
  for (const auto& problem : *problems) Problem(problem);
  return {};
}

void Agent::RevokeSoon() {
  if (revoke_timer_ != 0) return;
  revoke_timer_ = loop_.After(kRevokeDelay, [this] {
    revoke_timer_ = 0;
    Revoke();
  });
}

// Every connection of the pods that no rule allows any more.
Result<std::vector<revoked>> Agent::FindRevoked() const {
  if (revoker_->whole_node()) return revoker_->Run();
  std::vector<revoked> result;
  for (const auto& [cookie, pod] : pods_->present()) {
    if (!pod.netns) continue;
    const auto inside = node::NetnsScope::Enter(*pod.netns);
    if (!inside) return inside.error();
    const auto found = revoker_->Run();
    if (!found) return found.error();
    result.insert(result.end(), found->begin(), found->end());
  }
  return result;
}

// Their frames are refused already, here their sockets end too.
void Agent::Revoke() {
  const auto gone = FindRevoked();
  if (!gone) {
    Problem(gone.error().message);
    return;
  }
  std::map<std::uint64_t, std::vector<const revoked*>> by_pod;
  for (const revoked& one : *gone) by_pod[one.cookie].push_back(&one);
  for (const auto& [cookie, sockets] : by_pod) {
    const auto pod = pods_->present().find(cookie);
    if (pod == pods_->present().end() || !pod->second.netns) continue;
    auto diag = node::NetlinkSocket::OpenIn(*pod->second.netns, NETLINK_SOCK_DIAG);
    if (!diag) {
      Problem(pod->second.object->id.ToString() + ": cut connections: " + diag.error().message);
      continue;
    }
    std::vector<node::SocketId> ids;
    for (const revoked* one : sockets) {
      ids.push_back({{datapath::AddressOf(one->source), ntohs(one->source_port), datapath::AddressOf(one->destination),
                      ntohs(one->port)},
                     one->socket_cookie});
    }
    if (auto done = node::DestroySockets(*diag, ids); !done) {
      Problem(pod->second.object->id.ToString() + ": cut connections: " + done.error().message);
    }
  }
}

}  // namespace egress::agent
