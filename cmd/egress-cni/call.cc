#include "cmd/egress-cni/call.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <variant>

#include "agent/base/json_fields.h"
#include "agent/cni/conflist.h"
#include "agent/cni/result.h"

namespace egress::cni {

using nlohmann::json;

namespace {

constexpr const char* kNewest = "1.1.0";

std::string Dump(const json& value) { return value.dump(4, ' ', true, json::error_handler_t::replace) + "\n"; }

Answer Fail(const std::string& version, const Failure& failure) {
  json text = {{"cniVersion", version}, {"code", static_cast<int>(failure.code)}, {"msg", failure.message}};
  if (!failure.details.empty()) text["details"] = failure.details;
  return {Dump(text), 1};
}

bool IsName(const std::string& text) {
  return !text.empty() && std::isalnum(static_cast<unsigned char>(text[0])) != 0 &&
         std::ranges::all_of(text,
                             [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-'; });
}

bool IsInterfaceName(const std::string& text) {
  return !text.empty() && text.size() <= 15 && text != "." && text != ".." &&
         std::ranges::none_of(text, [](unsigned char c) { return c == '/' || c == ':' || std::isspace(c) != 0; });
}

// What a command needs of its environment, and since which version it is there.
struct Command {
  std::string_view name;
  std::string_view since;
  bool attachment;  // CNI_CONTAINERID and CNI_IFNAME
  bool netns;       // CNI_NETNS
  bool previous;    // prevResult
};
constexpr std::array<Command, 5> kCommands = {{{"ADD", "0.3.1", true, true, true},
                                               {"DEL", "0.3.1", true, false, false},
                                               {"CHECK", "0.4.0", true, true, true},
                                               {"GC", "1.1.0", false, false, false},
                                               {"STATUS", "1.1.0", false, false, false}}};

std::optional<Failure> CheckEnvironment(const Command& command, const Environment& environment) {
  std::string missing;
  const auto need = [&missing](bool needed, const std::string& value, const char* name) {
    if (needed && value.empty()) missing += (missing.empty() ? "" : ", ") + std::string(name);
  };
  need(command.attachment, environment.container_id, "CNI_CONTAINERID");
  need(command.netns, environment.netns, "CNI_NETNS");
  need(command.attachment, environment.interface, "CNI_IFNAME");
  if (!missing.empty()) return Failure{Code::kEnvironment, "required environment variables are missing", missing};
  if (!command.attachment) return std::nullopt;
  if (!IsName(environment.container_id)) {
    return Failure{Code::kEnvironment, "CNI_CONTAINERID is no valid container id", environment.container_id};
  }
  if (!IsInterfaceName(environment.interface)) {
    return Failure{Code::kEnvironment, "CNI_IFNAME is no valid interface name", environment.interface};
  }
  return std::nullopt;
}

std::size_t RankOf(std::string_view version) {
  return static_cast<std::size_t>(std::ranges::find(kVersions, version) - std::begin(kVersions));
}

// "K8S_POD_NAMESPACE=curl;K8S_POD_NAME=curl-1"
std::string Argument(std::string_view arguments, std::string_view name) {
  while (!arguments.empty()) {
    const auto end = std::min(arguments.find(';'), arguments.size());
    const std::string_view one = arguments.substr(0, end);
    if (one.starts_with(name) && one.size() > name.size() && one[name.size()] == '=') {
      return std::string(one.substr(name.size() + 1));
    }
    arguments.remove_prefix(std::min(end + 1, arguments.size()));
  }
  return "";
}

std::variant<Call, Failure> Read(const Command& command, const Environment& environment, const std::string& input,
                                 const json& configuration) {
  Call call;
  call.environment = environment;
  call.version = TextAt(configuration, "cniVersion");
  if (RankOf(command.since) > RankOf(call.version)) {
    return Failure{Code::kVersion, "this cniVersion has no " + std::string(command.name), call.version};
  }
  if (!IsName(TextAt(configuration, "name"))) return Failure{Code::kConfiguration, "name is missing or invalid", ""};
  call.socket = TextAt(configuration, "socket");
  call.known = TextAt(configuration, "known");
  call.audit = configuration.contains("audit") && configuration["audit"] == true;
  for (const json& item : ListAt(configuration, "systemNamespaces")) {
    if (item.is_string()) call.system_namespaces.push_back(item.get<std::string>());
  }
  const auto previous = configuration.find("prevResult");
  if (previous != configuration.end() && previous->is_object()) {
    call.previous = RawMember(input, "prevResult");
    call.addresses = PodAddresses(*previous);
  } else if (command.previous) {
    return Failure{Code::kConfiguration, "prevResult is missing",
                   "egress-cni makes no network: it has to come after the plugin that does"};
  }
  call.pod_namespace = Argument(environment.arguments, "K8S_POD_NAMESPACE");
  call.pod_name = Argument(environment.arguments, "K8S_POD_NAME");
  call.pod_uid = Argument(environment.arguments, "K8S_POD_UID");
  return call;
}

Answer Version(const json& configuration) {
  const std::string asked = TextAt(configuration, "cniVersion");
  json supported = json::array();
  for (const auto version : kVersions) supported.push_back(version);
  return {Dump({{"cniVersion", asked.empty() ? kNewest : asked}, {"supportedVersions", supported}}), 0};
}

// Where the JSON string that begins at `at` ends: behind its closing quote.
std::size_t EndOfString(std::string_view text, std::size_t at) {
  for (++at; text[at] != '"'; ++at) {
    if (text[at] == '\\') ++at;
  }
  return at + 1;
}

// Where the JSON value that begins at `at` ends.
std::size_t EndOfValue(std::string_view text, std::size_t at) {
  int depth = 0;
  do {
    if (text[at] == '"') {
      at = EndOfString(text, at);
      continue;
    }
    if (text[at] == '{' || text[at] == '[') ++depth;
    if (text[at] == '}' || text[at] == ']') --depth;
    ++at;
  } while (depth > 0 || (at < text.size() && std::string_view(",}] \t\r\n").find(text[at]) == std::string_view::npos));
  return at;
}

}  // namespace

std::optional<std::string> RawMember(std::string_view text, std::string_view key) {
  const auto skip = [&text](std::size_t at, std::string_view characters) {
    return std::min(text.find_first_not_of(characters, at), text.size());
  };
  constexpr std::string_view kSpace = " \t\r\n";
  std::optional<std::string> found;
  for (std::size_t at = skip(text.find('{') + 1, kSpace); at < text.size() && text[at] == '"';) {
    const std::size_t name_end = EndOfString(text, at);
    const json name = json::parse(text.substr(at, name_end - at), nullptr, false);
    at = skip(skip(name_end, kSpace) + 1, kSpace);
    const std::size_t end = EndOfValue(text, at);
    if (name.is_string() && name.get_ref<const std::string&>() == key) found = std::string(text.substr(at, end - at));
    at = skip(skip(end, kSpace) + 1, kSpace);
  }
  return found;
}

Answer Run(const Environment& environment, const std::string& input, const Actions& actions) {
  const json configuration = json::parse(input, nullptr, false);
  if (environment.command == "VERSION") return Version(configuration);
  std::string version = TextAt(configuration, "cniVersion");
  const std::string answer_version = RankOf(version) < std::size(kVersions) ? version : kNewest;
  const auto command = std::ranges::find(kCommands, environment.command, &Command::name);
  if (command == kCommands.end()) {
    return Fail(answer_version, {Code::kEnvironment, "CNI_COMMAND is missing or unknown", environment.command});
  }
  if (auto failure = CheckEnvironment(*command, environment)) return Fail(answer_version, *failure);
  if (!configuration.is_object()) {
    return Fail(answer_version, {Code::kDecoding, "the network configuration is no JSON object", ""});
  }
  if (answer_version != version) {
    return Fail(answer_version,
                {Code::kVersion, "cniVersion is not supported (0.3.1, 0.4.0, 1.0.0, 1.1.0 are)", version});
  }
  auto read = Read(*command, environment, input, configuration);
  if (const auto* failure = std::get_if<Failure>(&read)) return Fail(version, *failure);
  const Call& call = std::get<Call>(read);
  if (command->name == "ADD") {
    actions.add(call);
    return {*call.previous + "\n", 0};
  }
  if (command->name == "DEL") actions.del(call);
  // CHECK, GC and STATUS: what there is lives and dies with the pod's interface, and a pod may start at any time.
  return {};
}

}  // namespace egress::cni
