// Buffers that start small, grow to a bound, and hold no memory while they are empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdint>
#include <string_view>
#include <vector>

namespace egress::proxy {

// Free blocks of one worker. Not thread-safe.
class BlockPool {
 public:
  static constexpr std::size_t kSmall = 4U << 10;
  static constexpr std::size_t kLarge = 72U << 10;  // holds a head of kMaxHeadBytes, rewritten

  explicit BlockPool(std::size_t most = SIZE_MAX) : most_(most) {}
  ~BlockPool();
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  char* Take(std::size_t size);  // kSmall or kLarge
  bool Has(std::size_t size) const { return taken_ + size <= most_; }
  void Give(char* block, std::size_t size);
  std::size_t taken() const { return taken_; }  // bytes that are with buffers now

 private:
  std::size_t most_;
  std::size_t taken_ = 0;
  std::vector<char*> small_;
  std::vector<char*> large_;
};

// Whose memory it is: the buffers of one pod in one worker share the bytes and the large blocks that they may hold.
struct BufferAccount {
  BlockPool* pool = nullptr;
  std::size_t most = SIZE_MAX;  // bytes
  std::size_t taken = 0;
  std::uint32_t large = 0;
  std::uint32_t max_large = 64;
};

// Bytes in a block: appended at the end, consumed from the front.
class Buffer {
 public:
  explicit Buffer(BufferAccount* account) : account_(account) {}
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { Clear(); }

  std::string_view data() const { return {block_ + begin_, end_ - begin_}; }
  std::size_t size() const { return end_ - begin_; }
  bool empty() const { return begin_ == end_; }

  // Makes room for at least `bytes` more, moving what is there and growing as needed. False: that is over the bound,
  // of one buffer, of the pod or of all pods.
  bool Reserve(std::size_t bytes);
  // Takes a large block where the buffer is empty and the pod has not used up half of those that it may have; the
  // other half is for heads, which cannot do without.
  void Enlarge();
  char* tail() { return block_ + end_; }
  std::size_t room() const { return capacity_ - end_; }
  void Added(std::size_t bytes) { end_ += bytes; }

  // Appends; false, and nothing is appended, where Reserve() would fail.
  bool Append(std::string_view bytes);
  // For callers that have reserved.
  void AppendReserved(std::string_view bytes);
  void Consume(std::size_t bytes);
  void Clear();  // gives the block back

 private:
  bool MayTake(std::size_t size) const { return account_->taken + size <= account_->most && account_->pool->Has(size); }

  BufferAccount* account_;
  char* block_ = nullptr;
  std::uint32_t capacity_ = 0;
  std::uint32_t begin_ = 0;
  std::uint32_t end_ = 0;
};

}  // namespace egress::proxy
