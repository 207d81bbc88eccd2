// egress-proxy: the HTTP proxy of egressd, which starts it, feeds it over a channel, and ends it by closing that.
#include <sched.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <string>
#include <thread>

#include "agent/proxy/proxy.h"
#include "cmd/egress-proxy/privileges.h"
#include "cmd/egress-proxy/system_calls.h"

namespace {

egress::Fd BlockAndWatchTerm() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  // Before any thread exists, so that all of them inherit it.
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  return egress::Fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// A connection takes two descriptors, and some wait unused: what the system does not grant is not admitted.
void FitToDescriptors(egress::proxy::Bounds* bounds) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return;
  bounds->connections = std::min(bounds->connections, static_cast<std::uint32_t>(limit.rlim_cur / 3));
  // No pod can use up what the others need.
  bounds->connections_per_pod = std::min(bounds->connections_per_pod, bounds->connections / 4);
}

// Not all that the machine has: a worker without a CPU of its own only costs switches.
int AvailableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  const bool known = ::sched_getaffinity(0, sizeof set, &set) == 0;
  return std::max(1, known ? CPU_COUNT(&set) : static_cast<int>(std::thread::hardware_concurrency()));
}

int Run(int channel_fd, int workers) {
  ::signal(SIGPIPE, SIG_IGN);
  if (egress::Result<void> dropped = egress::DropPrivileges(channel_fd); !dropped) {
    spdlog::critical("{}", dropped.error().message);
    return 1;
  }
  const egress::Fd term = BlockAndWatchTerm();
  egress::proxy::Settings settings;
  FitToDescriptors(&settings.bounds);
  settings.workers = workers > 0 ? workers : AvailableCpus();
  settings.bounds = egress::proxy::ForWorkers(settings.bounds, settings.workers);
  egress::proxy::Proxy proxy(settings, egress::proxy::Channel(egress::Fd(channel_fd)));
  proxy.set_before_ready(egress::AllowOnlyNeededCalls);
  const egress::Result<void> ended = proxy.Run(term.get());
  if (ended) return 0;
  // The usual end: the agent has closed the channel, or is dead.
  spdlog::info("egress-proxy ends: {}", ended.error().message);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("egress-proxy"));
  CLI::App app("The HTTP proxy of egressd; started by egressd, never by hand");
  int channel_fd = -1;
  int workers = 0;
  std::string level = "info";
  app.add_option("--channel-fd", channel_fd, "descriptor of the channel to the agent")->required();
  app.add_option("--workers", workers, "worker threads; 0: one for each CPU that it may use");
  app.add_option("--log-level", level, "trace, debug, info, warning, error, critical or off");
  CLI11_PARSE(app, argc, argv);
  spdlog::set_level(spdlog::level::from_str(level));
  if (channel_fd < 3) {
    spdlog::critical("--channel-fd must be 3 or more");
    return 2;
  }
  return Run(channel_fd, workers);
}
