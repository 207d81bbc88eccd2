#include "agent/proxy/channel.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace egress::proxy {
namespace {

constexpr std::size_t kLengthBytes = 4;
constexpr std::size_t kReadBytes = 64U << 10;

// Room for the ancillary data of one message.
struct alignas(cmsghdr) ControlSpace {
  std::array<char, CMSG_SPACE(Channel::kMaxFds * sizeof(int))> bytes;
};

void AttachFds(const std::vector<Fd>& fds, ControlSpace* control, msghdr* message) {
  if (fds.empty()) return;
  std::memset(control->bytes.data(), 0, control->bytes.size());
  message->msg_control = control->bytes.data();
  message->msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* header = CMSG_FIRSTHDR(message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  auto* slots = reinterpret_cast<int*>(CMSG_DATA(header));
  for (std::size_t i = 0; i < fds.size(); ++i) slots[i] = fds[i].get();
}

std::vector<Fd> TakeFds(msghdr* message) {
  std::vector<Fd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(message); header != nullptr; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
      fds.emplace_back(fd);
    }
  }
  return fds;
}

}  // namespace

Channel::Channel(Fd socket) : socket_(std::move(socket)) {
  const int flags = ::fcntl(socket_.get(), F_GETFL);
  ::fcntl(socket_.get(), F_SETFL, flags | O_NONBLOCK);
  ::fcntl(socket_.get(), F_SETFD, FD_CLOEXEC);
}

Result<void> Channel::Send(const nlohmann::json& body, std::span<const int> fds) {
  if (fds.size() > kMaxFds) return Error{"a message carries at most 250 descriptors"};
  // Text from pods (hosts, paths) need not be UTF-8; a report must not fail for that.
  const std::string text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kMaxLength) return Error{"message is too long"};
  Outgoing message;
  const auto length = static_cast<std::uint32_t>(text.size());
  message.bytes.reserve(kLengthBytes + text.size());
  message.bytes.append(reinterpret_cast<const char*>(&length), kLengthBytes);
  message.bytes.append(text);
  for (const int fd : fds) {
    Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return ErrnoError("duplicate a descriptor for the channel");
    message.fds.push_back(std::move(copy));
  }
  outgoing_.push_back(std::move(message));
  return {};
}

Result<void> Channel::Flush() {
  while (!outgoing_.empty()) {
    Outgoing& next = outgoing_.front();
    iovec part{next.bytes.data() + next.sent, next.bytes.size() - next.sent};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    ControlSpace control;
    if (next.sent == 0) AttachFds(next.fds, &control, &message);
    const ssize_t sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return {};
      return ErrnoError("write to the channel");
    }
    next.sent += static_cast<std::size_t>(sent);
    if (sent > 0) next.fds.clear();
    if (next.sent == next.bytes.size()) outgoing_.pop_front();
  }
  return {};
}

Result<std::optional<Message>> Channel::Receive() {
  while (true) {
    std::uint32_t length = 0;
    if (incoming_.size() - offset_ >= kLengthBytes) {
      std::memcpy(&length, incoming_.data() + offset_, kLengthBytes);
      if (length > kMaxLength) return Error{"a message on the channel is too long"};
      if (incoming_.size() - offset_ >= kLengthBytes + length) return TakeMessage(length);
    }
    Result<bool> more = ReadSome();
    if (!more) return std::move(more).error();
    if (!*more) return std::optional<Message>();
  }
}

Result<std::optional<Message>> Channel::TakeMessage(std::size_t length) {
  const std::string_view text(incoming_.data() + offset_ + kLengthBytes, length);
  Message message;
  message.body = nlohmann::json::parse(text, nullptr, false);
  const bool parsed = message.body.is_object();
  if (!incoming_fds_.empty() && incoming_fds_.front().first < consumed_ + kLengthBytes + length) {
    message.fds = std::move(incoming_fds_.front().second);
    incoming_fds_.pop_front();
  }
  offset_ += kLengthBytes + length;
  consumed_ += kLengthBytes + length;
  if (offset_ == incoming_.size() || offset_ > kReadBytes) {
    incoming_.erase(0, offset_);
    offset_ = 0;
  }
  if (!parsed) return Error{"a message on the channel is not a JSON object"};
  return std::optional<Message>(std::move(message));
}

// True: bytes were added. False: there are none for now.
Result<bool> Channel::ReadSome() {
  const std::size_t size = incoming_.size();
  incoming_.resize(size + kReadBytes);
  iovec part{incoming_.data() + size, kReadBytes};
  ControlSpace control;
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  const int error = errno;
  incoming_.resize(size + static_cast<std::size_t>(got > 0 ? got : 0));
  if (got < 0) {
    if (error == EAGAIN || error == EWOULDBLOCK) return false;
    return ErrnoError("read from the channel", error);
  }
  if (got == 0) return Error{"the channel was closed"};
  std::vector<Fd> fds = TakeFds(&message);
  if ((message.msg_flags & MSG_CTRUNC) != 0) return Error{"descriptors on the channel were cut off"};
  // A read may begin in front of the message that carries descriptors, but it ends in it: the kernel stops a read
  // behind the first buffer that had any (unix_stream_read_generic).
  if (!fds.empty()) incoming_fds_.emplace_back(consumed_ + (incoming_.size() - offset_) - 1, std::move(fds));
  return true;
}

}  // namespace egress::proxy
