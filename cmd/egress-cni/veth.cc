#include "cmd/egress-cni/veth.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "agent/base/fd.h"

namespace egress::cni {
namespace {

ifreq RequestFor(const std::string& name) {
  ifreq request = {};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

bool Ask(const Fd& socket, const std::string& name, void* what) {
  ifreq request = RequestFor(name);
  request.ifr_data = static_cast<char*>(what);
  return ::ioctl(socket.get(), SIOCETHTOOL, &request) == 0;
}

// The ifindex of the other end of a veth, as the driver counts it among its statistics.
Result<int> PeerOf(const Fd& socket, const std::string& name) {
  ethtool_drvinfo driver = {};
  driver.cmd = ETHTOOL_GDRVINFO;
  if (!Ask(socket, name, &driver)) return ErrnoError("look at " + name);
  if (std::strncmp(driver.driver, "veth", sizeof driver.driver) != 0) {
    return Error{name + " is no veth: nothing on the node's side of it can hold the pod"};
  }
  const std::size_t count = driver.n_stats;
  std::vector<std::uint64_t> names((sizeof(ethtool_gstrings) + count * ETH_GSTRING_LEN) / 8 + 1);
  auto* strings = reinterpret_cast<ethtool_gstrings*>(names.data());
  strings->cmd = ETHTOOL_GSTRINGS;
  strings->string_set = ETH_SS_STATS;
  strings->len = driver.n_stats;
  std::vector<std::uint64_t> values(sizeof(ethtool_stats) / 8 + 1 + count);
  auto* stats = reinterpret_cast<ethtool_stats*>(values.data());
  stats->cmd = ETHTOOL_GSTATS;
  stats->n_stats = driver.n_stats;
  if (!Ask(socket, name, strings) || !Ask(socket, name, stats)) return ErrnoError("look at the statistics of " + name);
  for (std::size_t i = 0; i < std::min<std::size_t>({count, strings->len, stats->n_stats}); ++i) {
    const auto* text = reinterpret_cast<const char*>(strings->data) + i * ETH_GSTRING_LEN;
    if (std::strncmp(text, "peer_ifindex", ETH_GSTRING_LEN) == 0) return static_cast<int>(stats->data[i]);
  }
  return Error{name + ": the driver does not tell the other end"};
}

Fd InetSocket() { return Fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }

// A socket made in the namespace at `path`, where it stays.
Result<Fd> SocketIn(const std::string& path) {
  const Fd here(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  const Fd there(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!here || !there) return ErrnoError("open network namespace " + path);
  if (::setns(there.get(), CLONE_NEWNET) != 0) return ErrnoError("enter network namespace " + path);
  Fd socket = InetSocket();
  const int error = errno;
  if (::setns(here.get(), CLONE_NEWNET) != 0) return ErrnoError("return to the node's network namespace");
  if (!socket) return ErrnoError("make a socket in " + path, error);
  return socket;
}

}  // namespace

Result<Veth> FindVeth(const std::string& netns, const std::string& interface) {
  auto pod = SocketIn(netns);
  if (!pod) return std::move(pod).error();
  const Fd node = InetSocket();
  if (!node) return ErrnoError("make a socket");
  ifreq index = RequestFor(interface), hardware = RequestFor(interface);
  if (::ioctl(pod->get(), SIOCGIFINDEX, &index) != 0) return ErrnoError("look for " + interface);
  if (::ioctl(pod->get(), SIOCGIFHWADDR, &hardware) != 0) return ErrnoError("read the MAC of " + interface);
  const auto peer = PeerOf(*pod, interface);
  if (!peer) return peer.error();
  const Error elsewhere{"the other end of " + interface + " is not in the node's network namespace"};
  ifreq host = {};
  host.ifr_ifindex = *peer;
  if (::ioctl(node.get(), SIOCGIFNAME, &host) != 0) return elsewhere;
  Veth veth;
  veth.host_ifindex = *peer;
  veth.host_name = host.ifr_name;
  // The number alone may belong to any link: the one here has to lead back.
  const auto back = PeerOf(node, veth.host_name);
  if (!back || *back != index.ifr_ifindex) return elsewhere;
  std::memcpy(veth.mac.data(), hardware.ifr_hwaddr.sa_data, veth.mac.size());
  return veth;
}

}  // namespace egress::cni
