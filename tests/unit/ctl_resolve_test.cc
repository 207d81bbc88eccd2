#include "cmd/egressctl/resolve.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <array>
#include <thread>

#include "agent/base/fd.h"
#include "cmd/egressctl/pod_process.h"
#include "cmd/egressctl/resolver_config.h"

namespace egress::ctl {
namespace {

TEST(ResolverConfig, ServersSearchAndDotsAreRead) {
  const auto config = ParseResolvConf(
      "# a comment\nnameserver 10.96.0.10\nnameserver fd00::10 ; another\nnameserver nonsense\n"
      "search curl.svc.cluster.local svc.cluster.local\noptions timeout:1 ndots:5\n");
  EXPECT_EQ(config.servers, (std::vector<Address>{*ParseAddress("10.96.0.10"), *ParseAddress("fd00::10")}));
  EXPECT_EQ(config.search, (std::vector<std::string>{"curl.svc.cluster.local", "svc.cluster.local"}));
  EXPECT_EQ(config.ndots, 5);
}

TEST(ResolverConfig, WithoutServersTheLoopbackAddressIsAsked) {
  EXPECT_EQ(ParseResolvConf("").servers, std::vector<Address>{*ParseAddress("127.0.0.1")});
  EXPECT_EQ(ParseResolvConf("").ndots, 1);
}

TEST(ResolverConfig, FewDotsTryTheSuffixesFirst) {
  ResolverConfig config;
  config.search = {"ns.svc", "svc"};
  config.ndots = 2;
  EXPECT_EQ(NamesToTry(config, "web.other"),
            (std::vector<std::string>{"web.other.ns.svc", "web.other.svc", "web.other"}));
  EXPECT_EQ(NamesToTry(config, "a.b.c"), (std::vector<std::string>{"a.b.c", "a.b.c.ns.svc", "a.b.c.svc"}));
  EXPECT_EQ(NamesToTry(config, "web."), (std::vector<std::string>{"web."}));
}

TEST(ResolverConfig, HostsFileGivesAllAddressesOfAName) {
  const char* text = "127.0.0.1 localhost\n192.0.2.1 web.test web # first\n2001:db8::1 WEB.test\nnonsense web.test\n";
  EXPECT_EQ(AddressesInHosts(text, "Web.Test."),
            (std::vector<Address>{*ParseAddress("192.0.2.1"), *ParseAddress("2001:db8::1")}));
  EXPECT_TRUE(AddressesInHosts(text, "first").empty());
}

// A child in a network namespace of its own, with a name server on 127.0.0.1:53 there that knows one name.
class ResolveTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> ready{};
    ASSERT_EQ(::pipe2(ready.data(), O_CLOEXEC), 0);
    child_ = ::fork();
    if (child_ == 0) {
      ::close(ready[0]);
      Serve(ready[1]);
      ::_exit(1);
    }
    ::close(ready[1]);
    const Fd reader(ready[0]);
    if (::read(reader.get(), &cookie_, sizeof cookie_) != sizeof cookie_) {
      GTEST_SKIP() << "a network namespace of its own needs root";
    }
  }

  void TearDown() override {
    ::kill(child_, SIGKILL);
    ::waitpid(child_, nullptr, 0);
  }

  // Never returns unless something fails.
  static void Serve(int ready) {
    if (::unshare(CLONE_NEWNET) != 0) return;
    const Fd server(::socket(AF_INET, SOCK_DGRAM, 0));
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP;
    if (::ioctl(server.get(), SIOCSIFFLAGS, &loopback) != 0) return;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(53);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return;
    std::uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    if (::getsockopt(server.get(), SOL_SOCKET, 71 /* SO_NETNS_COOKIE */, &cookie, &length) != 0) return;
    if (::write(ready, &cookie, sizeof cookie) != sizeof cookie) return;
    while (true) Answer(server.get());
  }

  // web.test is 192.0.2.1 and 2001:db8::1; anything else does not exist.
  static void Answer(int server) {
    std::array<unsigned char, 512> packet{};
    sockaddr_in client{};
    socklen_t length = sizeof client;
    const ssize_t size =
        ::recvfrom(server, packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&client), &length);
    if (size < 12) return;
    static constexpr unsigned char kName[] = "\3web\4test";
    const bool known = size >= 26 && std::memcmp(packet.data() + 12, kName, sizeof kName) == 0;
    const bool v6 = known && packet[23] == ns_t_aaaa;
    std::vector<unsigned char> answer(packet.begin(), packet.begin() + (known ? 26 : size));
    answer[2] = 0x81;
    answer[3] = known ? 0x80 : 0x83;
    std::fill(answer.begin() + 6, answer.begin() + 12, 0);
    if (known) {
      answer[7] = 1;
      const std::vector<unsigned char> head = {0xc0, 12, 0, packet[23], 0, 1,
                                               0,    0,  0, 60,         0, static_cast<unsigned char>(v6 ? 16 : 4)};
      answer.insert(answer.end(), head.begin(), head.end());
      const Address address = *ParseAddress(v6 ? "2001:db8::1" : "192.0.2.1");
      answer.insert(answer.end(), address.bytes.begin() + (v6 ? 0 : 12), address.bytes.end());
    }
    ::sendto(server, answer.data(), answer.size(), 0, reinterpret_cast<const sockaddr*>(&client), length);
  }

  ResolveFrom FromChild(const std::string& search = "") const {
    ResolveFrom from;
    from.netns_path = "/proc/" + std::to_string(child_) + "/ns/net";
    from.config = ParseResolvConf("nameserver 127.0.0.1\nsearch " + search + "\n");
    return from;
  }

  pid_t child_ = -1;
  std::uint64_t cookie_ = 0;
};

const std::vector<Address> kBoth = {*ParseAddress("192.0.2.1"), *ParseAddress("2001:db8::1")};

std::vector<Address> Sorted(std::vector<Address> addresses) {
  std::sort(addresses.begin(), addresses.end());
  return addresses;
}

TEST_F(ResolveTest, AsksTheServerOfThePodFromItsNamespaceForBothFamilies) {
  const auto found = ResolveName("web.test", FromChild());
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_EQ(*found, Sorted(kBoth));
}

TEST_F(ResolveTest, FollowsTheSearchList) {
  const auto found = ResolveName("web", FromChild("nowhere.test test"));
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_EQ(*found, Sorted(kBoth));
}

TEST_F(ResolveTest, ANameThatDoesNotExistSaysSo) {
  const auto found = ResolveName("other.test", FromChild());
  ASSERT_FALSE(found.ok());
  EXPECT_NE(found.error().message.find("other.test"), std::string::npos);
}

TEST_F(ResolveTest, TheHostsFileOfThePodComesFirst) {
  ResolveFrom from = FromChild();
  from.hosts = "198.51.100.7 web.test\n";
  const auto found = ResolveName("web.test", from);
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, std::vector<Address>{*ParseAddress("198.51.100.7")});
}

TEST_F(ResolveTest, AProcessIsFoundByTheCookieOfItsNamespace) {
  EXPECT_EQ(FindPodProcess(cookie_), child_);
  EXPECT_EQ(FindPodProcess(~0ULL), std::nullopt);
}

TEST_F(ResolveTest, FilesAreReadWithinTheRootOfTheProcess) {
  EXPECT_TRUE(ReadFileOf(child_, "/etc/passwd").has_value());
  EXPECT_FALSE(ReadFileOf(child_, "/nonexistent").has_value());
  EXPECT_FALSE(ReadFileOf(child_, "/dev/zero").has_value());  // no regular file
}

}  // namespace
}  // namespace egress::ctl
