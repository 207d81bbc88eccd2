// PinnedMap: one pinned BPF map, opened to be read while others write to it.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::datapath {

class PinnedMap {
 public:
  // Opens `folder`/`name`. Fails where there is no such pin, or where its keys and values have other sizes than
  // these: then the pins are of another version.
  static Result<PinnedMap> Open(const std::string& folder, const std::string& name, std::uint32_t key_size,
                                std::uint32_t value_size);

  const std::string& name() const { return name_; }
  std::uint32_t capacity() const { return capacity_; }

  // nullopt: there is no such key.
  template <typename Key, typename Value>
  Result<std::optional<Value>> Lookup(const Key& key) const {
    Value value;
    const auto found = LookupRaw(&key, &value);
    if (!found) return found.error();
    return *found ? std::optional<Value>(value) : std::nullopt;
  }

  // All entries, each key once. An entry that comes or goes meanwhile may be there or not; one that stays is there.
  template <typename Key, typename Value>
  Result<std::vector<std::pair<Key, Value>>> Entries() const {
    std::vector<std::pair<Key, Value>> entries;
    const auto done = ForEach([&entries](const void* key, const void* value) {
      auto& entry = entries.emplace_back();
      std::memcpy(&entry.first, key, sizeof(Key));
      std::memcpy(&entry.second, value, sizeof(Value));
    });
    if (!done) return done.error();
    return entries;
  }

  // Number of entries; of an array its length.
  Result<std::uint64_t> Count() const;

 private:
  using Visit = std::function<void(const void* key, const void* value)>;
  PinnedMap(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  Result<bool> LookupRaw(const void* key, void* value) const;
  Result<void> ForEach(const Visit& visit) const;
  Result<void> ForEachByBatch(const Visit& visit) const;
  Result<void> ForEachByKey(const Visit& visit) const;

  Fd fd_;
  std::string name_;
  std::uint32_t type_ = 0;
  std::uint32_t key_size_ = 0;
  std::uint32_t value_size_ = 0;
  std::uint32_t capacity_ = 0;
};

}  // namespace egress::datapath
