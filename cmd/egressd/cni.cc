#include "cmd/egressd/cni.h"

#include <net/if.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <filesystem>

#include "agent/datapath/cni_deny.h"
#include "agent/node/sandbox.h"
#include "agent/policy/enrolment.h"
#include "cmd/egressd/program_beside.h"

namespace egress::agent {
namespace {

std::string SocketOf(const Options& options) { return options.run_dir + "/cni.sock"; }
std::string KnownOf(const Options& options) { return options.state_dir + "/cni.json"; }

}  // namespace

Result<std::unique_ptr<Cni>> Cni::Start(EventLoop& loop, const Options& options, Parts parts) {
  std::unique_ptr<Cni> cni(new Cni(options, std::move(parts)));
  Cni* self = cni.get();
  self->Remember();
  auto server =
      CniServer::Start(loop, SocketOf(options),
                       {self->parts_.refresh,
                        [self](const cni::Request& request) {
                          node::Sandbox sandbox;
                          sandbox.container_id = request.container_id;
                          sandbox.pod_namespace = request.pod_namespace;
                          sandbox.pod_name = request.pod_name;
                          sandbox.pod_uid = request.pod_uid;
                          sandbox.netns = request.netns;
                          sandbox.addresses = request.addresses;
                          self->parts_.pods.AddSandbox(sandbox);
                        },
                        [self](const cni::Request& request) { self->parts_.pods.RemoveSandbox(request.container_id); },
                        [self](const cni::Request& request) { return self->StateOf(request); }, self->parts_.problem});
  if (!server) return std::move(server).error();
  self->server_ = *std::move(server);
  if (options.config.cni == "chained") {
    if (auto done = self->Install(loop); !done) {
      self->not_installed_ = std::move(done).error().message;  // governing pods without it is better than not at all
      self->parts_.problem(self->not_installed_);
    }
  } else if (auto done = cni::RemoveInstallation(options.config.cni_conf_dir, options.config.cni_bin_dir); !done) {
    self->parts_.problem("cni: off: " + done.error().message);
  }
  return cni;
}

Result<void> Cni::Install(EventLoop& loop) {
  const policy::Settings& settings = options_.config.settings;
  cni::InstallOptions install;
  install.conf_dir = options_.config.cni_conf_dir;
  install.bin_dir = options_.config.cni_bin_dir;
  install.program = ProgramBeside(cni::kPluginType);
  install.entry = {SocketOf(options_), KnownOf(options_), settings.system_namespaces, settings.audit};
  for (const std::string& ns : {settings.own_namespace, settings.control_plane_namespace}) {
    if (std::ranges::count(install.entry.system_namespaces, ns) == 0) install.entry.system_namespaces.push_back(ns);
  }
  auto installer = cni::Installer::Start(loop, std::move(install), [this] {
    if (!installer_) return;
    if (installer_->problem().empty()) {
      spdlog::info("egress-cni is in {}", installer_->configured_file());
    } else {
      spdlog::error("CNI: {}", installer_->problem());
    }
  });
  if (!installer) return std::move(installer).error().Wrap("egress-cni");
  installer_ = *std::move(installer);
  if (!installer_->problem().empty()) spdlog::error("CNI: {}", installer_->problem());
  return {};
}

// What cannot be written is removed: a plugin that knows nothing denies, one that knows what was true once may not.
void Cni::Remember() {
  cni::Known known;
  known.mesh_cidrs = options_.config.settings.mesh_cidrs;
  for (const auto& [ns, enrolled] : parts_.store.Enrolments()) {
    (enrolled ? known.enrolled : known.not_enrolled).insert(ns);
  }
  if (written_ && known == known_) return;
  const std::string path = KnownOf(options_);
  const auto done = cni::WriteKnown(path, known);
  written_ = done.ok();
  known_ = std::move(known);
  if (done) return;
  std::error_code error;
  std::filesystem::remove(path, error);
  parts_.problem("what egress-cni has to know while the agent is away cannot be kept: " + done.error().message +
                 (error ? "; nor can what was kept be removed: " + error.message() : ""));
}

void Cni::OnChange(bool namespaces) {
  if (namespaces) Remember();
  server_->Look();
}

CniServer::State Cni::StateOf(const cni::Request& request) const {
  using State = CniServer::State;
  const auto enrolled = parts_.store.IsEnrolled(request.pod_namespace);
  if (enrolled ? !*enrolled : policy::IsSystemNamespace(request.pod_namespace, options_.config.settings)) {
    return State::kNotGoverned;
  }
  const policy::ObjectId id{request.pod_namespace, request.pod_name};
  const int ifindex = static_cast<int>(::if_nametoindex(request.interface.c_str()));
  for (const auto& [cookie, pod] : parts_.pods.present()) {
    if (pod.object_gone || pod.object->id != id || pod.interface.host_ifindex != ifindex) continue;
    const bool guarded = ifindex == 0 || parts_.enforcer.attachments().Guards(ifindex);
    return guarded && parts_.enforcer.pods().SlotOf(cookie) ? State::kInForce : State::kUnknown;
  }
  return State::kUnknown;
}

std::vector<std::string> Cni::Problems() const {
  std::vector<std::string> problems;
  if (installer_ && !installer_->problem().empty()) problems.push_back("CNI: " + installer_->problem());
  for (const policy::ObjectId& pod : server_->Held()) {
    const bool known = parts_.store.FindPod(pod).pod != nullptr;
    problems.push_back(pod.ToString() + (known ? " waits for its rules" : " is not known from the API") +
                       ": it reaches nothing but the mesh until " + (known ? "they are in force" : "it is"));
  }
  return problems;
}

Result<void> UninstallCni(const Options& options) {
  if (auto done = cni::RemoveInstallation(options.config.cni_conf_dir, options.config.cni_bin_dir); !done) return done;
  auto denied = datapath::FindCniDeny();
  if (!denied) return std::move(denied).error();
  for (const auto& interface : *denied) {
    if (auto done = datapath::RemoveCniDeny(interface.ifindex); !done) return std::move(done).error();
  }
  return {};
}

}  // namespace egress::agent
