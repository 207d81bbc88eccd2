#include "agent/proxy/judge.h"

#include <array>
#include <span>
#include <string_view>
#include <utility>

namespace egress::proxy {
Ruling Judge(const Account& account, std::uint32_t generation, const Address& address, std::uint16_t port,
             const RequestHead& request) {
  // Not cleared each time: only what is written below is read.
  thread_local std::array<std::pair<std::string_view, std::string_view>, kMaxHeaders> headers;
  std::size_t count = 0;
  for (std::size_t i = 0; i < request.fields.count; ++i) {
    const Field& field = request.fields.items[i];
    if (!field.nominated) headers[count++] = {field.name, field.value};
  }
  Ruling ruling;
  ruling.policies = account.versions()->At(generation);
  SetDecision made = ruling.policies->Http(address, port,
                                           {.method = request.method,
                                            .authority = request.authority,
                                            .path = request.path,
                                            .headers = std::span(headers.data(), count)});
  ruling.decision = std::move(made.decision);
  ruling.limits = made.limits;
  return ruling;
}

}  // namespace egress::proxy
