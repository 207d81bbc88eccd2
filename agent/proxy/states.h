// What of a pod's verdict switches with policy: the words of the map `states`, shared with the kernel.
#pragma once

#include <cstddef>
#include <cstdint>

#include "agent/base/result.h"

namespace egress::proxy {

// One word of struct pod_state, read at once.
struct PodState {
  std::uint32_t generation = 0;
  bool governed = false;
  bool open = false;
  bool audit = false;

  // Nothing is judged, or nothing that is judged is refused: bytes pass as they are.
  bool PassesAsSent() const { return !governed || open || audit; }
  bool operator==(const PodState&) const = default;
};

// The mapped values of `states`. They stay where they are while the process lives.
class StateTable {
 public:
  // `fd` is the map, or a file of the same layout: values of 20 bytes in steps of 24, EGRESS_MAX_PODS of them.
  static Result<StateTable> Map(int fd);
  StateTable(StateTable&& other) noexcept;
  StateTable& operator=(StateTable&& other) noexcept;
  ~StateTable();

  static constexpr std::size_t kStride = 24;
  static std::size_t Bytes();  // what is mapped

  // A slot out of range is governed, under generation 0.
  PodState Load(std::uint32_t slot) const;

 private:
  explicit StateTable(const char* memory) : memory_(memory) {}
  const char* memory_ = nullptr;
};

}  // namespace egress::proxy
