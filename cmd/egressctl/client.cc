#include "cmd/egressctl/client.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>

#include "cmd/egressd/control.h"
#include "cmd/egressd/control_socket.h"
#include "cmd/egressd/json_text.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

bool SendAll(int socket, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t sent = ::send(socket, text.data() + done, text.size() - done, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    done += static_cast<std::size_t>(sent);
  }
  return true;
}

// What the agent says instead of an answer.
std::optional<std::string> Refusal(const json& line) {
  for (const char* key : {"error", "lost"}) {
    if (line.is_object() && line.size() == 1 && line.contains(key) && line[key].is_string()) {
      return "the agent says: " + line[key].get<std::string>();
    }
  }
  return std::nullopt;
}

AgentError FromFailure(const report::ConnectFailure& failure, const std::string& run_dir) {
  if (failure.why == report::NoAgent::kNotRunning) {
    return {true, "no egressd runs with the run folder " + run_dir + " (" + failure.error.message +
                      "): start it, or name its folder with --run-dir"};
  }
  return {false, failure.error.message + ": run this as root, as egressd is"};
}

}  // namespace

bool AskLines(const std::string& run_dir, const json& request, const std::function<bool(const json& line)>& line,
              AgentError& error) {
  report::ConnectFailure failure;
  const Fd socket = report::ConnectControlSocket(report::ControlSocketPath(run_dir), failure);
  if (!socket) {
    error = FromFailure(failure, run_dir);
    return false;
  }
  if (!SendAll(socket.get(), report::JsonText(request) + "\n")) {
    error = {false, "the agent hung up: " + std::string(std::strerror(errno)) + ": try again"};
    return false;
  }
  std::string pending;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t size = ::recv(socket.get(), buffer.data(), buffer.size(), 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) {
      error = {false, ErrnoError("read from the agent").message};
      return false;
    }
    if (size == 0) return true;
    pending.append(buffer.data(), static_cast<std::size_t>(size));
    std::size_t start = 0;
    for (auto end = pending.find('\n'); end != std::string::npos; end = pending.find('\n', start)) {
      const json value = json::parse(pending.begin() + static_cast<std::ptrdiff_t>(start),
                                     pending.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
      start = end + 1;
      if (const auto refusal = Refusal(value)) {
        error = {false, *refusal};
        return false;
      }
      if (!line(value)) return true;
    }
    pending.erase(0, start);
  }
}

bool Ask(const std::string& run_dir, const json& request, json& answer, AgentError& error) {
  bool answered = false;
  const auto take = [&](const json& line) {
    answer = line;
    answered = true;
    return false;
  };
  if (!AskLines(run_dir, request, take, error)) return false;
  if (answered && !answer.is_discarded()) return true;
  error = {false, "the agent ended the connection without an answer: look at its log"};
  return false;
}

}  // namespace egress::ctl
