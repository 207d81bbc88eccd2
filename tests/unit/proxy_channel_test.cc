// The channel between agent and proxy.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "agent/proxy/channel.h"

namespace egress::proxy {
namespace {

struct Channels : testing::Test {
  Channels() {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    left = std::make_unique<Channel>(Fd(pair[0]));
    right = std::make_unique<Channel>(Fd(pair[1]));
  }
  // Carries what `left` has queued over, and gives the next message.
  Message Carry() {
    while (true) {
      EXPECT_TRUE(left->Flush().ok());
      Result<std::optional<Message>> message = right->Receive();
      EXPECT_TRUE(message.ok());
      if (!message.ok()) return {};
      if (message->has_value()) return std::move(**message);
    }
  }
  std::unique_ptr<Channel> left;
  std::unique_ptr<Channel> right;
};

ino_t Inode(int fd) {
  struct stat status {};
  EXPECT_EQ(::fstat(fd, &status), 0);
  return status.st_ino;
}

TEST_F(Channels, CarryMessagesInOrder) {
  ASSERT_TRUE(left->Send({{"type", "a"}, {"n", 1}}).ok());
  ASSERT_TRUE(left->Send({{"type", "b"}}).ok());
  EXPECT_EQ(Carry().body["type"], "a");
  EXPECT_EQ(Carry().body["type"], "b");
  EXPECT_FALSE(right->Receive()->has_value());
}

TEST_F(Channels, CarryDescriptorsWithTheirMessage) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Fd reader(ends[0]);
  const Fd writer(ends[1]);
  const std::vector<int> both = {reader.get(), writer.get()};
  ASSERT_TRUE(left->Send({{"n", 0}}).ok());
  ASSERT_TRUE(left->Send({{"n", 1}}, both).ok());
  ASSERT_TRUE(left->Send({{"n", 2}}).ok());
  ASSERT_TRUE(left->Send({{"n", 3}}, both).ok());
  ASSERT_TRUE(left->Flush().ok());
  for (int n = 0; n < 4; ++n) {
    const Message message = Carry();
    EXPECT_EQ(message.body["n"], n);
    ASSERT_EQ(message.fds.size(), n % 2 == 1 ? 2U : 0U) << n;
    if (n % 2 == 1) {
      EXPECT_EQ(Inode(message.fds[0].get()), Inode(reader.get()));
    }
  }
}

TEST_F(Channels, CarryTheMostDescriptorsAndRefuseMore) {
  const Fd null(::dup(left->fd()));
  std::vector<int> most(Channel::kMaxFds, null.get());
  ASSERT_TRUE(left->Send({{"n", 1}}, most).ok());
  EXPECT_EQ(Carry().fds.size(), Channel::kMaxFds);
  most.push_back(null.get());
  EXPECT_FALSE(left->Send({{"n", 1}}, most).ok());
}

TEST_F(Channels, CarryMessagesLargerThanTheSocketTakes) {
  const Fd null(::dup(left->fd()));
  const std::vector<int> one = {null.get()};
  const std::string text(5U << 20, 'x');
  ASSERT_TRUE(left->Send({{"text", text}}, one).ok());
  ASSERT_TRUE(left->Send({{"n", 2}}, one).ok());
  ASSERT_TRUE(left->Flush().ok());
  EXPECT_TRUE(left->wants_write());
  const Message large = Carry();
  EXPECT_EQ(large.body["text"], text);
  EXPECT_EQ(large.fds.size(), 1U);
  EXPECT_EQ(Carry().fds.size(), 1U);
}

TEST_F(Channels, TextThatIsNotUtf8DoesNotStopAReport) {
  ASSERT_TRUE(left->Send({{"path", "/\xff\xfe"}}).ok());
  EXPECT_TRUE(Carry().body["path"].is_string());
}

TEST_F(Channels, SayThatTheOtherEndIsGone) {
  left.reset();
  EXPECT_FALSE(right->Receive().ok());
}

TEST_F(Channels, RefuseWhatIsNoMessage) {
  const std::string bytes("\x04\0\0\0[1]\n", 8);
  ASSERT_EQ(::write(left->fd(), bytes.data(), bytes.size()), 8);
  EXPECT_FALSE(right->Receive().ok());
}

}  // namespace
}  // namespace egress::proxy
