#include "tests/bpf/guarded_pod.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <unistd.h>

#include "agent/datapath/readers.h"
#include "agent/policy/compile.h"

namespace egress::test {
namespace {

constexpr int kHost = 7;  // 192.0.2.7 and 2001:db8::7

}  // namespace

const std::array<Place, 2>& Places() {
  static const std::array<Place, 2> places{Place{"IPv4", *ParseAddress("10.1.2.3"), *ParseAddress("198.51.100.9"),
                                                 *ParseAddress("203.0.113.9"), *ParseAddress("203.0.113.53")},
                                           Place{"IPv6", *ParseAddress("fd00::3"), *ParseAddress("2001:db8:e::9"),
                                                 *ParseAddress("2001:db8:f::9"), *ParseAddress("2001:db8:f::53")}};
  return places;
}

policy::NetworkPolicy PlainNetwork() {
  policy::NetworkPolicy network;
  network.mesh = {*ParsePrefix("10.0.0.0/8"), *ParsePrefix("fd00::/8")};
  network.excluded = {*ParsePrefix("198.51.100.0/24"), *ParsePrefix("2001:db8:e::/48")};
  for (const Place& place : Places()) network.dns_servers.push_back(place.dns);
  return network;
}

Result<std::unique_ptr<GuardedPod>> GuardedPod::Make() {
  std::unique_ptr<GuardedPod> pod(new GuardedPod);
  static int count = 0;
  pod->bpffs_ = "/sys/fs/bpf/egress-test-" + std::to_string(::getpid()) + "-pod" + std::to_string(++count);
  pod->world_.AddPod("pod", kHost);
  pod->ifindex_ = static_cast<int>(::if_nametoindex("v-pod"));
  if (auto done = pod->Load(); !done) return std::move(done).error();
  return pod;
}

Result<void> GuardedPod::Load() {
  auto kernel = datapath::KernelObject::Load(bpffs_);
  if (!kernel) return std::move(kernel).error();
  kernel_ = *std::move(kernel);
  rules_ = std::make_unique<datapath::RuleSync>(*kernel_);
  networks_ = std::make_unique<datapath::NetworkSync>(*kernel_);
  auto table = datapath::PodTable::Open(*kernel_);
  if (!table) return std::move(table).error();
  table_ = *std::move(table);
  spec_.cookie = 4711;
  spec_.name = {"curl", "pod"};
  spec_.service_account = {"curl", kServiceAccount};
  spec_.host_ifindex = ifindex_;
  spec_.mac = kPodMac;
  spec_.addresses = {Own(Places()[0].mesh), Own(Places()[1].mesh), *ParseAddress("fe80::7")};
  if (auto done = SetNetwork(PlainNetwork()); !done) return done;
  return table_->Set(spec_, generation_, mode_);
}

GuardedPod::~GuardedPod() {
  if (!bpffs_.empty()) (void)datapath::RemovePins(bpffs_);
}

Address GuardedPod::Own(const Address& other) {
  static const Address kOwn4 = *ParseAddress("192.0.2.7");
  static const Address kOwn6 = *ParseAddress("2001:db8::7");
  return other.IsV4() ? kOwn4 : kOwn6;
}

Packet GuardedPod::To(const Address& destination, std::uint8_t protocol) {
  Packet packet;
  packet.to = kNodeMac;
  packet.from = kPodMac;
  packet.source = Own(destination);
  packet.destination = destination;
  packet.protocol = protocol;
  packet.source_port = 40000;
  packet.port = 443;
  return packet;
}

Outcome GuardedPod::Run(const bpf_program* program, int ifindex, const Bytes& frame) {
  Outcome outcome;
  outcome.frame.resize(frame.size() + 256);
  struct __sk_buff context = {};
  context.ifindex = static_cast<__u32>(ifindex);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(), .data_out = outcome.frame.data(),
              .data_size_in = static_cast<__u32>(frame.size()),
              .data_size_out = static_cast<__u32>(outcome.frame.size()), .ctx_in = &context,
              .ctx_size_in = sizeof context);
  const int error = ::bpf_prog_test_run_opts(bpf_program__fd(program), &options);
  EXPECT_EQ(error, 0) << "BPF_PROG_TEST_RUN: " << std::strerror(-error);
  outcome.action = static_cast<int>(options.retval);
  outcome.frame.resize(options.data_size_out);
  return outcome;
}

Told GuardedPod::TakeTold() {
  Told now, grown;
  for (const auto& [key, value] : datapath::ReadStats(*kernel_)) {
    if (key.slot == slot()) now[{key.protocol, key.verdict, key.reason}] += value;
  }
  for (const auto& [key, value] : now) {
    if (value != told_[key]) grown[key] = value - told_[key];
  }
  told_ = now;
  return grown;
}

void GuardedPod::SetMode(datapath::PodMode mode) {
  mode.ruleset = rules_->RulesetOf(spec_.service_account);
  mode_ = mode;
  table_->Switch(spec_.cookie, generation_, mode_);
}

Result<void> GuardedPod::SetNetwork(const policy::NetworkPolicy& network) {
  networks_->Sweep();
  if (auto done = networks_->Stage(++generation_, network); !done) return done;
  SetMode(mode_);
  kernel_->config()->generation = generation_;
  return {};
}

Result<void> GuardedPod::SetPolicies(const std::vector<policy::PolicyPtr>& policies) {
  rules_->Sweep();
  for (const auto& policy : policies) {
    if (auto done = rules_->SetPolicy(policy->id, policy->limits); !done) return done;
  }
  ++generation_;
  if (auto done = rules_->Stage(generation_, spec_.service_account, policy::Compile(policies)); !done) return done;
  SetMode(mode_);
  kernel_->config()->generation = generation_;
  return {};
}

Result<void> GuardedPod::SetProxyPorts(std::uint16_t port4, std::uint16_t port6) {
  return table_->SetProxy(spec_.cookie, {spec_.addresses[0], spec_.addresses[1], port4, port6});
}

}  // namespace egress::test
