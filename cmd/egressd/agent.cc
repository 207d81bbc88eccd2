#include "cmd/egressd/agent.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/file.h>

#include <filesystem>
#include <fstream>

#include "agent/node/cgroup.h"
#include "cmd/egressd/program_beside.h"

namespace egress::agent {
namespace {

constexpr auto kPeriod = std::chrono::seconds(1);

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
      loop_, *enforcer_, ProgramBeside("egress-proxy"), options_.log_level,
      ProxyProcess::Callbacks{[this](const nlohmann::json& counts) { OnProxyRequests(counts); },
                              [this](const nlohmann::json& message) { OnProxyEvents(message); },
                              [this](const std::string& text) { Problem(text); }});
  std::optional<node::PodLocator::Folders> folders;
  if (options_.manifests.empty()) folders.emplace().cgroup2_root = options_.cgroup_root;
  auto pods = NodePods::Create(loop_,
                               {[this](const NodePod& pod) { OnPodPresent(pod); },
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

Result<std::vector<std::string>> Agent::Cgroups() {
  std::string root = options_.cgroup_root;
  if (root.empty()) {
    auto found = node::Cgroup2Root();
    if (!found) return std::move(found).error();
    root = *found;
    const auto own = node::OwnCgroup();
    if (own && *own == root && !node::IsHierarchyRoot(root)) {
      return Error{root +
                   " shows this container's own cgroup and no pod's: mount the node's /sys/fs/cgroup there, or " +
                   "name the folder above the pods with --cgroup-root"};
    }
  }
  if (auto done = node::CheckCgroup2(root); !done) return std::move(done).error();
  std::vector<std::string> cgroups = {root};
  if (!options_.cgroup_root.empty() && !node::IsHierarchyRoot(root)) {
    auto own = node::OwnCgroup();
    if (!own) return std::move(own).error();
    if (!node::IsBelow(*own, root)) cgroups.push_back(*own);  // the proxy's sockets are made here
  }
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
  Tick();
  return {};
}

void Agent::Tick() {
  loop_.After(kPeriod, [this] {
    Periodic();
    if (in_force_) {
      for (const auto& fault : enforcer_->RepairAttachments()) Problem(fault);
      if (++periods_ % 2 == 0) Revoke();  // a ClientHello that never ends makes no change
    }
    Tick();
  });
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

void Agent::Stop() {
  proxy_->Stop(5);
  spdlog::info("egressd ends; what is enforced stays in force (egressd --uninstall removes it)");
}

}  // namespace egress::agent
