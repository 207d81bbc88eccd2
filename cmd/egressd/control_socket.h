// The Unix socket of the control protocol: how the agent makes it and how egressctl finds it.
#pragma once

#include <sys/types.h>

#include <string>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::report {

// The listening end. Removes its path on destruction, unless another socket has taken the place.
class ControlSocket {
 public:
  // Makes the socket under another name, mode 0600, and renames it to `path` once it listens, so that `path` never
  // leads to a socket that is not ready or that others may use. Fails where an agent answers there.
  static Result<ControlSocket> Listen(const std::string& path);
  ~ControlSocket();
  ControlSocket(ControlSocket&&) noexcept = default;
  ControlSocket& operator=(ControlSocket&&) = delete;

  int fd() const { return socket_.get(); }

 private:
  ControlSocket(Fd socket, std::string path, dev_t device, ino_t inode)
      : socket_(std::move(socket)), path_(std::move(path)), device_(device), inode_(inode) {}
  Fd socket_;
  std::string path_;
  dev_t device_;
  ino_t inode_;
};

// Why there is no connection.
enum class NoAgent { kNotRunning, kOther };
struct ConnectFailure {
  NoAgent why = NoAgent::kOther;
  Error error;
};

// A blocking stream to the agent that listens on `path`; invalid, with `failure` filled, where none does.
Fd ConnectControlSocket(const std::string& path, ConnectFailure& failure);

}  // namespace egress::report
