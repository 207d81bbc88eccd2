// Requests on one connection: each is decided on its own, and a denied one does not end the connection.
#include <gtest/gtest.h>

#include "tests/unit/proxy_world.h"

namespace egress::proxy {
namespace {

constexpr std::string_view kGet = "GET /get HTTP/1.1\r\nHost: origin.test\r\n\r\n";
constexpr std::string_view kDenied = "GET /get?secret HTTP/1.1\r\nHost: evil.test\r\n\r\n";
constexpr std::string_view kDeniedPost = "POST / HTTP/1.1\r\nHost: evil.test\r\nContent-Length: 6\r\n\r\nsecret";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

TEST(KeepAlive, ARequestGoesUpAndItsResponseComesDown) {
  World world;
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer client = world.Connect();
  ASSERT_TRUE(client.Send(kGet));
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  EXPECT_TRUE(world.AwaitCount(200, "allow", "rule", 1));
  EXPECT_TRUE(world.AwaitEvent("allow", "rule"));
}

TEST(KeepAlive, EachRequestOfAConnectionIsDecided) {
  World world;
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer client = world.Connect();
  client.Send(kGet);
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  for (const std::string_view denied : {kDenied, kDeniedPost}) {
    client.Send(denied);
    EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 Not Found\r\n"));
  }
  client.Send(kGet);
  EXPECT_EQ(origin.ReadHead(), kGet) << "the upstream connection is used again";
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  EXPECT_TRUE(world.AwaitCount(404, "deny", "http-host", 2));
  const auto event = world.AwaitEvent("deny", "http-host");
  ASSERT_TRUE(event);
  EXPECT_EQ((*event)["host"], "evil.test");
  EXPECT_EQ(event->dump().find("secret"), std::string::npos) << "queries stay out of the events";
}

TEST(KeepAlive, PipelinedRequestsAreAnsweredInOrder) {
  World world;
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer client = world.Connect();
  client.Send(std::string(kGet) + std::string(kDenied) + std::string(kDeniedPost) + std::string(kGet));
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  EXPECT_TRUE(origin.Silent(50)) << "the next request waits for the answer to this one";
  origin.Send(kOk);
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 "));
  EXPECT_EQ(client.ReadResponse(), kOk);
  EXPECT_TRUE(client.Silent(50));
}

TEST(KeepAlive, MalformedRequestsGet400AndTheConnectionEnds) {
  World world;
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer client = world.Connect();
  client.Send("GET /get HTTP/1.1\r\nHost: origin.test\nX: y\r\n\r\n" + std::string(kGet));
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 400 Bad Request\r\n"));
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kFin);
  EXPECT_TRUE(world.NoConnection(50));
  EXPECT_TRUE(world.AwaitCount(400, "deny", "http-malformed", 1));
}

TEST(KeepAlive, ConnectionsThatTheKernelDidNotNoteAreReset) {
  World world;
  world.SetPolicy("origin", 1);
  world.Flip(1);
  world.known = false;
  Peer client = world.Connect();
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kReset);
  world.known = true;
  Peer twin = world.Connect();
  twin.Send(kDenied);
  EXPECT_TRUE(twin.ReadResponse().starts_with("HTTP/1.1 404 "));
}

// `Connection: close` is about the client's own connection (RFC 9110, 7.6.1).
TEST(KeepAlive, TheUpstreamConnectionOutlivesAClientThatAsksForAnEnd) {
  Settings settings = World::FastSettings();
  settings.workers = 1;
  World world(settings);
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer first = world.Connect();
  first.Send("GET /get HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n");
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send(kOk);
  EXPECT_EQ(first.ReadResponse(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
  EXPECT_EQ(first.ReadEnding(), Peer::Ending::kFin);
  Peer second = world.Connect();
  second.Send(kGet);
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
  EXPECT_EQ(second.ReadResponse(), kOk);
  second.Send(kGet);
  Peer other = world.Accept();  // the origin asked for an end as well
  EXPECT_EQ(other.ReadHead(), kGet);
}

TEST(KeepAlive, AClientThatEndsItsConnectionGetsAResetAndSoKeepsNoTimeWait) {
  World world;
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer client = world.Connect();
  client.Send(kDenied);
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 "));
  client.EndWriting();
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kReset);
}

TEST(KeepAlive, AClientThatEndsItsSideEarlyGetsItsAnswerAndAnOrderlyEnd) {
  World world;
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer client = world.Connect();
  client.Send(kGet);
  client.EndWriting();
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kFin);
}

}  // namespace
}  // namespace egress::proxy
