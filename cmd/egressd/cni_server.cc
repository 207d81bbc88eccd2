#include "cmd/egressd/cni_server.h"

#include <net/if.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "agent/datapath/cni_deny.h"

namespace egress::agent {
namespace {

// The plugin waits for 1.7 s in all; what is known of before has to do after this.
constexpr auto kReadTime = std::chrono::milliseconds(1200);
constexpr auto kAsksAgain = std::chrono::seconds(2);
constexpr std::size_t kMaxRequest = 65536;

policy::ObjectId IdOf(const cni::Request& request) { return {request.pod_namespace, request.pod_name}; }

}  // namespace

CniServer::CniServer(EventLoop& loop, report::ControlSocket listener, Callbacks callbacks)
    : loop_(loop), listener_(std::move(listener)), callbacks_(std::move(callbacks)) {}

CniServer::~CniServer() {
  loop_.Unwatch(listener_.fd());
  for (const auto& [fd, client] : clients_) loop_.Unwatch(fd);
}

Result<std::unique_ptr<CniServer>> CniServer::Start(EventLoop& loop, const std::string& path, Callbacks callbacks) {
  auto listener = report::ControlSocket::Listen(path);
  if (!listener) return std::move(listener).error();
  std::unique_ptr<CniServer> server(new CniServer(loop, *std::move(listener), std::move(callbacks)));
  CniServer* self = server.get();
  if (auto done = loop.Watch(self->listener_.fd(), EPOLLIN, [self](std::uint32_t) { self->OnConnection(); }); !done) {
    return std::move(done).error();
  }
  self->TakeUpLeft();
  return server;
}

void CniServer::TakeUpLeft() {
  auto left = datapath::FindCniDeny();
  if (!left) {
    callbacks_.problem("pods that egress-cni holds to the mesh: " + left.error().message);
    return;
  }
  for (const auto& interface : *left) {
    auto request = cni::ParseRequest(interface.about);
    if (!request) {
      callbacks_.problem("egress-cni holds the pod at " + interface.name +
                         " to the mesh, and it cannot be told which one that is: delete and start it again");
      continue;
    }
    request->interface = interface.name;  // it may have been renamed
    callbacks_.added(*request);
    Take(*request);
  }
  Look();
}

void CniServer::OnConnection() {
  for (;;) {
    Fd socket(::accept4(listener_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) return;
    const int fd = socket.get();
    if (!loop_.Watch(fd, EPOLLIN | EPOLLRDHUP, [this, fd](std::uint32_t) { OnClient(fd); })) continue;
    clients_[fd].socket = std::move(socket);
  }
}

void CniServer::OnClient(int fd) {
  Client& client = clients_.at(fd);
  char buffer[4096];
  for (;;) {
    const ssize_t got = ::recv(fd, buffer, sizeof buffer, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) return Close(fd);
    client.text.append(buffer, static_cast<std::size_t>(got));
    const auto end = client.text.find('\n');
    if (end == std::string::npos && client.text.size() < kMaxRequest) continue;
    const auto request = cni::ParseRequest(client.text.substr(0, end));
    client.text.clear();
    if (request) return OnRequest(fd, *request);
    callbacks_.problem("a request of egress-cni is not understood: " + request.error().message);
    return Close(fd);
  }
}

void CniServer::OnRequest(int fd, const cni::Request& request) {
  if (request.command == "DEL") {
    // Of this very sandbox: a successor of the same pod is another container.
    std::erase_if(pods_, [&](const Pod& pod) { return pod.request.container_id == request.container_id; });
    callbacks_.deleted(request);
    return Answer(fd, cni::kDone);
  }
  if (request.command != "ADD") return Close(fd);
  callbacks_.added(request);
  Pod& added = Take(request);
  added.client = fd;
  added.settled.reset();
  if (added.read != Read::kNever) return Look();  // asked again, now that the deny program is there
  added.read = Read::kUnderWay;
  const auto same = [request](const Pod& pod) { return pod.request == request; };
  callbacks_.refresh(IdOf(request), kReadTime, [this, same, alive = std::weak_ptr<bool>(alive_)] {
    if (alive.expired()) return;
    for (Pod& pod : pods_) {
      if (same(pod)) pod.read = Read::kDone;
    }
    Look();
  });
}

CniServer::Pod& CniServer::Take(const cni::Request& request) {
  const auto now = std::chrono::steady_clock::now();
  std::erase_if(pods_, [now](const Pod& pod) { return pod.settled && *pod.settled + kAsksAgain < now; });
  const auto found = std::ranges::find(pods_, request, &Pod::request);
  if (found != pods_.end()) return *found;
  return pods_.emplace_back(Pod{request});
}

// Whether nothing is left to do for the pod.
bool CniServer::Settle(Pod& pod) {
  if (pod.settled && pod.client < 0) return false;
  const int ifindex = static_cast<int>(::if_nametoindex(pod.request.interface.c_str()));
  if (ifindex == 0 && pod.client < 0) return true;  // it is over
  if (pod.read == Read::kUnderWay) return false;
  const State state = callbacks_.state(pod.request);
  if (state == State::kUnknown) return false;
  const auto removed = ifindex != 0 ? datapath::RemoveCniDeny(ifindex) : Result<bool>(false);
  if (!removed) {
    callbacks_.problem(IdOf(pod.request).ToString() + ": " + removed.error().message);
    return false;
  }
  if (pod.client >= 0) {
    Answer(pod.client, state == State::kInForce ? cni::kInForce : cni::kNotGoverned);
    return true;
  }
  pod.settled = std::chrono::steady_clock::now();
  if (*removed) {
    spdlog::info("{} is {} now; egress-cni held it to the mesh", IdOf(pod.request).ToString(),
                 state == State::kInForce ? "governed" : "known as not governed");
  }
  return false;
}

void CniServer::Look() {
  for (auto pod = pods_.begin(); pod != pods_.end();) {
    pod = Settle(*pod) ? pods_.erase(pod) : std::next(pod);
  }
}

std::vector<policy::ObjectId> CniServer::Held() const {
  std::vector<policy::ObjectId> held;
  for (const Pod& pod : pods_) {
    if (pod.client < 0 && !pod.settled) held.push_back(IdOf(pod.request));
  }
  return held;
}

void CniServer::Answer(int fd, std::string_view answer) {
  const std::string line = std::string(answer) + "\n";
  (void)::send(fd, line.data(), line.size(), MSG_NOSIGNAL);  // it fits; and who has gone does not want it
  Close(fd);
}

void CniServer::Close(int fd) {
  for (Pod& pod : pods_) {
    if (pod.client == fd) pod.client = -1;
  }
  loop_.Unwatch(fd);
  clients_.erase(fd);
}

}  // namespace egress::agent
