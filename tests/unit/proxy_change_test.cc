// Changes of policy while connections live, audit, drain, and pods that go.
#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/proxy_world.h"

namespace egress::proxy {
namespace {

constexpr std::string_view kGet = "GET /get HTTP/1.1\r\nHost: origin.test\r\n\r\n";
constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
constexpr std::string_view kUpgrade =
    "GET /ws HTTP/1.1\r\nHost: origin.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
constexpr std::string_view kSwitching =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

struct Changes : testing::Test {
  explicit Changes(Settings settings = World::FastSettings()) : world(settings) {
    world.SetPolicy("origin", 1);
    world.Flip(1);
    client = world.Connect();
  }
  // A request under way: its head has arrived.
  void Begin(std::string_view request) {
    client.Send(request);
    origin = world.Accept();
    ASSERT_EQ(origin.ReadHead(), request);
  }
  void BeginTunnel() {
    Begin(kUpgrade);
    origin.Send(kSwitching);
    ASSERT_EQ(client.ReadHead(), kSwitching);
  }
  World world;
  Peer client;
  Peer origin;
};

TEST_F(Changes, APolicyHoldsFromTheMomentThatThePodsWordReachesIt) {
  world.RemovePolicy("origin", 2);
  Begin(kGet);
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk) << "committed, but not in force";
  world.Flip(2);
  client.Send(kGet);
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 ")) << "an idle connection gets 404";
  world.SetPolicy("origin", 3);
  client.Send(kGet);
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 "));
  world.Flip(3);
  client.Send(kGet);
  // The upstream connection of before may be used again, or a new one made.
  EXPECT_TRUE(world.NoConnection(20));
  EXPECT_EQ(origin.ReadHead(), kGet);
}

TEST_F(Changes, ARequestUnderWayThatIsNoLongerAllowedIsCutAtBothEnds) {
  Begin(kGet);
  origin.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
  EXPECT_EQ(client.ReadUntil("half").substr(0, 15), "HTTP/1.1 200 OK");
  world.RemovePolicy("origin", 2);
  world.Flip(2);
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kReset);
  EXPECT_EQ(origin.ReadEnding(), Peer::Ending::kReset);
  EXPECT_TRUE(world.AwaitEvent("deny", "revoked"));
}

TEST_F(Changes, ATunnelThatIsNoLongerAllowedIsCutAtBothEnds) {
  BeginTunnel();
  world.RemovePolicy("origin", 2);
  world.Flip(2);
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kReset);
  EXPECT_EQ(origin.ReadEnding(), Peer::Ending::kReset);
}

TEST_F(Changes, WhatIsStillAllowedIsNotDisturbed) {
  BeginTunnel();
  world.SetPolicy("other", 2, {{"hosts", {"other.test"}}});
  world.Flip(2);
  world.SetPolicy("twin", 3);
  world.RemovePolicy("origin", 4);
  world.Flip(4);
  EXPECT_TRUE(client.Silent(100));
  client.Send("on");
  EXPECT_EQ(origin.Read(2), "on");
}

TEST(Revocation, WhereNothingIsRevokedWhatIsUnderWayGoesOn) {
  Settings settings = World::FastSettings();
  settings.revoke = false;
  World world(settings);
  world.SetPolicy("origin", 1);
  world.Flip(1);
  Peer client = world.Connect();
  client.Send(kUpgrade);
  Peer origin = world.Accept();
  EXPECT_EQ(origin.ReadHead(), kUpgrade);
  origin.Send(kSwitching);
  EXPECT_EQ(client.ReadHead(), kSwitching);
  world.RemovePolicy("origin", 2);
  world.Flip(2);
  EXPECT_TRUE(client.Silent(100));
  client.Send("on");
  EXPECT_EQ(origin.Read(2), "on");
  Peer next = world.Connect();
  next.Send(kGet);
  EXPECT_TRUE(next.ReadResponse().starts_with("HTTP/1.1 404 ")) << "what is new is judged";
}

// Where nothing is refused: audit, and pods that are open.
struct AsSent : testing::Test {
  AsSent() { world.SetPolicy("origin", 1); }
  World world;
};

TEST_F(AsSent, AuditPassesEverythingAsSentAndTells) {
  world.Flip(1, World::kGoverned | World::kAudit);
  Peer client = world.Connect();
  const std::string odd = "GET /x  HTTP/1.1\nHost: evil.test\n\n";
  const std::string denied = "GET /a?b HTTP/1.1\r\nHost: evil.test\r\nConnection: x\r\n\r\n";
  client.Send(denied);
  Peer up = world.Accept();
  EXPECT_EQ(up.ReadHead(), denied);
  up.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  EXPECT_TRUE(world.AwaitEvent("audit", "http-host"));
  client.Send(kGet);
  EXPECT_EQ(up.ReadHead(), kGet);
  EXPECT_TRUE(world.AwaitEvent("allow", "rule"));
  client.Send(odd);
  EXPECT_EQ(up.Read(odd.size()), odd);
  EXPECT_TRUE(world.AwaitEvent("audit", "http-malformed"));
}

TEST_F(AsSent, WhatPassedOnlyForAuditIsCutWhenAuditEnds) {
  world.Flip(1, World::kGoverned | World::kAudit);
  Peer client = world.Connect();
  client.Send("GET /a HTTP/1.1\r\nHost: evil.test\r\n\r\n");
  Peer up = world.Accept();
  up.ReadHead();
  world.Flip(2);
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kReset);
  EXPECT_EQ(up.ReadEnding(), Peer::Ending::kReset);
}

TEST_F(AsSent, AnOpenPodIsNotJudged) {
  world.Flip(1, World::kGoverned | World::kOpen);
  Peer client = world.Connect();
  const std::string denied = "GET /a HTTP/1.1\r\nHost: evil.test\r\n\r\n";
  client.Send(denied);
  EXPECT_EQ(world.Accept().ReadHead(), denied);
}

TEST_F(Changes, AuditBeginsOnALiveConnectionAtItsNextRequest) {
  Begin(kGet);
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  world.Flip(1, World::kGoverned | World::kAudit);
  const std::string denied = "GET /a HTTP/1.1\r\nHost: evil.test\r\n\r\n";
  client.Send(denied);
  EXPECT_EQ(origin.ReadHead(), denied);
}

TEST_F(Changes, ARouteThatAppearsAppliesToTheNextRequest) {
  world.SetPolicy("origin", 2, {{"routes", nlohmann::json::array()}});
  world.Flip(2);
  client.Send(kGet);
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 "));
  EXPECT_TRUE(world.AwaitEvent("deny", "http-route"));
  world.SetPolicy(
      "origin", 3,
      {{"routes", {{{"name", "get"}, {"path", "/get"}, {"methods", {"GET"}}, {"headers", nlohmann::json::array()}}}}});
  world.Flip(3);
  Begin(kGet);
}

TEST_F(Changes, ABrokenDocumentGrantsNothing) {
  world.Send({{"type", "policy"}, {"id", "curl/origin"}, {"generation", 2}, {"document", "{\"policy\": 3}"}});
  world.Commit(2);
  world.Flip(2);
  client.Send(kGet);
  EXPECT_TRUE(client.ReadResponse().starts_with("HTTP/1.1 404 "));
}

// With one worker, so that the end of an idle connection tells that the drain has come to the one under way, too.
struct ChangesInOneWorker : Changes {
  static Settings OneWorker() {
    Settings settings = World::FastSettings();
    settings.workers = 1;
    return settings;
  }
  ChangesInOneWorker() : Changes(OneWorker()) {}
};

TEST_F(ChangesInOneWorker, ADrainLetsWhatIsUnderWayEnd) {
  Peer idle = world.Connect();
  idle.Send("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
  EXPECT_TRUE(idle.ReadResponse().starts_with("HTTP/1.1 404 "));
  Begin(kGet);
  world.Send({{"type", "drain"}, {"seconds", 30}});
  EXPECT_EQ(idle.ReadEnding(), Peer::Ending::kFin);
  idle.Close();
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kFin);
  client.Close();
  EXPECT_TRUE(world.AwaitEnd()) << "long before its time is up";
}

TEST_F(Changes, ADrainEndsInTime) {
  Begin(kGet);
  world.Send({{"type", "drain"}, {"seconds", 0}});
  EXPECT_TRUE(world.AwaitEnd());
}

TEST_F(Changes, APodThatGoesTakesItsSocketsAlong) {
  Begin(kGet);
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  world.RemovePod(false);
  EXPECT_NE(client.ReadEnding(), Peer::Ending::kNone) << "idle ones end";
  EXPECT_NE(origin.ReadEnding(), Peer::Ending::kNone);
  // Each worker lets go of the listener in its own time; the last one closes it.
  int tries = 0;
  while (world.Connect().valid() && ++tries < 1000) std::this_thread::yield();
  EXPECT_LT(tries, 1000) << "the listener is closed";
}

TEST_F(Changes, NewListenersOfAPodLeaveItsConnectionsAlone) {
  Begin(kGet);
  world.Send(
      {{"type", "pod"}, {"slot", World::kSlot}, {"cookie", 1}, {"name", "curl/curl"}, {"serviceAccount", "curl/curl"}});
  int tries = 0;
  while (world.Connect().valid() && ++tries < 1000) std::this_thread::yield();
  EXPECT_LT(tries, 1000) << "the old listener is closed";
  origin.Send(kOk);
  EXPECT_EQ(client.ReadResponse(), kOk);
  client.Send(kGet);
  EXPECT_EQ(origin.ReadHead(), kGet);
}

TEST_F(Changes, AnotherPodInTheSlotCutsThoseOfTheFirst) {
  BeginTunnel();
  world.Send({{"type", "pod"},
              {"slot", World::kSlot},
              {"cookie", 2},
              {"name", "curl/other"},
              {"serviceAccount", "curl/curl"}});
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kReset);
}

TEST_F(Changes, APodThatGoesMayLetWhatIsUnderWayEnd) {
  Begin(kGet);
  world.RemovePod(false);
  EXPECT_TRUE(client.Silent(50));
  origin.Send(kOk);
  EXPECT_TRUE(client.ReadResponse().ends_with("ok"));
}

TEST_F(Changes, APodThatIsResetIsCut) {
  BeginTunnel();
  world.RemovePod(true);
  EXPECT_EQ(client.ReadEnding(), Peer::Ending::kReset);
  EXPECT_EQ(origin.ReadEnding(), Peer::Ending::kReset);
}

}  // namespace
}  // namespace egress::proxy
