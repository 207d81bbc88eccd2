// The boundary's programs and the reference model give the same answer on a million frames.

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sstream>

#include "tests/bpf/boundary_fixture.h"
#include "tests/bpf/reference_frames.h"
#include "tests/bpf/shared_maps.h"

#include "boundary_test.skel.h"  // needs the structs of egress.h

namespace egress::test {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;

void Put(const Address& address, __u8* to) { std::copy(address.bytes.begin(), address.bytes.end(), to); }

std::uint64_t FromEnvironment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

std::string Hex(const Bytes& bytes) {
  std::string text;
  char two[3];
  for (const std::uint8_t byte : bytes) {
    std::snprintf(two, sizeof two, "%02x", byte);
    text += two;
  }
  return text;
}

std::string Describe(const ReferenceCase& one) {
  std::ostringstream text;
  text << "frame " << Hex(one.frame);
  const auto flow = [&](const ReferenceFlow& of) {
    text << of.local.ToString() << " " << of.local_port << " -> " << of.remote.ToString() << " " << of.remote_port;
  };
  if (one.socket) {
    text << "\nsocket of kind " << one.socket->kind << ", ";
    flow(one.socket->flow);
    text << (one.socket->handshake_left ? ", handshake left" : "")
         << (one.socket->rules_changed ? ", rules changed" : "");
  }
  if (one.record) {
    text << "\nrecord of protocol " << int{one.record->protocol} << ", ";
    flow(one.record->flow);
    text << (one.record->within_30_seconds ? "" : ", old")
         << (one.record->pod_spoke_first ? ", the pod spoke first" : "");
  }
  return text.str();
}

class Reference : public Boundary {
 protected:
  void SetUp() override {
    Boundary::SetUp();
    skeleton_ = boundary_test_bpf__open();
    ASSERT_NE(skeleton_, nullptr);
    ASSERT_TRUE(ShareMaps(pod_->kernel(), skeleton_->obj));
    ASSERT_EQ(boundary_test_bpf__load(skeleton_), 0);
  }
  void TearDown() override { boundary_test_bpf__destroy(skeleton_); }

  // The same for both sides.
  ReferenceRules Rules(bool other_protocols) {
    auto network = PlainNetwork();
    for (const char* form : {"64:ff9b::/96", "2002::/16"}) network.mesh.push_back(*ParsePrefix(form));
    network.excluded.push_back(*ParsePrefix("2001::/32"));
    network.dns_servers.push_back(*ParseAddress("64:ff9b::808:808"));
    network.other_protocols_allowed = other_protocols;
    ReferenceRules rules;
    rules.mac = kPodMac;
    rules.own = {GuardedPod::Own(Places()[0].mesh), GuardedPod::Own(Places()[1].mesh), *ParseAddress("fe80::7")};
    rules.mesh = network.mesh;
    rules.excluded = network.excluded;
    rules.dns_servers = network.dns_servers;
    rules.tcp = {*ParsePrefix("203.0.113.0/25"), *ParsePrefix("2001:db8:f::/64"), *ParsePrefix("64:ff9b::/96")};
    rules.https = {*ParsePrefix("203.0.113.128/25"), *ParsePrefix("2001:db8:f:1::/64"), *ParsePrefix("8.8.8.8/32")};
    rules.other_protocols = other_protocols;
    EXPECT_TRUE(pod_->SetNetwork(network));
    policy::EffectivePolicy tcp, https;
    tcp.id = {"curl", "tcp"};
    tcp.ports = {{kReferencePort, policy::Protocol::kTcp}};
    tcp.cidrs = rules.tcp;
    https.id = {"curl", "https"};
    https.ports = {{kReferencePort, policy::Protocol::kHttps}};
    https.cidrs = rules.https;
    https.hosts = {"shop.test"};
    std::sort(tcp.cidrs.begin(), tcp.cidrs.end());
    std::sort(https.cidrs.begin(), https.cidrs.end());
    EXPECT_TRUE(pod_->SetPolicies({std::make_shared<const policy::EffectivePolicy>(https),
                                   std::make_shared<const policy::EffectivePolicy>(tcp)}));
    return rules;
  }

  void Plant(const ReferenceCase& one) {
    auto& data = *skeleton_->bss;
    data.has_hello = data.has_second = 0;
    data.has_verdict = one.socket.has_value();
    data.has_record = one.record.has_value();
    if (one.socket) {
      static constexpr egress_socket_kind kKinds[] = {EGRESS_SOCKET_DENIED, EGRESS_SOCKET_ALLOWED, EGRESS_SOCKET_TLS,
                                                      EGRESS_SOCKET_REDIRECTED, EGRESS_SOCKET_INBOUND};
      socket_verdict verdict = {};
      verdict.version = EGRESS_SOCKET_VERSION;
      verdict.kind = kKinds[one.socket->kind];
      verdict.reason = EGRESS_REASON_RULE;
      verdict.slot = pod_->slot();
      verdict.cookie = pod_->cookie();
      verdict.generation = pod_->generation() - (one.socket->rules_changed ? 1 : 0);
      verdict.once_allowed = one.socket->handshake_left;
      verdict.source_port = htons(one.socket->flow.local_port);
      verdict.port = htons(one.socket->flow.remote_port);
      Put(one.socket->flow.local, verdict.source);
      Put(one.socket->flow.remote, verdict.destination);
      data.test_verdict = verdict;
    }
    if (!one.record) return;
    inbound_key key = {};
    Put(one.record->flow.local, key.local);
    Put(one.record->flow.remote, key.remote);
    key.local_port = htons(one.record->flow.local_port);
    key.remote_port = htons(one.record->flow.remote_port);
    key.protocol = one.record->protocol;
    data.test_record_key = key;
    data.test_record = {};
    data.test_record.sequence = one.record->syn_sequence;
    data.test_record.opened_here = one.record->pod_spoke_first;
    data.test_record_age = (one.record->within_30_seconds ? 5 : 40) * kSecond;
  }

  // nullopt: BPF_PROG_TEST_RUN does not take such a frame.
  std::optional<bool> KernelLets(const ReferenceCase& one) {
    Plant(one);
    out_.resize(one.frame.size() + 256);
    struct __sk_buff context = {};
    context.ifindex = static_cast<__u32>(pod_->ifindex());
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = one.frame.data(), .data_out = out_.data(),
                .data_size_in = static_cast<__u32>(one.frame.size()), .data_size_out = static_cast<__u32>(out_.size()),
                .ctx_in = &context, .ctx_size_in = sizeof context);
    if (::bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.from_pod_with_record), &options) != 0) return {};
    EXPECT_NE(options.retval, 100u) << "no socket";
    // A frame that was refused may go on as a RST to the peer.
    return static_cast<int>(options.retval) == -1 && options.data_size_out == one.frame.size() &&
           std::equal(one.frame.begin(), one.frame.end(), out_.begin());
  }

  void Compare(ReferenceFrames* frames, const ReferenceBoundary& reference, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count;) {
      const ReferenceCase one = frames->Next();
      const auto expected = reference.MayLeave(one.frame, one.socket, one.record);
      if (!expected) continue;
      const auto kernel = KernelLets(one);
      if (!kernel) {
        ++not_taken_;
        continue;
      }
      ASSERT_EQ(*kernel, *expected) << "frame " << i << " leaves by the kernel: " << *kernel
                                    << ", by the reference model: " << *expected << "\n"
                                    << Describe(one);
      ++i;
      ++compared_;
      allowed_ += *kernel ? 1 : 0;
    }
  }

  boundary_test_bpf* skeleton_ = nullptr;
  Bytes out_;
  std::uint64_t compared_ = 0, allowed_ = 0, not_taken_ = 0;
};

// EGRESS_TEST_SEED and EGRESS_TEST_FRAMES: for other runs by hand.
TEST_F(Reference, GivesTheSameAnswerOnAMillionFrames) {
  const std::uint64_t seed = FromEnvironment("EGRESS_TEST_SEED", 20241126);
  const std::uint64_t frames = FromEnvironment("EGRESS_TEST_FRAMES", 1'000'000);
  SCOPED_TRACE("seed " + std::to_string(seed));
  const auto begin = std::chrono::steady_clock::now();
  for (const bool other_protocols : {false, true}) {
    const ReferenceRules rules = Rules(other_protocols);
    ReferenceFrames generator(seed + (other_protocols ? 1 : 0), rules);
    const std::uint64_t share = other_protocols ? frames / 5 : frames - frames / 5;
    ASSERT_NO_FATAL_FAILURE(Compare(&generator, ReferenceBoundary(rules), share));
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%llu frames, seed %llu, %.1f %% of them allowed, %.1f s; %llu that BPF_PROG_TEST_RUN does not take\n",
              static_cast<unsigned long long>(compared_), static_cast<unsigned long long>(seed),
              100.0 * static_cast<double>(allowed_) / static_cast<double>(compared_), took.count(),
              static_cast<unsigned long long>(not_taken_));
  EXPECT_EQ(compared_, frames);
  EXPECT_GE(allowed_ * 3, compared_);
  EXPECT_LE(allowed_ * 4, compared_ * 3) << "what is refused must be there too";
  EXPECT_LE(not_taken_ * 10, compared_);
}

}  // namespace
}  // namespace egress::test
