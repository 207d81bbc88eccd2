// Where an accepted connection wanted to go.
#pragma once

#include <functional>
#include <optional>

#include "bpf/egress.h"

namespace egress::proxy {

// What the kernel noted for an accepted socket, by its descriptor; nothing where it noted nothing.
using OriginalLookup = std::function<std::optional<socket_verdict>(int fd)>;

// Reads the sk_storage map `sockets`, whose key in user space is a descriptor. Needs no capability, only the map.
OriginalLookup LookupIn(int map_fd);

}  // namespace egress::proxy
