#include "cmd/egressd/agent.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "agent/node/cgroup.h"
#include "agent/node/netns.h"
#include "agent/node/sockets.h"

namespace egress::agent {
namespace {

// A connection that sends is cut by the boundary at its next frame, with a RST that its program reads as such; the walk
// over the sockets is for idle ones, whose programs get ECONNABORTED. So it comes second, and once for many changes.
constexpr auto kRevokeDelay = std::chrono::milliseconds(250);
constexpr auto kPeriod = std::chrono::seconds(1);
constexpr std::size_t kGoneNames = 1024;

std::string ProxyProgram() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / "egress-proxy").string();
}

Address AddressOf(const __u8* bytes) {
  Address address;
  std::copy(bytes, bytes + 16, address.bytes.begin());
  return address;
}

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

Agent::Agent(EventLoop& loop, const Options& options)
    : loop_(loop), options_(options), store_(options.config.settings), metrics_(EGRESS_VERSION) {}

Agent::~Agent() {
  pages_.reset();
  control_.reset();
  cni_.reset();
  if (event_reader_) loop_.Unwatch(event_reader_->fd());
  if (directory_) loop_.Unwatch(directory_->fd());
}

Result<std::unique_ptr<Agent>> Agent::Start(EventLoop& loop, const Options& options) {
  std::unique_ptr<Agent> agent(new Agent(loop, options));
  if (auto done = agent->Open(); !done) return std::move(done).error();
  return agent;
}

Result<void> Agent::Open() {
  if (auto done = TakeRunFolder(); !done) return done;
  if (auto done = OpenSource(); !done) return done;
  // All that can be wrong with how it was started comes before the first program is attached.
  if (auto done = StartPages(); !done) return done;
  auto cgroups = Cgroups();
  if (!cgroups) return std::move(cgroups).error();
  auto enforcer = Enforcer::Open(options_.bpffs, *std::move(cgroups));
  if (!enforcer) return std::move(enforcer).error();
  enforcer_ = *std::move(enforcer);
  enforcer_->kernel().config()->keep_connections = !options_.config.revoke_connections;
  auto revoker = datapath::Revoker::Open(enforcer_->kernel());
  if (!revoker) return std::move(revoker).error();
  revoker_.emplace(*std::move(revoker));
  auto reader = datapath::EventReader::Open(enforcer_->kernel(), [this](const event& one) { OnKernelEvent(one); });
  if (!reader) return std::move(reader).error();
  event_reader_ = *std::move(reader);
  proxy_ = std::make_unique<ProxyProcess>(
      loop_, *enforcer_, ProxyProgram(), options_.log_level,
      ProxyProcess::Callbacks{[this](const nlohmann::json& counts) { OnProxyRequests(counts); },
                              [this](const nlohmann::json& message) { OnProxyEvents(message); },
                              [this](const std::string& text) { Problem(text); }});
  std::optional<node::PodLocator::Folders> folders;
  if (options_.manifests.empty()) folders.emplace().cgroup2_root = options_.cgroup_root;
  auto pods = NodePods::Create(
      loop_, {[this](const NodePod& pod) { OnPodPresent(pod); },
              [this](const NodePod& pod, bool over) { OnPodGone(pod, over); },
              [this](const NodePod& pod) { proxy_->RemovePod(pod.interface.cookie, true); },
              [this](const std::string& text) { Problem(text); }},
      std::move(folders));
  if (!pods) return std::move(pods).error();
  pods_ = *std::move(pods);
  if (directory_) {
    if (auto done = ApplyFirst(); !done) return done;
  } else {
    ServeWhatIsInForce();
    LookAtMesh();
    if (!options_.config.settings.mesh_cidrs.empty()) kubernetes_->Start();
  }
  return Serve();
}

Result<void> Agent::TakeRunFolder() {
  std::error_code error;
  std::filesystem::create_directories(options_.run_dir, error);
  if (error) return Error{"make " + options_.run_dir + ": " + error.message()};
  const std::string lock = options_.run_dir + "/egressd.lock";
  run_lock_.Reset(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!run_lock_) return ErrnoError("open " + lock);
  if (::flock(run_lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{"another egressd runs with --run-dir " + options_.run_dir + ": end it, or give each its own folder"};
  }
  state_file_ = options_.run_dir + "/mesh-config-files";
  std::ifstream remembered(state_file_);
  for (std::string unit; std::getline(remembered, unit);) store_.RememberMeshConfigUnit(unit);
  return {};
}

void Agent::RememberMeshConfigUnits() {
  const auto units = store_.MeshConfigUnits();
  if (units == remembered_units_) return;
  remembered_units_ = units;
  const std::string beside = state_file_ + ".new";
  std::ofstream file(beside, std::ios::trunc);
  for (const std::string& unit : units) file << unit << "\n";
  file.close();
  if (!file || ::rename(beside.c_str(), state_file_.c_str()) != 0) Problem("cannot write " + state_file_);
}

Result<std::vector<std::string>> Agent::Cgroups() {
  std::string root = options_.cgroup_root;
  if (root.empty()) {
    auto found = node::Cgroup2Root();
    if (!found) return std::move(found).error();
    root = *found;
    const auto own = node::OwnCgroup();
    if (own && *own == root && !node::IsHierarchyRoot(root)) {
      return Error{root + " shows this container's own cgroup and no pod's: mount the node's /sys/fs/cgroup there, or " +
                   "name the folder above the pods with --cgroup-root"};
    }
  }
  if (auto done = node::CheckCgroup2(root); !done) return std::move(done).error();
  std::vector<std::string> cgroups = {root};
  if (options_.cgroup_root.empty() || node::IsHierarchyRoot(root)) {
    options_.cgroup_root = root;  // and this process's own is below
    return cgroups;
  }
  auto own = node::OwnCgroup();
  if (!own) return std::move(own).error();
  if (!node::IsBelow(*own, root)) cgroups.push_back(*own);  // the proxy's sockets are made here
  options_.cgroup_root = root;
  return cgroups;
}

// In a container the cgroup2 that is mounted is often the container's own: programs attached there see nobody. The
// boundary still holds then, but connects fail late and http not at all.
void Agent::WarnOfPodsElsewhere() {
  const std::string& root = options_.cgroup_root;
  for (const auto& view : store_.Pods()) {
    if (!view.pod || !view.governed || view.pod->cgroup_path.empty()) continue;
    if (node::IsBelow(view.pod->cgroup_path, root)) continue;
    Problem(view.pod->id.ToString() + ": its cgroup " + view.pod->cgroup_path + " is not below --cgroup-root " + root +
            ": its connections are refused at the boundary only; give the root of the node's cgroup2");
  }
}

Result<void> Agent::OpenSource() { return options_.manifests.empty() ? OpenKubernetes() : OpenDirectory(); }

Result<void> Agent::OpenDirectory() {
  auto directory = source::DirectorySource::Open(options_.manifests);
  if (!directory) return std::move(directory).error();
  directory_ = *std::move(directory);
  auto files = directory_->InitialScan();
  if (!files) return std::move(files).error();
  TakeUnits(*files);
  return loop_.Watch(directory_->fd(), EPOLLIN, [this](std::uint32_t) { OnDirectory(); });
}

void Agent::TakeUnits(const std::vector<source::DirectorySource::Change>& changes) {
  for (const auto& change : changes) {
    const std::string path = options_.manifests + "/" + change.file_name;
    if (change.text) {
      store_.SetUnit(change.file_name, *change.text, path);
    } else if (change.error) {
      store_.SetUnreadableUnit(change.file_name, *change.error, path);
    } else {
      store_.RemoveUnit(change.file_name);
    }
  }
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
  auto problems = enforcer_->Apply(std::exchange(pending_, {}), [this](std::uint32_t generation, const auto& documents) {
    proxy_->Commit(generation, documents);
  });
  if (!problems) return std::move(problems).error();
  for (const auto& problem : *problems) Problem(problem);
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
    char name[IF_NAMESIZE];
    // One whose namespace is not found (yet) keeps what it had. With manifests, the path of one that is present leads
    // elsewhere now; from the API it may be the successor of the same name.
    const auto view = store_.FindPod(left.name);
    const bool known = view.pod != nullptr && (!view.governed || (directory_ && pods_->IsPresent(left.name)));
    const bool alive = left.host_ifindex != 0 &&
                       ::if_indextoname(static_cast<unsigned>(left.host_ifindex), name) != nullptr;
    if (!alive || known) {  // over, or not governed any more, or in another namespace now
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

Result<void> Agent::Serve() {
  if (auto done = loop_.Watch(event_reader_->fd(), EPOLLIN, [this](std::uint32_t) { event_reader_->Read(); }); !done) {
    return done;
  }
  metrics_.SetConnectionSource([this] { return ConnectionCounts(); });
  metrics_.SetMapSource([this] {
    std::vector<report::MapUse> uses;
    for (auto& use : datapath::ReadMapUse(enforcer_->kernel())) uses.push_back({use.name, use.entries, use.capacity});
    return uses;
  });
  auto control = report::Control::Listen(loop_, options_.run_dir,
                                         {[this] { return Status().ToJson(); },
                                          [this] {
                                            auto list = nlohmann::json::array();
                                            for (const auto& pod : PodStatuses()) list.push_back(pod.ToJson());
                                            return list;
                                          }},
                                         events_);
  if (!control) return std::move(control).error();
  control_.emplace(*std::move(control));
  std::function<void()> tick = [this] {
    Periodic();
    if (in_force_) {
      for (const auto& fault : enforcer_->RepairAttachments()) Problem(fault);
      if (++periods_ % 2 == 0) Revoke();  // a ClientHello that never ends makes no change
    }
  };
  struct Ticker {
    static void Next(EventLoop& loop, std::function<void()> work) {
      loop.After(kPeriod, [&loop, work] {
        work();
        Next(loop, work);
      });
    }
  };
  Ticker::Next(loop_, tick);
  return {};
}

// Requests are answered by the loop, so none before all is in force.
Result<void> Agent::StartPages() {
  auto pages = report::Pages::Start(loop_, options_.metrics_listen,
                                    {[this] {
                                       Periodic();
                                       return metrics_.Text();
                                     },
                                     [] { return std::optional<std::string>(); }, [this] { return NotReady(); }});
  if (!pages) return std::move(pages).error();
  pages_.emplace(*std::move(pages));
  return {};
}

std::optional<std::string> Agent::NotReady() const {
  if (!in_force_) {
    const std::string why = !mesh_missing_.empty() ? mesh_missing_ : kubernetes_ ? kubernetes_->WhyNotSynced() : "";
    return "policies are not in force yet" + (why.empty() ? "" : ": " + why);
  }
  if (!proxy_->ready()) return "egress-proxy is not ready";
  return std::nullopt;
}

// ---- Changes ----

void Agent::OnDirectory() {
  const auto read = std::chrono::steady_clock::now();
  auto files = directory_->Poll();
  if (!files) {
    Problem(files.error().message + "; what is in force stays");
    return;
  }
  TakeUnits(*files);
  Settle(read);
}

// Brings into force what the store has been told since the last time.
void Agent::Settle(std::chrono::steady_clock::time_point read) {
  const policy::Changes changes = store_.Commit();
  if (changes.empty()) return;
  RememberMeshConfigUnits();
  for (const auto& id : changes.pods) pods_->Update(id, store_.FindPod(id));
  if (changes.network) pending_.network = store_.Network();
  for (const auto& account : changes.service_accounts) {
    if (enforcer_->HasAccount(account) || pending_.accounts.contains(account)) pending_.accounts[account] = store_.PoliciesOf(account);
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
  guarded.spec = {pod.interface.cookie, pod.object->id,  account,
                  pod.interface.host_ifindex, pod.interface.netns_id, pod.interface.mac, pod.interface.addresses};
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
  auto problems = enforcer_->Apply(change, [this](std::uint32_t generation, const auto& documents) {
    proxy_->Commit(generation, documents);
  });
  if (!problems) {
    Problem(problems.error().message);
  } else {
    for (const auto& problem : *problems) Problem(problem);
  }
  for (const auto& pod : change.pods) {
    const auto present = pods_->present().find(pod.spec.cookie);
    if (present != pods_->present().end()) proxy_->SetPod(present->second);
  }
  if (cni_) cni_->OnChange(false);
  RevokeSoon();
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
      ids.push_back({{AddressOf(one->source), ntohs(one->source_port), AddressOf(one->destination), ntohs(one->port)},
                     one->socket_cookie});
    }
    if (auto done = node::DestroySockets(*diag, ids); !done) {
      Problem(pod->second.object->id.ToString() + ": cut connections: " + done.error().message);
    }
  }
}

// ---- Ends ----

void Agent::Stop() {
  proxy_->Stop(5);
  spdlog::info("egressd ends; what is enforced stays in force (egressd --uninstall removes it)");
}

namespace {

// A folder of the node that is mounted into a container cannot be removed from within; emptied, it is as good as gone.
Result<void> RemoveFolder(const std::string& path) {
  std::error_code error, ignored;
  std::filesystem::remove_all(path, error);
  if (!error || std::filesystem::is_empty(path, ignored)) return {};
  return Error{"remove " + path + ": " + error.message()};
}

}  // namespace

Result<void> Uninstall(const Options& options) {
  const std::string lock = options.run_dir + "/egressd.lock";
  const Fd held(::open(lock.c_str(), O_RDWR | O_CLOEXEC));
  if (held && ::flock(held.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{"egressd runs with --run-dir " + options.run_dir + ": end it first"};
  }
  if (options.manifests.empty()) {
    if (auto done = UninstallCni(options); !done) return done;
  }
  datapath::RemoveClsactFilters();
  if (auto done = datapath::RemovePins(options.bpffs); !done) return done;
  return RemoveFolder(options.run_dir);
}

}  // namespace egress::agent
