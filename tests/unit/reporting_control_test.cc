#include "cmd/egressd/control.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>
#include <filesystem>
#include <thread>

#include "cmd/egressctl/client.h"
#include "cmd/egressd/control_socket.h"

namespace egress::report {
namespace {

using nlohmann::json;

Event MakeEvent(const std::string& pod, int port) {
  Event event;
  event.pod = pod;
  event.verdict = "deny";
  event.reason = "policy";
  event.protocol = "tcp";
  event.source = "192.0.2.1";
  event.destination = "198.51.100.1";
  event.port = port;
  return event;
}

// An agent's loop in a thread of its own with a control socket in a folder of its own.
class ControlTest : public ::testing::Test {
 protected:
  ControlTest() {
    std::string name = std::filesystem::temp_directory_path() / "control-XXXXXX";
    directory_ = ::mkdtemp(name.data());
  }

  ~ControlTest() override {
    Stop();
    std::filesystem::remove_all(directory_);
  }

  Result<Control> Listen() {
    Control::Handlers handlers{[] { return json{{"answer", "status"}}; }, [] { return json::array({"pod"}); }};
    return Control::Listen(loop_, directory_, handlers, events_);
  }

  void Start() {
    auto control = Listen();
    ASSERT_TRUE(control.ok()) << control.error().message;
    control_.emplace(*std::move(control));
    thread_ = std::thread([this] { loop_.Run(); });
  }

  void Stop() {
    if (!thread_.joinable()) return;
    loop_.Post([this] {
      control_.reset();
      loop_.Stop();
    });
    thread_.join();
  }

  // Adds events in the loop's thread, as the agent does.
  void Add(const std::string& pod, int port) {
    loop_.Post([this, pod, port] { events_.Add(MakeEvent(pod, port)); });
  }

  // Sends `text` as it is and reads until the agent hangs up.
  std::string Exchange(const std::string& text) {
    ConnectFailure failure;
    const Fd socket = ConnectControlSocket(ControlSocketPath(directory_), failure);
    EXPECT_TRUE(socket.valid()) << failure.error.message;
    EXPECT_EQ(::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    std::string answer;
    char buffer[4096];
    for (ssize_t size = 0; (size = ::recv(socket.get(), buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, size);
    return answer;
  }

  std::string directory_;
  EventLoop loop_ = *EventLoop::Create();
  EventLog events_;
  std::optional<Control> control_;
  std::thread thread_;
};

TEST_F(ControlTest, AnswersStatusAndPodsByTheirHandlers) {
  Start();
  json answer;
  ctl::AgentError error;
  ASSERT_TRUE(ctl::Ask(directory_, {{"command", "status"}}, answer, error)) << error.message;
  EXPECT_EQ(answer, (json{{"answer", "status"}}));
  ASSERT_TRUE(ctl::Ask(directory_, {{"command", "pods"}}, answer, error)) << error.message;
  EXPECT_EQ(answer, json::array({"pod"}));
}

TEST_F(ControlTest, WhatIsNoRequestIsAnsweredByAnError) {
  Start();
  for (const char* text : {"{\"command\":\"reboot\"}\n", "not json\n", "[]\n", "{\"command\":5}\n"}) {
    EXPECT_TRUE(json::parse(Exchange(text)).contains("error")) << text;
  }
  EXPECT_TRUE(json::parse(Exchange(std::string(5000, 'x'))).contains("error"));
}

TEST_F(ControlTest, ARequestInPiecesIsPutTogether) {
  Start();
  ConnectFailure failure;
  const Fd socket = ConnectControlSocket(ControlSocketPath(directory_), failure);
  for (const char byte : std::string("{\"command\":\"status\"}\n")) {
    ASSERT_EQ(::send(socket.get(), &byte, 1, MSG_NOSIGNAL), 1);
  }
  char buffer[256];
  EXPECT_GT(::recv(socket.get(), buffer, sizeof buffer, 0), 0);
}

TEST_F(ControlTest, EventsAreFilteredAndTheConnectionEndsAfterThem) {
  Start();
  Add("a/b", 1);
  Add("c/d", 2);
  std::vector<int> ports;
  ctl::AgentError error;
  const auto take = [&](const json& event) {
    ports.push_back(event["port"]);
    return true;
  };
  ASSERT_TRUE(ctl::AskLines(directory_, {{"command", "events"}, {"pod", "c/d"}}, take, error)) << error.message;
  EXPECT_EQ(ports, std::vector<int>{2});
}

TEST_F(ControlTest, FollowerGetsTheLastEventsAndThoseToCome) {
  Start();
  Add("a/b", 1);
  std::vector<int> ports;
  ctl::AgentError error;
  const auto take = [&](const json& event) {
    ports.push_back(event["port"]);
    if (ports.size() < 3) Add("a/b", static_cast<int>(ports.size()) + 1);
    return ports.size() < 3;
  };
  ASSERT_TRUE(ctl::AskLines(directory_, {{"command", "events"}, {"follow", true}}, take, error)) << error.message;
  EXPECT_EQ(ports, (std::vector<int>{1, 2, 3}));
}

TEST_F(ControlTest, FollowerThatDoesNotReadIsDroppedWithANote) {
  Start();
  Add("a/b", 1);
  ctl::AgentError error;
  int lines = 0;
  const auto take = [&](const json&) {
    // More than the socket's buffer and the agent's own hold, while nobody reads.
    if (++lines == 1) {
      for (int port = 0; port < 20000; ++port) Add("a/b", port);
      json status;
      EXPECT_TRUE(ctl::Ask(directory_, {{"command", "status"}}, status, error));  // comes after these events
    }
    return true;
  };
  EXPECT_FALSE(ctl::AskLines(directory_, {{"command", "events"}, {"follow", true}}, take, error));
  EXPECT_NE(error.message.find("reads too slowly"), std::string::npos) << error.message;
  EXPECT_LT(lines, 20000);
  EXPECT_GT(lines, 1);
}

TEST_F(ControlTest, OneClientTooManyIsTold) {
  Start();
  std::vector<Fd> silent;
  ConnectFailure failure;
  for (int i = 0; i < 16; ++i) silent.push_back(ConnectControlSocket(ControlSocketPath(directory_), failure));
  json answer;
  ctl::AgentError error;
  EXPECT_FALSE(ctl::Ask(directory_, {{"command", "status"}}, answer, error));
  silent.clear();
  // The agent takes note of those that went before it takes the next.
  for (int i = 0; i < 1000 && !ctl::Ask(directory_, {{"command", "status"}}, answer, error); ++i) {
  }
  EXPECT_EQ(answer, (json{{"answer", "status"}}));
}

TEST_F(ControlTest, SocketIsForItsOwnerOnlyAndGoesWithTheAgent) {
  Start();
  struct stat status {};
  ASSERT_EQ(::stat(ControlSocketPath(directory_).c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  Stop();
  EXPECT_TRUE(std::filesystem::is_empty(directory_));
}

TEST_F(ControlTest, SocketOfADeadAgentIsReplacedThatOfALivingOneIsNot) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = ControlSocketPath(directory_);
  std::copy(path.begin(), path.end(), address.sun_path);
  {
    const Fd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(dead.get(), 1), 0);
  }
  Start();
  const auto second = Listen();
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("--run-dir"), std::string::npos);
}

TEST_F(ControlTest, ARunFolderWithALongNameWorks) {
  const std::string top = directory_;
  directory_ += "/" + std::string(120, 'x');
  std::filesystem::create_directory(directory_);
  Start();
  json answer;
  ctl::AgentError error;
  EXPECT_TRUE(ctl::Ask(directory_, {{"command", "status"}}, answer, error)) << error.message;
  Stop();
  directory_ = top;
}

TEST_F(ControlTest, WithoutAnAgentTheClientSaysWhatToDo) {
  json answer;
  ctl::AgentError error;
  EXPECT_FALSE(ctl::Ask(directory_, {{"command", "status"}}, answer, error));
  EXPECT_TRUE(error.not_running);
  EXPECT_NE(error.message.find("--run-dir"), std::string::npos);
}

}  // namespace
}  // namespace egress::report
