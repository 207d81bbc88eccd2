#include "cmd/egress-cni/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>

namespace egress::cni {
namespace {

constexpr std::size_t kMaxAnswer = 4096;

std::chrono::milliseconds Left(Deadline deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
  return std::max(left, std::chrono::milliseconds(1));
}

}  // namespace

Result<Fd> ConnectAgent(const std::string& path, Deadline deadline) {
  const auto slash = path.rfind('/');
  if (path.empty() || slash == std::string::npos) return Error{"no path of the agent's socket is configured"};
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  // By a descriptor of its folder, since an address holds 107 characters only.
  const Fd folder(::open(path.substr(0, slash + 1).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return ErrnoError("open the folder of " + path);
  const std::string name = "/proc/self/fd/" + std::to_string(folder.get()) + path.substr(slash);
  if (name.size() >= sizeof address.sun_path) return Error{path + ": the file name is too long for a socket"};
  name.copy(address.sun_path, name.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return ErrnoError("make a socket");
  const auto left = Left(deadline);
  const timeval wait = {.tv_sec = left.count() / 1000, .tv_usec = left.count() % 1000 * 1000};
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) != 0) return ErrnoError("set a deadline");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  if (errno == EAGAIN || errno == EINTR) return Fd();
  return ErrnoError("connect to " + path);
}

Result<std::string> AskAgent(const Fd& agent, const Request& request, Deadline deadline) {
  const std::string text = request.ToText() + "\n";
  if (::send(agent.get(), text.data(), text.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(text.size())) {
    return ErrnoError("send to the agent");
  }
  std::string answer;
  while (std::chrono::steady_clock::now() < deadline) {
    pollfd waits = {agent.get(), POLLIN, 0};
    if (::poll(&waits, 1, static_cast<int>(Left(deadline).count())) <= 0) continue;
    char buffer[512];
    const ssize_t got = ::recv(agent.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (got < 0) return ErrnoError("read the agent's answer");
    if (got == 0) return Error{"the agent ended before it answered"};
    answer.append(buffer, static_cast<std::size_t>(got));
    if (const auto end = answer.find('\n'); end != std::string::npos) {
      answer.resize(end);
      if (answer == kInForce || answer == kNotGoverned || answer == kDone) return answer;
      return Error{"the agent's answer is not understood"};
    }
    if (answer.size() > kMaxAnswer) return Error{"the agent's answer has no end"};
  }
  return Error{"the agent did not answer in time"};
}

}  // namespace egress::cni
