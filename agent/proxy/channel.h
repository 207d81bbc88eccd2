// Channel: what the agent and egress-proxy say to each other, over a Unix stream socket.
//
// A message is a 4-byte length (host order) and that many bytes of JSON; file descriptors ride on the first byte of
// their message (SCM_RIGHTS, at most kMaxFds). Messages, by "type":
//
//   agent -> proxy
//     start      {revoke}                               revoke (true): a change cuts what it no longer allows
//                                                       fds: map `sockets` (read-only), the words of `states` (sealed
//     memory) policy     {id, generation, document}             the Egress `id` (NS/NAME) reads so from `generation` on
//     remove     {id, generation}                       ... or is gone
//     commit     {generation}                           all changes of a generation are said; answer with committed
//     pod        {slot, cookie, name, serviceAccount}   fds: its listeners (one a family), instead of any before
//     pod-gone   {slot, reset}                          close its listeners and sockets; reset: cut what is live
//     sockets    {slot, kind: "http"|"tls", family: 4|6}  fds: marked upstream sockets, not connected
//     drain      {seconds}                              no new connections; end when the last has ended or time is up
//
//   proxy -> agent
//     ready      {}                                     after start: workers run
//     committed  {generation}                           from now on requests are decided by it where a pod's word in
//                                                       `states` has reached it
//     want       {slot, kind, family, count}            upstream sockets, please
//     requests   {counts: [{slot, code, verdict, reason, count}]}   since the last such message, at most 5 a second
//     events     {events: [{slot, verdict, reason, source, destination, port, host, method, path, policy}], lost}
//
// A pod's generation is read from `states` (mmapped) at each request, so the kernel and the proxy switch together.
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::proxy {

struct Message {
  nlohmann::json body;
  std::vector<Fd> fds;
};

class Channel {
 public:
  static constexpr std::size_t kMaxFds = 250;
  static constexpr std::size_t kMaxLength = 64U << 20;

  explicit Channel(Fd socket);  // made non-blocking

  int fd() const { return socket_.get(); }

  // Queues a message; the descriptors are duplicated, so the caller keeps its own. Flush() writes what the socket
  // takes; wants_write() says that something is left for when it is writable.
  Result<void> Send(const nlohmann::json& body, std::span<const int> fds = {});
  Result<void> Flush();
  bool wants_write() const { return !outgoing_.empty(); }

  // The next whole message; an empty optional when there is none yet. An error (also end of stream) is final.
  Result<std::optional<Message>> Receive();

 private:
  struct Outgoing {
    std::string bytes;
    std::size_t sent = 0;
    std::vector<Fd> fds;
  };
  Result<bool> ReadSome();
  Result<std::optional<Message>> TakeMessage(std::size_t length);

  Fd socket_;
  std::deque<Outgoing> outgoing_;
  std::string incoming_;
  std::size_t offset_ = 0;                                            // in `incoming_`: where the next message begins
  std::deque<std::pair<std::size_t, std::vector<Fd>>> incoming_fds_;  // stream offset of a byte of their message
  std::size_t consumed_ = 0;                                          // stream offset of that place
};

}  // namespace egress::proxy
