// What a map of another layout held, moved into the map that takes its place.
#pragma once

#include "agent/base/result.h"

struct bpf_map;
struct btf;

namespace egress::datapath {

// Copies every entry of the map `from` (a descriptor) to `to`, a loaded map of the object whose types are `to_types`.
// Members of the value go by their names, as the kernel's type information of both maps tells them: what only the old
// value has is dropped, what only the new one has is zero, an array that has grown or shrunk keeps its beginning. Keys
// must have the same size. An error tells which map cannot be moved.
Result<void> MigrateEntries(int from, const bpf_map* to, const btf* to_types);

}  // namespace egress::datapath
