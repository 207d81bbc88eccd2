// Reflector: lists and watches against a server that answers as the test says.

#include "agent/source/reflector.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "tests/unit/source_http_server.h"

namespace egress::source {
namespace {

using Connection = HttpServer::Connection;
using Request = HttpServer::Request;

constexpr const char* kList = "/apis/policy.openservicemesh.io/v1alpha1/egresses";

std::string Item(const std::string& name, int version, const std::string& more = "") {
  return R"({"apiVersion":"policy.openservicemesh.io/v1alpha1","kind":"Egress","metadata":{"name":")" + name +
         R"(","namespace":"curl","uid":"u-)" + name + R"(","resourceVersion":")" + std::to_string(version) +
         R"(","managedFields":[{"manager":"}]\"{"}]},"spec":{"note":"a ] and } in text\\")" + more + "}}";
}

std::string List(int version, const std::string& items, const std::string& token = "") {
  return R"({"kind":"EgressList","apiVersion":"policy.openservicemesh.io/v1alpha1","metadata":{"resourceVersion":")" +
         std::to_string(version) + R"(","continue":")" + token + R"("},"items":[)" + items + "]}";
}

std::string Event(const std::string& type, const std::string& object) {
  return R"({"type":")" + type + R"(","object":)" + object + "}\n";
}

std::string Bookmark(int version) {
  return Event("BOOKMARK", R"({"kind":"Egress","metadata":{"resourceVersion":")" + std::to_string(version) + "\"}}");
}

bool IsWatch(const Request& request) { return request.target.find("watch=1") != std::string::npos; }
bool IsProbe(const Request& request) {
  return request.target.ends_with("?limit=1") || request.target.find("?limit=1&") != std::string::npos;
}

// What a server that has `objects` (versions by name) says to a probe.
std::string OnePage(const Request& request, int version, const std::map<std::string, int>& objects) {
  const std::string selector = "/namespaces/curl/egresses?limit=1&fieldSelector=metadata.name%3D";
  if (const auto at = request.target.find(selector); at != std::string::npos) {
    const auto found = objects.find(request.target.substr(at + selector.size()));
    return List(version, found == objects.end() ? "" : Item(found->first, found->second));
  }
  const auto& [name, first] = *objects.begin();
  std::string page = List(version, Item(name, first), "more");
  return page.insert(page.find("\"continue\""), "\"remainingItemCount\":" + std::to_string(objects.size() - 1) + ",");
}

// A reflector of Egress, what it has told, and the loop that it lives in.
class ReflectorTest : public ::testing::Test {
 protected:
  void Start(HttpServer::Handler handler) {
    server_ = std::make_unique<HttpServer>(std::move(handler));
    loop_.emplace(*EventLoop::Create());
    ClusterAccess access;
    access.server = server_->url();
    http_ = std::make_unique<HttpClient>(*loop_, access, "test");
    for (const Resource& resource : PolicyResources("node1")) {
      if (resource.kind != kind_) continue;
      reflector_ = std::make_unique<Reflector>(
          *loop_, *http_, resource,
          Reflector::Callbacks{[this](std::vector<ObjectChange> changes) { Apply(changes); }, [this] { ++synced_; },
                               [this](const std::string& text) { problems_.push_back(text); }},
          silence_);
    }
    reflector_->Start();
  }

  void TearDown() override {
    reflector_.reset();
    http_.reset();
    server_.reset();
  }

  void Apply(const std::vector<ObjectChange>& changes) {
    std::string batch;
    for (const ObjectChange& change : changes) {
      const std::string name = change.object.id.ToString();
      batch += (batch.empty() ? "" : " ") + std::string(change.gone ? "-" : "+") + name;
      if (change.gone) {
        objects_.erase(name);
      } else {
        objects_[name] = change.object;
      }
    }
    batches_.push_back(batch);
  }

  // Runs the loop until `done`, for at most 20 s.
  void RunUntil(const std::function<bool()>& done) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::function<void()> look = [&] {
      if (done() || std::chrono::steady_clock::now() > end) return loop_->Stop();
      loop_->After(std::chrono::milliseconds(2), look);
    };
    look();
    loop_->Run();
    ASSERT_TRUE(done()) << "batches: " << ::testing::PrintToString(batches_)
                        << " problems: " << ::testing::PrintToString(problems_)
                        << " requests: " << ::testing::PrintToString(server_->Targets());
  }

  std::string VersionOf(const std::string& id) {
    const auto found = objects_.find(id);
    return found == objects_.end() ? "" : found->second.resource_version;
  }

  std::size_t Requests(const std::string& part) const {
    const auto targets = server_->Targets();
    return static_cast<std::size_t>(std::count_if(targets.begin(), targets.end(), [&](const std::string& target) {
      return target.find(part) != std::string::npos;
    }));
  }

  std::string kind_ = "Egress";
  std::chrono::milliseconds silence_{10'000};
  std::unique_ptr<HttpServer> server_;
  std::optional<EventLoop> loop_;
  std::unique_ptr<HttpClient> http_;
  std::unique_ptr<Reflector> reflector_;
  std::map<std::string, Object> objects_;
  std::vector<std::string> batches_;
  std::vector<std::string> problems_;
  int synced_ = 0;
};

TEST_F(ReflectorTest, AListOfSeveralPagesIsReadInPiecesAndThenWatchedFromItsVersion) {
  Start([](const Request& request, const Connection& connection) {
    if (IsWatch(request)) {
      connection.BeginChunks();
      connection.WaitClosed();
      return false;
    }
    if (request.target.find("continue=p2") != std::string::npos) {
      connection.Answer(200, List(40, Item("c", 9)));
      return true;
    }
    connection.BeginChunks();
    const std::string page = List(40, Item("a", 7) + "," + Item("b", 8), "p2");
    for (std::size_t at = 0; at < page.size(); at += 5) connection.Chunk(std::string_view(page).substr(at, 5));
    connection.EndChunks();
    return true;
  });
  RunUntil([&] { return reflector_->state().state == "watching"; });
  EXPECT_EQ(synced_, 1);
  EXPECT_EQ(objects_.size(), 3U);
  EXPECT_EQ(reflector_->state().objects, 3U);
  EXPECT_FALSE(reflector_->state().lost);
  EXPECT_EQ(Requests("resourceVersion=40"), 1U);
  EXPECT_EQ(Requests("allowWatchBookmarks=true"), 1U);
  const std::string& text = objects_["curl/a"].text;
  EXPECT_EQ(text.find("managedFields"), std::string::npos);
  EXPECT_NE(text.find("a ] and } in text"), std::string::npos);
  EXPECT_EQ(reflector_->UidOf({"curl", "a"}), "u-a");
}

TEST_F(ReflectorTest, EventsAreToldAsTheyComeHoweverTheyAreCut) {
  Start([](const Request& request, const Connection& connection) {
    if (!IsWatch(request)) {
      connection.Answer(200, List(10, Item("a", 7)));
      return true;
    }
    connection.BeginChunks();
    const std::string events = Event("ADDED", Item("b", 11)) + Bookmark(12) + Event("MODIFIED", Item("a", 13)) +
                               Event("DELETED", Item("b", 14));
    for (const char c : events) connection.Chunk(std::string_view(&c, 1));
    connection.WaitClosed();
    return false;
  });
  RunUntil([&] { return VersionOf("curl/a") == "13" && objects_.size() == 1; });
  EXPECT_TRUE(problems_.empty()) << ::testing::PrintToString(problems_);
}

TEST_F(ReflectorTest, AStreamThatIsCutInTheMiddleOfALineGoesOnWhereItWas) {
  std::atomic<int> watches = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (!IsWatch(request)) {
      connection.Answer(200, IsProbe(request) ? OnePage(request, 15, {{"a", 7}, {"b", 12}}) : List(10, Item("a", 7)));
      return true;
    }
    connection.BeginChunks();
    if (watches++ == 0) {
      const std::string half = Event("MODIFIED", Item("a", 13));
      connection.Chunk(Event("ADDED", Item("b", 12)) + half.substr(0, half.size() / 2));
      return false;
    }
    connection.Chunk(Event("MODIFIED", Item("a", 13)));
    connection.WaitClosed();
    return false;
  });
  RunUntil([&] { return VersionOf("curl/a") == "13"; });
  EXPECT_EQ(objects_.size(), 2U);
  EXPECT_EQ(Requests("resourceVersion=12"), 1U) << "after the event that was whole";
  EXPECT_EQ(Requests("limit=500"), 1U) << "no second list";
}

TEST_F(ReflectorTest, AVersionThatIsTooOldBringsTheDifferenceInOnePiece) {
  std::atomic<int> lists = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (IsWatch(request)) {
      connection.BeginChunks();
      if (request.target.find("resourceVersion=10&") != std::string::npos) {
        connection.Chunk(Event("ERROR", R"({"kind":"Status","code":410,"message":"too old"})"));
        connection.EndChunks();
        return true;
      }
      connection.WaitClosed();
      return false;
    }
    if (request.target.find("continue=p2") != std::string::npos) {
      connection.Answer(200, List(30, Item("d", 25)));
    } else if (lists++ == 0) {
      connection.Answer(200, List(10, Item("a", 7) + "," + Item("b", 8) + "," + Item("c", 9)));
    } else {
      connection.Answer(200, List(30, Item("a", 7) + "," + Item("b", 20), "p2"));
    }
    return true;
  });
  RunUntil([&] { return batches_.size() == 2; });
  EXPECT_EQ(batches_[1], "+curl/b +curl/d -curl/c") << "what is the same is not told, what is gone comes last";
  RunUntil([&] { return Requests("resourceVersion=30&") == 1; });
  EXPECT_EQ(synced_, 1);
}

TEST_F(ReflectorTest, VersionsThatHaveGoneBackAreSeenAndEverythingIsReadAgain) {
  std::atomic<int> lists = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (IsProbe(request)) {
      connection.Answer(200, List(60, Item("a", 50)));
    } else if (!IsWatch(request)) {
      connection.Answer(200, lists++ == 0 ? List(100, Item("a", 50) + "," + Item("b", 90)) : List(60, Item("a", 50)));
    } else if (lists == 1) {
      connection.BeginChunks();
      return false;  // the server ends, and etcd comes back from a backup
    } else {
      connection.BeginChunks();
      connection.WaitClosed();
      return false;
    }
    return true;
  });
  RunUntil([&] { return Requests("resourceVersion=60&") == 1; });
  EXPECT_EQ(batches_.back(), "+curl/a -curl/b") << "the same number may be another version";
}

// While etcd came back from a backup, others wrote so much that its versions are past ours again.
TEST_F(ReflectorTest, AnotherHistoryIsSeenByTheObjectThatChangedLast) {
  std::atomic<int> lists = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (IsProbe(request)) {
      connection.Answer(200, OnePage(request, 160, {{"a", 50}, {"c", 155}}));
    } else if (!IsWatch(request)) {
      connection.Answer(200, lists++ == 0 ? List(100, Item("b", 90) + "," + Item("a", 50))
                                          : List(160, Item("a", 50) + "," + Item("c", 155)));
    } else {
      connection.BeginChunks();
      if (lists > 1) connection.WaitClosed();
      return false;
    }
    return true;
  });
  RunUntil([&] { return Requests("resourceVersion=160&") == 1; });
  EXPECT_EQ(batches_.back(), "+curl/a +curl/c -curl/b");
}

TEST_F(ReflectorTest, AnotherHistoryIsSeenByTheNumberOfObjects) {
  std::atomic<int> lists = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (IsProbe(request)) {
      connection.Answer(200, OnePage(request, 160, {{"a", 50}, {"b", 40}}));
    } else if (!IsWatch(request)) {
      connection.Answer(200, List(lists++ == 0 ? 100 : 160, Item("a", 50) + "," + Item("b", 40)));
    } else {
      connection.BeginChunks();
      if (lists > 1) connection.WaitClosed();
      connection.Chunk(Event("DELETED", Item("b", 110)));
      return false;
    }
    return true;
  });
  RunUntil([&] { return Requests("resourceVersion=160&") == 1; });
  EXPECT_EQ(objects_.size(), 2U);
}

// A kind that is selected is not counted by the server.
TEST_F(ReflectorTest, AnotherHistoryOfPodsIsReadWhateverTheirVersions) {
  kind_ = "Pod";
  const auto pod = [](const std::string& name, int version) {
    return R"({"metadata":{"name":")" + name + R"(","namespace":"curl","uid":"u","resourceVersion":")" +
           std::to_string(version) + R"("},"spec":{"nodeName":"node1"}})";
  };
  std::atomic<int> lists = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (!IsWatch(request)) {
      connection.Answer(200, lists++ == 0 ? List(100, pod("a", 90) + "," + pod("b", 95)) : List(60, pod("a", 50)));
    } else {
      connection.BeginChunks();
      if (lists > 1) connection.WaitClosed();
      return false;
    }
    return true;
  });
  RunUntil([&] { return Requests("resourceVersion=60&") == 1; });
  EXPECT_EQ(batches_.back(), "+curl/a -curl/b");
}

TEST_F(ReflectorTest, TheSameHistoryIsWatchedOn) {
  std::atomic<int> watches = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (IsProbe(request)) {
      connection.Answer(200, OnePage(request, 160, {{"a", 50}, {"b", 90}}));
    } else if (!IsWatch(request)) {
      connection.Answer(200, List(100, Item("b", 90) + "," + Item("a", 50) + "," + Item("c", 20)));
    } else {
      connection.BeginChunks();
      if (watches++ > 0) connection.WaitClosed();
      connection.Chunk(Event("DELETED", Item("c", 110)));
      return false;
    }
    return true;
  });
  RunUntil([&] { return Requests("resourceVersion=110&") == 1; });
  EXPECT_EQ(Requests("limit=500"), 1U);
}

TEST_F(ReflectorTest, AWatchInWhichNothingHappensIsMadeAnewWithoutAWord) {
  silence_ = std::chrono::milliseconds(50);
  Start([&](const Request& request, const Connection& connection) {
    if (IsProbe(request)) {
      connection.Answer(200, OnePage(request, 160, {{"a", 50}}));
    } else if (!IsWatch(request)) {
      connection.Answer(200, List(100, Item("a", 50)));
    } else {
      connection.BeginChunks();
      connection.WaitClosed();
      return false;
    }
    return true;
  });
  RunUntil([&] { return Requests("watch=1") >= 3 && reflector_->state().state == "watching"; });
  EXPECT_EQ(problems_, std::vector<std::string>());
  EXPECT_FALSE(reflector_->state().lost);
  EXPECT_EQ(reflector_->state().error, "");
  EXPECT_EQ(Requests("limit=500"), 1U) << "nothing was missed, so nothing is listed again";
}

TEST_F(ReflectorTest, AWatchInWhichAChangeWasMissedIsListedAgain) {
  silence_ = std::chrono::milliseconds(50);
  std::atomic<int> lists = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (IsProbe(request)) {
      connection.Answer(200, OnePage(request, 160, {{"a", 50}, {"b", 120}}));
    } else if (!IsWatch(request)) {
      connection.Answer(200, lists++ == 0 ? List(100, Item("a", 50)) : List(160, Item("a", 50) + "," + Item("b", 120)));
    } else {
      connection.BeginChunks();
      connection.WaitClosed();
      return false;
    }
    return true;
  });
  RunUntil([&] { return objects_.contains("curl/b"); });
  EXPECT_EQ(problems_, std::vector<std::string>());
}

TEST_F(ReflectorTest, WhatTheServerAsksForIsWaited) {
  std::atomic<int> lists = 0;
  std::chrono::steady_clock::time_point first;
  std::chrono::steady_clock::time_point second;
  Start([&](const Request& request, const Connection& connection) {
    if (IsWatch(request)) {
      connection.BeginChunks();
      connection.WaitClosed();
      return false;
    }
    if (lists++ == 0) {
      first = std::chrono::steady_clock::now();
      connection.Answer(429, R"({"kind":"Status","message":"too many"})", "Retry-After: 2\r\n");
    } else {
      second = std::chrono::steady_clock::now();
      connection.Answer(200, List(10, ""));
    }
    return true;
  });
  RunUntil([&] { return synced_ == 1; });
  EXPECT_GE(second - first, std::chrono::seconds(2));
  ASSERT_EQ(problems_.size(), 1U);
  EXPECT_EQ(problems_[0], "Egress: 429: too many");
}

TEST_F(ReflectorTest, AListThatIsRefusedIsNeverAnEmptyOne) {
  std::atomic<bool> forbidden = false;
  Start([&](const Request& request, const Connection& connection) {
    if (forbidden) {
      connection.Answer(403, R"({"kind":"Status","message":"egresses is forbidden"})");
    } else if (IsWatch(request)) {
      connection.BeginChunks();
      forbidden = true;
      return false;
    } else {
      connection.Answer(200, List(10, Item("a", 7)));
    }
    return true;
  });
  RunUntil([&] { return reflector_->state().error.find("403: egresses is forbidden") != std::string::npos; });
  EXPECT_EQ(objects_.size(), 1U);
  EXPECT_TRUE(reflector_->state().lost);
  EXPECT_EQ(reflector_->state().state, "waiting");
}

TEST_F(ReflectorTest, AKindThatIsNotInstalledCountsAsEmptyAndIsWaitedFor) {
  std::atomic<bool> installed = false;
  Start([&](const Request& request, const Connection& connection) {
    if (!installed) {
      connection.Answer(404, R"({"kind":"Status","message":"could not find the requested resource"})");
    } else if (IsWatch(request)) {
      connection.BeginChunks();
      connection.WaitClosed();
      return false;
    } else {
      connection.Answer(200, List(10, Item("a", 7)));
    }
    return true;
  });
  RunUntil([&] { return reflector_->state().state == "absent"; });
  EXPECT_EQ(synced_, 1);
  EXPECT_TRUE(objects_.empty());
  EXPECT_FALSE(reflector_->state().lost);
  installed = true;
  RunUntil([&] { return objects_.size() == 1; });
}

TEST_F(ReflectorTest, ANotFoundThatTheServerDoesNotConfirmLeavesWhatIsKnown) {
  std::atomic<int> lists = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (request.target == "/apis/policy.openservicemesh.io/v1alpha1") {
      connection.Answer(200, R"({"kind":"APIResourceList","resources":[{"name":"egresses","kind":"Egress"}]})");
    } else if (IsWatch(request)) {
      connection.BeginChunks();
      return false;
    } else if (IsProbe(request) && lists < 3) {
      ++lists;
      connection.Answer(404, R"({"kind":"Status","message":"not found"})");
    } else {
      connection.Answer(200, List(10, Item("a", 7)));
    }
    return true;
  });
  RunUntil([&] { return lists >= 1 && Requests("limit=500") >= 2; });
  EXPECT_EQ(objects_.size(), 1U);
  EXPECT_EQ(batches_.size(), 1U);
}

TEST_F(ReflectorTest, AKindThatIsTakenAwayIsGoneOnceTheServerSaysSoTwice) {
  std::atomic<bool> gone = false;
  Start([&](const Request& request, const Connection& connection) {
    if (gone) {
      connection.Answer(404, R"({"kind":"Status","message":"not found"})");
    } else if (IsWatch(request)) {
      connection.BeginChunks();
      gone = true;
      return false;
    } else {
      connection.Answer(200, List(10, Item("a", 7)));
    }
    return true;
  });
  RunUntil([&] { return reflector_->state().state == "absent"; });
  EXPECT_EQ(batches_.back(), "-curl/a");
  EXPECT_EQ(Requests("GET /apis/policy.openservicemesh.io/v1alpha1"), Requests("egresses") + 2);
}

TEST_F(ReflectorTest, AnObjectThatWasReadByItselfIsNotOverwrittenByAnOlderEvent) {
  std::mutex mutex;
  std::condition_variable learned;
  bool go = false;
  Start([&](const Request& request, const Connection& connection) {
    if (!IsWatch(request)) {
      connection.Answer(200, List(10, Item("a", 7)));
      return true;
    }
    connection.BeginChunks();
    {
      std::unique_lock lock(mutex);  // gone with the test, before the connection
      learned.wait(lock, [&] { return go; });
    }
    connection.Chunk(Event("MODIFIED", Item("a", 11)) + Event("ADDED", Item("b", 13)));
    connection.WaitClosed();
    return false;
  });
  RunUntil([&] { return reflector_->state().state == "watching"; });
  auto object = ParseObject(reflector_->resource(), reflector_->version(), Item("a", 12));
  ASSERT_TRUE(object.ok());
  reflector_->Learn(*std::move(object));
  EXPECT_EQ(VersionOf("curl/a"), "12");
  {
    const std::lock_guard lock(mutex);
    go = true;
  }
  learned.notify_all();
  RunUntil([&] { return objects_.contains("curl/b"); });
  EXPECT_EQ(VersionOf("curl/a"), "12");
}

TEST_F(ReflectorTest, AServerThatIsNotThereIsTriedAgain) {
  std::atomic<int> requests = 0;
  Start([&](const Request& request, const Connection& connection) {
    if (requests++ < 2) return false;  // closed without an answer
    if (IsWatch(request)) {
      connection.BeginChunks();
      connection.WaitClosed();
      return false;
    }
    connection.Answer(200, List(10, Item("a", 7)));
    return true;
  });
  RunUntil([&] { return synced_ == 1; });
  ASSERT_FALSE(problems_.empty());
  EXPECT_NE(problems_[0].find("cannot reach " + server_->url()), std::string::npos) << problems_[0];
  EXPECT_EQ(reflector_->state().error, "");
}

}  // namespace
}  // namespace egress::source
