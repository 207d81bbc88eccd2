#include "cmd/egressd/control.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "agent/base/fd.h"
#include "cmd/egressd/control_socket.h"
#include "cmd/egressd/json_text.h"

namespace egress::report {

using nlohmann::json;

namespace {

constexpr std::size_t kMaxClients = 16;
constexpr std::size_t kMaxRequest = 4096;             // bytes of the request line
constexpr std::size_t kMaxBehind = 256 * 1024;        // bytes that a follower may lag behind
constexpr auto kPatience = std::chrono::seconds(10);  // to send the request; to read the rest of an answer
constexpr auto kPause = std::chrono::seconds(1);      // where no descriptors are left

using ClientId = std::uint64_t;

struct Client {
  Fd socket;
  std::string request;
  std::string answer;                  // not yet written
  std::size_t allowance = kMaxBehind;  // bytes of `answer` over which a follower is dropped
  std::optional<EventLog::FollowerId> follower;
  std::optional<EventLoop::TimerId> timer;
  bool answered = false;  // the request has been read
  bool half_closed = false;
  std::uint32_t interest = EPOLLIN;
};

std::string ErrorLine(const std::string& message) { return JsonText({{"error", message}}) + "\n"; }

// The member `key` as text; empty where it is missing.
std::string TextOf(const json& request, const char* key) {
  const auto found = request.find(key);
  return found != request.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

struct Control::Impl {
  EventLoop& loop;
  EventLog& events;
  Handlers handlers;
  ControlSocket socket;
  std::map<ClientId, Client> clients;
  ClientId next_id = 1;
  std::optional<EventLoop::TimerId> pause;  // until clients are accepted again

  Impl(EventLoop& loop_in, EventLog& events_in, Handlers handlers_in, ControlSocket socket_in)
      : loop(loop_in), events(events_in), handlers(std::move(handlers_in)), socket(std::move(socket_in)) {}

  ~Impl() {
    if (pause) loop.Cancel(*pause);
    loop.Unwatch(socket.fd());
    while (!clients.empty()) Drop(clients.begin()->first);
  }

  void Accept();
  bool WatchListener();
  void PauseAccepting();
  void OnClient(ClientId id, std::uint32_t happened);
  bool ReadRequest(Client& client);
  void Serve(ClientId id, Client& client, const std::string& line);
  void ServeEvents(ClientId id, Client& client, const json& request);
  void Tell(ClientId id, const Event& event);
  void Flush(ClientId id);
  void SetTimer(ClientId id, Client& client);
  void Drop(ClientId id);
};

void Control::Impl::Accept() {
  while (true) {
    Fd accepted(::accept4(socket.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!accepted) {
      // Without descriptors the client stays in the queue and would wake the loop for ever: look again later.
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) PauseAccepting();
      return;
    }
    if (clients.size() >= kMaxClients) {
      const std::string line = ErrorLine("too many clients of the control socket: end an `egressctl events --follow`");
      // The buffer of a new socket takes this much; a client that is gone has no use for it.
      [[maybe_unused]] const ssize_t sent = ::send(accepted.get(), line.data(), line.size(), MSG_NOSIGNAL);
      continue;
    }
    const ClientId id = next_id++;
    const int fd = accepted.get();
    Client& client = clients[id];
    client.socket = std::move(accepted);
    SetTimer(id, client);
    if (!loop.Watch(fd, EPOLLIN, [this, id](std::uint32_t happened) { OnClient(id, happened); })) Drop(id);
  }
}

bool Control::Impl::WatchListener() {
  return loop.Watch(socket.fd(), EPOLLIN, [this](std::uint32_t) { Accept(); }).ok();
}

void Control::Impl::PauseAccepting() {
  loop.Unwatch(socket.fd());
  pause = loop.After(kPause, [this] {
    pause.reset();
    if (!WatchListener()) PauseAccepting();
  });
}

void Control::Impl::SetTimer(ClientId id, Client& client) {
  if (client.timer) loop.Cancel(*client.timer);
  client.timer = loop.After(kPatience, [this, id] { Drop(id); });
}

void Control::Impl::Drop(ClientId id) {
  const auto found = clients.find(id);
  if (found == clients.end()) return;
  Client& client = found->second;
  if (client.timer) loop.Cancel(*client.timer);
  if (client.follower) events.Unfollow(*client.follower);
  loop.Unwatch(client.socket.get());
  clients.erase(found);
}

void Control::Impl::OnClient(ClientId id, std::uint32_t happened) {
  const auto found = clients.find(id);
  if (found == clients.end()) return;
  Client& client = found->second;
  if ((happened & (EPOLLHUP | EPOLLERR)) != 0 && (happened & EPOLLIN) == 0) return Drop(id);
  if ((happened & EPOLLIN) != 0) {
    if (!ReadRequest(client)) return Drop(id);
    if (!client.answered) {
      const auto end = client.request.find('\n');
      if (end != std::string::npos) {
        Serve(id, client, client.request.substr(0, end));
      } else if (client.request.size() > kMaxRequest) {
        client.answered = true;
        client.answer = ErrorLine("the request is longer than " + std::to_string(kMaxRequest) + " bytes");
      } else if (client.half_closed) {
        return Drop(id);
      }
    }
  }
  Flush(id);
}

// Takes what is there. False: the connection is broken, or its client gone.
bool Control::Impl::ReadRequest(Client& client) {
  std::array<char, 4096> buffer;
  const ssize_t size = ::recv(client.socket.get(), buffer.data(), buffer.size(), 0);
  if (size < 0) return errno == EAGAIN || errno == EINTR;
  if (size == 0) {
    client.half_closed = true;
  } else if (!client.answered) {  // what follows the request is of no interest
    client.request.append(buffer.data(), static_cast<std::size_t>(size));
  }
  return true;
}

void Control::Impl::Serve(ClientId id, Client& client, const std::string& line) {
  client.answered = true;
  const json request = json::parse(line, nullptr, /*allow_exceptions=*/false);
  const std::string command = request.is_object() ? TextOf(request, "command") : "";
  if (command == "status") {
    client.answer = JsonText(handlers.status()) + "\n";
  } else if (command == "pods") {
    client.answer = JsonText(handlers.pods()) + "\n";
  } else if (command == "events") {
    ServeEvents(id, client, request);
  } else {
    client.answer = ErrorLine("unknown command: this agent knows status, pods and events");
  }
  SetTimer(id, client);
}

void Control::Impl::ServeEvents(ClientId id, Client& client, const json& request) {
  const EventFilter filter{TextOf(request, "pod"), TextOf(request, "verdict")};
  for (const Event& event : events.Matching(filter)) client.answer += JsonText(EventToJson(event)) + "\n";
  const auto follow = request.find("follow");
  if (follow == request.end() || !follow->is_boolean() || !follow->get<bool>()) return;
  client.allowance = client.answer.size() + kMaxBehind;
  client.follower = events.Follow(filter, [this, id](const Event& event) { Tell(id, event); });
}

void Control::Impl::Tell(ClientId id, const Event& event) {
  const auto found = clients.find(id);
  if (found == clients.end()) return;
  Client& client = found->second;
  std::string line = JsonText(EventToJson(event)) + "\n";
  if (client.answer.size() + line.size() > client.allowance) {
    line = JsonText({{"lost", "this client reads too slowly and is dropped: follow fewer events (--pod, --verdict)"}}) +
           "\n";
    events.Unfollow(*client.follower);
    client.follower.reset();
    SetTimer(id, client);
  }
  client.answer += line;
  Flush(id);
}

// Writes what the socket takes, and ends the connection where that was all.
void Control::Impl::Flush(ClientId id) {
  Client& client = clients.find(id)->second;
  std::size_t done = 0;
  while (done < client.answer.size()) {
    const ssize_t sent =
        ::send(client.socket.get(), client.answer.data() + done, client.answer.size() - done, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno != EAGAIN) return Drop(id);
    if (sent < 0) break;
    done += static_cast<std::size_t>(sent);
  }
  client.answer.erase(0, done);
  if (client.answered && client.answer.empty() && !client.follower) return Drop(id);
  if (done > 0 && client.answered) SetTimer(id, client);
  if (client.follower && client.answer.empty() && client.timer) {  // nothing to wait for but the next event
    loop.Cancel(*client.timer);
    client.timer.reset();
  }
  const std::uint32_t interest = (client.half_closed ? 0U : static_cast<std::uint32_t>(EPOLLIN)) |
                                 (client.answer.empty() ? 0U : static_cast<std::uint32_t>(EPOLLOUT));
  if (interest == client.interest) return;
  client.interest = interest;
  if (!loop.Modify(client.socket.get(), interest)) Drop(id);
}

std::string ControlSocketPath(const std::string& run_dir) { return run_dir + "/egressd.sock"; }

Control::Control(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Control::~Control() = default;
Control::Control(Control&&) noexcept = default;
Control& Control::operator=(Control&&) noexcept = default;

Result<Control> Control::Listen(EventLoop& loop, const std::string& run_dir, Handlers handlers, EventLog& events) {
  auto socket = ControlSocket::Listen(ControlSocketPath(run_dir));
  if (!socket) return std::move(socket).error();
  auto impl = std::make_unique<Impl>(loop, events, std::move(handlers), *std::move(socket));
  if (!impl->WatchListener()) return Error{"watch the control socket in " + run_dir + ": out of memory"};
  return Control(std::move(impl));
}

}  // namespace egress::report
