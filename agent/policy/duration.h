// Durations as Go writes them: "5s", "1m30s", "250ms".
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace egress::policy {

// Milliseconds, rounded up, from 1 to 2^32 - 1; nullopt for anything else (Go's time.ParseDuration).
std::optional<std::uint32_t> ParseDuration(std::string_view text);

}  // namespace egress::policy
