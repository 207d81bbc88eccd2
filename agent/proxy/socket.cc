#include "agent/proxy/socket.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace egress::proxy {
namespace {

constexpr std::size_t kFirstRead = 1024;  // room that a read should find at least

// Keep-alive probes for tunnels, which may be silent for ever: a peer that is gone is noticed within three minutes.
constexpr int kKeepAliveIdle = 120;
constexpr int kKeepAliveInterval = 15;
constexpr int kKeepAliveCount = 4;

void SetOption(int fd, int level, int option, int value) { ::setsockopt(fd, level, option, &value, sizeof value); }

}  // namespace

void Socket::OnEvents(std::uint32_t events) {
  if ((events & EPOLLIN) != 0) readable_ = true;
  if ((events & EPOLLOUT) != 0) writable_ = true;
  if ((events & EPOLLRDHUP) != 0) readable_ = half_closed_ = true;
  // Both directions have ended (EPOLLHUP): what came before may still be there to read.
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) readable_ = writable_ = true;
  if ((events & EPOLLERR) != 0) failed_ = true;
}

Io Socket::Read(Buffer* buffer) {
  if (ended_) return Io::kEnd;
  if (!readable_) return Io::kBlocked;
  // What comes faster than it fits is read in larger pieces. A buffer with something in it grows only when it is full.
  if (hungry_) buffer->Enlarge();
  if (buffer->room() == 0 && !buffer->Reserve(buffer->empty() ? kFirstRead : 1)) return Io::kFull;
  const std::size_t room = buffer->room();
  ssize_t got = 0;
  do {
    got = ::recv(fd_.get(), buffer->tail(), room, 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      readable_ = false;
      return Io::kBlocked;
    }
    failed_ = true;
    return Io::kFailed;
  }
  if (got == 0) {
    ended_ = true;
    return Io::kEnd;
  }
  buffer->Added(static_cast<std::size_t>(got));
  hungry_ = static_cast<std::size_t>(got) == room;
  // A short read has emptied the queue; more will come with an event. Only an end that was announced is still there.
  if (static_cast<std::size_t>(got) < room && !half_closed_ && !failed_) readable_ = false;
  return Io::kProgress;
}

Io Socket::Write(Buffer* first, Buffer* second, std::uint64_t limit, std::uint64_t* sent_of_second) {
  if (sent_of_second != nullptr) *sent_of_second = 0;
  if (!writable_) return Io::kBlocked;
  iovec parts[2];
  int count = 0;
  if (!first->empty()) parts[count++] = {const_cast<char*>(first->data().data()), first->size()};
  const std::size_t of_second = second == nullptr ? 0 : std::min<std::uint64_t>(limit, second->size());
  if (of_second > 0) parts[count++] = {const_cast<char*>(second->data().data()), of_second};
  if (count == 0) return Io::kBlocked;
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = static_cast<std::size_t>(count);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      writable_ = false;
      return Io::kBlocked;
    }
    failed_ = true;
    return Io::kFailed;
  }
  const auto bytes = static_cast<std::size_t>(sent);
  if (bytes < first->size() + of_second) writable_ = false;
  const std::size_t from_first = std::min(bytes, first->size());
  first->Consume(from_first);
  if (second != nullptr) second->Consume(bytes - from_first);
  if (sent_of_second != nullptr) *sent_of_second = bytes - from_first;
  return Io::kProgress;
}

int Socket::Connect(const Address& address, std::uint16_t port) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  if (address.IsV4()) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    std::memcpy(&v4->sin_addr, address.bytes.data() + 12, 4);
    length = sizeof *v4;
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    std::memcpy(&v6->sin6_addr, address.bytes.data(), 16);
    length = sizeof *v6;
  }
  return ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&storage), length) == 0 ? 0 : errno;
}

bool Socket::Quiet() {
  if (failed_ || ended_ || half_closed_) return false;
  if (!readable_) return true;
  char byte = 0;
  const ssize_t got = ::recv(fd_.get(), &byte, 1, MSG_PEEK);
  if (got >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) return false;
  readable_ = false;
  return true;
}

int Socket::TakeError() {
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error;
}

Address Socket::Peer() const {
  Address address;
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd_.get(), reinterpret_cast<sockaddr*>(&storage), &length) != 0) return address;
  if (storage.ss_family == AF_INET6) {
    std::memcpy(address.bytes.data(), &reinterpret_cast<const sockaddr_in6&>(storage).sin6_addr, 16);
  } else if (storage.ss_family == AF_INET) {
    address.bytes[10] = address.bytes[11] = 0xff;
    std::memcpy(address.bytes.data() + 12, &reinterpret_cast<const sockaddr_in&>(storage).sin_addr, 4);
  }
  return address;
}

void Socket::NoDelay() { SetOption(fd_.get(), IPPROTO_TCP, TCP_NODELAY, 1); }

void Socket::KeepAlive() {
  SetOption(fd_.get(), SOL_SOCKET, SO_KEEPALIVE, 1);
  SetOption(fd_.get(), IPPROTO_TCP, TCP_KEEPIDLE, kKeepAliveIdle);
  SetOption(fd_.get(), IPPROTO_TCP, TCP_KEEPINTVL, kKeepAliveInterval);
  SetOption(fd_.get(), IPPROTO_TCP, TCP_KEEPCNT, kKeepAliveCount);
}

void Socket::EndWriting() { ::shutdown(fd_.get(), SHUT_WR); }

bool Socket::AllAcknowledged() const {
  int queued = 0;
  return ::ioctl(fd_.get(), SIOCOUTQ, &queued) == 0 && queued == 0;
}

void Socket::Close() { fd_.Reset(); }

void Socket::Reset() {
  const linger abort{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  fd_.Reset();
}

}  // namespace egress::proxy
