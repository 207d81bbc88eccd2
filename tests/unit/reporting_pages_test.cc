#include "cmd/egressd/pages.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <chrono>
#include <thread>

#include "agent/base/fd.h"

namespace egress::report {
namespace {

// A connection to the server on which `request` has been sent; invalid where there is no server.
Fd Send(int port, const std::string& request) {
  Fd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  const std::string text = request + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  EXPECT_EQ(::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  return socket;
}

// What comes until the end of the stream; with MSG_DONTWAIT what is there.
std::string Receive(const Fd& socket, int flags = 0) {
  std::string answer;
  char buffer[4096];
  for (ssize_t size = 0; (size = ::recv(socket.get(), buffer, sizeof buffer, flags)) > 0;) answer.append(buffer, size);
  return answer;
}

std::string Fetch(int port, const std::string& request) { return Receive(Send(port, request)); }

class PagesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto pages = Pages::Start(loop_, "127.0.0.1:0",
                              {[] { return "egressd_pods 1\n"; }, [] { return std::optional<std::string>(); },
                               [this] { return not_ready_; }});
    ASSERT_TRUE(pages.ok()) << pages.error().message;
    pages_.emplace(*std::move(pages));
    thread_ = std::thread([this] { loop_.Run(); });
  }

  void TearDown() override {
    if (!thread_.joinable()) return;
    loop_.Post([this] {
      pages_.reset();
      loop_.Stop();
    });
    thread_.join();
  }

  std::string Get(const std::string& path) { return Fetch(pages_->port(), "GET " + path); }

  EventLoop loop_ = *EventLoop::Create();
  std::optional<std::string> not_ready_;
  std::optional<Pages> pages_;
  std::thread thread_;
};

TEST_F(PagesTest, MetricsComeAsPrometheusText) {
  const std::string answer = Get("/metrics");
  EXPECT_EQ(answer.find("HTTP/1.1 200 OK\r\n"), 0U) << answer;
  EXPECT_NE(answer.find("Content-Type: text/plain; version=0.0.4"), std::string::npos);
  EXPECT_EQ(answer.substr(answer.find("\r\n\r\n") + 4), "egressd_pods 1\n");
}

TEST_F(PagesTest, ReadyzIs503WithTheReasonUntilTheAgentIsReady) {
  loop_.Post([this] { not_ready_ = "the policies are still being read"; });
  const std::string before = Get("/readyz");
  EXPECT_EQ(before.find("HTTP/1.1 503 "), 0U) << before;
  EXPECT_NE(before.find("the policies are still being read"), std::string::npos);
  loop_.Post([this] { not_ready_.reset(); });
  EXPECT_EQ(Get("/readyz").find("HTTP/1.1 200 "), 0U);
  EXPECT_EQ(Get("/healthz").find("HTTP/1.1 200 "), 0U);
}

TEST_F(PagesTest, OtherPathsAre404AndOtherMethods405) {
  EXPECT_EQ(Get("/").find("HTTP/1.1 404 "), 0U);
  EXPECT_EQ(Get("/metrics/x").find("HTTP/1.1 404 "), 0U);
  EXPECT_EQ(Get("/../etc/passwd").find("root:"), std::string::npos);
  EXPECT_EQ(Fetch(pages_->port(), "POST /metrics").find("HTTP/1.1 405 "), 0U);
}

TEST_F(PagesTest, HeadHasNoBody) {
  const std::string answer = Fetch(pages_->port(), "HEAD /healthz");
  EXPECT_EQ(answer.find("HTTP/1.1 200 "), 0U);
  EXPECT_EQ(answer.substr(answer.find("\r\n\r\n") + 4), "");
}

TEST_F(PagesTest, APortThatIsTakenIsSaidWithWhatToDo) {
  EventLoop other = *EventLoop::Create();
  const auto second = Pages::Start(other, "127.0.0.1:" + std::to_string(pages_->port()), {});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("--metrics-listen"), std::string::npos) << second.error().message;
  EXPECT_NE(second.error().message.find("bind"), std::string::npos) << second.error().message;
}

TEST_F(PagesTest, EndingTheAgentAnswersRequestsThatWait) {
  // The loop is stopped, so this request waits for it, or for a thread of the server.
  loop_.Post([this] { loop_.Stop(); });
  thread_.join();
  const Fd client = Send(pages_->port(), "GET /healthz");
  EXPECT_EQ(Fetch(pages_->port(), "POST /healthz").find("HTTP/1.1 405 "), 0U);  // needs no loop
  const auto before = std::chrono::steady_clock::now();
  pages_.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(4));  // less than the loop is waited for
  const std::string answer = Receive(client, MSG_DONTWAIT);
  EXPECT_TRUE(answer.empty() || answer.find("HTTP/1.1 503 ") == 0) << answer;
}

TEST(Pages, ListenAddressesOfBothFamiliesAreRead) {
  const auto v4 = ParseListenAddress("127.0.0.1:9469");
  ASSERT_TRUE(v4.ok());
  EXPECT_EQ(v4->host, "127.0.0.1");
  EXPECT_EQ(v4->port, 9469);
  const auto v6 = ParseListenAddress("[::1]:9469");
  ASSERT_TRUE(v6.ok());
  EXPECT_EQ(v6->host, "::1");
  for (const char* wrong : {"", "9469", ":9469", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:x", "::1:80",
                            "localhost:80", "[127.0.0.1]:80"}) {
    EXPECT_FALSE(ParseListenAddress(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace egress::report
