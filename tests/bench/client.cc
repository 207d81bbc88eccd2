#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "tests/bench/traffic.h"

namespace egress::bench {
namespace {

// Of this process; what the kernel does for a frame on its way through the namespaces is mostly done in its name.
double CpuSeconds() {
  rusage used = {};
  if (::getrusage(RUSAGE_SELF, &used) != 0) Die("getrusage");
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace

int Stream(const sockaddr_in& to, double seconds) {
  Fd fd = Connect(to);
  if (!fd) Die("refused");
  const std::vector<char> block(128 << 10, 'x');
  const auto start = Clock::now();
  double bytes = 0;
  while (SecondsSince(start) < seconds) {
    const ssize_t sent = ::send(fd.get(), block.data(), block.size(), 0);
    if (sent < 0) Die("send");
    bytes += static_cast<double>(sent);
  }
  int unsent = 0;
  if (::ioctl(fd.get(), SIOCOUTQ, &unsent) != 0) Die("SIOCOUTQ");
  const double took = SecondsSince(start);
  Abort(std::move(fd));
  std::printf("{\"bytes\": %.0f, \"seconds\": %.6f, \"cpu_seconds\": %.6f}\n", bytes - unsent, took, CpuSeconds());
  return 0;
}

int ConnectLoop(const sockaddr_in& to, double seconds) {
  std::vector<double> took;
  const auto start = Clock::now();
  while (SecondsSince(start) < seconds) {
    const auto before = Clock::now();
    Fd fd = Connect(to);
    if (!fd) Die("refused");
    took.push_back(SecondsSince(before));
    Abort(std::move(fd));
  }
  const double all = SecondsSince(start);
  std::sort(took.begin(), took.end());
  std::printf("{\"connections\": %zu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n",
              took.size(), all, CpuSeconds(), Quantile(took, 0.5) * 1e6, Quantile(took, 0.99) * 1e6);
  return 0;
}

int Exchange(const sockaddr_in& to, int count) {
  Fd fd = Connect(to);
  if (!fd) Die("refused");
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  char byte = 'x';
  const auto start = Clock::now();
  for (int i = 0; i < count; ++i) {
    if (::send(fd.get(), &byte, 1, 0) != 1) Die("send");
    if (::recv(fd.get(), &byte, 1, 0) != 1) Die("receive");
  }
  const double took = SecondsSince(start);
  Abort(std::move(fd));
  std::printf("{\"exchanges\": %d, \"seconds\": %.6f}\n", count, took);
  return 0;
}

int Hello(const sockaddr_in& to, int count, std::size_t size, const std::string& name) {
  const std::string hello = size != 0 ? ClientHello(size, name) : std::string();
  const auto start = Clock::now();
  for (int i = 0; i < count; ++i) {
    Fd fd = Connect(to);
    if (!fd) Die("refused");
    if (!hello.empty() && ::send(fd.get(), hello.data(), hello.size(), 0) != static_cast<ssize_t>(hello.size()))
      Die("send");
    Abort(std::move(fd));
  }
  std::printf("{\"connections\": %d, \"bytes\": %zu, \"seconds\": %.6f}\n", count, hello.size(), SecondsSince(start));
  return 0;
}

}  // namespace egress::bench
