// One end of a connection: a non-blocking TCP socket under edge-triggered epoll.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/base/address.h"
#include "agent/base/fd.h"
#include "agent/proxy/buffer.h"

namespace egress::proxy {

enum class Io {
  kProgress,  // bytes went through
  kBlocked,   // nothing for now; an event will come
  kEnd,       // the other side has ended its direction (reads only)
  kFailed,    // reset, or the like: the connection is dead
  kFull,      // the buffer may not grow (reads only)
};

class Socket {
 public:
  Socket() = default;
  explicit Socket(Fd fd) : fd_(std::move(fd)) {}

  int fd() const { return fd_.get(); }
  bool valid() const { return fd_.valid(); }

  // Takes note of an epoll event: EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR.
  void OnEvents(std::uint32_t events);
  bool readable() const { return readable_; }
  bool writable() const { return writable_; }
  void set_writable() { writable_ = true; }
  bool half_closed() const { return half_closed_; }  // the other side has sent FIN, not necessarily read yet
  bool ended() const { return ended_; }              // ... and it has been read
  bool failed() const { return failed_; }            // it was reset, or a call failed

  // Appends what is there to `buffer`; one call of read at most.
  Io Read(Buffer* buffer);
  // Sends `first`, and behind it the first `limit` bytes of `second`, and consumes what was sent.
  Io Write(Buffer* first, Buffer* second = nullptr, std::uint64_t limit = 0, std::uint64_t* sent_of_second = nullptr);
  // Starts to connect. Returns 0 (connected), EINPROGRESS, or the error.
  int Connect(const Address& address, std::uint16_t port);
  // Nothing has come, not even an end: the connection can bear another request.
  bool Quiet();
  int TakeError();       // SO_ERROR
  Address Peer() const;  // all zero where there is none any more
  void NoDelay();
  void KeepAlive();
  void EndWriting();             // FIN behind what was sent
  bool AllAcknowledged() const;  // nothing that was sent is still on its way
  void Close();                  // FIN
  void Reset();                  // RST: SO_LINGER 0, then close

 private:
  Fd fd_;
  bool readable_ = false;
  bool writable_ = false;
  bool half_closed_ = false;
  bool ended_ = false;
  bool failed_ = false;
  bool hungry_ = false;  // the last read took all the room there was
};

}  // namespace egress::proxy
