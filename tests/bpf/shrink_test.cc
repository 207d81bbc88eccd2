// Taking a part out of a policy never lets more pass: from the manifests by way of the compiled rules to the kernel.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "agent/base/address_forms.h"
#include "agent/policy/store.h"
#include "tests/bpf/expectation.h"

namespace egress::test {
namespace {

using Words = std::vector<std::string>;

// An Egress as a user writes it.
struct Manifest {
  std::string name;
  Words sources, hosts, cidrs, ports, groups;
};

std::string List(const char* key, const Words& words) {
  if (words.empty()) return "";
  std::string text = std::string("  ") + key + ": [";
  for (const std::string& word : words) text += (word == words.front() ? "" : ", ") + word;
  return text + "]\n";
}

std::string ToText(const Manifest& manifest) {
  const auto wrap = [](Words words, const std::string& before, const std::string& behind) {
    for (std::string& word : words) word = before + word + behind;
    return words;
  };
  return "---\napiVersion: policy.openservicemesh.io/v1alpha1\nkind: Egress\nmetadata: {name: " + manifest.name +
         ", namespace: shop}\nspec:\n" +
         List("sources", wrap(manifest.sources, "{kind: ServiceAccount, namespace: shop, name: ", "}")) +
         List("hosts", wrap(manifest.hosts, "'", "'")) + List("ipAddresses", wrap(manifest.cidrs, "'", "'")) +
         List("ports", manifest.ports) +
         List("matches",
              wrap(manifest.groups, "{apiGroup: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, name: ", "}"));
}

constexpr const char* kWorld = R"(
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: get, namespace: shop}
spec: {matches: [{name: get, pathRegex: /get, methods: [GET]}]}
---
apiVersion: specs.smi-spec.io/v1alpha4
kind: HTTPRouteGroup
metadata: {name: any-path, namespace: shop}
spec: {matches: [{name: any, pathRegex: '.*', headers: [{x-token: 'a.*'}]}, {name: post, methods: [POST]}]}
)";

class Shrink : public testing::Test {
 protected:
  static std::vector<policy::PolicyPtr> PoliciesOf(const std::vector<Manifest>& manifests) {
    policy::Store store{policy::Settings()};
    std::string text = kWorld;
    for (const Manifest& manifest : manifests) text += ToText(manifest);
    store.SetUnit("world", text);
    store.Commit();
    return store.PoliciesOf({"shop", "sa"});
  }

  template <typename List>
  const auto& Any(const List& list) {
    return list[random_.Below(list.size())];
  }
  Words Some(const Words& all, std::size_t least) {
    Words some;
    for (const std::string& word : all) {
      if (random_.Chance(30)) some.push_back(word);
    }
    while (some.size() < least) some.push_back(Any(all));
    std::sort(some.begin(), some.end());
    some.erase(std::unique(some.begin(), some.end()), some.end());
    return some;
  }

  Manifest AnyManifest(std::size_t number) {
    Manifest manifest{"p" + std::to_string(number), Some({"sa", "other"}, 1), {}, {}, {}, {}};
    if (random_.Chance(80)) manifest.sources = {"sa"};
    manifest.hosts = Some({"a.test", "b.test", "*.test", "x.a.test", "*.a.test", "198.51.100.7"}, 1);
    if (random_.Chance(70)) {
      manifest.cidrs = Some({"198.51.100.0/24", "198.51.100.128/25", "198.51.100.7/32", "0.0.0.0/0", "::/0",
                             "2001:db8:1::/48", "64:ff9b::/96", "203.0.113.0/24"},
                            1);
    }
    manifest.ports =
        Some({"{number: 443, protocol: https}", "{number: 80, protocol: http}", "{number: 443, protocol: http}",
              "{number: 5000, protocol: tcp}", "{number: 443, protocol: tcp}"},
             1);
    if (random_.Chance(50)) manifest.groups = Some({"get", "any-path", "missing"}, 1);
    return manifest;
  }

  // Takes one part out. The last of a list stays, where none would mean any: then the whole Egress goes. A last source,
  // host or port that goes leaves an Egress that is not valid, which grants nothing.
  void TakeAPart(std::vector<Manifest>* manifests) {
    const std::size_t at = random_.Below(manifests->size());
    Manifest& manifest = (*manifests)[at];
    const auto take = [&](Words* list, std::size_t least) {
      if (list->size() <= least) return false;
      list->erase(list->begin() + static_cast<std::ptrdiff_t>(random_.Below(list->size())));
      return true;
    };
    bool taken = false;
    switch (random_.Below(6)) {
      case 0: taken = take(&manifest.hosts, OnlyTcp(manifest) ? 1 : 0); break;
      case 1: taken = take(&manifest.ports, 0); break;
      case 2: taken = take(&manifest.cidrs, 1); break;
      case 3: taken = take(&manifest.sources, 0); break;
      case 4: taken = take(&manifest.groups, 1); break;
      default: break;
    }
    if (taken) return;
    manifests->erase(manifests->begin() + static_cast<std::ptrdiff_t>(at));
  }
  static bool OnlyTcp(const Manifest& manifest) {
    return std::all_of(manifest.ports.begin(), manifest.ports.end(),
                       [](const std::string& port) { return port.find("tcp") != std::string::npos; });
  }

  // The same by Decide, requests included.
  void CompareDecisions(const policy::PolicyIndex& more, const policy::PolicyIndex& less, const Question& question) {
    const auto before = more.Connect({}, question.destination, question.port);
    const auto after = less.Connect({}, question.destination, question.port);
    ASSERT_TRUE(before.allowed || !after.allowed);
    ASSERT_TRUE(before.any_bytes || !after.any_bytes);
    static const std::vector<std::pair<std::string_view, std::string_view>> kHeaders = {{"X-Token", "abc"}};
    policy::HttpRequest request{
        random_.Chance(50) ? "GET" : "POST", question.name, random_.Chance(50) ? "/get" : "/put", {}};
    if (random_.Chance(50)) request.headers = kHeaders;
    const auto http = [&](const policy::PolicyIndex& index) {
      return index.Http(question.destination, question.port, request).allowed;
    };
    ASSERT_TRUE(http(more) || !http(less)) << request.method << " " << request.path;
    http_allowed_ += http(less) ? 1 : 0;
  }

  RandomWorld random_{20240918};
  std::size_t http_allowed_ = 0;
};

// A pod's own addresses pass whatever the rules say, and are different ones for the two pods.
bool IsOfThePods(PodFleet& fleet, const Address& address) {
  const AddressForms forms(address);
  return std::any_of(fleet.pods().begin(), fleet.pods().end(), [&](const FleetPod& pod) {
    return std::find_first_of(forms.begin(), forms.end(), pod.own.begin(), pod.own.end()) != forms.end();
  });
}

TEST_F(Shrink, NeverLetsMorePass) {
  auto opened = PodFleet::Open("/sys/fs/bpf/egress-test-" + std::to_string(::getpid()) + "-shrink", {"less", "more"});
  ASSERT_TRUE(opened) << opened.error().message;
  PodFleet& fleet = **opened;
  const auto pod_of = [&](const char* ns) -> const FleetPod& {
    return *std::find_if(fleet.pods().begin(), fleet.pods().end(),
                         [&](const FleetPod& pod) { return pod.ns == ns && !pod.unguarded; });
  };
  constexpr std::size_t kRounds = 300, kQuestions = 200;
  std::size_t passed_before = 0, passed_after = 0;
  for (std::size_t round = 0; round < kRounds; ++round) {
    std::vector<Manifest> manifests;
    for (std::size_t count = 1 + random_.Below(6); count > 0; --count)
      manifests.push_back(AnyManifest(manifests.size()));
    const auto more = PoliciesOf(manifests);
    std::string shown;
    for (const Manifest& manifest : manifests) shown += ToText(manifest);
    TakeAPart(&manifests);
    shown += "---- with a part taken out\n";
    for (const Manifest& manifest : manifests) shown += ToText(manifest);
    SCOPED_TRACE("round " + std::to_string(round) + ", of\n" + shown);
    const auto less = PoliciesOf(manifests);
    const policy::PolicyIndex more_index(more), less_index(less);
    fleet.Sweep();
    ASSERT_TRUE(fleet.Stage({{"less", less}, {"more", more}}, std::nullopt));
    for (FleetPod& pod : fleet.pods()) fleet.Switch(pod);
    fleet.Finish();
    std::vector<Question> questions;
    std::vector<judge_probe> probes;
    for (std::size_t i = 0; i < kQuestions; ++i) {
      questions.push_back(random_.Ask({}, more));
      while (IsOfThePods(fleet, questions.back().destination)) questions.back() = random_.Ask({}, more);
      for (const char* ns : {"more", "less"}) probes.push_back(ProbeOf(pod_of(ns), questions.back()));
    }
    ASSERT_TRUE(fleet.Ask(probes));
    for (std::size_t i = 0; i < kQuestions; ++i) {
      const judge_probe &before = probes[2 * i], &after = probes[2 * i + 1];
      ASSERT_TRUE(Passes(before) || !Passes(after))
          << questions[i].destination.ToString() << " port " << questions[i].port << " '" << questions[i].name << "'";
      ASSERT_TRUE(before.kind != EGRESS_SOCKET_REDIRECTED || after.kind != EGRESS_SOCKET_ALLOWED)
          << questions[i].destination.ToString() << " port " << questions[i].port << " pass " << Passes(before)
          << Passes(after);
      ASSERT_NO_FATAL_FAILURE(CompareDecisions(more_index, less_index, questions[i]));
      passed_before += Passes(before) ? 1 : 0;
      passed_after += Passes(after) ? 1 : 0;
    }
  }
  std::printf("%zu questions: %zu pass, %zu still with a part taken out; %zu requests\n", kRounds * kQuestions,
              passed_before, passed_after, http_allowed_);
  EXPECT_GE(passed_before * 3, kRounds * kQuestions);
  EXPECT_LT(passed_after, passed_before);
  EXPECT_GE(passed_after * 2, passed_before);
  EXPECT_GE(http_allowed_, 1000u);
}

}  // namespace
}  // namespace egress::test
