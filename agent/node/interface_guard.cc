#include "agent/node/interface_guard.h"

#include <linux/ethtool.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdint>
#include <utility>

#include "agent/base/fd.h"
#include "agent/node/link.h"

namespace egress::node {
namespace {

// One ethtool command that reads or writes a number. `name` fits: it comes from the kernel.
Result<std::uint32_t> Ethtool(const std::string& name, std::uint32_t command, std::uint32_t value = 0) {
  const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return ErrnoError("make a socket for ethtool");
  ethtool_value request{.cmd = command, .data = value};
  ifreq interface {};
  name.copy(interface.ifr_name, IFNAMSIZ - 1);
  interface.ifr_data = reinterpret_cast<char*>(&request);
  if (::ioctl(socket.get(), SIOCETHTOOL, &interface) != 0) return ErrnoError("ethtool " + name);
  return request.data;
}

}  // namespace

Result<GuardReport> KeepSocketsVisible(int host_ifindex) {
  auto route = NetlinkSocket::Open(NETLINK_ROUTE);
  if (!route) return std::move(route).error();
  const auto link = LinkByIndex(*route, host_ifindex);
  if (!link) return link.error();
  if (!*link) return Error{"interface " + std::to_string(host_ifindex) + " is gone"};
  const std::string& name = (*link)->name;

  GuardReport report;
  if ((*link)->xdp) {
    report.fault = name +
                   " has an XDP program: frames may arrive without their socket, or be sent on before they "
                   "are judged; detach it";
  }
  const auto gro = Ethtool(name, ETHTOOL_GGRO);
  if (!gro) return gro.error();
  if (*gro == 0) return report;
  auto switched = SetGro(name, false);
  if (!switched) return std::move(switched).error();
  const auto now = Ethtool(name, ETHTOOL_GGRO);
  if (!now) return now.error();
  report.mended = *now == 0;
  if (!report.mended && report.fault.empty()) report.fault = name + " has GRO on and does not let it be switched off";
  return report;
}

Result<void> SetGro(const std::string& name, bool on) {
  auto answer = Ethtool(name, ETHTOOL_SGRO, on ? 1 : 0);
  if (!answer) return std::move(answer).error();
  return {};
}

}  // namespace egress::node
