#include "agent/proxy/states.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "bpf/egress.h"

namespace egress::proxy {

std::size_t StateTable::Bytes() {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (EGRESS_MAX_PODS * kStride + page - 1) / page * page;
}

Result<StateTable> StateTable::Map(int fd) {
  void* memory = ::mmap(nullptr, Bytes(), PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return ErrnoError("map the states of the pods");
  return StateTable(static_cast<const char*>(memory));
}

StateTable::StateTable(StateTable&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)) {}

StateTable& StateTable::operator=(StateTable&& other) noexcept {
  std::swap(memory_, other.memory_);
  return *this;
}

StateTable::~StateTable() {
  if (memory_ != nullptr) ::munmap(const_cast<char*>(memory_), Bytes());
}

PodState StateTable::Load(std::uint32_t slot) const {
  if (slot >= EGRESS_MAX_PODS) return {.governed = true};
  // The agent stores the first two words as one; so they are read as one.
  const auto* word = reinterpret_cast<const std::uint64_t*>(memory_ + slot * kStride);
  const std::uint64_t both = __atomic_load_n(word, __ATOMIC_ACQUIRE);
  pod_state state{};
  std::memcpy(&state, &both, sizeof both);
  return {state.generation, state.governed != 0, state.open != 0, state.audit != 0};
}

}  // namespace egress::proxy
