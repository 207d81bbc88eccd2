#include "cmd/egressctl/name_server.h"

#include <arpa/nameser.h>
#include <netdb.h>
#include <netinet/in.h>
#include <resolv.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace egress::ctl {

namespace {

constexpr int kSeconds = 2;  // for each server and attempt
constexpr int kAttempts = 2;
constexpr std::size_t kMaxAnswer = 64 * 1024;

// glibc keeps IPv6 servers beside its list, each in a block of malloc that res_nclose frees.
void SetServers(res_state state, const std::vector<Address>& servers) {
  for (int i = 0; i < MAXNS; ++i) {
    std::free(state->_u._ext.nsaddrs[i]);
    state->_u._ext.nsaddrs[i] = nullptr;
  }
  int count = 0;
  for (const Address& server : servers) {
    if (count == MAXNS) break;
    sockaddr_in& v4 = state->nsaddr_list[count];
    v4 = {};
    if (server.IsV4()) {
      v4.sin_family = AF_INET;
      v4.sin_port = htons(NAMESERVER_PORT);
      std::memcpy(&v4.sin_addr, server.bytes.data() + 12, 4);
    } else {
      auto* v6 = static_cast<sockaddr_in6*>(std::calloc(1, sizeof(sockaddr_in6)));
      if (v6 == nullptr) break;
      v6->sin6_family = AF_INET6;
      v6->sin6_port = htons(NAMESERVER_PORT);
      std::memcpy(&v6->sin6_addr, server.bytes.data(), 16);
      state->_u._ext.nsaddrs[count] = v6;  // sin_family 0 in the list says: look there
    }
    ++count;
  }
  state->nscount = count;
}

// The A or AAAA records of an answer.
void Collect(const unsigned char* answer, int length, ns_type type, std::vector<Address>& addresses) {
  ns_msg message;
  if (ns_initparse(answer, length, &message) != 0) return;
  for (int i = 0; i < ns_msg_count(message, ns_s_an); ++i) {
    ns_rr record;
    if (ns_parserr(&message, ns_s_an, i, &record) != 0) return;
    if (ns_rr_type(record) != type) continue;
    Address address;
    if (type == ns_t_a && ns_rr_rdlen(record) == 4) {
      address.bytes[10] = address.bytes[11] = 0xff;
      std::memcpy(address.bytes.data() + 12, ns_rr_rdata(record), 4);
    } else if (type == ns_t_aaaa && ns_rr_rdlen(record) == 16) {
      std::memcpy(address.bytes.data(), ns_rr_rdata(record), 16);
    } else {
      continue;
    }
    addresses.push_back(address);
  }
}

}  // namespace

std::vector<Address> AskNameServers(const std::vector<Address>& servers, const std::string& name, std::string& why) {
  struct __res_state state {};
  if (::res_ninit(&state) != 0) {
    why = "the resolver of this machine cannot be set up";
    return {};
  }
  const std::unique_ptr<struct __res_state, decltype(&::res_nclose)> owner(&state, &::res_nclose);
  SetServers(&state, servers);
  state.retrans = kSeconds;
  state.retry = kAttempts;
  std::vector<Address> addresses;
  std::vector<unsigned char> answer(kMaxAnswer);
  for (const ns_type type : {ns_t_a, ns_t_aaaa}) {
    const int length = ::res_nquery(&state, name.c_str(), ns_c_in, type, answer.data(), kMaxAnswer);
    if (length > 0) {
      Collect(answer.data(), length, type, addresses);
    } else if (state.res_h_errno != NO_DATA || why.empty()) {
      why = name + ": " + ::hstrerror(state.res_h_errno);
    }
  }
  return addresses;
}

}  // namespace egress::ctl
