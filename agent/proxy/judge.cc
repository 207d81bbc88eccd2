#include "agent/proxy/judge.h"

#include <array>
#include <span>
#include <string_view>
#include <utility>

namespace egress::proxy {
namespace {

bool LimitsAnything(const policy::Limits& limits) { return limits != policy::Limits{}; }

}  // namespace

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
  ruling.index = account.versions()->At(generation);
  ruling.decision = ruling.index->Http(address, port,
                                       {.method = request.method,
                                        .authority = request.authority,
                                        .path = request.path,
                                        .headers = std::span(headers.data(), count)});
  if (!ruling.decision.allowed || !ruling.decision.policy) return ruling;
  const policy::Limits* limits = ruling.index->LimitsOf(*ruling.decision.policy);
  if (limits != nullptr && LimitsAnything(*limits)) ruling.limits = limits;
  return ruling;
}

}  // namespace egress::proxy
