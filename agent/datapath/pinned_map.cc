#include "agent/datapath/pinned_map.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <set>

namespace egress::datapath {

namespace {

constexpr std::uint32_t kFirstBatch = 512;
constexpr std::size_t kAttempts = 5;

Error NoPin(const std::string& path, int error) {
  if (error == ENOENT) {
    return {path + ": there is no such map: start egressd, or name its folder with --bpffs"};
  }
  if (error == EPERM || error == EACCES) return {path + ": " + std::strerror(error) + ": run this as root"};
  return ErrnoError("open the map " + path, error);
}

}  // namespace

Result<PinnedMap> PinnedMap::Open(const std::string& folder, const std::string& name, std::uint32_t key_size,
                                  std::uint32_t value_size) {
  const std::string path = folder + "/" + name;
  LIBBPF_OPTS(bpf_obj_get_opts, options, .file_flags = BPF_F_RDONLY);
  PinnedMap map(Fd(::bpf_obj_get_opts(path.c_str(), &options)), name);
  if (!map.fd_) return NoPin(path, errno);
  bpf_map_info info{};
  std::uint32_t length = sizeof info;
  if (::bpf_obj_get_info_by_fd(map.fd_.get(), &info, &length) != 0) return ErrnoError("look at the map " + path);
  if (info.key_size != key_size || info.value_size != value_size) {
    return Error{path + ": the map " + name + " has another layout (key " + std::to_string(info.key_size) +
                 " and value " + std::to_string(info.value_size) + " bytes, not " + std::to_string(key_size) + " and " +
                 std::to_string(value_size) +
                 "): this egressctl belongs to another version of egressd, use that one's"};
  }
  map.type_ = info.type;
  map.key_size_ = key_size;
  map.value_size_ = value_size;
  map.capacity_ = info.max_entries;
  return map;
}

Result<bool> PinnedMap::LookupRaw(const void* key, void* value) const {
  if (::bpf_map_lookup_elem(fd_.get(), key, value) == 0) return true;
  if (errno == ENOENT) return false;
  return ErrnoError("read the map " + name_);
}

Result<void> PinnedMap::ForEach(const Visit& visit) const {
  // A trie has no batches on every kernel, and a batch of it starts over when its last key has gone.
  return type_ == BPF_MAP_TYPE_LPM_TRIE ? ForEachByKey(visit) : ForEachByBatch(visit);
}

// A batch of a hash is whole buckets, so what is deleted meanwhile disturbs nothing.
Result<void> PinnedMap::ForEachByBatch(const Visit& visit) const {
  std::uint32_t size = std::min(kFirstBatch, std::max(capacity_, 1U));
  std::vector<char> keys(std::size_t{size} * key_size_);
  std::vector<char> values(std::size_t{size} * value_size_);
  // The cursor of a hash is a bucket number, that of an array a key: 4 bytes both. Room for longer keys is spare.
  std::vector<char> cursor(std::max(key_size_, 8U));
  bool first = true;
  while (true) {
    std::uint32_t count = size;
    const int failed = ::bpf_map_lookup_batch(fd_.get(), first ? nullptr : cursor.data(), cursor.data(), keys.data(),
                                              values.data(), &count, nullptr);
    const int error = failed != 0 ? errno : 0;
    if (error == ENOSPC) {  // the next bucket holds more than fits; nothing of it was given out
      size *= 2;
      keys.resize(std::size_t{size} * key_size_);
      values.resize(std::size_t{size} * value_size_);
      continue;
    }
    if (error != 0 && error != ENOENT) return ErrnoError("read the map " + name_, error);
    for (std::uint32_t i = 0; i < count; ++i) {
      visit(keys.data() + std::size_t{i} * key_size_, values.data() + std::size_t{i} * value_size_);
    }
    if (error == ENOENT) return {};
    first = false;
  }
}

// When the key that was given last has gone, the kernel begins anew; the set keeps what has been seen. A walk that
// has been sent back too often is given up.
Result<void> PinnedMap::ForEachByKey(const Visit& visit) const {
  std::set<std::string> seen;
  std::string key(key_size_, '\0');
  std::string next(key_size_, '\0');
  std::vector<char> value(value_size_);
  std::size_t repeated = 0;
  for (bool first = true; ::bpf_map_get_next_key(fd_.get(), first ? nullptr : key.data(), next.data()) == 0;
       first = false) {
    key = next;
    if (!seen.insert(key).second) {
      if (++repeated > kAttempts * (seen.size() + kFirstBatch)) {
        return Error{"read the map " + name_ + ": it changes too fast: try again"};
      }
      continue;
    }
    const auto found = LookupRaw(key.data(), value.data());
    if (!found) return found.error();
    if (*found) visit(key.data(), value.data());
  }
  if (errno != ENOENT) return ErrnoError("walk through the map " + name_);
  return {};
}

Result<std::uint64_t> PinnedMap::Count() const {
  std::uint64_t count = 0;
  const auto done = ForEach([&count](const void*, const void*) { ++count; });
  if (!done) return done.error();
  return count;
}

}  // namespace egress::datapath
