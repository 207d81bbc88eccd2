#include "cmd/egressd/process_metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace egress::report {

namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

MetricFamily Single(const char* name, const char* help, MetricType type, double value) {
  MetricFamily family{name, help, type, {}};
  prometheus::ClientMetric metric;
  if (type == MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family.metric.push_back(std::move(metric));
  return family;
}

// Field `number` of /proc/self/stat as proc(5) counts them, for those behind the name of the program (from 3).
std::optional<std::uint64_t> StatField(const std::string& stat, int number) {
  const auto end = stat.rfind(')');
  if (end == std::string::npos) return std::nullopt;
  std::istringstream rest(stat.substr(end + 1));
  std::string word;
  for (int field = 3; field <= number; ++field) {
    if (!(rest >> word)) return std::nullopt;
  }
  return std::strtoull(word.c_str(), nullptr, 10);
}

std::string ReadAll(const char* path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Seconds since the epoch at which the machine started: btime of /proc/stat.
std::optional<std::uint64_t> BootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  while (file >> word) {
    std::uint64_t seconds = 0;
    if (word == "btime" && file >> seconds) return seconds;
  }
  return std::nullopt;
}

std::optional<double> OpenDescriptors() {
  std::error_code error;
  std::filesystem::directory_iterator entries("/proc/self/fd", error);
  if (error) return std::nullopt;
  double count = -1;  // the one that reads the folder does not count
  for (; entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    if (error) return std::nullopt;
    ++count;
  }
  return count;
}

}  // namespace

std::vector<MetricFamily> ProcessMetrics() {
  std::vector<MetricFamily> result;
  const auto add = [&result](const char* name, const char* help, MetricType type, double value) {
    result.push_back(Single(name, help, type, value));
  };
  const std::string stat = ReadAll("/proc/self/stat");
  const double ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  const auto user = StatField(stat, 14);
  const auto system = StatField(stat, 15);
  if (user && system) {
    add("process_cpu_seconds_total", "User and system CPU time spent in seconds.", MetricType::Counter,
        static_cast<double>(*user + *system) / ticks);
  }
  const auto started = StatField(stat, 22);
  const auto boot = BootTime();
  if (started && boot) {
    add("process_start_time_seconds", "Start time of the process since the epoch in seconds.", MetricType::Gauge,
        static_cast<double>(*boot) + static_cast<double>(*started) / ticks);
  }
  if (const auto bytes = StatField(stat, 23)) {
    add("process_virtual_memory_bytes", "Virtual memory size in bytes.", MetricType::Gauge,
        static_cast<double>(*bytes));
  }
  if (const auto pages = StatField(stat, 24)) {
    add("process_resident_memory_bytes", "Resident memory size in bytes.", MetricType::Gauge,
        static_cast<double>(*pages) * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  }
  if (const auto open = OpenDescriptors()) {
    add("process_open_fds", "Number of open file descriptors.", MetricType::Gauge, *open);
  }
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    add("process_max_fds", "Maximum number of open file descriptors.", MetricType::Gauge,
        limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<double>::infinity()
                                        : static_cast<double>(limit.rlim_cur));
  }
  return result;
}

}  // namespace egress::report
