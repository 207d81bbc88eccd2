// Upstream connections: reuse, failures, retries, limits, tunnels.
#include <gtest/gtest.h>

#include "tests/unit/proxy_world.h"

namespace egress::proxy {
namespace {

constexpr std::string_view kGet = "GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n";
constexpr std::string_view kPost = "POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 1\r\n\r\nx";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// One whole exchange over given connections.
void Exchange(Peer* client, Peer* origin, std::string_view request = kGet) {
  ASSERT_TRUE(client->Send(request));
  ASSERT_EQ(origin->Read(request.size()), request);
  origin->Send(kOk);
  ASSERT_EQ(client->ReadResponse(), kOk);
}

struct Upstreams : testing::Test {
  Upstreams() : Upstreams(World::FastSettings()) {}
  explicit Upstreams(const Settings& settings) : world(settings) {
    world.SetPolicy("origin", 1);
    world.Flip(1);
  }
  World world;
};

TEST_F(Upstreams, AreUsedAgainByTheNextConnection) {
  Peer first = world.Connect();
  first.Send(kGet);
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send(kOk);
  EXPECT_EQ(first.ReadResponse(), kOk);
  first.EndWriting();
  EXPECT_EQ(first.ReadEnding(), Peer::Ending::kReset);
  // The workers keep their own: one of two clients reaches the worker that served the first.
  Peer second = world.Connect();
  second.Send(kGet);
  if (!origin.Silent(200)) {
    EXPECT_EQ(origin.ReadHead(), kGet);
    origin.Send(kOk);
    EXPECT_EQ(second.ReadResponse(), kOk);
  }
}

TEST_F(Upstreams, ARequestThatMayNotBeRepeatedStartsAConnectionOfItsOwn) {
  Peer first = world.Connect();
  first.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  origin.Send(kOk);
  first.ReadResponse();
  first.EndWriting();
  first.ReadEnding();
  Peer second = world.Connect();
  second.Send(kPost);
  Peer other = world.Accept();
  ASSERT_TRUE(other.valid());
  EXPECT_EQ(other.Read(kPost.size()), kPost);
}

TEST_F(Upstreams, ARefusedConnectionGives503AndTheClientsGoesOn) {
  Peer client = world.Connect();
  world.CloseOrigin();
  for (int i = 0; i < 2; ++i) {
    client.Send(kGet);
    EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
  }
  EXPECT_TRUE(world.AwaitCount(503, "allow", "rule", 2));
}

TEST_F(Upstreams, WithoutSocketsFromTheAgentARequestTimesOut) {
  Settings settings = World::FastSettings();
  settings.timeouts.connect = std::chrono::milliseconds(150);
  World slow(settings);
  slow.supplies_sockets = false;
  slow.SetPolicy("origin", 1);
  slow.Flip(1);
  Peer client = slow.Connect();
  client.Send(kGet);
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 504 Gateway Timeout\r\n"));
}

TEST_F(Upstreams, AnOriginThatEndsWithoutAnAnswerGives502) {
  Peer client = world.Connect();
  client.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  origin.Close();
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
}

TEST_F(Upstreams, AConnectionThatDiesUnderARepeatableRequestIsReplacedOnce) {
  Peer client = world.Connect();
  client.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  origin.Send(kOk);
  client.ReadResponse();
  client.Send(kGet);
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Close();
  Peer fresh = world.Accept();
  EXPECT_EQ(fresh.ReadHead(), kGet) << "sent again, unchanged";
  fresh.Close();
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 502 ")) << "but not a third time";
  EXPECT_TRUE(world.NoConnection(50));
}

TEST_F(Upstreams, AConnectionThatDiesUnderAPostIsNotReplaced) {
  Peer client = world.Connect();
  client.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  origin.Send(kOk);
  client.ReadResponse();
  client.Send(kPost);
  EXPECT_EQ(origin.Read(kPost.size()), kPost);
  origin.Close();
  EXPECT_NE(client.ReadEnding(), Peer::Ending::kNone) << "as without a proxy, the client sees its connection end";
  EXPECT_TRUE(world.NoConnection(50));
}

TEST_F(Upstreams, AnIdleConnectionThatTheOriginEndsIsReplacedUnnoticed) {
  Peer client = world.Connect();
  client.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  origin.Send(kOk);
  client.ReadResponse();
  origin.Close();
  EXPECT_TRUE(client.Silent(50));
  client.Send(kPost);
  Peer fresh = world.Accept();
  EXPECT_EQ(fresh.Read(kPost.size()), kPost);
  fresh.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
}

TEST_F(Upstreams, AClientThatVanishesTakesItsRequestAlong) {
  Peer client = world.Connect();
  client.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  client.Reset();
  EXPECT_NE(origin.ReadEnding(), Peer::Ending::kNone);
}

TEST_F(Upstreams, WhatTheAgentStillHoldsIsNotHeardOfOnceItIsClosedHere) {
  world.keeps_sockets = true;
  for (int i = 0; i < 20; ++i) {
    Peer client = world.Connect();
    client.Send(kPost);
    Peer origin = world.Accept();
    EXPECT_EQ(origin.Read(kPost.size()), kPost);
    // The proxy closes its end, which the agent's descriptor keeps open; then the origin's end is an event for it.
    origin.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 200 OK\r\n"));
    origin.Close();
  }
}

TEST_F(Upstreams, AnOriginThatDoesNotAnswerGives504) {
  Settings settings = World::FastSettings();
  settings.timeouts.response = std::chrono::milliseconds(150);
  World slow(settings);
  slow.SetPolicy("origin", 1);
  slow.Flip(1);
  Peer client = slow.Connect();
  client.Send(kGet);
  Peer origin = slow.Accept();
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 504 "));
  EXPECT_EQ(origin.ReadHead(), kGet);
}

TEST_F(Upstreams, ASlowHeadIsCutOffAndAnIdleConnectionEnds) {
  Settings settings = World::FastSettings();
  settings.timeouts.head = std::chrono::milliseconds(150);
  settings.timeouts.idle = std::chrono::milliseconds(400);
  World strict(settings);
  Peer slow = strict.Connect();
  slow.Send("GET / HTTP/1.1\r\n");
  EXPECT_EQ(slow.ReadEnding(), Peer::Ending::kReset);
  Peer idle = strict.Connect();
  EXPECT_TRUE(idle.Silent(200));
  EXPECT_EQ(idle.ReadEnding(), Peer::Ending::kFin);
}

TEST_F(Upstreams, AWebSocketBecomesATunnel) {
  const std::string upgrade =
      "GET /ws HTTP/1.1\r\nHost: origin.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
  const std::string switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
  Peer client = world.Connect();
  client.Send(upgrade + "early");
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), upgrade);
  EXPECT_TRUE(origin.Silent(50)) << "nothing passes before the origin agrees";
  origin.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nhello");
  EXPECT_EQ(client.ReadHead(), switching);
  EXPECT_EQ(client.Read(5), "hello");
  EXPECT_EQ(origin.Read(5), "early");
  client.Send(std::string("\x00\x16\r\n", 4));
  EXPECT_EQ(origin.Read(4), std::string("\x00\x16\r\n", 4));
  client.EndWriting();
  EXPECT_EQ(origin.ReadEnding(), Peer::Ending::kFin);
  origin.Send("bye");
  EXPECT_EQ(client.Read(3), "bye") << "one direction may end before the other";
  origin.Close();
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kFin);
}

TEST_F(Upstreams, ConnectOnlyWhereARuleNamesIt) {
  const std::string request = "CONNECT origin.test HTTP/1.1\r\nHost: origin.test\r\n\r\n";
  Peer denied = world.Connect();
  denied.Send(request);
  const std::string answer = denied.ReadResponse();
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 400 ") || answer.starts_with("HTTP/1.1 404 ")) << answer;
  EXPECT_TRUE(world.NoConnection(50));
  world.SetPolicy(
      "origin", 2,
      {{"routes",
        {{{"name", "c"}, {"path", nullptr}, {"methods", {"CONNECT"}}, {"headers", nlohmann::json::array()}}}}});
  world.Flip(2);
  Peer client = world.Connect();
  client.Send(request);
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), request);
  origin.Send("HTTP/1.1 200 Connection established\r\n\r\n");
  EXPECT_EQ(client.ReadHead(), "HTTP/1.1 200 Connection established\r\n\r\n");
  client.Send("raw");
  EXPECT_EQ(origin.Read(3), "raw");
  origin.Send("war");
  EXPECT_EQ(client.Read(3), "war");
}

TEST_F(Upstreams, TlsOnAPortWithHttpsPassesUntouched) {
  const std::string hello("\x16\x03\x01\x00\x05hello", 10);
  Peer refused = world.Connect();
  refused.Send(hello);
  EXPECT_TRUE(refused.ReadHead().starts_with("HTTP/1.1 400 ")) << "on a port with http alone";
  EXPECT_TRUE(world.NoConnection(50));
  world.protocols = EGRESS_HTTP | EGRESS_HTTPS;
  Peer client = world.Connect();
  client.Send(hello);
  Peer origin = world.Accept();
  EXPECT_EQ(origin.Read(10), hello);
  const auto tls = [&] {
    while (auto want = world.Await("want")) {
      if ((*want)["kind"] == "tls") return true;
    }
    return false;
  };
  EXPECT_TRUE(tls()) << "on a socket that the kernel judges as TLS";
  origin.Send(std::string("\x15\x00", 2));
  EXPECT_EQ(client.Read(2), std::string("\x15\x00", 2));
  Peer plain = world.Connect();
  plain.Send(kGet);
  Peer other = world.Accept();
  EXPECT_EQ(other.ReadHead(), kGet) << "and HTTP on the same port is HTTP";
}

TEST_F(Upstreams, ALimitOfConnectionsGives503) {
  world.SetPolicy("origin", 2, {{"limits", {{"maxConnections", 1}}}});
  world.Flip(2);
  Peer first = world.Connect();
  first.Send(kGet);
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  Peer second = world.Connect();
  second.Send(kGet);
  EXPECT_TRUE(second.ReadResponse().starts_with("HTTP/1.1 503 "));
  EXPECT_TRUE(world.AwaitCount(503, "deny", "limit", 1));
  const auto event = world.AwaitEvent("deny", "limit");
  ASSERT_TRUE(event);
  EXPECT_EQ((*event)["policy"], "curl/origin");
  origin.Send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  first.ReadResponse();
  EXPECT_NE(origin.ReadEnding(), Peer::Ending::kNone);
  second.Send(kGet);
  Peer next = world.Accept();
  EXPECT_EQ(next.ReadHead(), kGet) << "once one has ended, there is room for another";
}

TEST_F(Upstreams, AnIdleConnectionDoesNotUseUpTheLimit) {
  world.SetPolicy("origin", 2, {{"limits", {{"maxConnections", 1}}}});
  world.Flip(2);
  Peer clients[6];
  for (Peer& client : clients) {
    client = world.Connect();
    client.Send(kGet);
    // Whichever worker holds the idle one, it makes room.
    Peer origin = world.Accept();
    EXPECT_EQ(origin.ReadHead(), kGet);
    origin.Send(kOk);
    EXPECT_EQ(client.ReadResponse(), kOk);
  }
}

TEST_F(Upstreams, ALimitOfWaitingRequestsGives503) {
  world.supplies_sockets = false;  // so that connecting takes as long as the test wants
  world.SetPolicy("origin", 2, {{"limits", {{"maxPendingRequests", 1}}}});
  world.Flip(2);
  Peer first = world.Connect();
  first.Send(kGet);
  Peer second;
  // The first may not have got as far when the second asks; one of the two is over the limit.
  second = world.Connect();
  second.Send(kGet);
  EXPECT_TRUE(world.AwaitCount(503, "deny", "limit", 1));
  const bool second_refused = !second.Silent(200);
  EXPECT_TRUE((second_refused ? second : first).ReadResponse().starts_with("HTTP/1.1 503 "));
  world.supplies_sockets = true;
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  origin.Send(kOk);
  EXPECT_EQ((second_refused ? first : second).ReadResponse(), kOk) << "asked for again, the sockets came";
}

TEST_F(Upstreams, ALimitOfRequestsGives503) {
  world.SetPolicy("origin", 2, {{"limits", {{"maxRequests", 1}}}});
  world.Flip(2);
  Peer first = world.Connect();
  first.Send(kGet);
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kGet);
  Peer second = world.Connect();
  second.Send(kGet);
  EXPECT_TRUE(second.ReadResponse().starts_with("HTTP/1.1 503 "));
  origin.Send(kOk);
  EXPECT_EQ(first.ReadResponse(), kOk);
  Exchange(&first, &origin);
}

TEST_F(Upstreams, AConnectionEndsAfterTheRequestsThatItMayBear) {
  world.SetPolicy("origin", 2, {{"limits", {{"maxRequestsPerConnection", 2}}}});
  world.Flip(2);
  Peer client = world.Connect();
  client.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  Exchange(&client, &origin);
  EXPECT_NE(origin.ReadEnding(), Peer::Ending::kNone);
  client.Send(kGet);
  Peer fresh = world.Accept();
  EXPECT_EQ(fresh.ReadHead(), kGet);
}

TEST_F(Upstreams, ALoginThatBelongsToAConnectionIsNotShared) {
  Peer first = world.Connect();
  first.Send(kGet);
  Peer origin = world.Accept();
  origin.ReadHead();
  origin.Send("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM abc\r\nContent-Length: 0\r\n\r\n");
  first.ReadResponse();
  Exchange(&first, &origin);
  first.EndWriting();
  first.ReadEnding();
  EXPECT_NE(origin.ReadEnding(), Peer::Ending::kNone);
}

TEST_F(Upstreams, APodHasABoundedNumberOfConnections) {
  Settings settings = World::FastSettings();
  settings.bounds.connections_per_pod = 2;
  World small(settings);
  Peer first = small.Connect();
  Peer second = small.Connect();
  for (Peer* peer : {&first, &second}) {
    peer->Send("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    EXPECT_TRUE(peer->ReadResponse().starts_with("HTTP/1.1 404 "));
  }
  Peer third = small.Connect();
  EXPECT_EQ(third.ReadEnding(), Peer::Ending::kReset);
  EXPECT_TRUE(small.AwaitCount(0, "deny", "table-full", 1));
  first.Send("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
  EXPECT_TRUE(first.ReadResponse().starts_with("HTTP/1.1 404 ")) << "those that are there go on";
}

TEST_F(Upstreams, APodThatHoldsTooMuchGetsNoMoreConnections) {
  Settings settings = World::FastSettings();
  settings.workers = 1;
  settings.bounds.pod_buffers = 24'000;  // of which half for what comes new
  World small(settings);
  // Heads that never become complete are held.
  Peer slow[3];
  for (Peer& peer : slow) {
    peer = small.Connect();
    peer.Send("GET / HTTP/1.1\r\n");
    EXPECT_TRUE(peer.Silent(50));
  }
  Peer refused = small.Connect();
  EXPECT_EQ(refused.ReadEnding(), Peer::Ending::kReset);
  EXPECT_TRUE(small.AwaitCount(0, "deny", "table-full", 1));
  for (Peer& peer : slow) {
    peer.Send("Host: evil.test\r\n\r\n");
    EXPECT_TRUE(peer.ReadResponse().starts_with("HTTP/1.1 404 ")) << "those that are there go on";
  }
  Peer next = small.Connect();
  next.Send("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
  EXPECT_TRUE(next.ReadResponse().starts_with("HTTP/1.1 404 ")) << "and once it is read, there is room";
}

TEST_F(Upstreams, APodsBuffersNeverGrowOverItsBound) {
  Settings settings = World::FastSettings();
  settings.workers = 1;
  settings.bounds.pod_buffers = 13'000;  // three blocks
  World small(settings);
  Peer peers[4];
  for (Peer& peer : peers) {
    peer = small.Connect();
    EXPECT_TRUE(peer.Silent(20));
  }
  for (int i = 0; i < 3; ++i) {
    peers[i].Send("GET / HTTP/1.1\r\n");
    EXPECT_TRUE(peers[i].Silent(50));
  }
  peers[3].Send("GET / HTTP/1.1\r\n");
  EXPECT_EQ(peers[3].ReadEnding(), Peer::Ending::kReset) << "there is no block for it, nor one for an answer";
  EXPECT_TRUE(small.AwaitCount(503, "deny", "table-full", 1));
  peers[0].Reset();
  EXPECT_TRUE(peers[1].Silent(50));
  peers[1].Send("Host: evil.test\r\n\r\n");
  EXPECT_TRUE(peers[1].ReadResponse().starts_with("HTTP/1.1 404 ")) << "what one has given back another may take";
}

TEST_F(Upstreams, APodKeepsABoundedNumberOfIdleConnections) {
  Settings settings = World::FastSettings();
  settings.bounds.idle_of_pod = 1;
  World small(settings);
  small.SetPolicy("rules", 1);
  small.Flip(1);
  Peer clients[2];
  Peer origins[2];
  for (int i = 0; i < 2; ++i) {
    clients[i] = small.Connect();
    clients[i].Send("GET / HTTP/1.1\r\nHost: origin.test\r\nConnection: close\r\n\r\n");
    origins[i] = small.Accept();
    ASSERT_NE(origins[i].ReadHead(), "");
  }
  for (int i = 0; i < 2; ++i) {
    origins[i].Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    EXPECT_TRUE(clients[i].ReadResponse().ends_with("ok"));
    EXPECT_NE(clients[i].ReadEnding(), Peer::Ending::kNone);
  }
  EXPECT_EQ(origins[1].ReadEnding(), Peer::Ending::kFin) << "there is room for one only";
  EXPECT_TRUE(origins[0].Silent(50));
}

}  // namespace
}  // namespace egress::proxy
