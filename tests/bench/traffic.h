// The traffic of the benchmarks: one program, one thing a call, one line of JSON as result.
#pragma once

#include <netinet/in.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

#include "agent/base/fd.h"

namespace egress::bench {

using Clock = std::chrono::steady_clock;

inline double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Exits with a message: there is nothing that a benchmark could go on with.
[[noreturn]] void Die(const std::string& what);

sockaddr_in EndpointOf(const std::string& address, int port);

// Connects, blocking. No descriptor: the connection was refused, or cut at once. Dies on anything else.
Fd Connect(const sockaddr_in& to);

// Ends a connection with a RST, so that no port waits in TIME_WAIT.
void Abort(Fd fd);

// A value of sorted `values` that `share` of them do not exceed.
double Quantile(const std::vector<double>& sorted, double share);

// Accepts on `ports` and reads what comes; on `echo_port` it is sent back. Until standard input ends.
int Serve(const std::string& address, int echo_port, const std::vector<int>& ports);

// One connection, as many bytes as fit into `seconds`.
int Stream(const sockaddr_in& to, double seconds);

// Connections one after the other for `seconds`.
int ConnectLoop(const sockaddr_in& to, double seconds);

// One byte there and back, `count` times on one connection.
int Exchange(const sockaddr_in& to, int count);

// `count` connections, each with a ClientHello of `size` bytes for `name`; size 0: without.
int Hello(const sockaddr_in& to, int count, std::size_t size, const std::string& name);

// A ClientHello in one TLS record, `size` bytes in all, at least 300.
std::string ClientHello(std::size_t size, const std::string& name);

struct ChangeFiles {
  std::string opens;   // a manifest under which the destination is allowed
  std::string closes;  // ... and one under which it is not
  std::string beside;  // where the next one is written,
  std::string target;  // and what it is renamed to
};

// Applies the two manifests in turn, `count` times; how long from the rename to the first connect with the new verdict.
int Change(const sockaddr_in& to, int count, const ChangeFiles& files);

}  // namespace egress::bench
