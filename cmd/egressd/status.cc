#include "cmd/egressd/status.h"

#include <optional>

namespace egress::report {

using nlohmann::json;

namespace {

policy::ObjectId ObjectIdFromText(const std::string& text) {
  const auto slash = text.find('/');
  if (slash == std::string::npos) return {"", text};
  return {text.substr(0, slash), text.substr(slash + 1)};
}

policy::Finding FindingFromJson(const json& from) {
  policy::Finding finding;
  finding.severity = from.at("severity") == "error" ? policy::Severity::kError : policy::Severity::kWarning;
  from.at("file").get_to(finding.location.file);
  from.at("line").get_to(finding.location.line);
  from.at("kind").get_to(finding.kind);
  finding.object = ObjectIdFromText(from.at("object").get<std::string>());
  from.at("field").get_to(finding.field);
  from.at("message").get_to(finding.message);
  return finding;
}

void FillLists(const json& from, AgentStatus& status) {
  for (const json& item : from.at("findings")) status.findings.push_back(FindingFromJson(item));
  for (const json& item : from.at("programs")) {
    status.programs.push_back({item.at("program").get<std::string>(), item.at("where").get<std::string>()});
  }
  for (const json& item : from.at("maps")) {
    status.maps.push_back({item.at("map").get<std::string>(), item.at("entries").get<std::uint64_t>(),
                           item.at("capacity").get<std::uint64_t>()});
  }
  for (const json& item : from.at("kinds")) {
    status.kinds.push_back({item.at("kind").get<std::string>(), item.at("state").get<std::string>(),
                            item.at("synced").get<bool>(), item.at("objects").get<std::uint64_t>(),
                            item.at("error").get<std::string>()});
  }
}

// The exceptions of nlohmann::json end here.
template <typename Fill>
std::optional<Error> Guarded(Fill fill) {
  try {
    fill();
    return std::nullopt;
  } catch (const json::exception& error) {
    return Error{std::string("the agent's answer is not understood: ") + error.what() +
                 ": use the egressctl that belongs to this egressd"};
  }
}

}  // namespace

json FindingToJson(const policy::Finding& finding) {
  return {{"severity", finding.severity == policy::Severity::kError ? "error" : "warning"},
          {"file", finding.location.file},
          {"line", finding.location.line},
          {"kind", finding.kind},
          {"object", finding.object.ToString()},
          {"field", finding.field},
          {"message", finding.message}};
}

json AgentStatus::ToJson() const {
  json result = {{"version", version},
                 {"source", source},
                 {"ready", ready},
                 {"started", started},
                 {"pods", {{"governed", pods_governed}, {"ungoverned", pods_ungoverned}}},
                 {"policies", {{"valid", policies_valid}, {"invalid", policies_invalid}}},
                 {"findings", json::array()},
                 {"programs", json::array()},
                 {"features", features},
                 {"proxy", {{"state", proxy.state}, {"pid", proxy.pid}, {"restarts", proxy.restarts}}},
                 {"problems", problems},
                 {"warnings", warnings},
                 {"enforcement", enforcement},
                 {"generation", generation},
                 {"maps", json::array()},
                 {"kinds", json::array()},
                 {"ageSeconds", age_seconds}};
  for (const policy::Finding& finding : findings) result["findings"].push_back(FindingToJson(finding));
  for (const AttachedProgram& program : programs) {
    result["programs"].push_back({{"program", program.program}, {"where", program.where}});
  }
  for (const MapUse& use : maps) {
    result["maps"].push_back({{"map", use.map}, {"entries", use.entries}, {"capacity", use.capacity}});
  }
  for (const SourceKind& kind : kinds) {
    result["kinds"].push_back({{"kind", kind.kind},
                               {"state", kind.state},
                               {"synced", kind.synced},
                               {"objects", kind.objects},
                               {"error", kind.error}});
  }
  return result;
}

Result<AgentStatus> StatusFromJson(const json& from) {
  AgentStatus status;
  auto error = Guarded([&] {
    from.at("version").get_to(status.version);
    from.at("source").get_to(status.source);
    from.at("ready").get_to(status.ready);
    from.at("started").get_to(status.started);
    from.at("pods").at("governed").get_to(status.pods_governed);
    from.at("pods").at("ungoverned").get_to(status.pods_ungoverned);
    from.at("policies").at("valid").get_to(status.policies_valid);
    from.at("policies").at("invalid").get_to(status.policies_invalid);
    from.at("features").get_to(status.features);
    from.at("proxy").at("state").get_to(status.proxy.state);
    from.at("proxy").at("pid").get_to(status.proxy.pid);
    from.at("proxy").at("restarts").get_to(status.proxy.restarts);
    from.at("problems").get_to(status.problems);
    from.at("warnings").get_to(status.warnings);
    from.at("enforcement").get_to(status.enforcement);
    from.at("generation").get_to(status.generation);
    from.at("ageSeconds").get_to(status.age_seconds);
    FillLists(from, status);
  });
  if (error) return *std::move(error);
  return status;
}

json PodStatus::ToJson() const {
  return {{"pod", pod},
          {"governed", governed},
          {"why", why},
          {"serviceAccount", service_account},
          {"addresses", addresses},
          {"netns", netns},
          {"cgroup", cgroup},
          {"interface", interface},
          {"policies", policies},
          {"state", state},
          {"note", note}};
}

Result<PodStatus> PodStatusFromJson(const json& from) {
  PodStatus status;
  auto error = Guarded([&] {
    from.at("pod").get_to(status.pod);
    from.at("governed").get_to(status.governed);
    from.at("why").get_to(status.why);
    from.at("serviceAccount").get_to(status.service_account);
    from.at("addresses").get_to(status.addresses);
    from.at("netns").get_to(status.netns);
    from.at("cgroup").get_to(status.cgroup);
    from.at("interface").get_to(status.interface);
    from.at("policies").get_to(status.policies);
    from.at("state").get_to(status.state);
    from.at("note").get_to(status.note);
  });
  if (error) return *std::move(error);
  return status;
}

}  // namespace egress::report
