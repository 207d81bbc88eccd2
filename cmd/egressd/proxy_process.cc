#include "cmd/egressd/proxy_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "agent/datapath/readers.h"
#include "agent/node/pod_sockets.h"

namespace egress::agent {
namespace {

constexpr int kChannelFd = 3;
constexpr int kCommitMs = 3000;
constexpr int kEndMs = 200;  // from a closed channel to the end of the process
constexpr int kMaxBackoffMs = 5000;
constexpr int kMaxWanted = 64;
// Above the ephemeral ports of Linux, so that a pod's own connections do not take it.
constexpr std::uint16_t kFirstPort = 61000;
constexpr std::uint16_t kLastPort = 64999;

bool IsLinkLocal(const Address& address) { return address.bytes[0] == 0xfe && (address.bytes[1] & 0xc0) == 0x80; }

// Only http rules concern the proxy.
bool HasHttp(const policy::EffectivePolicy& policy) {
  return std::any_of(policy.ports.begin(), policy.ports.end(),
                     [](const policy::Port& port) { return port.protocol == policy::Protocol::kHttp; });
}

const Address* FirstAddress(const NodePod& pod, bool v4) {
  for (const Address& address : pod.interface.addresses) {
    if (address.IsV4() == v4 && !IsLinkLocal(address)) return &address;
  }
  return nullptr;
}

}  // namespace

ProxyProcess::ProxyProcess(EventLoop& loop, Enforcer& enforcer, std::string program, std::string log_level,
                           Callbacks callbacks)
    : loop_(loop),
      enforcer_(enforcer),
      program_(std::move(program)),
      log_level_(std::move(log_level)),
      callbacks_(std::move(callbacks)) {}

ProxyProcess::~ProxyProcess() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void ProxyProcess::Start() {
  restart_timer_ = 0;
  if (auto done = Spawn(); !done) {
    Down("cannot start " + program_ + ": " + done.error().message);
    return;
  }
  SendAll();
}

Result<void> ProxyProcess::Spawn() {
  if (::access(program_.c_str(), X_OK) != 0) return ErrnoError("look for it");  // the child could not say so
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) return ErrnoError("socketpair");
  Fd ours(pair[0]), theirs(pair[1]);
  const std::string fd_text = std::to_string(kChannelFd);
  const char* arguments[] = {program_.c_str(), "--channel-fd",     fd_text.c_str(),
                             "--log-level",    log_level_.c_str(), nullptr};
  const pid_t agent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoError("fork");
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != agent) ::_exit(1);  // the agent died before the line above
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (theirs.get() == kChannelFd) {
      ::fcntl(kChannelFd, F_SETFD, 0);
    } else {
      ::dup2(theirs.get(), kChannelFd);
    }
    ::execv(program_.c_str(), const_cast<char* const*>(arguments));
    ::_exit(127);
  }
  pid_ = pid;
  pidfd_.Reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  channel_ = std::make_unique<proxy::Channel>(std::move(ours));
  committed_ = 0;
  if (auto done = loop_.Watch(channel_->fd(), EPOLLIN, [this](std::uint32_t) { OnChannel(); }); !done) return done;
  return {};
}

void ProxyProcess::SendAll() {
  auto sockets = enforcer_.kernel().ReadOnlyMap("sockets");
  if (!sockets) {
    Down(sockets.error().message);
    return;
  }
  const int fds[] = {sockets->get(), enforcer_.pods().mirror()};
  Send({{"type", "start"}, {"revoke", enforcer_.kernel().config()->keep_connections == 0}}, fds);
  Enforcer::Documents all;
  for (auto& [id, policy] : enforcer_.AllDocuments()) all.emplace_back(id, policy);
  // What is staged and not yet switched (a start in the middle of a change) is there too, one generation on.
  SendPolicies(enforcer_.generation(), all);
  Flush();
}

void ProxyProcess::SendPolicies(std::uint32_t generation, const Enforcer::Documents& documents) {
  for (const auto& [id, policy] : documents) {
    if (policy && HasHttp(*policy)) {
      Send({{"type", "policy"},
            {"id", id.ToString()},
            {"generation", generation},
            {"document", nlohmann::json::parse(policy::ToDocument(*policy))}});
    } else {
      Send({{"type", "remove"}, {"id", id.ToString()}, {"generation", generation}});
    }
  }
  Send({{"type", "commit"}, {"generation", generation}});
}

void ProxyProcess::Commit(std::uint32_t generation, const Enforcer::Documents& documents) {
  if (!channel_ || documents.empty()) return;
  SendPolicies(generation, documents);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kCommitMs);
  while (channel_ && committed_ < generation) {
    Flush();
    if (!channel_) return;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      Down("does not take over a change of policy within " + std::to_string(kCommitMs) + " ms");
      return;
    }
    pollfd waits = {channel_->fd(), static_cast<short>(POLLIN | (channel_->wants_write() ? POLLOUT : 0)), 0};
    ::poll(&waits, 1, static_cast<int>(left.count()));
    if (waits.revents & (POLLIN | POLLHUP | POLLERR)) OnChannel();
  }
}

void ProxyProcess::SetPod(const NodePod& pod) {
  Pod& entry = pods_[pod.interface.cookie];
  const bool same = entry.pod.netns && entry.pod.interface.addresses == pod.interface.addresses &&
                    entry.pod.object->id == pod.object->id &&
                    entry.pod.object->service_account == pod.object->service_account &&
                    (entry.listeners.port4 != 0 || entry.listeners.port6 != 0);
  entry.pod = pod;
  if (!same && ready_) SendPod(entry);
}

void ProxyProcess::SendPod(Pod& pod) {
  if (!pod.pod.netns) return;
  const std::uint64_t cookie = pod.pod.interface.cookie;
  if (auto done = OfferListeners(pod); !done) {
    // An IPv6 address is not there yet while duplicates are looked for.
    if (++pod.retries <= 50) {
      loop_.After(std::chrono::milliseconds(100), [this, cookie] {
        const auto known = pods_.find(cookie);
        if (known != pods_.end() && ready_) SendPod(known->second);
      });
    } else {
      callbacks_.problem(pod.pod.object->id.ToString() + ": no listener for http: " + done.error().message);
    }
  }
  if (auto done = enforcer_.pods().SetProxy(cookie, pod.listeners); !done) {
    callbacks_.problem(pod.pod.object->id.ToString() + ": " + done.error().message);
  }
  Flush();
}

// Makes the listeners, one a family, and hands them over. Fails where one of them is missing.
Result<void> ProxyProcess::OfferListeners(Pod& pod) {
  const auto slot = enforcer_.pods().SlotOf(pod.pod.interface.cookie);
  if (!slot) return Error{"the pod has no slot"};
  std::vector<Fd> listeners;
  std::string missing;
  pod.listeners = {};
  for (const bool v4 : {true, false}) {
    const Address* address = FirstAddress(pod.pod, v4);
    if (address == nullptr) continue;
    auto listener = node::ListenIn(*pod.pod.netns, *address, kFirstPort, kLastPort);
    if (!listener) {
      missing = listener.error().message;
      continue;
    }
    (v4 ? pod.listeners.address4 : pod.listeners.address6) = *address;
    (v4 ? pod.listeners.port4 : pod.listeners.port6) = listener->port;
    listeners.push_back(std::move(listener->socket));
  }
  std::vector<int> fds;
  for (const Fd& listener : listeners) fds.push_back(listener.get());
  Send({{"type", "pod"},
        {"slot", *slot},
        {"cookie", pod.pod.interface.cookie},
        {"name", pod.pod.object->id.ToString()},
        {"serviceAccount", pod.pod.object->service_account.ToString()}},
       fds);
  if (!missing.empty()) return Error{missing};
  return {};
}

void ProxyProcess::RemovePod(std::uint64_t cookie, bool reset) {
  const auto known = pods_.find(cookie);
  if (known == pods_.end()) return;
  if (const auto slot = enforcer_.pods().SlotOf(cookie); slot && channel_) {
    Send({{"type", "pod-gone"}, {"slot", *slot}, {"reset", reset}});
    Flush();
  }
  pods_.erase(known);
  (void)enforcer_.pods().SetProxy(cookie, {});
}

void ProxyProcess::OnChannel() {
  while (channel_) {
    auto message = channel_->Receive();
    if (!message) {
      Lost(message.error());
      return;
    }
    if (!message->has_value()) break;
    OnMessage(**message);
  }
  Flush();
}

void ProxyProcess::OnMessage(const proxy::Message& message) {
  const std::string type = message.body.value("type", "");
  if (type == "ready") {
    ready_ = true;
    backoff_ms_ = 0;
    spdlog::info("egress-proxy runs, pid {}", pid_);
    for (auto& [cookie, pod] : pods_) {
      pod.retries = 0;
      SendPod(pod);
    }
  } else if (type == "committed") {
    committed_ = message.body.value("generation", 0U);
  } else if (type == "want") {
    OnWant(message.body);
  } else if (type == "requests") {
    callbacks_.requests(message.body.value("counts", nlohmann::json::array()));
  } else if (type == "events") {
    callbacks_.events(message.body);
  }
}

void ProxyProcess::OnWant(const nlohmann::json& body) {
  const std::uint32_t slot = body.value("slot", 0U);
  const bool tls = body.value("kind", "http") == "tls";
  const int family = body.value("family", 4);
  const int count = std::clamp(body.value("count", 0), 0, kMaxWanted);
  const auto pod = std::find_if(pods_.begin(), pods_.end(),
                                [&](const auto& entry) { return enforcer_.pods().SlotOf(entry.first) == slot; });
  if (pod == pods_.end() || !pod->second.pod.netns) return;
  std::vector<Fd> sockets;
  std::vector<int> fds;
  for (int i = 0; i < count; ++i) {
    auto socket = node::UpstreamSocketIn(*pod->second.pod.netns, family == 6 ? AF_INET6 : AF_INET);
    if (!socket) {
      callbacks_.problem(pod->second.pod.object->id.ToString() + ": upstream socket: " + socket.error().message);
      break;
    }
    if (auto done = datapath::MarkUpstream(enforcer_.kernel(), socket->get(), pod->first, slot, tls); !done) {
      callbacks_.problem(pod->second.pod.object->id.ToString() + ": upstream socket: " + done.error().message);
      break;
    }
    fds.push_back(socket->get());
    sockets.push_back(*std::move(socket));
  }
  Send({{"type", "sockets"}, {"slot", slot}, {"kind", tls ? "tls" : "http"}, {"family", family}}, fds);
}

void ProxyProcess::Send(const nlohmann::json& body, std::span<const int> fds) {
  if (!channel_) return;
  if (auto done = channel_->Send(body, fds); !done) Lost(done.error());
}

void ProxyProcess::Flush() {
  if (!channel_) return;
  if (auto done = channel_->Flush(); !done) {
    Lost(done.error());
    return;
  }
  (void)loop_.Modify(channel_->fd(), EPOLLIN | (channel_->wants_write() ? EPOLLOUT : 0U));
}

// How the process ended; empty where it has not.
std::string ProxyProcess::HowItEnded() const {
  // The channel closes on the way to the end, a moment before there is a status to read.
  pollfd end = {pidfd_.get(), POLLIN, 0};
  siginfo_t status{};
  if (::poll(&end, 1, kEndMs) <= 0 || ::waitid(P_PID, static_cast<id_t>(pid_), &status, WEXITED | WNOWAIT) != 0) {
    return {};
  }
  if (status.si_code == CLD_EXITED) return " with status " + std::to_string(status.si_status);
  std::string how = " by signal " + std::to_string(status.si_status) + " (" + ::strsignal(status.si_status) + ")";
  if (status.si_status == SIGSYS) {
    how +=
        ": it made a system call that its seccomp filter does not allow; the kernel's audit log (type=SECCOMP) has"
        " its number, and this is a bug of egress-proxy or an attack on it";
  }
  return how;
}

void ProxyProcess::Lost(const Error& error) {
  const std::string how = HowItEnded();
  Down(how.empty() ? "does not answer: " + error.message : "has ended" + how);
}

void ProxyProcess::Reap() {
  if (pid_ == 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = 0;
  pidfd_.Reset();
}

void ProxyProcess::Down(const std::string& why) {
  if (channel_) loop_.Unwatch(channel_->fd());
  channel_.reset();
  ready_ = false;
  Reap();
  for (auto& [cookie, pod] : pods_) {
    pod.listeners = {};
    (void)enforcer_.pods().SetProxy(cookie, {});
  }
  if (stopping_) return;
  callbacks_.problem("egress-proxy " + why + "; http is refused until it is back");
  ++restarts_;
  if (restart_timer_ != 0) return;
  const int delay = backoff_ms_;
  backoff_ms_ = std::clamp(backoff_ms_ * 2, 100, kMaxBackoffMs);
  restart_timer_ = loop_.After(std::chrono::milliseconds(delay), [this] { Start(); });
}

void ProxyProcess::Stop(int seconds) {
  stopping_ = true;
  if (restart_timer_ != 0) loop_.Cancel(restart_timer_);
  for (const auto& [cookie, pod] : pods_) (void)enforcer_.pods().SetProxy(cookie, {});
  if (!channel_) return;
  Send({{"type", "drain"}, {"seconds", seconds}});
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(seconds + 1);
  while (channel_) {
    Flush();
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (!channel_ || left.count() <= 0) break;
    pollfd waits = {channel_->fd(), static_cast<short>(POLLIN | (channel_->wants_write() ? POLLOUT : 0)), 0};
    ::poll(&waits, 1, static_cast<int>(left.count()));
    if (waits.revents & (POLLIN | POLLHUP | POLLERR)) OnChannel();
  }
  if (channel_) Down("is ended");
}

report::ProxyStatus ProxyProcess::Status() const {
  return {ready_ ? "running" : pid_ != 0 ? "starting" : "down", static_cast<int>(pid_), restarts_};
}

}  // namespace egress::agent
