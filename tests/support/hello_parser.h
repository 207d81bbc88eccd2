// bpf/hello.h in user space: the parser of ClientHellos over bytes in memory.
#pragma once

#include <cstring>
#include <span>
#include <string>

namespace egress::test {

// What HELLO_LOAD reads from.
inline long LoadHelloBytes(void* source, unsigned offset, void* to, unsigned length) {
  const auto& bytes = *static_cast<const std::span<const unsigned char>*>(source);
  if (offset > bytes.size() || length > bytes.size() - offset) return -1;
  std::memcpy(to, bytes.data() + offset, length);
  return 0;
}

}  // namespace egress::test

#define HELLO_LOAD egress::test::LoadHelloBytes
#include "bpf/hello.h"

namespace egress::test {

class HelloParser {
 public:
  // The next bytes of the stream, as one frame carries them. Takes no more than `most_turns` of the loop; false where
  // that is not enough.
  bool Feed(std::span<const unsigned char> bytes, unsigned most_turns) {
    hello_input input{&bytes, &hello_, 0, static_cast<__u32>(bytes.size()), 0};
    for (unsigned turn = 0; turn < most_turns; ++turn) {
      ++turns_;
      if (hello_turn(turn, &input) != 0) break;
    }
    if (hello_.step == HELLO_REFUSED) return true;
    return input.done != 0;
  }

  const struct hello& state() const { return hello_; }
  bool refused() const { return hello_.step == HELLO_REFUSED; }
  bool complete() const { return hello_.step == HELLO_DONE; }
  // The name is whole, and can be judged.
  bool named() const { return hello_.name_length > 0 && hello_.step != HELLO_NAME && !refused(); }
  std::string name() const { return {hello_.name, hello_.name_length}; }
  unsigned long turns() const { return turns_; }

 private:
  struct hello hello_ = {};
  unsigned long turns_ = 0;
};

}  // namespace egress::test
