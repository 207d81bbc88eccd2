#include "tests/bpf/pod_capture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <thread>

namespace egress::test {
namespace {

bool IsTcp(const Bytes& frame) {
  const int type = frame.size() < 34 ? 0 : frame[12] << 8 | frame[13];
  return (type == ETH_P_IP && frame[23] == IPPROTO_TCP) || (type == ETH_P_IPV6 && frame[20] == IPPROTO_TCP);
}

}  // namespace

PodCapture::PodCapture(GuardedPod& pod) {
  // In a thread, which alone enters the pod's namespace: the socket stays there.
  std::thread([&] {
    const Fd netns(::open(pod.world().Path("pod").c_str(), O_RDONLY | O_CLOEXEC));
    ASSERT_EQ(::setns(netns.get(), CLONE_NEWNET), 0);
    socket_.Reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
    ASSERT_TRUE(socket_.valid());
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex("eth0"));
    ASSERT_EQ(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }).join();
}

std::optional<Bytes> PodCapture::NextTcp() {
  while (node::WaitReadable(socket_.get())) {
    Bytes frame(2048);
    sockaddr_ll from = {};
    socklen_t length = sizeof from;
    const ssize_t got =
        ::recvfrom(socket_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &length);
    if (got < 0) return std::nullopt;
    frame.resize(static_cast<std::size_t>(got));
    if (from.sll_pkttype != PACKET_OUTGOING && IsTcp(frame)) return frame;
  }
  return std::nullopt;
}

}  // namespace egress::test
