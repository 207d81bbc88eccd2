#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdio>
#include <map>
#include <utility>

#include "tests/bench/traffic.h"

namespace egress::bench {
namespace {

enum class Role { kListener, kEchoListener, kSink, kEcho };

Fd Listen(const std::string& address, int port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const sockaddr_in here = EndpointOf(address, port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0) Die("bind " + std::to_string(port));
  if (::listen(fd.get(), 4096) != 0) Die("listen");
  return fd;
}

class Server {
 public:
  Server() : poll_(::epoll_create1(EPOLL_CLOEXEC)), block_(256 << 10) {}

  void Add(Fd fd, Role role) {
    epoll_event event = {.events = EPOLLIN, .data = {.fd = fd.get()}};
    if (::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, fd.get(), &event) != 0) Die("epoll");
    const int key = fd.get();
    sockets_[key] = {std::move(fd), role};
  }

  // Until standard input ends.
  void Run() {
    epoll_event event = {.events = EPOLLIN, .data = {.fd = STDIN_FILENO}};
    if (::epoll_ctl(poll_.get(), EPOLL_CTL_ADD, STDIN_FILENO, &event) != 0) Die("epoll of standard input");
    while (true) {
      epoll_event ready[64];
      const int count = ::epoll_wait(poll_.get(), ready, 64, -1);
      for (int i = 0; i < count; ++i) {
        if (ready[i].data.fd == STDIN_FILENO) return;
        Handle(ready[i].data.fd);
      }
    }
  }

 private:
  void Handle(int fd) {
    const Role role = sockets_.at(fd).role;
    if (role == Role::kListener || role == Role::kEchoListener) {
      Accept(fd, role == Role::kEchoListener ? Role::kEcho : Role::kSink);
    } else {
      Read(fd, role);
    }
  }

  void Accept(int listener, Role role) {
    while (true) {
      Fd fd(::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd) return;
      const int on = 1;
      ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      Add(std::move(fd), role);
    }
  }

  void Read(int fd, Role role) {
    const ssize_t size = ::recv(fd, block_.data(), block_.size(), 0);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
      sockets_.erase(fd);
      return;
    }
    if (role == Role::kEcho && ::send(fd, block_.data(), static_cast<std::size_t>(size), 0) != size) Die("echo");
  }

  struct Socket {
    Fd fd;
    Role role = Role::kSink;
  };

  Fd poll_;
  std::vector<char> block_;
  std::map<int, Socket> sockets_;
};

}  // namespace

int Serve(const std::string& address, int echo_port, const std::vector<int>& ports) {
  Server server;
  server.Add(Listen(address, echo_port), Role::kEchoListener);
  for (const int port : ports) server.Add(Listen(address, port), Role::kListener);
  std::puts("{}");
  std::fflush(stdout);
  server.Run();
  return 0;
}

}  // namespace egress::bench
