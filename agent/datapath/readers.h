// What the kernel tells: events, counters, and the connections that a change has cut.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"
#include "agent/datapath/kernel_object.h"

struct ring_buffer;

namespace egress::datapath {

// An address as the kernel's structs have it: 16 bytes, IPv4 mapped.
Address AddressOf(const __u8* bytes);

// The ring buffer `events`.
class EventReader {
 public:
  using Callback = std::function<void(const event&)>;
  static Result<std::unique_ptr<EventReader>> Open(const KernelObject& kernel, Callback callback);
  ~EventReader();
  EventReader(const EventReader&) = delete;
  EventReader& operator=(const EventReader&) = delete;

  int fd() const;  // readable when there are events
  void Read();     // calls the callback for all that are there

 private:
  explicit EventReader(Callback callback) : callback_(std::move(callback)) {}
  Callback callback_;
  ring_buffer* ring_ = nullptr;
};

// `stats`, summed over the CPUs.
std::vector<std::pair<stat_key, std::uint64_t>> ReadStats(const KernelObject& kernel);
// Events that found no room since the maps were made.
std::uint64_t ReadEventsLost(const KernelObject& kernel);

struct MapUse {
  std::string name;
  std::uint64_t entries = 0;
  std::uint64_t capacity = 0;
};
std::vector<MapUse> ReadMapUse(const KernelObject& kernel);

// Judges every live connection of the node again and returns those that are not allowed any more. Their frames are
// refused from here on; the caller destroys the sockets, so that idle ones end too.
class Revoker {
 public:
  static Result<Revoker> Open(const KernelObject& kernel);
  // Does Run() reach every socket of the node? Else only those of the calling thread's network namespace.
  bool whole_node() const { return whole_node_; }
  Result<std::vector<revoked>> Run() const;

 private:
  Revoker(Fd link, bool whole_node) : link_(std::move(link)), whole_node_(whole_node) {}
  Fd link_;
  bool whole_node_;
};

// Marks a socket of the proxy, by its descriptor: upstream for http, or for TLS on a port shared with http.
Result<void> MarkUpstream(const KernelObject& kernel, int socket, std::uint64_t cookie, std::uint32_t slot, bool tls);

}  // namespace egress::datapath
