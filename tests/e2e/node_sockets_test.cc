// Sockets inside pods: made, listed and closed from the node.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "agent/node/netns.h"
#include "agent/node/pod_sockets.h"
#include "agent/node/sockets.h"
#include "tests/e2e/node_world.h"

namespace egress::node {
namespace {

struct Ends {
  Fd client;    // in the pod
  Fd server;    // on the node
  Tuple tuple;  // of the client
  std::uint64_t cookie = 0;
};

class PodSockets : public testing::Test {
 protected:
  PodSockets() : netns_(std::move(OpenNetns(world_.AddPod("a", 10)).value())) {
    auto diag = NetlinkSocket::OpenIn(netns_, NETLINK_SOCK_DIAG);
    EXPECT_TRUE(diag.ok());
    diag_.emplace(std::move(*diag));
  }

  static sockaddr_in6 V6(const std::string& address, std::uint16_t port) {
    sockaddr_in6 to{};
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(port);
    std::memcpy(&to.sin6_addr, ParseAddress(address)->bytes.data(), 16);
    return to;
  }

  static sockaddr_in V4(const std::string& address, std::uint16_t port) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &to.sin_addr);
    return to;
  }

  static int Connect(const Fd& socket, int family, const std::string& to, std::uint16_t port) {
    if (family == AF_INET6) {
      const auto address = V6(to, port);
      return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    }
    const auto address = V4(to, port);
    return ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  }

  // A connection of a socket of `family` in the pod to the node's address `to`.
  Ends Establish(int family, const std::string& to, const char* device = nullptr) {
    auto listener = ListenIn(*CurrentNetns(), *ParseAddress(to), 8000, 8999);
    EXPECT_TRUE(listener.ok()) << listener.error().message;
    Ends ends;
    ends.client = std::move(UpstreamSocketIn(netns_, family).value());
    if (device != nullptr) {
      EXPECT_EQ(::setsockopt(ends.client.get(), SOL_SOCKET, SO_BINDTODEVICE, device, std::strlen(device)), 0);
    }
    EXPECT_EQ(Connect(ends.client, family, to, listener->port), -1);
    EXPECT_EQ(errno, EINPROGRESS);
    EXPECT_TRUE(WaitReadable(listener->socket.get()));
    ends.server.Reset(::accept4(listener->socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    EXPECT_TRUE(ends.server.valid());
    socklen_t size = sizeof ends.cookie;
    EXPECT_EQ(::getsockopt(ends.client.get(), SOL_SOCKET, SO_COOKIE, &ends.cookie, &size), 0);
    const auto sockets = TcpSockets(*diag_);
    EXPECT_TRUE(sockets.ok()) << sockets.error().message;
    for (const TcpSocket& socket : *sockets) {
      if (socket.cookie == ends.cookie) ends.tuple = socket.tuple;
    }
    return ends;
  }

  static int ErrorOf(const Fd& socket) {
    char byte = 0;
    return ::recv(socket.get(), &byte, 1, 0) < 0 ? errno : 0;
  }

  World world_;
  Fd netns_;
  std::optional<NetlinkSocket> diag_;
};

struct Kind {
  const char* name;
  int family;
  const char* to;
  const char* device;
};

class Destroy : public PodSockets, public testing::WithParamInterface<Kind> {};

TEST_P(Destroy, ResetsBothEndsOfThatConnectionAndNoOther) {
  const Kind kind = GetParam();
  const Ends cut = Establish(kind.family, kind.to, kind.device);
  const Ends spared = Establish(kind.family, kind.to, kind.device);
  ASSERT_NE(cut.tuple, Tuple{});
  EXPECT_EQ(cut.tuple.remote, *ParseAddress(kind.to));

  ASSERT_TRUE(DestroySocket(*diag_, cut.tuple, cut.cookie + 1000).ok());
  EXPECT_EQ(ErrorOf(cut.client), EAGAIN) << "of another cookie: it lives";

  const auto destroyed = DestroySocket(*diag_, cut.tuple, cut.cookie);
  ASSERT_TRUE(destroyed.ok()) << destroyed.error().message;
  EXPECT_TRUE(WaitReadable(cut.server.get()));
  EXPECT_EQ(ErrorOf(cut.server), ECONNRESET);
  EXPECT_EQ(ErrorOf(cut.client), ECONNABORTED);
  EXPECT_EQ(ErrorOf(spared.client), EAGAIN);
  EXPECT_EQ(ErrorOf(spared.server), EAGAIN);

  EXPECT_TRUE(DestroySocket(*diag_, cut.tuple, cut.cookie).ok()) << "what is gone already is no error";
}

INSTANTIATE_TEST_SUITE_P(PodSockets, Destroy,
                         testing::Values(Kind{"V4", AF_INET, "192.0.2.1", nullptr},
                                         Kind{"V6", AF_INET6, "2001:db8::1", nullptr},
                                         Kind{"Mapped", AF_INET6, "::ffff:192.0.2.1", nullptr},
                                         Kind{"BoundToDevice", AF_INET, "192.0.2.1", "eth0"}),
                         [](const auto& kind) { return kind.param.name; });

TEST_F(PodSockets, ManyAreDestroyedAtOnceWhateverTheyAreBoundTo) {
  std::vector<Ends> cut;
  for (const char* device : {static_cast<const char*>(nullptr), "eth0", "eth0"}) {
    cut.push_back(Establish(AF_INET, "192.0.2.1", device));
  }
  const Ends spared = Establish(AF_INET, "192.0.2.1", "eth0");
  std::vector<SocketId> ids = {{cut[0].tuple, 1}};  // one that is gone is in nobody's way
  for (const Ends& ends : cut) ids.push_back({ends.tuple, ends.cookie});
  const auto destroyed = DestroySockets(*diag_, ids);
  ASSERT_TRUE(destroyed.ok()) << destroyed.error().message;
  for (const Ends& ends : cut) {
    EXPECT_EQ(ErrorOf(ends.client), ECONNABORTED);
    EXPECT_TRUE(WaitReadable(ends.server.get()));
    EXPECT_EQ(ErrorOf(ends.server), ECONNRESET);
  }
  EXPECT_EQ(ErrorOf(spared.client), EAGAIN);
}

TEST_F(PodSockets, TheListHasListenersAndConnectionsOfThePodOnly) {
  const auto listener = ListenIn(netns_, *ParseAddress("2001:db8::10"), 15000, 15100);
  ASSERT_TRUE(listener.ok()) << listener.error().message;
  const Ends ends = Establish(AF_INET, "192.0.2.1");
  const auto sockets = TcpSockets(*diag_);
  ASSERT_TRUE(sockets.ok());
  ASSERT_EQ(sockets->size(), 2U);
  const auto found = std::ranges::find(*sockets, TCP_LISTEN, &TcpSocket::state);
  ASSERT_NE(found, sockets->end());
  EXPECT_EQ(found->family, AF_INET6);
  EXPECT_EQ(found->tuple.local, *ParseAddress("2001:db8::10"));
  EXPECT_EQ(found->tuple.local_port, listener->port);
  const auto connection = std::ranges::find(*sockets, TCP_ESTABLISHED, &TcpSocket::state);
  ASSERT_NE(connection, sockets->end());
  EXPECT_EQ(connection->tuple.local, *ParseAddress("192.0.2.10"));
  EXPECT_EQ(connection->tuple.remote, *ParseAddress("192.0.2.1"));
}

TEST_F(PodSockets, AListenerTakesTheOnlyFreePort) {
  const Address address = *ParseAddress("192.0.2.10");
  const auto first = ListenIn(netns_, address, 15000, 15001);
  const auto second = ListenIn(netns_, address, 15000, 15001);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ((std::set{first->port, second->port}), (std::set<std::uint16_t>{15000, 15001}));
  const auto third = ListenIn(netns_, address, 15000, 15001);
  ASSERT_FALSE(third.ok());
  EXPECT_NE(third.error().message.find("every port"), std::string::npos);
}

TEST_F(PodSockets, AListenerStaysOutOfThePodsEphemeralPortsWhileItCan) {
  world_.RunIn("a", "echo 15001 20000 > /proc/sys/net/ipv4/ip_local_port_range");
  const Address address = *ParseAddress("192.0.2.10");
  const auto outside = ListenIn(netns_, address, 15000, 15999);
  ASSERT_TRUE(outside.ok());
  EXPECT_EQ(outside->port, 15000);
  const auto inside = ListenIn(netns_, address, 15000, 15999);
  ASSERT_TRUE(inside.ok());
  EXPECT_GT(inside->port, 15000);
}

TEST_F(PodSockets, APortThatThePodHasTakenOnAllAddressesIsAvoided) {
  const Fd taken = std::move(SocketIn(netns_, AF_INET6, SOCK_STREAM, 0).value());
  const auto any = V6("::", 15000);
  ASSERT_EQ(::bind(taken.get(), reinterpret_cast<const sockaddr*>(&any), sizeof any), 0);
  ASSERT_EQ(::listen(taken.get(), 1), 0);
  const auto listener = ListenIn(netns_, *ParseAddress("192.0.2.10"), 15000, 15001);
  ASSERT_TRUE(listener.ok()) << listener.error().message;
  EXPECT_EQ(listener->port, 15001);
}

TEST_F(PodSockets, AnAddressThatThePodLacksIsAnError) {
  EXPECT_FALSE(ListenIn(netns_, *ParseAddress("192.0.2.99"), 15000, 15999).ok());
  EXPECT_FALSE(ListenIn(netns_, *ParseAddress("2001:db8::99"), 15000, 15999).ok());
  EXPECT_TRUE(ListenIn(netns_, *ParseAddress("2001:db8::10"), 15000, 15999).ok());
}

TEST_F(PodSockets, AListenerIsReachedFromThePod) {
  const auto listener = ListenIn(netns_, *ParseAddress("2001:db8::10"), 15000, 15999);
  ASSERT_TRUE(listener.ok());
  const Fd client = std::move(UpstreamSocketIn(netns_, AF_INET6).value());
  Connect(client, AF_INET6, "2001:db8::10", listener->port);
  EXPECT_TRUE(WaitReadable(listener->socket.get()));
}

}  // namespace
}  // namespace egress::node
