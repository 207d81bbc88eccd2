#include "cmd/egressctl/resolve.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "agent/base/fd.h"
#include "cmd/egressctl/name_server.h"

namespace egress::ctl {

namespace {

constexpr const char* kAdvice = ": give the address with --to, and the name with --sni or --http";

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

Result<std::vector<Address>> AsThisProcess(const std::string& host) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int failed = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (failed != 0) {
    const char* why = failed == EAI_SYSTEM ? std::strerror(errno) : ::gai_strerror(failed);
    return Error{"resolve " + host + ": " + why + kAdvice};
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<Address> addresses;
  for (const addrinfo* entry = list; entry != nullptr; entry = entry->ai_next) {
    if (entry->ai_family == AF_INET || entry->ai_family == AF_INET6) {
      addresses.push_back(FromSocketAddress(*entry->ai_addr));
    }
  }
  return addresses;
}

Result<std::vector<Address>> AsThePod(const std::string& host, const ResolveFrom& from) {
  std::vector<Address> listed = AddressesInHosts(from.hosts, host);
  if (!listed.empty()) return listed;
  std::string why;
  for (const std::string& name : NamesToTry(*from.config, host)) {
    std::vector<Address> found = AskNameServers(from.config->servers, name, why);
    if (!found.empty()) return found;
  }
  return Error{"resolve " + host + " as the pod does: " + why + kAdvice};
}

Result<std::vector<Address>> Resolve(const std::string& host, const ResolveFrom& from) {
  if (!from.netns_path.empty()) {
    const Fd netns(::open(from.netns_path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!netns) return ErrnoError("open the pod's network namespace " + from.netns_path);
    if (::setns(netns.get(), CLONE_NEWNET) != 0) {
      return ErrnoError("enter the pod's network namespace " + from.netns_path);
    }
  }
  return from.config ? AsThePod(host, from) : AsThisProcess(host);
}

}  // namespace

Result<std::vector<Address>> ResolveName(const std::string& host, const ResolveFrom& from) {
  // A network namespace belongs to a thread, so a thread of its own enters it.
  Result<std::vector<Address>> result = Error{};
  std::thread([&] { result = Resolve(host, from); }).join();
  if (!result) return result;
  std::vector<Address> addresses = *std::move(result);
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

}  // namespace egress::ctl
