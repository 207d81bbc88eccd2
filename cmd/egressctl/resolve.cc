#include "cmd/egressctl/resolve.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <thread>

#include "agent/base/fd.h"

namespace egress::ctl {

namespace {

Address FromSocketAddress(const sockaddr& address) {
  Address result;
  if (address.sa_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    result.bytes[10] = result.bytes[11] = 0xff;
    std::memcpy(result.bytes.data() + 12, &v4.sin_addr, 4);
  } else {
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    std::memcpy(result.bytes.data(), &v6.sin6_addr, 16);
  }
  return result;
}

Result<std::vector<Address>> ResolveHere(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (failed != 0) {
    return Error{"resolve " + host + ": " + (failed == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(failed)) +
                 ": give the address with --to and the name with --sni or --http"};
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family == AF_INET || entry->ai_family == AF_INET6) {
      addresses.push_back(FromSocketAddress(*entry->ai_addr));
    }
  }
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

Result<std::vector<Address>> ResolveIn(const std::string& host, const std::string& netns_path) {
  const Fd netns(::open(netns_path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!netns) return ErrnoError("open the pod's network namespace " + netns_path);
  if (::setns(netns.get(), CLONE_NEWNET) != 0) return ErrnoError("enter the pod's network namespace " + netns_path);
  return ResolveHere(host);
}

}  // namespace

Result<std::vector<Address>> ResolveName(const std::string& host, const std::string& netns_path) {
  if (netns_path.empty()) return ResolveHere(host);
  // A network namespace belongs to a thread, so a thread of its own enters it.
  std::optional<Result<std::vector<Address>>> result;
  std::thread([&] { result = ResolveIn(host, netns_path); }).join();
  return *std::move(result);
}

}  // namespace egress::ctl
