// Backoff: how long to wait before the next attempt. Doubles from one failure to the next, and is drawn at random from
// the upper half of that, so that a thousand nodes do not come back in step.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>

namespace egress::source {

class Backoff {
 public:
  using Ms = std::chrono::milliseconds;

  Backoff(Ms first, Ms most) : first_(first), most_(most), current_(first) {}

  // At least `asked`, which is what the server wants (Retry-After).
  Ms Next(Ms asked = Ms(0)) {
    const Ms wait = current_;
    current_ = std::min(current_ * 2, most_);
    return std::max(asked, Ms(0)) + Between(wait / 2, wait);
  }
  void Reset() { current_ = first_; }

  static Ms Between(Ms least, Ms most) {
    static thread_local std::mt19937_64 random{std::random_device{}()};
    return Ms(std::uniform_int_distribution<Ms::rep>(least.count(), most.count())(random));
  }

 private:
  Ms first_;
  Ms most_;
  Ms current_;
};

}  // namespace egress::source
