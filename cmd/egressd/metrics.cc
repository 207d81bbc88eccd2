#include "cmd/egressd/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <iterator>
#include <map>
#include <tuple>
#include <utility>

#include "agent/policy/decide.h"
#include "cmd/egressd/process_metrics.h"

namespace egress::report {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

const prometheus::Histogram::BucketBoundaries kApplyBuckets = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                               0.05,   0.1,   0.25,   0.5,   1};

const char* VerdictLabel(egress_verdict verdict) {
  switch (verdict) {
    case EGRESS_DENY: return "deny";
    case EGRESS_ALLOW: return "allow";
    case EGRESS_AUDIT: return "audit";
  }
  return "other";
}

std::string VerdictLabel(std::string_view verdict) {
  return verdict == "allow" || verdict == "deny" || verdict == "audit" ? std::string(verdict) : "other";
}

const char* ProtocolLabel(egress_protocol protocol) {
  switch (protocol) {
    case EGRESS_TCP: return "tcp";
    case EGRESS_HTTPS: return "https";
    case EGRESS_HTTP: return "http";
    case EGRESS_UDP: return "udp";
    case EGRESS_ICMP: return "icmp";
    case EGRESS_OTHER: return "other";
  }
  return "other";
}

std::string CodeLabel(int code) { return code >= 100 && code <= 599 ? std::to_string(code) : "other"; }

// The kernel's counters end with their pod; these do not: each reading adds what came since the one before.
class ConnectionTotals {
 public:
  void Update(const std::vector<ConnectionCount>& counts) {
    std::map<Counter, std::uint64_t> seen;
    for (const ConnectionCount& count : counts) {
      const Kind kind{count.protocol, count.verdict, count.reason};
      const Counter counter{count.pod, kind};
      const auto before = last_.find(counter);
      // A total that is smaller than before is that of a new pod of the same cookie, or of a new map.
      const std::uint64_t known = before == last_.end() || before->second > count.total ? 0 : before->second;
      totals_[{count.account, kind}] += count.total - known;
      seen[counter] = count.total;
    }
    last_ = std::move(seen);
  }

  MetricFamily Family() const {
    MetricFamily family{"egressd_connections_total",
                        "Decisions of the kernel on connections and on traffic that is no TCP.",
                        MetricType::Counter,
                        {}};
    for (const auto& [key, total] : totals_) {
      const auto& [account, kind] = key;
      const auto& [protocol, verdict, reason] = kind;
      ClientMetric metric;
      metric.label = {{"namespace", account.ns},
                      {"service_account", account.name},
                      {"protocol", ProtocolLabel(protocol)},
                      {"verdict", VerdictLabel(verdict)},
                      {"reason", policy::ReasonName(reason)}};
      metric.counter.value = static_cast<double>(total);
      family.metric.push_back(std::move(metric));
    }
    return family;
  }

 private:
  using Kind = std::tuple<egress_protocol, egress_verdict, egress_reason>;
  using Counter = std::pair<std::uint64_t, Kind>;
  std::map<Counter, std::uint64_t> last_;
  std::map<std::pair<policy::ServiceAccount, Kind>, std::uint64_t> totals_;
};

MetricFamily MapFamily(const char* name, const char* help, const std::vector<MapUse>& maps,
                       std::uint64_t MapUse::*value) {
  MetricFamily family{name, help, MetricType::Gauge, {}};
  for (const MapUse& use : maps) {
    ClientMetric metric;
    metric.label = {{"map", use.map}};
    metric.gauge.value = static_cast<double>(use.*value);
    family.metric.push_back(std::move(metric));
  }
  return family;
}

prometheus::Gauge& AddGauge(prometheus::Registry& registry, const char* name, const char* help,
                            const prometheus::Labels& labels) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}

}  // namespace

struct Metrics::Impl {
  prometheus::Registry registry{prometheus::Registry::InsertBehavior::Merge};
  prometheus::Gauge& policies_valid =
      AddGauge(registry, "egressd_policies", "Egress objects, by whether they are valid.", {{"state", "valid"}});
  prometheus::Gauge& policies_invalid =
      AddGauge(registry, "egressd_policies", "Egress objects, by whether they are valid.", {{"state", "invalid"}});
  prometheus::Gauge& pods_governed =
      AddGauge(registry, "egressd_pods", "Pods of this node, by whether they are governed.", {{"governed", "true"}});
  prometheus::Gauge& pods_ungoverned =
      AddGauge(registry, "egressd_pods", "Pods of this node, by whether they are governed.", {{"governed", "false"}});
  prometheus::Gauge& source_age = AddGauge(
      registry, "egressd_source_age_seconds",
      "For how long what is known of policy and pods has not been kept up; 0 while the source is watched.", {});
  prometheus::Histogram& apply = prometheus::BuildHistogram()
                                     .Name("egressd_policy_apply_seconds")
                                     .Help("From the reading of a change of policy until it is in force.")
                                     .Register(registry)
                                     .Add({}, kApplyBuckets);
  prometheus::Family<prometheus::Counter>& http = prometheus::BuildCounter()
                                                      .Name("egressd_http_requests_total")
                                                      .Help("HTTP requests that the proxy decided.")
                                                      .Register(registry);
  prometheus::Counter& events_lost = prometheus::BuildCounter()
                                         .Name("egressd_events_lost_total")
                                         .Help("Events that were not told: over the rate limit, or for want of room.")
                                         .Register(registry)
                                         .Add({});
  ConnectionTotals connections;
  std::function<std::vector<ConnectionCount>()> connection_source;
  std::function<std::vector<MapUse>()> map_source;
};

Metrics::Metrics(const std::string& version) : impl_(std::make_unique<Impl>()) {
  AddGauge(impl_->registry, "egressd_build_info", "Which egressd this is; always 1.", {{"version", version}}).Set(1);
}

Metrics::~Metrics() = default;

void Metrics::SetConnectionSource(std::function<std::vector<ConnectionCount>()> source) {
  impl_->connection_source = std::move(source);
}

void Metrics::SetMapSource(std::function<std::vector<MapUse>()> source) { impl_->map_source = std::move(source); }

void Metrics::UpdateConnections() {
  if (impl_->connection_source) impl_->connections.Update(impl_->connection_source());
}

void Metrics::SetPolicies(int valid, int invalid) {
  impl_->policies_valid.Set(valid);
  impl_->policies_invalid.Set(invalid);
}

void Metrics::SetPods(int governed, int ungoverned) {
  impl_->pods_governed.Set(governed);
  impl_->pods_ungoverned.Set(ungoverned);
}

void Metrics::SetSourceAge(double seconds) { impl_->source_age.Set(seconds); }

void Metrics::ObservePolicyApply(std::chrono::nanoseconds time) {
  impl_->apply.Observe(std::chrono::duration<double>(time).count());
}

void Metrics::CountHttpRequests(const policy::ServiceAccount& account, int code, std::string_view verdict,
                                std::uint64_t count) {
  impl_->http
      .Add({{"namespace", account.ns},
            {"service_account", account.name},
            {"code", CodeLabel(code)},
            {"verdict", VerdictLabel(verdict)}})
      .Increment(static_cast<double>(count));
}

void Metrics::CountEventsLost(std::uint64_t count) { impl_->events_lost.Increment(static_cast<double>(count)); }

std::string Metrics::Text() {
  UpdateConnections();
  std::vector<MetricFamily> families = impl_->registry.Collect();
  families.push_back(impl_->connections.Family());
  if (impl_->map_source) {
    const std::vector<MapUse> maps = impl_->map_source();
    families.push_back(
        MapFamily("egressd_map_entries", "Entries in use of a map of the kernel.", maps, &MapUse::entries));
    families.push_back(
        MapFamily("egressd_map_capacity", "Entries that a map of the kernel can hold.", maps, &MapUse::capacity));
  }
  std::vector<MetricFamily> process = ProcessMetrics();
  families.insert(families.end(), std::make_move_iterator(process.begin()), std::make_move_iterator(process.end()));
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace egress::report
