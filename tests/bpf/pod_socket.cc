#include "tests/bpf/pod_socket.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "boundary_test.skel.h"
#include "tests/bpf/shared_maps.h"

namespace egress::test {

Result<std::unique_ptr<PodSocket>> PodSocket::Make(GuardedPod& pod) {
  std::unique_ptr<PodSocket> socket(new PodSocket(pod));
  socket->skeleton_ = boundary_test_bpf__open();
  if (socket->skeleton_ == nullptr) return ErrnoError("open the test's BPF object");
  if (auto done = ShareMaps(pod.kernel(), socket->skeleton_->obj); !done) return std::move(done).error();
  if (boundary_test_bpf__load(socket->skeleton_) != 0) return ErrnoError("load the test's BPF object");
  return socket;
}

PodSocket::~PodSocket() {
  Forget();
  boundary_test_bpf__destroy(skeleton_);
}

void PodSocket::Connect(egress_socket_kind kind, const Address& destination) {
  const Address source = GuardedPod::Own(destination);
  destination_ = destination;
  verdict = {};
  verdict.version = EGRESS_SOCKET_VERSION;
  verdict.kind = kind;
  verdict.reason = EGRESS_REASON_RULE;
  verdict.slot = pod_.slot();
  verdict.cookie = pod_.cookie();
  verdict.generation = pod_.generation();
  verdict.once_allowed = 1;
  verdict.source_port = htons(40000);
  verdict.port = htons(443);
  std::copy(source.bytes.begin(), source.bytes.end(), verdict.source);
  std::copy(destination.bytes.begin(), destination.bytes.end(), verdict.destination);
  has_verdict = true;
  Forget();
  hello = {};
  has_hello = false;
  second = {};
  has_second = false;
}

void PodSocket::Forget() {
  const auto kept = pod_.kernel().Map<hello_chunk_key, hello_chunk>("hello_bytes");
  std::vector<hello_chunk_key> keys;
  kept.ForEachKey([&](const hello_chunk_key& key) {
    if (has_hello && key.socket == hello.socket) keys.push_back(key);
  });
  for (const auto& key : keys) (void)kept.Delete(key);
}

Packet PodSocket::Segment(const Bytes& payload, std::uint8_t flags) const {
  Packet packet = GuardedPod::To(destination_, IPPROTO_TCP);
  packet.flags = static_cast<std::uint8_t>(flags | ((flags & kSyn) != 0 ? 0 : kAck));
  packet.sequence = sequence;
  packet.acknowledged = (flags & kSyn) != 0 ? 0 : acknowledged;
  packet.payload = payload;
  return packet;
}

void PodSocket::Plant() {
  auto& data = *skeleton_->bss;
  data.has_verdict = has_verdict;
  data.has_hello = has_hello;
  data.has_second = has_second;
  data.test_second = second;
  data.test_verdict = verdict;
  data.test_hello = hello;
}

Outcome PodSocket::Send(const Bytes& frame) {
  Plant();
  const Outcome outcome = pod_.Run(skeleton_->progs.from_pod_with_socket, pod_.ifindex(), frame);
  has_verdict = skeleton_->bss->has_verdict != 0;
  has_hello = skeleton_->bss->has_hello != 0;
  verdict = skeleton_->bss->test_verdict;
  hello = skeleton_->bss->test_hello;
  has_second = skeleton_->bss->has_second != 0;
  second = skeleton_->bss->test_second;
  return outcome;
}

Outcome PodSocket::Send(const Packet& packet) {
  const Bytes frame = Frame(packet);
  Outcome outcome = Send(frame);
  const bool left = outcome.passed() && outcome.frame == frame;
  if (left && packet.sequence == sequence) {
    sequence += static_cast<std::uint32_t>(packet.payload.size()) + ((packet.flags & kSyn) != 0 ? 1 : 0);
  }
  return outcome;
}

Outcome PodSocket::SendTheLongWay(const Bytes& frame) {
  Plant();
  return pod_.Run(skeleton_->progs.from_pod_the_long_way, pod_.ifindex(), frame);
}

}  // namespace egress::test
