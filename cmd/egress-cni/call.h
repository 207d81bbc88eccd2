// A call of the plugin as the CNI specification (1.1.0, section 2) has it: environment and standard input in, JSON out.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/address.h"

namespace egress::cni {

struct Environment {
  std::string command;       // CNI_COMMAND
  std::string container_id;  // CNI_CONTAINERID
  std::string netns;         // CNI_NETNS
  std::string interface;     // CNI_IFNAME, in the pod
  std::string arguments;     // CNI_ARGS
};

// Codes of the specification, "Well-known error codes".
enum class Code { kVersion = 1, kEnvironment = 4, kDecoding = 6, kConfiguration = 7 };

struct Failure {
  Code code = Code::kConfiguration;
  std::string message;
  std::string details;
};

struct Call {
  Environment environment;
  std::string version;  // cniVersion of the configuration
  std::string socket;   // of the agent
  std::string known;    // file of agent/cni/known.h
  std::vector<std::string> system_namespaces;
  bool audit = false;                   // nothing is denied
  std::optional<std::string> previous;  // prevResult, byte by byte as it was given

  // What prevResult and CNI_ARGS tell; empty where they do not.
  std::vector<Address> addresses;
  std::string pod_namespace, pod_name, pod_uid;
};

// What to write to standard output, and the exit status.
struct Answer {
  std::string text;
  int status = 0;
};

// What ADD and DEL do besides answering; neither can make them fail.
struct Actions {
  void (*add)(const Call&);
  void (*del)(const Call&);
};

Answer Run(const Environment& environment, const std::string& input, const Actions& actions);

// The bytes of the value of `key` in the JSON object `text`, which has to be valid; nullopt where there is none. Of
// several the last, as parsers take it.
std::optional<std::string> RawMember(std::string_view text, std::string_view key);

}  // namespace egress::cni
