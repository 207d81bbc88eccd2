// Names are found in the kernel under the hash that user space has given them (bpf/hash.h), and compared in full.

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>

#include "bpf/hash.h"
#include "tests/bpf/boundary_fixture.h"
#include "tests/bpf/judge_program.h"

namespace egress::test {
namespace {

class Hash : public Boundary {
 protected:
  void SetUp() override {
    Boundary::SetUp();
    auto made = JudgeProgram::Load(pod_->kernel());
    ASSERT_TRUE(made) << made.error().message;
    program_ = *std::move(made);
  }

  static void Allow(std::vector<std::string> hosts) {
    policy::EffectivePolicy rule;
    rule.id = {"curl", "names"};
    rule.ports = {{443, policy::Protocol::kHttps}};
    rule.cidrs = {Prefix{}};
    rule.hosts = std::move(hosts);
    std::sort(rule.hosts.begin(), rule.hosts.end());
    ASSERT_TRUE(pod_->SetPolicies({std::make_shared<const policy::EffectivePolicy>(rule)}));
  }

  bool Finds(const std::string& name) {
    judge_probe probe{};
    probe.cookie = pod_->cookie();
    std::copy_n(Places()[0].outside.bytes.begin(), 16, probe.destination);
    probe.port = htons(443);
    probe.protocol = IPPROTO_TCP;
    name.copy(probe.hello.name, sizeof probe.hello.name);
    probe.hello.name_length = static_cast<__u16>(name.size());
    const auto done = program_->Run(std::span(&probe, 1));
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_EQ(probe.kind, EGRESS_SOCKET_TLS);
    return probe.named != 0;
  }

  std::unique_ptr<JudgeProgram> program_;
};

// Labels of `l`, and the length in front so that no name is the end of another.
std::string NameOfLength(std::size_t length) {
  std::string name = "n" + std::to_string(length) + "-";
  while (name.size() < length) name += name.size() % 60 == 59 && name.size() + 1 < length ? '.' : 'l';
  name.resize(length);
  return name;
}

TEST_F(Hash, IsTheSameInTheKernelForNamesOfAllLengths) {
  std::vector<std::string> names;
  for (std::size_t length = 6; length <= 253; ++length) names.push_back(NameOfLength(length));
  for (const char c : std::string("abcxyz019_-")) names.emplace_back(1, c);
  Allow(names);
  for (const std::string& name : names) {
    EXPECT_TRUE(Finds(name)) << name;
    EXPECT_FALSE(Finds(name + "x")) << name;
    EXPECT_FALSE(Finds("x" + name)) << name;
    EXPECT_FALSE(Finds("x." + name)) << name;
    if (name.size() > 1) {
      EXPECT_FALSE(Finds(name.substr(1))) << name;
    }
  }
}

TEST_F(Hash, IsTheSameForEveryWildcardAroundAName) {
  std::vector<std::string> names;
  for (std::size_t length = 6; length <= 250; ++length) names.push_back("*." + NameOfLength(length));
  Allow(names);
  for (const std::string& wildcard : names) {
    const std::string name = wildcard.substr(2);
    EXPECT_TRUE(Finds("a." + name)) << name;
    EXPECT_FALSE(Finds(name)) << name;
    EXPECT_FALSE(Finds("a" + name)) << name;
    EXPECT_TRUE(Finds(std::string(255 - name.size() - 1, 'a') + "." + name)) << name;
  }
  EXPECT_TRUE(Finds("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.u.v.w.x.y.z." + names.front().substr(2)));
}

// Two names with one hash do not come by chance; an entry under the hash of another name stands for them.
TEST_F(Hash, IsNotAllThatIsCompared) {
  Allow({"right.test"});
  ASSERT_TRUE(Finds("right.test"));
  const auto hosts = pod_->kernel().Map<host_key, struct host>("hosts");
  host_key key{};
  struct host entry = {};
  hosts.ForEachKey([&](const host_key& known) {
    const auto value = hosts.Get(known);
    if (value && std::string_view(value->name) == "right.test") key = known, entry = *value;
  });
  ASSERT_STREQ(entry.name, "right.test");
  egress_hash hash = {};
  egress_hash_start(&hash, pod_->kernel().config()->hash_key);
  const std::string wrong = "wrong.test";
  for (auto at = wrong.rbegin(); at != wrong.rend(); ++at) egress_hash_add(&hash, static_cast<__u8>(*at));
  key.hash = egress_hash_value(&hash);
  ASSERT_TRUE(hosts.Set(key, entry));
  EXPECT_FALSE(Finds(wrong)) << "the entry under its hash bears another name";
  wrong.copy(entry.name, sizeof entry.name);
  ASSERT_TRUE(hosts.Set(key, entry));
  EXPECT_TRUE(Finds(wrong)) << "the twin";
  ASSERT_TRUE(hosts.Delete(key));
}

}  // namespace
}  // namespace egress::test
