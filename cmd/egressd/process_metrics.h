// The usual process metrics (process_cpu_seconds_total, ...), read from /proc/self.
#pragma once

#include <prometheus/metric_family.h>

#include <vector>

namespace egress::report {

// What cannot be read is left out.
std::vector<prometheus::MetricFamily> ProcessMetrics();

}  // namespace egress::report
