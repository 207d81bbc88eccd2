// egressd: the node agent. Flags, signals, exit status.
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>

#include <iostream>

#include "cmd/check.h"
#include "cmd/egressd/agent.h"
#include "cmd/egressd/capabilities.h"
#include "cmd/egressd/options.h"
#include "cmd/egressd/uninstall.h"

namespace {

enum ExitStatus { kOk = 0, kFailed = 1, kCannotRun = 2 };

void SetUpLog(const egress::agent::Options& options) {
  auto log = spdlog::stderr_logger_mt("egressd");
  log->set_level(spdlog::level::from_str(options.log_level));
  log->set_pattern(options.log_format == "json" ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":"%v"})"
                                                : "%Y-%m-%dT%H:%M:%S.%e %l %v");
  spdlog::set_default_logger(std::move(log));
}

int Check(const egress::agent::Options& options) {
  std::optional<egress::check::Unit> config;
  if (!options.config_file.empty()) {
    auto unit = egress::check::ReadUnit(options.config_file);
    if (!unit) {
      std::cerr << "egressd: " << unit.error().message << "\n";
      return kCannotRun;
    }
    config = *std::move(unit);
  }
  std::vector<egress::check::Unit> manifests;
  if (!options.manifests.empty()) {
    auto units = egress::check::ReadUnits({options.manifests});
    if (!units) {
      std::cerr << "egressd: " << units.error().message << "\n";
      return kCannotRun;
    }
    manifests = *std::move(units);
  }
  return egress::check::Check(config, manifests, std::cout);
}

// Each pod costs a handful of descriptors here, and each connection through the proxy two there.
void RaiseDescriptorLimit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max = std::max<rlim_t>(limit.rlim_max, 1 << 20);
  if (::setrlimit(RLIMIT_NOFILE, &limit) == 0) return;
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

int Run(const egress::agent::Options& options) {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  auto loop = egress::EventLoop::Create();
  if (!loop) {
    spdlog::critical("cannot start: {}", loop.error().message);
    return kCannotRun;
  }
  const egress::Fd ends(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (auto done = loop->Watch(ends.get(), EPOLLIN, [&](std::uint32_t) { loop->Stop(); }); !done) {
    spdlog::critical("cannot start: {}", done.error().message);
    return kCannotRun;
  }
  auto agent = egress::agent::Agent::Start(*loop, options);
  if (!agent) {
    spdlog::critical("cannot start: {}", agent.error().message);
    return kCannotRun;
  }
  loop->Run();
  (*agent)->Stop();
  return (*agent)->failed() ? kFailed : kOk;
}

}  // namespace

int main(int argc, char** argv) {
  egress::agent::Options options;
  if (const auto status = egress::agent::ParseFlags(argc, argv, options)) return *status;
  if (options.version) {
    std::cout << "egressd " EGRESS_VERSION "\n";
    return kOk;
  }
  if (options.check) return Check(options);
  SetUpLog(options);
  if (auto done = egress::agent::LoadConfig(options); !done && !options.uninstall) {
    spdlog::critical("cannot start: {}", done.error().message);
    return kCannotRun;
  }
  RaiseDescriptorLimit();
  if (auto done = egress::agent::KeepNeededCapabilities(); !done) {
    spdlog::critical("cannot start: {}", done.error().message);
    return kCannotRun;
  }
  if (options.uninstall) {
    if (auto done = egress::agent::Uninstall(options); !done) {
      spdlog::critical("cannot uninstall: {}", done.error().message);
      return kFailed;
    }
    return kOk;
  }
  return Run(options);
}
