// The kernel's code and PolicyIndex give the same verdicts, before, during and after each of many changes that the
// agent's own sync code writes.

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "agent/base/address_forms.h"
#include "tests/bpf/expectation.h"

namespace egress::test {
namespace {

class Differential {
 public:
  Differential(std::uint64_t seed, PodFleet* fleet) : random_(seed), fleet_(*fleet) {}

  // A random change, compared in all states that a pod can be in while it comes into force.
  void Round() {
    fleet_.Sweep();  // as the agent does before each change
    const bool restart = random_.Chance(4);
    const auto staged = restart ? fleet_.Restart() : StageChange();
    ASSERT_TRUE(staged) << staged.error().message;
    const auto counted = fleet_.SetConnections(&random_);
    ASSERT_TRUE(counted) << counted.error().message;
    ASSERT_NO_FATAL_FAILURE(CompareAll(restart ? "an agent has taken over" : "staged, nothing switched"));
    for (FleetPod& pod : fleet_.pods()) {
      if (random_.Chance(50)) fleet_.Switch(pod);
    }
    ASSERT_NO_FATAL_FAILURE(CompareAll("some pods switched"));
    for (FleetPod& pod : fleet_.pods()) fleet_.Switch(pod);
    fleet_.Finish();
    ASSERT_NO_FATAL_FAILURE(CompareAll("all pods switched"));
    if (!random_.Chance(40)) return;
    fleet_.Sweep();
    ASSERT_NO_FATAL_FAILURE(CompareAll("swept"));
  }

  std::size_t pairs() const { return pairs_; }
  std::size_t allowed() const { return allowed_; }
  // Of those, destinations that stand for IPv4 addresses.
  std::size_t embedded_allowed() const { return embedded_allowed_; }
  std::size_t embedded_denied() const { return embedded_denied_; }

 private:
  static constexpr std::size_t kQuestions = 100;  // for each pod and state

  Result<void> StageChange() {
    std::map<std::string, std::vector<policy::PolicyPtr>> policies;
    for (const auto& [ns, current] : fleet_.policies()) {
      if (random_.Chance(60)) policies[ns] = random_.Change(ns, current);
    }
    if (!random_.Chance(30)) return fleet_.Stage(policies, std::nullopt);
    auto network = random_.Network();
    network.other_protocols_allowed = fleet_.network().other_protocols_allowed;
    return fleet_.Stage(policies, network);
  }

  // Half of the questions are about what the pod sees, half about what has been staged.
  Question QuestionFor(const FleetPod& pod) {
    if (random_.Chance(50)) return random_.Ask(pod.seen->network, pod.seen->policies);
    return random_.Ask(fleet_.network(), fleet_.policies().at(pod.ns));
  }

  void CompareAll(const char* state) {
    std::vector<Question> questions;
    std::vector<judge_probe> probes;
    for (const FleetPod& pod : fleet_.pods()) {
      for (std::size_t i = 0; i < kQuestions; ++i) {
        questions.push_back(QuestionFor(pod));
        probes.push_back(ProbeOf(pod, questions.back()));
      }
    }
    const auto done = fleet_.Ask(probes);
    ASSERT_TRUE(done) << done.error().message;
    for (std::size_t i = 0; i < probes.size(); ++i) {
      const FleetPod& pod = fleet_.pods()[i / kQuestions];
      const Question& question = questions[i];
      ASSERT_EQ(Difference(fleet_, pod, question, probes[i]), "")
          << state << ", pod " << pod.cookie << (pod.unguarded ? " (unguarded)" : "") << ", "
          << question.destination.ToString() << " port " << question.port << " protocol "
          << static_cast<int>(question.protocol) << " name '" << question.name << "'";
      ++pairs_;
      allowed_ += Passes(probes[i]) ? 1 : 0;
      if (AddressForms(question.destination).size() > 1) ++(Passes(probes[i]) ? embedded_allowed_ : embedded_denied_);
    }
  }

  RandomWorld random_;
  PodFleet& fleet_;
  std::size_t pairs_ = 0;
  std::size_t allowed_ = 0;
  std::size_t embedded_allowed_ = 0;
  std::size_t embedded_denied_ = 0;
};

// EGRESS_TEST_SEED and EGRESS_TEST_ROUNDS: for longer runs by hand.
std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(Decide, EqualsTheKernelsCodeOnRandomPoliciesAndFlows) {
  const std::uint64_t seed = FromEnvironment("EGRESS_TEST_SEED", 20240607);
  const std::uint64_t rounds = FromEnvironment("EGRESS_TEST_ROUNDS", 120);
  const auto begin = std::chrono::steady_clock::now();
  auto fleet =
      PodFleet::Open("/sys/fs/bpf/egress-test-" + std::to_string(::getpid()) + "-decide", {"curl", "shop", "web"});
  ASSERT_TRUE(fleet) << fleet.error().message;
  Differential test(seed, fleet->get());
  for (std::uint64_t round = 0; round < rounds; ++round) {
    SCOPED_TRACE("seed " + std::to_string(seed) + ", round " + std::to_string(round));
    ASSERT_NO_FATAL_FAILURE(test.Round());
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%zu pairs of a policy set and a flow, %.1f %% of them allowed, %.1f s\n", test.pairs(),
              100.0 * static_cast<double>(test.allowed()) / static_cast<double>(test.pairs()), took.count());
  std::printf("%zu of them to an address that stands for an IPv4 one are allowed, %zu denied\n",
              test.embedded_allowed(), test.embedded_denied());
  EXPECT_GE(test.pairs(), 100000u);
  EXPECT_GE(test.allowed() * 3, test.pairs()) << "flows must hit the rules, else nothing is shown";
  EXPECT_GE(test.embedded_allowed(), test.pairs() / 100);
  EXPECT_GE(test.embedded_denied(), test.pairs() / 100);
  EXPECT_LE(test.allowed() * 10, test.pairs() * 9) << "denials must be there too";
}

}  // namespace
}  // namespace egress::test
