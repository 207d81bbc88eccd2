// Typed writes to BPF maps, with errors in words.
#pragma once

#include <bpf/bpf.h>

#include <cerrno>
#include <optional>
#include <string_view>

#include "agent/base/result.h"

namespace egress::datapath {

// A map of the loaded object; the skeleton owns the descriptor.
template <typename Key, typename Value>
class BpfMap {
 public:
  BpfMap() = default;
  BpfMap(int fd, std::string_view name) : fd_(fd), name_(name) {}

  int fd() const { return fd_; }

  Result<void> Set(const Key& key, const Value& value) const {
    if (::bpf_map_update_elem(fd_, &key, &value, BPF_ANY) == 0) return {};
    return Failure("write to");
  }

  // Succeeds where there is no such key.
  Result<void> Delete(const Key& key) const {
    if (::bpf_map_delete_elem(fd_, &key) == 0 || errno == ENOENT) return {};
    return Failure("delete from");
  }

  std::optional<Value> Get(const Key& key) const {
    Value value;
    if (::bpf_map_lookup_elem(fd_, &key, &value) == 0) return value;
    return std::nullopt;
  }

  // Calls visit(key) for each key; the visitor may delete it.
  template <typename Visit>
  void ForEachKey(Visit visit) const {
    Key key, next;
    bool more = ::bpf_map_get_next_key(fd_, nullptr, &next) == 0;
    while (more) {
      key = next;
      more = ::bpf_map_get_next_key(fd_, &key, &next) == 0;
      visit(static_cast<const Key&>(key));
    }
  }

 private:
  Error Failure(std::string_view what) const {
    const int error = errno;
    std::string text = std::string(what) + " map " + std::string(name_);
    if (error == E2BIG || error == ENOSPC) text += " (it is full; see egressd_map_capacity)";
    return ErrnoError(text, error);
  }

  int fd_ = -1;
  std::string_view name_;
};

}  // namespace egress::datapath
