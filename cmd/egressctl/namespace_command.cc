// egressctl namespace: the enrolment of namespaces, through the Kubernetes API. The words are those of `osm namespace`.
#include <filesystem>
#include <iostream>

#include "agent/source/http_client.h"
#include "agent/base/json_fields.h"
#include "agent/source/status_text.h"
#include "cmd/egressctl/commands.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

constexpr const char* kMonitoredBy = "openservicemesh.io/monitored-by";
constexpr const char* kIgnore = "openservicemesh.io/ignore";
constexpr const char* kInjection = "openservicemesh.io/sidecar-injection";
constexpr const char* kMetrics = "openservicemesh.io/metrics";
constexpr std::chrono::milliseconds kDeadline{30'000};
constexpr int kNotFound = 404;

Result<source::ClusterAccess> FindCluster(const NamespaceArguments& arguments) {
  if (!arguments.kubeconfig.empty()) return source::ReadKubeconfig({arguments.kubeconfig}, arguments.context);
  const auto files = source::DefaultKubeconfigFiles();
  for (const std::string& file : files) {
    if (std::filesystem::exists(file)) return source::ReadKubeconfig(files, arguments.context);
  }
  if (auto access = source::InClusterAccess()) return access;
  return source::ReadKubeconfig(files, arguments.context);  // says which files are missing
}

// The API server, asked one thing after the other.
class Api {
 public:
  Api(EventLoop& loop, source::ClusterAccess access) : loop_(loop), http_(loop, std::move(access), "egressctl") {}

  // nullopt: there is no such object.
  Result<std::optional<json>> Ask(const std::string& method, const std::string& path, const std::string& body = "") {
    source::HttpClient::Request request;
    request.method = method;
    request.path = path;
    request.body = body;
    if (method == "PATCH") request.content_type = "application/merge-patch+json";
    request.deadline = kDeadline;
    source::HttpClient::Outcome outcome;
    http_.Start(std::move(request), {{}, {}, [&](source::HttpClient::Outcome given) {
                                       outcome = std::move(given);
                                       loop_.Stop();
                                     }});
    loop_.Run();
    if (outcome.status == kNotFound) return std::optional<json>();
    if (!outcome.ok()) return Error{source::Explain(outcome, http_.access().server)};
    auto answer = json::parse(outcome.body, nullptr, false);
    if (!answer.is_object()) return Error{"the answer of " + http_.access().server + " is no object"};
    return std::optional<json>(std::move(answer));
  }

 private:
  EventLoop& loop_;
  source::HttpClient http_;
};

const json* Metadata(const json& object, const char* map, const char* name) {
  return Member(Member(Member(&object, "metadata"), map), name);
}

Result<void> Add(Api& api, const std::string& name, const NamespaceArguments& arguments) {
  auto ns = api.Ask("GET", "/api/v1/namespaces/" + name);
  if (!ns) return std::move(ns).error();
  if (!ns->has_value()) return Error{"Namespace [" + name + "] does not exist"};
  if (Metadata(**ns, "labels", kIgnore) != nullptr) {
    return Error{"Namespace [" + name + "] bears the label " + kIgnore +
                 ", which keeps it out of every mesh: take it away first"};
  }
  const std::string mesh = TextOf(Metadata(**ns, "labels", kMonitoredBy));
  if (mesh == arguments.mesh_name) {
    std::cout << "Namespace [" << name << "] has already been added to mesh [" << mesh << "]\n";
    return {};
  }
  if (!mesh.empty()) {
    return Error{"Namespace [" + name + "] belongs to mesh [" + mesh + "]: remove it from there first"};
  }
  const json patch = {{"metadata",
                       {{"labels", {{kMonitoredBy, arguments.mesh_name}}},
                        {"annotations", {{kInjection, arguments.disable_injection ? "disabled" : "enabled"}}}}}};
  auto done = api.Ask("PATCH", "/api/v1/namespaces/" + name, patch.dump());
  if (!done) return std::move(done).error();
  std::cout << "Namespace [" << name << "] successfully added to mesh [" << arguments.mesh_name << "]\n";
  return {};
}

Result<void> Remove(Api& api, const std::string& name, const NamespaceArguments& arguments) {
  auto ns = api.Ask("GET", "/api/v1/namespaces/" + name);
  if (!ns) return std::move(ns).error();
  if (!ns->has_value()) return Error{"Namespace [" + name + "] does not exist"};
  const json* label = Metadata(**ns, "labels", kMonitoredBy);
  if (label == nullptr) {
    std::cout << "Namespace [" << name << "] already does not belong to any mesh\n";
    return {};
  }
  const std::string mesh = TextOf(label);
  if (mesh != arguments.mesh_name) {
    return Error{"Namespace belongs to mesh [" + mesh + "], not mesh [" + arguments.mesh_name +
                 "]. Please specify the correct mesh"};
  }
  const json patch = {{"metadata",
                       {{"labels", {{kMonitoredBy, nullptr}, {kIgnore, nullptr}}},
                        {"annotations", {{kInjection, nullptr}, {kMetrics, nullptr}}}}}};
  auto done = api.Ask("PATCH", "/api/v1/namespaces/" + name, patch.dump());
  if (!done) return std::move(done).error();
  std::cout << "Namespace [" << name << "] successfully removed from mesh [" << mesh << "]\n";
  return {};
}

Result<void> List(Api& api, const Options& options, const NamespaceArguments& arguments) {
  const bool all = arguments.mesh_name.empty();
  auto list = api.Ask("GET", "/api/v1/namespaces?labelSelector=openservicemesh.io%2Fmonitored-by" +
                                 (all ? "" : "%3D" + arguments.mesh_name));
  if (!list) return std::move(list).error();
  json found = json::array();
  for (const json& ns : list->has_value() ? (**list)["items"] : json::array()) {
    found.push_back({{"namespace", TextOf(Member(Member(&ns, "metadata"), "name"))},
                     {"mesh", TextOf(Metadata(ns, "labels", kMonitoredBy))},
                     {"sidecarInjection", TextOf(Metadata(ns, "annotations", kInjection))}});
  }
  if (options.format != Format::kTable) {
    WriteData(std::cout, options.format, found);
  } else if (found.empty()) {
    std::cout << (all ? "No namespaces in any mesh" : "No namespaces in mesh [" + arguments.mesh_name + "]") << "\n";
  } else {
    std::vector<std::vector<std::string>> rows;
    for (const json& row : found) rows.push_back({row["namespace"], row["mesh"], row["sidecarInjection"]});
    std::cout << Table({"NAMESPACE", "MESH", "SIDECAR-INJECTION"}, rows);
  }
  return {};
}

Result<void> Run(Api& api, const Options& options, const NamespaceArguments& arguments) {
  if (arguments.action == NamespaceAction::kList) return List(api, options, arguments);
  for (const std::string& name : arguments.namespaces) {
    auto done = arguments.action == NamespaceAction::kAdd ? Add(api, name, arguments) : Remove(api, name, arguments);
    if (!done) return done;
  }
  return {};
}

}  // namespace

int NamespaceCommand(const Options& options, const NamespaceArguments& arguments) {
  auto access = FindCluster(arguments);
  auto loop = EventLoop::Create();
  Result<void> done;
  if (!access) {
    done = std::move(access).error();
  } else if (!loop) {
    done = std::move(loop).error();
  } else {
    Api api(*loop, *std::move(access));
    done = Run(api, options, arguments);
  }
  if (done) return kExitOk;
  Complain(done.error().message);
  return kExitError;
}

}  // namespace egress::ctl
