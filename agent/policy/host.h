// Hosts as policies list them and as clients say them: names, wildcards, IP literals.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace egress::policy {

// A host of Egress.spec.hosts in its canonical form: lower case without a trailing dot, "*.example.com", or an IP
// literal in canonical text without brackets. The error says what to write instead.
Result<std::string> NormalizeHost(std::string_view text);

// Whether a canonical host is an IP literal.
bool IsAddressLiteral(std::string_view host);

// Lower case (ASCII), one trailing dot removed.
std::string LowerName(std::string_view name);

// The names that a TLS client may say (SEMANTICS 4): letters, digits, '-', '_', '.', no empty label (one trailing dot
// aside), at most 255 characters. In lower case without the trailing dot; nullopt where it is none.
std::optional<std::string> NormalizeServerName(std::string_view sni);

}  // namespace egress::policy
