#include "cmd/egressd/event_log.h"

#include <gtest/gtest.h>

#include "cmd/egressd/json_text.h"

namespace egress::report {
namespace {

Event MakeEvent(const std::string& pod, const std::string& verdict, int port = 443) {
  Event event;
  event.time = std::chrono::system_clock::time_point(std::chrono::milliseconds(1714564800123));
  event.pod = pod;
  event.verdict = verdict;
  event.reason = verdict == "allow" ? "rule" : "policy";
  event.protocol = "tcp";
  event.source = "10.244.1.10";
  event.destination = "198.51.100.66";
  event.port = port;
  return event;
}

TEST(EventLog, TimeIsRfc3339WithMilliseconds) {
  EXPECT_EQ(FormatTime(MakeEvent("a/b", "deny").time), "2024-05-01T12:00:00.123Z");
}

TEST(EventLog, JsonHasTheFieldsThatAreAlwaysThereAndOnlyTheOthersThatAreKnown) {
  Event event = MakeEvent("curl/curl", "deny");
  event.sni = "evil.test";
  const nlohmann::json json = EventToJson(event);
  EXPECT_EQ(json["time"], "2024-05-01T12:00:00.123Z");
  EXPECT_EQ(json["pod"], "curl/curl");
  EXPECT_EQ(json["port"], 443);
  EXPECT_TRUE(json["port"].is_number());
  EXPECT_EQ(json["sni"], "evil.test");
  EXPECT_FALSE(json.contains("host"));
  EXPECT_FALSE(json.contains("policy"));
}

TEST(EventLog, LineNamesBothEndsAndWhatIsKnown) {
  Event event = MakeEvent("curl/curl", "deny");
  event.host = "evil.test";
  event.method = "GET";
  event.path = "/get";
  EXPECT_EQ(EventLine(EventToJson(event)),
            "2024-05-01T12:00:00.123Z deny policy curl/curl tcp 10.244.1.10 -> 198.51.100.66:443 host=evil.test "
            "method=GET path=/get");
  event.source.clear();  // not known yet at connect()
  event.destination = "2001:db8::1";
  EXPECT_NE(EventLine(EventToJson(event)).find(" tcp - -> [2001:db8::1]:443 "), std::string::npos);
}

TEST(EventLog, LineEscapesWhatWouldEndItOrPlayWithTheTerminal) {
  Event event = MakeEvent("curl/curl", "deny");
  event.path = "/a\n\x1b[31m b";
  EXPECT_NE(EventLine(EventToJson(event)).find("path=/a\\x0a\\x1b[31m\\x20b"), std::string::npos);
}

TEST(EventLog, BytesThatAreNotUtf8DoNotBreakTheJsonText) {
  Event event = MakeEvent("curl/curl", "deny");
  event.path = "/\xff\xfe";
  EXPECT_NE(JsonText(EventToJson(event)).find("/\xef\xbf\xbd"), std::string::npos);
}

TEST(EventLog, RingForgetsTheOldestFirst) {
  EventLog log(3);
  for (int port = 1; port <= 5; ++port) log.Add(MakeEvent("a/b", "deny", port));
  const auto events = log.Matching({});
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events.front().port, 3);
  EXPECT_EQ(events.back().port, 5);
}

TEST(EventLog, FilterTakesPodAndVerdictTogether) {
  EventLog log;
  log.Add(MakeEvent("a/b", "deny"));
  log.Add(MakeEvent("a/b", "allow"));
  log.Add(MakeEvent("c/d", "deny"));
  EXPECT_EQ(log.Matching({}).size(), 3U);
  EXPECT_EQ(log.Matching({"a/b", ""}).size(), 2U);
  EXPECT_EQ(log.Matching({"", "deny"}).size(), 2U);
  EXPECT_EQ(log.Matching({"a/b", "deny"}).size(), 1U);
  EXPECT_EQ(log.Matching({"a/b", "audit"}).size(), 0U);
}

TEST(EventLog, FollowerHearsWhatMatchesUntilItIsTakenOff) {
  EventLog log;
  std::vector<int> heard;
  const auto id = log.Follow({"a/b", ""}, [&](const Event& event) { heard.push_back(event.port); });
  log.Add(MakeEvent("a/b", "deny", 1));
  log.Add(MakeEvent("c/d", "deny", 2));
  log.Unfollow(id);
  log.Add(MakeEvent("a/b", "deny", 3));
  EXPECT_EQ(heard, std::vector<int>{1});
}

TEST(EventLog, FollowerMayTakeItselfAndOthersOff) {
  EventLog log;
  int calls = 0;
  EventLog::FollowerId first = 0;
  EventLog::FollowerId second = 0;
  const auto end_both = [&](const Event&) {
    ++calls;
    log.Unfollow(first);
    log.Unfollow(second);
  };
  first = log.Follow({}, end_both);
  second = log.Follow({}, end_both);
  log.Add(MakeEvent("a/b", "deny"));
  log.Add(MakeEvent("a/b", "deny"));
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace egress::report
