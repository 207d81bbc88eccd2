// Reads real maps, pinned in a bpffs of the test's own.
#include "agent/datapath/pinned_view.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "agent/base/fd.h"
#include "agent/datapath/pinned_map.h"

namespace egress::datapath {
namespace {

class PinnedViewTest : public ::testing::Test {
 protected:
  // The mount namespace of the test process becomes its own, so nothing is left behind.
  static void SetUpTestSuite() {
    private_mounts_ = ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
  }

  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "pinned-XXXXXX";
    directory_ = ::mkdtemp(name.data());
    if (!private_mounts_ || ::mount("bpf", directory_.c_str(), "bpf", 0, nullptr) != 0) {
      GTEST_SKIP() << "a bpffs of its own needs root: " << std::strerror(errno);
    }
    pods_ = Make("pods", BPF_MAP_TYPE_HASH, sizeof(std::uint64_t), sizeof(struct pod), 64);
    states_ = Make("states", BPF_MAP_TYPE_ARRAY, sizeof(std::uint32_t), sizeof(pod_state), 64);
    config_ = Make("config", BPF_MAP_TYPE_ARRAY, sizeof(std::uint32_t), sizeof(egress_config), 1);
    networks_ = Make("networks", BPF_MAP_TYPE_LPM_TRIE, sizeof(network_key), sizeof(network), 64);
    ports_ = Make("ports", BPF_MAP_TYPE_HASH, sizeof(__be16), sizeof(network), 64);
    routes_ = Make("routes", BPF_MAP_TYPE_HASH, sizeof(route_key), sizeof(route), 4096);
  }

  void TearDown() override {
    ::umount2(directory_.c_str(), MNT_DETACH);
    std::filesystem::remove(directory_);
  }

  Fd Make(const char* name, bpf_map_type type, std::uint32_t key, std::uint32_t value, std::uint32_t entries) {
    const bool array = type == BPF_MAP_TYPE_ARRAY;
    LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = array ? 0U : std::uint32_t{BPF_F_NO_PREALLOC});
    Fd map(::bpf_map_create(type, name, key, value, entries, &options));
    EXPECT_TRUE(map.valid()) << name << ": " << std::strerror(errno);
    EXPECT_EQ(::bpf_obj_pin(map.get(), (directory_ + "/" + name).c_str()), 0) << name;
    return map;
  }

  template <typename Key, typename Value>
  static void Put(const Fd& map, const Key& key, const Value& value) {
    ASSERT_EQ(::bpf_map_update_elem(map.get(), &key, &value, BPF_ANY), 0) << std::strerror(errno);
  }

  void PutPod(std::uint64_t cookie, std::uint32_t slot, const std::string& name, pod_state state) {
    struct pod pod {};
    pod.slot = slot;
    name.copy(pod.name, sizeof pod.name - 1);
    std::string("curl/curl").copy(pod.service_account, sizeof pod.service_account - 1);
    pod.address_count = 1;
    const Address address = *ParseAddress("10.244.1.10");
    std::copy(address.bytes.begin(), address.bytes.end(), pod.addresses[0]);
    Put(pods_, cookie, pod);
    Put(states_, slot, state);
  }

  static pod_state Governed(std::uint32_t generation) {
    pod_state state{};
    state.generation = generation;
    state.ruleset = 1;
    state.governed = 1;
    return state;
  }

  static std::string Document(const std::string& name, std::size_t hosts = 1) {
    policy::EffectivePolicy policy;
    policy.id = {"curl", name};
    policy.service_accounts = {{"curl", "curl"}};
    policy.ports = {{443, policy::Protocol::kHttps}};
    policy.cidrs = {Prefix{}};
    for (std::size_t i = 0; i < hosts; ++i) policy.hosts.push_back("host" + std::to_string(1000 + i) + ".test");
    return policy::ToDocument(policy);
  }

  void PutDocument(const std::string& text, std::uint32_t document, std::uint32_t from, std::uint32_t until) {
    const auto chunks = static_cast<std::uint32_t>((text.size() + EGRESS_ROUTE_TEXT - 1) / EGRESS_ROUTE_TEXT);
    for (std::uint32_t i = 0; i < chunks; ++i) {
      const std::string part = text.substr(std::size_t{i} * EGRESS_ROUTE_TEXT, EGRESS_ROUTE_TEXT);
      route chunk{from, until, chunks, static_cast<std::uint32_t>(part.size()), {}};
      part.copy(chunk.text, sizeof chunk.text);
      Put(routes_, route_key{document, i}, chunk);
    }
  }

  void DeleteDocument(std::uint32_t document) {
    for (std::uint32_t i = 0;; ++i) {
      const route_key key{document, i};
      if (::bpf_map_delete_elem(routes_.get(), &key) != 0) return;
    }
  }

  static bool private_mounts_;
  std::string directory_;
  Fd pods_, states_, config_, networks_, ports_, routes_;
};

bool PinnedViewTest::private_mounts_ = false;

TEST_F(PinnedViewTest, PodsAreSortedAndFreeSlotsLeftOut) {
  PutPod(11, 1, "curl/b", Governed(1));
  PutPod(12, 2, "curl/a", Governed(1));
  PutPod(13, 3, "curl/gone", pod_state{});
  const auto view = PinnedView::Open(directory_);
  ASSERT_TRUE(view.ok()) << view.error().message;
  const auto pods = view->Pods();
  ASSERT_TRUE(pods.ok()) << pods.error().message;
  ASSERT_EQ(pods->size(), 2U);
  EXPECT_EQ((*pods)[0].name(), "curl/a");
  EXPECT_EQ((*pods)[0].cookie, 12U);
  EXPECT_EQ((*pods)[1].name(), "curl/b");
  EXPECT_EQ((*pods)[1].service_account(), "curl/curl");
  EXPECT_EQ((*pods)[1].addresses(), std::vector<Address>{*ParseAddress("10.244.1.10")});
}

TEST_F(PinnedViewTest, APodSeesThePoliciesOfItsGenerationAndItsSwitches) {
  pod_state state = Governed(5);
  state.audit = 1;
  PutPod(11, 1, "curl/curl", state);
  PutDocument(Document("old"), 1, 1, 5);
  PutDocument(Document("wide", 300), 2, 5, 0);  // several chunks
  PutDocument(Document("next"), 3, 6, 0);
  const network_key mesh{EGRESS_NETWORK_KEY_FAMILY + 104, htons(4), {}, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10}};
  Put(networks_, mesh, network{2, 0, EGRESS_NET_MESH});
  Put(ports_, htons(3306), network{2, 0, EGRESS_NET_EXCLUDED});
  const auto view = PinnedView::Open(directory_);
  ASSERT_TRUE(view.ok()) << view.error().message;
  const auto policy = view->PolicyOf("curl/curl");
  ASSERT_TRUE(policy.ok()) << policy.error().message;
  ASSERT_TRUE(policy->has_value());
  ASSERT_EQ((*policy)->policies.size(), 1U);
  EXPECT_EQ((*policy)->policies[0]->id.ToString(), "curl/wide");
  EXPECT_EQ((*policy)->policies[0]->hosts.size(), 300U);
  EXPECT_EQ((*policy)->network.mesh, std::vector<Prefix>{*ParsePrefix("10.0.0.0/8")});
  EXPECT_EQ((*policy)->network.excluded_ports, std::vector<std::uint16_t>{3306});
  EXPECT_TRUE((*policy)->network.audit);
  EXPECT_FALSE((*policy)->network.open);
  const auto nobody = view->PolicyOf("curl/nobody");
  ASSERT_TRUE(nobody.ok());
  EXPECT_FALSE(nobody->has_value());
}

TEST_F(PinnedViewTest, APodWithoutRulesetOrUnguardedHasNoPolicies) {
  pod_state none = Governed(1);
  none.ruleset = 0;
  PutPod(11, 1, "curl/none", none);
  pod_state unguarded = Governed(1);
  unguarded.unguarded = 1;
  PutPod(12, 2, "curl/unguarded", unguarded);
  PutPod(13, 3, "curl/guarded", Governed(1));
  PutDocument(Document("web"), 1, 1, 0);
  Put(ports_, htons(3306), network{1, 0, EGRESS_NET_EXCLUDED});
  const auto view = PinnedView::Open(directory_);
  ASSERT_TRUE(view.ok());
  const auto all = view->Policies();
  ASSERT_TRUE(all.ok()) << all.error().message;
  ASSERT_EQ(all->size(), 3U);
  EXPECT_EQ((*all)[0].policies.size(), 1U);  // guarded
  EXPECT_FALSE((*all)[0].network.excluded_ports.empty());
  EXPECT_TRUE((*all)[1].policies.empty());  // none
  EXPECT_FALSE((*all)[1].network.excluded_ports.empty());
  EXPECT_TRUE((*all)[2].policies.empty());  // unguarded
  EXPECT_TRUE((*all)[2].network.excluded_ports.empty());
}

TEST_F(PinnedViewTest, MapsOfAnotherLayoutAreNamed) {
  std::filesystem::remove(directory_ + "/pods");
  Make("pods", BPF_MAP_TYPE_HASH, sizeof(std::uint64_t), sizeof(struct pod) + 8, 64);
  const auto view = PinnedView::Open(directory_);
  ASSERT_FALSE(view.ok());
  EXPECT_NE(view.error().message.find("map pods has another layout"), std::string::npos) << view.error().message;
}

TEST_F(PinnedViewTest, WithoutMapsTheMessageSaysWhatToDo) {
  const auto view = PinnedView::Open(directory_ + "/nowhere");
  ASSERT_FALSE(view.ok());
  EXPECT_NE(view.error().message.find("--bpffs"), std::string::npos) << view.error().message;
}

TEST_F(PinnedViewTest, MapUseCountsEntries) {
  PutPod(11, 1, "curl/curl", Governed(1));
  PutDocument(Document("web", 300), 1, 1, 0);
  const auto view = PinnedView::Open(directory_);
  ASSERT_TRUE(view.ok());
  std::map<std::string, std::pair<std::uint64_t, std::uint64_t>> uses;
  for (const PinnedMapUse& use : view->MapUse()) uses[use.map] = {use.entries, use.capacity};
  EXPECT_EQ(uses["pods"], (std::pair<std::uint64_t, std::uint64_t>(1, 64)));
  EXPECT_GT(uses["routes"].first, 3U);
  EXPECT_EQ(uses.count("hosts"), 0U);  // not pinned here
}

TEST_F(PinnedViewTest, AllEntriesOfAFullHashAreReadOnce) {
  const Fd map = Make("full", BPF_MAP_TYPE_HASH, 4, 4, 5000);
  for (std::uint32_t i = 0; i < 5000; ++i) Put(map, i, i + 1);
  const auto opened = PinnedMap::Open(directory_, "full", 4, 4);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const auto entries = opened->Entries<std::uint32_t, std::uint32_t>();
  ASSERT_TRUE(entries.ok()) << entries.error().message;
  std::set<std::uint32_t> keys;
  for (const auto& [key, value] : *entries) {
    EXPECT_EQ(value, key + 1);
    keys.insert(key);
  }
  EXPECT_EQ(entries->size(), 5000U);
  EXPECT_EQ(keys.size(), 5000U);
}

// The agent's way of a change: write beside, store the pod's word, sweep. No reading shows none or two of them.
TEST_F(PinnedViewTest, AReaderSeesOneVersionWhileTheAgentChangesIt) {
  PutPod(11, 1, "curl/curl", Governed(1));
  PutDocument(Document("v1", 200), 1, 1, 0);
  std::atomic<std::uint32_t> changes = 0;
  const std::jthread writer([&](const std::stop_token& stop) {
    for (std::uint32_t n = 2; !stop.stop_requested(); ++n) {
      PutDocument(Document("v" + std::to_string(n), 200), n, n, 0);
      PutDocument(Document("v" + std::to_string(n - 1), 200), n - 1, n - 1, n);
      Put(states_, std::uint32_t{1}, Governed(n));
      DeleteDocument(n - 1);
      changes = n;
      std::this_thread::yield();
    }
  });
  const auto view = PinnedView::Open(directory_);
  ASSERT_TRUE(view.ok());
  int read = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto policy = view->PolicyOf("curl/curl");
    // Under a writer that never rests a reading may be given up, but it never gives a wrong answer.
    if (!policy) continue;
    ++read;
    ASSERT_TRUE(policy->has_value());
    ASSERT_EQ((*policy)->policies.size(), 1U);
    EXPECT_EQ((*policy)->policies[0]->id.name, "v" + std::to_string((*policy)->pod.state.generation));
  }
  EXPECT_GT(read, 0);
  EXPECT_GT(changes, 1U);
}

}  // namespace
}  // namespace egress::datapath
