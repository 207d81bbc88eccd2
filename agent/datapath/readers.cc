#include "agent/datapath/readers.h"

#include <bpf/libbpf.h>

#include <algorithm>
#include <array>

namespace egress::datapath {

Address AddressOf(const __u8* bytes) {
  Address address;
  std::copy_n(bytes, address.bytes.size(), address.bytes.begin());
  return address;
}

Result<std::unique_ptr<EventReader>> EventReader::Open(const KernelObject& kernel, Callback callback) {
  std::unique_ptr<EventReader> reader(new EventReader(std::move(callback)));
  const auto on_event = [](void* context, void* data, std::size_t size) {
    event copy = {};
    if (size >= sizeof copy) {
      std::memcpy(&copy, data, sizeof copy);
      static_cast<EventReader*>(context)->callback_(copy);
    }
    return 0;
  };
  reader->ring_ = ring_buffer__new(kernel.MapFd("events"), on_event, reader.get(), nullptr);
  if (reader->ring_ == nullptr) return ErrnoError("open the ring buffer of events");
  return reader;
}

EventReader::~EventReader() { ring_buffer__free(ring_); }

int EventReader::fd() const { return ring_buffer__epoll_fd(ring_); }

void EventReader::Read() { ring_buffer__consume(ring_); }

std::vector<std::pair<stat_key, std::uint64_t>> ReadStats(const KernelObject& kernel) {
  std::vector<std::pair<stat_key, std::uint64_t>> result;
  const auto map = kernel.Map<stat_key, std::uint64_t>("stats");
  std::vector<std::uint64_t> values(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  map.ForEachKey([&](const stat_key& key) {
    if (::bpf_map_lookup_elem(map.fd(), &key, values.data()) != 0) return;
    std::uint64_t sum = 0;
    for (const std::uint64_t value : values) sum += value;
    result.emplace_back(key, sum);
  });
  return result;
}

std::uint64_t ReadEventsLost(const KernelObject& kernel) {
  std::vector<std::uint64_t> values(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  const __u32 zero = 0;
  if (::bpf_map_lookup_elem(kernel.MapFd("events_lost"), &zero, values.data()) != 0) return 0;
  std::uint64_t sum = 0;
  for (const std::uint64_t value : values) sum += value;
  return sum;
}

std::vector<MapUse> ReadMapUse(const KernelObject& kernel) {
  std::vector<MapUse> result;
  for (const char* name : {"pods", "interfaces", "rules", "classes", "hosts", "policies", "connections", "networks",
                           "ports", "routes", "handover", "hello_bytes", "inbound", "stats"}) {
    bpf_map_info info = {};
    __u32 length = sizeof info;
    const int fd = kernel.MapFd(name);
    if (::bpf_obj_get_info_by_fd(fd, &info, &length) != 0) continue;
    MapUse use{name, 0, info.max_entries};
    std::vector<char> key(info.key_size), next(info.key_size);
    for (bool more = ::bpf_map_get_next_key(fd, nullptr, next.data()) == 0; more;) {
      ++use.entries;
      key.swap(next);
      more = use.entries < info.max_entries && ::bpf_map_get_next_key(fd, key.data(), next.data()) == 0;
    }
    result.push_back(std::move(use));
  }
  return result;
}

Result<Revoker> Revoker::Open(const KernelObject& kernel) {
  bpf_iter_link_info target = {};
  target.map.map_fd = static_cast<__u32>(kernel.MapFd("sockets"));
  LIBBPF_OPTS(bpf_link_create_opts, options, .iter_info = &target, .iter_info_len = sizeof target);
  const bool whole_node = bpf_program__autoload(kernel.FindProgram("revoke"));
  const bpf_program* program = kernel.FindProgram(whole_node ? "revoke" : "revoke_in_netns");
  Fd link(::bpf_link_create(bpf_program__fd(program), 0, BPF_TRACE_ITER, whole_node ? &options : nullptr));
  if (!link) return ErrnoError("attach the iterator over sockets");
  return Revoker(std::move(link), whole_node);
}

Result<std::vector<revoked>> Revoker::Run() const {
  const Fd iterator(::bpf_iter_create(link_.get()));
  if (!iterator) return ErrnoError("start the iterator over sockets");
  std::vector<revoked> result;
  std::string buffer;
  std::array<char, 16384> piece{};
  for (;;) {
    const ssize_t got = ::read(iterator.get(), piece.data(), piece.size());
    if (got < 0 && errno == EAGAIN) continue;
    if (got < 0) return ErrnoError("read the iterator over sockets");
    if (got == 0) break;
    buffer.append(piece.data(), static_cast<std::size_t>(got));
  }
  result.resize(buffer.size() / sizeof(revoked));
  std::memcpy(result.data(), buffer.data(), result.size() * sizeof(revoked));
  return result;
}

Result<void> MarkUpstream(const KernelObject& kernel, int socket, std::uint64_t cookie, std::uint32_t slot, bool tls) {
  socket_verdict mark = {};
  mark.version = EGRESS_SOCKET_VERSION;
  mark.proxy = tls ? EGRESS_SOCKET_PROXY_TLS : EGRESS_SOCKET_PROXY_HTTP;
  mark.kind = mark.proxy;
  mark.cookie = cookie;
  mark.slot = slot;
  return kernel.Map<int, socket_verdict>("sockets").Set(socket, mark);
}

}  // namespace egress::datapath
