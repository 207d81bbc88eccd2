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

// A name that Kubernetes gives to objects (RFC 1123 subdomain: lower case, at most 253 characters) or to namespaces
// (one label, at most 63). What is none cannot exist in a cluster, and could be taken for another NS/NAME once written
// down.
bool IsObjectName(std::string_view name);
bool IsNamespaceName(std::string_view name);

// Whether a canonical host is an IP literal.
bool IsAddressLiteral(std::string_view host);

// Lower case (ASCII), one trailing dot removed.
std::string LowerName(std::string_view name);

// The names that a TLS client may say (SEMANTICS 4): letters, digits, '-', '_', '.', no empty label (one trailing dot
// aside), at most 255 characters. In lower case without the trailing dot; nullopt where it is none.
std::optional<std::string> NormalizeServerName(std::string_view sni);

}  // namespace egress::policy
