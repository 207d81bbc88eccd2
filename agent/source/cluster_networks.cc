#include "agent/source/cluster_networks.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "agent/base/json_fields.h"
#include "agent/source/json_stream.h"

namespace egress::source {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::milliseconds kDeadline{15'000};
constexpr int kV4 = 96;  // in front of the bits of an IPv4 address

struct Reading {
  ClusterNetworks networks;
  std::function<void(ClusterNetworks)> done;
};
using ReadingPtr = std::shared_ptr<Reading>;

void TakeNode(const std::string& text, ClusterNetworks* networks) {
  const Json node = Json::parse(text, nullptr, false);
  const std::string name = TextOf(Member(Member(&node, "metadata"), "name"));
  const Json* spec = Member(&node, "spec");
  std::vector<std::string> cidrs;
  if (const Json* list = Member(spec, "podCIDRs"); list != nullptr && list->is_array()) {
    for (const Json& cidr : *list) cidrs.push_back(TextOf(&cidr));
  } else {
    cidrs.push_back(TextOf(Member(spec, "podCIDR")));
  }
  for (const std::string& cidr : cidrs) {
    if (const auto prefix = ParsePrefix(cidr)) networks->pod_cidrs.emplace_back(name, *prefix);
  }
  const Json* addresses = Member(Member(&node, "status"), "addresses");
  if (addresses == nullptr || !addresses->is_array()) return;
  for (const Json& entry : *addresses) {
    if (const auto address = ParseAddress(TextAt(entry, "address"))) {
      networks->node_addresses.emplace_back(name, *address);
    }
  }
}

void TakeServiceCidrs(const Json& list, ClusterNetworks* networks) {
  const Json* items = Member(&list, "items");
  if (items == nullptr || !items->is_array()) return;
  for (const Json& item : *items) {
    const Json* cidrs = Member(Member(&item, "spec"), "cidrs");
    if (cidrs == nullptr || !cidrs->is_array()) continue;
    for (const Json& cidr : *cidrs) {
      if (const auto prefix = ParsePrefix(TextOf(&cidr))) networks->service_cidrs.push_back(*prefix);
    }
  }
}

void TakeService(const Json& service, ClusterNetworks* networks) {
  const Json* addresses = Member(Member(&service, "spec"), "clusterIPs");
  if (addresses == nullptr || !addresses->is_array()) return;
  for (const Json& address : *addresses) {
    if (const auto parsed = ParseAddress(TextOf(&address))) networks->kubernetes_service.push_back(*parsed);
  }
}

void Get(HttpClient& http, const std::string& path, std::function<void(const Json&)> done) {
  HttpClient::Request request;
  request.path = path;
  request.deadline = kDeadline;
  http.Start(std::move(request), {{}, {}, [done](const HttpClient::Outcome& outcome) {
                                    done(outcome.ok() ? Json::parse(outcome.body, nullptr, false) : Json());
                                  }});
}

void ReadServices(HttpClient& http, const ReadingPtr& reading) {
  Get(http, "/apis/networking.k8s.io/v1/servicecidrs", [&http, reading](const Json& list) {
    TakeServiceCidrs(list, &reading->networks);
    Get(http, "/api/v1/namespaces/default/services/kubernetes", [reading](const Json& service) {
      TakeService(service, &reading->networks);
      reading->done(std::move(reading->networks));
    });
  });
}

// The longest prefix that holds both, which are of one family.
Prefix Common(const Prefix& a, const Prefix& b) {
  std::uint8_t length = std::min(a.length, b.length);
  Prefix common = MakePrefix(a.address, length);
  while (!common.Contains(b.address)) common = MakePrefix(a.address, --length);
  return common;
}

void AddProbable(const std::vector<Prefix>& prefixes, int most_v4, int most_v6, std::vector<Prefix>* mesh) {
  for (const bool v4 : {true, false}) {
    std::optional<Prefix> common;
    for (const Prefix& prefix : prefixes) {
      if (prefix.address.IsV4() != v4) continue;
      common = common ? Common(*common, prefix) : prefix;
    }
    if (!common) continue;
    const auto most = static_cast<std::uint8_t>(v4 ? kV4 + most_v4 : most_v6);
    mesh->push_back(MakePrefix(common->address, std::min(common->length, most)));
  }
}

bool Covers(const std::vector<Prefix>& mesh, const Prefix& prefix) {
  return std::any_of(mesh.begin(), mesh.end(), [&](const Prefix& range) { return range.Contains(prefix); });
}

std::string More(std::size_t count) { return count > 1 ? " (and " + std::to_string(count - 1) + " more)" : ""; }

}  // namespace

void ReadClusterNetworks(HttpClient& http, std::function<void(ClusterNetworks)> done) {
  const auto reading = std::make_shared<Reading>();
  reading->done = std::move(done);
  const auto nodes =
      std::make_shared<ListSplitter>([reading](const std::string& text) { TakeNode(text, &reading->networks); });
  HttpClient::Request request;
  request.path = "/api/v1/nodes?limit=300";
  request.deadline = kDeadline;
  http.Start(std::move(request),
             {{},
              [nodes](std::string_view bytes) { (void)nodes->Feed(bytes); },
              [&http, reading, nodes](const HttpClient::Outcome&) { ReadServices(http, reading); }});
}

std::vector<Prefix> ProbableMesh(const ClusterNetworks& networks) {
  std::vector<Prefix> pods;
  for (const auto& [node, prefix] : networks.pod_cidrs) pods.push_back(prefix);
  std::vector<Prefix> mesh;
  AddProbable(pods, 16, 48, &mesh);
  std::vector<Prefix> services = networks.service_cidrs;
  if (services.empty()) {
    for (const Address& address : networks.kubernetes_service) {
      services.push_back(MakePrefix(address, address.IsV4() ? kV4 + 16 : 112));
    }
  }
  mesh.insert(mesh.end(), services.begin(), services.end());
  std::sort(mesh.begin(), mesh.end());
  mesh.erase(std::unique(mesh.begin(), mesh.end()), mesh.end());
  return mesh;
}

std::vector<std::string> MeshWarnings(const ClusterNetworks& networks, const std::vector<Prefix>& mesh) {
  std::vector<std::string> warnings;
  std::vector<std::string> covered;
  for (const auto& [node, address] : networks.node_addresses) {
    if (Covers(mesh, MakePrefix(address, 128))) covered.push_back(address.ToString() + " of node " + node);
  }
  if (!covered.empty()) {
    warnings.push_back("meshCIDRs covers " + covered.front() + More(covered.size()) +
                       ": governed pods reach all that listens there; leave the nodes' addresses out");
  }
  std::vector<std::string> missed;
  for (const auto& [node, prefix] : networks.pod_cidrs) {
    if (!Covers(mesh, prefix)) missed.push_back(prefix.ToString() + " of node " + node);
  }
  if (!missed.empty()) {
    warnings.push_back("meshCIDRs misses the pod network " + missed.front() + More(missed.size()) +
                       ": governed pods do not reach the pods there; add it");
  }
  for (const Address& address : networks.kubernetes_service) {
    if (Covers(mesh, MakePrefix(address, 128))) continue;
    warnings.push_back(
        "meshCIDRs misses " + address.ToString() +
        " of the Service kubernetes: governed pods do not reach Services there; add the range of Services");
  }
  return warnings;
}

}  // namespace egress::source
