#include "agent/datapath/map_migration.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace egress::datapath {
namespace {

struct Member {
  std::size_t offset = 0;  // in bytes
  std::size_t size = 0;
};

using Members = std::map<std::string, Member>;

// The members of a struct, or one without a name for a value that is no struct. Bit fields are left out: no map whose
// entries are moved has any.
Members MembersOf(const btf* types, __u32 type_id) {
  Members members;
  const auto* type = btf__type_by_id(types, static_cast<__u32>(btf__resolve_type(types, type_id)));
  if (type == nullptr) return members;
  if (!btf_is_struct(type)) {
    members[""] = {0, static_cast<std::size_t>(btf__resolve_size(types, type_id))};
    return members;
  }
  const btf_member* member = btf_members(type);
  for (__u32 i = 0; i < btf_vlen(type); ++i, ++member) {
    if (btf_member_bitfield_size(type, i) != 0) continue;
    members[btf__name_by_offset(types, member->name_off)] = {
        btf_member_bit_offset(type, i) / 8, static_cast<std::size_t>(btf__resolve_size(types, member->type))};
  }
  return members;
}

struct Move {
  std::size_t from = 0;
  std::size_t to = 0;
  std::size_t size = 0;
};

std::vector<Move> MovesBetween(const Members& from, const Members& to) {
  std::vector<Move> moves;
  for (const auto& [name, there] : to) {
    const auto here = from.find(name);
    if (here == from.end()) continue;
    moves.push_back({here->second.offset, there.offset, std::min(here->second.size, there.size)});
  }
  return moves;
}

Result<void> CopyEntries(int from, int to, const bpf_map_info& info, std::size_t to_size,
                         const std::vector<Move>& moves) {
  std::vector<char> key(info.key_size), next(info.key_size), value(info.value_size);
  for (bool more = ::bpf_map_get_next_key(from, nullptr, next.data()) == 0; more;) {
    key.swap(next);
    more = ::bpf_map_get_next_key(from, key.data(), next.data()) == 0;
    if (::bpf_map_lookup_elem(from, key.data(), value.data()) != 0) continue;  // it has gone meanwhile
    std::vector<char> moved(to_size);
    for (const Move& move : moves) std::memcpy(moved.data() + move.to, value.data() + move.from, move.size);
    if (::bpf_map_update_elem(to, key.data(), moved.data(), BPF_ANY) != 0) return ErrnoError("write an entry");
  }
  return {};
}

}  // namespace

Result<void> MigrateEntries(int from, const bpf_map* to, const btf* to_types) {
  const std::string what = "move the map " + std::string(bpf_map__name(to)) + " to its new layout";
  bpf_map_info info = {};
  __u32 length = sizeof info;
  if (::bpf_obj_get_info_by_fd(from, &info, &length) != 0) return ErrnoError(what);
  if (info.key_size != bpf_map__key_size(to)) return Error{what + ": its keys have another size"};
  const std::unique_ptr<btf, decltype(&btf__free)> from_types(btf__load_from_kernel_by_id(info.btf_id), &btf__free);
  if (!from_types || info.btf_value_type_id == 0) return Error{what + ": it carries no type information"};
  const auto moves = MovesBetween(MembersOf(from_types.get(), info.btf_value_type_id),
                                  MembersOf(to_types, bpf_map__btf_value_type_id(to)));
  if (moves.empty()) return Error{what + ": the two have nothing in common"};
  auto done = CopyEntries(from, bpf_map__fd(to), info, bpf_map__value_size(to), moves);
  if (!done) return std::move(done).error().Wrap(what);
  return {};
}

}  // namespace egress::datapath
