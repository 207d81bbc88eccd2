// egress-cni: the chained CNI plugin. Called by the container runtime for each pod, after the plugin that made its
// network and before its first process. Nothing that goes wrong here keeps a pod from starting.
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>

#include "cmd/egress-cni/call.h"
#include "cmd/egress-cni/pod.h"

namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

}  // namespace

int main() {
  std::signal(SIGPIPE, SIG_IGN);
  const egress::cni::Environment environment = {Variable("CNI_COMMAND"), Variable("CNI_CONTAINERID"),
                                                Variable("CNI_NETNS"), Variable("CNI_IFNAME"), Variable("CNI_ARGS")};
  if (environment.command.empty() && ::isatty(STDIN_FILENO) != 0) {
    std::cerr << "egress-cni " EGRESS_VERSION ": a CNI plugin; the container runtime calls it\n";
    return 1;
  }
  const std::string input((std::istreambuf_iterator<char>(std::cin)), std::istreambuf_iterator<char>());
  const auto answer = egress::cni::Run(environment, input, {egress::cni::AddPod, egress::cni::DeletePod});
  std::cout << answer.text << std::flush;
  return answer.status;
}
