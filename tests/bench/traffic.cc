// bench_traffic: what the benchmarks send and receive. See traffic.h.
#include "tests/bench/traffic.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace egress::bench {

void Die(const std::string& what) {
  std::fprintf(stderr, "bench_traffic: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

sockaddr_in EndpointOf(const std::string& address, int port) {
  sockaddr_in endpoint = {};
  endpoint.sin_family = AF_INET;
  endpoint.sin_port = htons(static_cast<std::uint16_t>(port));
  if (::inet_pton(AF_INET, address.c_str(), &endpoint.sin_addr) != 1) Die("address " + address);
  return endpoint;
}

Fd Connect(const sockaddr_in& to) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) Die("socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) return fd;
  if (errno != ECONNREFUSED && errno != ECONNRESET) Die("connect");
  return {};
}

void Abort(Fd fd) {
  const linger at_once = {1, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

double Quantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0;
  const auto at = static_cast<std::size_t>(share * static_cast<double>(sorted.size()));
  return sorted[std::min(at, sorted.size() - 1)];
}

}  // namespace egress::bench

namespace {

using namespace egress::bench;  // the command line of this namespace and nothing else

int Usage() {
  std::fputs(
      "bench_traffic serve ADDRESS ECHO_PORT PORT...\n"
      "bench_traffic stream|connect ADDRESS PORT SECONDS\n"
      "bench_traffic exchange ADDRESS PORT COUNT\n"
      "bench_traffic hello ADDRESS PORT COUNT SIZE NAME\n"
      "bench_traffic change ADDRESS PORT COUNT OPENS CLOSES BESIDE TARGET\n",
      stderr);
  return 2;
}

int ServeArguments(int argc, char** argv) {
  std::vector<int> ports;
  for (int i = 4; i < argc; ++i) ports.push_back(std::atoi(argv[i]));
  return Serve(argv[2], std::atoi(argv[3]), ports);
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  if (argc < 5) return Usage();
  const std::string_view what = argv[1];
  if (what == "serve") return ServeArguments(argc, argv);
  const sockaddr_in to = EndpointOf(argv[2], std::atoi(argv[3]));
  if (what == "stream") return Stream(to, std::atof(argv[4]));
  if (what == "connect") return ConnectLoop(to, std::atof(argv[4]));
  if (what == "exchange") return Exchange(to, std::atoi(argv[4]));
  if (what == "hello" && argc == 7) {
    return Hello(to, std::atoi(argv[4]), static_cast<std::size_t>(std::atoi(argv[5])), argv[6]);
  }
  if (what == "change" && argc == 9) return Change(to, std::atoi(argv[4]), {argv[5], argv[6], argv[7], argv[8]});
  return Usage();
}
