#include "agent/proxy/buffer.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace egress::proxy {
namespace {

// Blocks kept for reuse, so that a burst of connections does not keep its memory for ever.
constexpr std::size_t kKeepSmall = 256;
constexpr std::size_t kKeepLarge = 8;

}  // namespace

BlockPool::~BlockPool() {
  for (char* block : small_) std::free(block);
  for (char* block : large_) std::free(block);
}

char* BlockPool::Take(std::size_t size) {
  taken_ += size;
  std::vector<char*>& blocks = size == kSmall ? small_ : large_;
  if (blocks.empty()) {
    auto* block = static_cast<char*>(std::malloc(size));
    if (block == nullptr) std::abort();
    return block;
  }
  char* block = blocks.back();
  blocks.pop_back();
  return block;
}

void BlockPool::Give(char* block, std::size_t size) {
  taken_ -= size;
  std::vector<char*>& blocks = size == kSmall ? small_ : large_;
  if (blocks.size() < (size == kSmall ? kKeepSmall : kKeepLarge)) {
    blocks.push_back(block);
  } else {
    std::free(block);
  }
}

Buffer::Buffer(Buffer&& other) noexcept
    : account_(other.account_),
      block_(std::exchange(other.block_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  Clear();
  account_ = other.account_;
  block_ = std::exchange(other.block_, nullptr);
  capacity_ = std::exchange(other.capacity_, 0);
  begin_ = std::exchange(other.begin_, 0);
  end_ = std::exchange(other.end_, 0);
  return *this;
}

bool Buffer::Reserve(std::size_t bytes) {
  if (room() >= bytes) return true;
  const std::uint32_t used = end_ - begin_;
  if (used + bytes <= capacity_) {
    std::memmove(block_, block_ + begin_, used);
    begin_ = 0;
    end_ = used;
    return true;
  }
  const std::size_t wanted = used + bytes <= BlockPool::kSmall ? BlockPool::kSmall : BlockPool::kLarge;
  if (used + bytes > wanted) return false;
  if (wanted == BlockPool::kLarge && account_->large >= account_->max_large) return false;
  if (!MayTake(wanted)) return false;
  char* block = account_->pool->Take(wanted);
  account_->taken += wanted;
  if (wanted == BlockPool::kLarge) ++account_->large;
  if (used > 0) std::memcpy(block, block_ + begin_, used);
  Clear();
  block_ = block;
  capacity_ = static_cast<std::uint32_t>(wanted);
  end_ = used;
  return true;
}

void Buffer::Enlarge() {
  if (!empty() || capacity_ == BlockPool::kLarge || account_->large >= account_->max_large / 2) return;
  if (!MayTake(BlockPool::kLarge)) return;
  Clear();
  block_ = account_->pool->Take(BlockPool::kLarge);
  capacity_ = BlockPool::kLarge;
  account_->taken += BlockPool::kLarge;
  ++account_->large;
}

bool Buffer::Append(std::string_view bytes) {
  if (!Reserve(bytes.size())) return false;
  AppendReserved(bytes);
  return true;
}

void Buffer::AppendReserved(std::string_view bytes) {
  if (bytes.empty()) return;
  std::memcpy(tail(), bytes.data(), bytes.size());
  end_ += static_cast<std::uint32_t>(bytes.size());
}

void Buffer::Consume(std::size_t bytes) {
  begin_ += static_cast<std::uint32_t>(bytes);
  if (begin_ == end_) begin_ = end_ = 0;
}

void Buffer::Clear() {
  if (block_ != nullptr) {
    account_->taken -= capacity_;
    if (capacity_ == BlockPool::kLarge) --account_->large;
    account_->pool->Give(block_, capacity_);
  }
  block_ = nullptr;
  capacity_ = begin_ = end_ = 0;
}

}  // namespace egress::proxy
