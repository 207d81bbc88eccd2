// BoundaryTls: an https connection of the pod, to which the names shop.test and *.shop.test are allowed.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "tests/bpf/boundary_fixture.h"
#include "tests/bpf/pod_socket.h"
#include "tests/bpf/reset_check.h"
#include "tests/support/client_hello.h"

namespace egress::test {

class BoundaryTls : public Boundary {
 protected:
  void SetUp() override {
    Boundary::SetUp();
    auto made = PodSocket::Make(*pod_);
    ASSERT_TRUE(made) << made.error().message;
    socket_ = *std::move(made);
    ASSERT_TRUE(pod_->SetPolicies({HttpsRule("shop", {"*.shop.test", "shop.test"})}));
  }

  static policy::PolicyPtr HttpsRule(const std::string& name, std::vector<std::string> hosts) {
    policy::EffectivePolicy rule;
    rule.id = {"curl", name};
    rule.ports = {{443, policy::Protocol::kHttps}};
    rule.cidrs = {Prefix{}};
    rule.hosts = std::move(hosts);
    std::sort(rule.hosts.begin(), rule.hosts.end());
    return std::make_shared<const policy::EffectivePolicy>(rule);
  }

  // A connection whose SYN has left.
  void Connect(const Place& place) {
    socket_->Connect(EGRESS_SOCKET_TLS, place.outside);
    const Packet syn = socket_->Segment({}, kSyn);
    const Outcome outcome = socket_->Send(syn);
    ASSERT_TRUE(outcome.passed()) << outcome.action;
    ASSERT_EQ(outcome.frame, Frame(syn));
    ASSERT_EQ(pod_->TakeTold(), Told{});
  }

  // Sends it in segments of `size` until one does not leave. Returns how many bytes left.
  std::size_t SendInPieces(const Bytes& stream, std::size_t size) {
    for (std::size_t at = 0; at < stream.size(); at += size) {
      const auto end = std::min(stream.size(), at + size);
      const Packet packet = socket_->Segment(
          {stream.begin() + static_cast<std::ptrdiff_t>(at), stream.begin() + static_cast<std::ptrdiff_t>(end)});
      last_ = socket_->Send(packet);
      if (!last_.passed() || last_.frame != Frame(packet)) {
        refused_ = packet;
        return at;
      }
    }
    return stream.size();
  }

  // In `hello_bytes`, of all connections.
  static std::size_t KeptChunks() {
    std::size_t count = 0;
    pod_->kernel().Map<hello_chunk_key, hello_chunk>("hello_bytes").ForEachKey([&](const auto&) { ++count; });
    return count;
  }

  static Told Denied(egress_reason reason) { return {{{EGRESS_HTTPS, EGRESS_DENY, reason}, 1}}; }
  static inline const Told kAllowed{{{EGRESS_HTTPS, EGRESS_ALLOW, EGRESS_REASON_RULE}, 1}};

  std::unique_ptr<PodSocket> socket_;
  Outcome last_;
  Packet refused_;
};

}  // namespace egress::test
