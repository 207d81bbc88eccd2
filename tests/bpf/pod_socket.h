// PodSocket: a TCP socket of the pod whose verdict the test has written, and the frames that it sends.
#pragma once

#include <memory>

#include "tests/bpf/guarded_pod.h"

struct boundary_test_bpf;

namespace egress::test {

class PodSocket {
 public:
  static Result<std::unique_ptr<PodSocket>> Make(GuardedPod& pod);
  ~PodSocket();
  PodSocket(const PodSocket&) = delete;
  PodSocket& operator=(const PodSocket&) = delete;

  // As connect() and the SYN leave it: a verdict of `kind` on the connection to (destination, 443) from port 40000.
  void Connect(egress_socket_kind kind, const Address& destination);
  // The next segment of the connection, with `payload`; `flags` besides ACK.
  Packet Segment(const Bytes& payload, std::uint8_t flags = 0) const;

  // What is kept of its ClientHello goes, as when the socket is closed.
  void Forget();

  // Sends a frame of this socket. A segment that follows in sequence moves `sequence` on, if it leaves.
  Outcome Send(const Packet& packet);
  Outcome Send(const Bytes& frame);
  // What becomes of the frame without the short way for established connections; changes nothing here.
  Outcome SendTheLongWay(const Bytes& frame);

  socket_verdict verdict{};
  bool has_verdict = false;
  struct hello hello {};
  bool has_hello = false;
  struct hello second {};  // after a HelloRetryRequest
  bool has_second = false;
  std::uint32_t sequence = 1000;
  std::uint32_t acknowledged = 77;

 private:
  explicit PodSocket(GuardedPod& pod) : pod_(pod) {}
  void Plant();

  GuardedPod& pod_;
  boundary_test_bpf* skeleton_ = nullptr;
  Address destination_;
};

}  // namespace egress::test
