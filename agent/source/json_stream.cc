#include "agent/source/json_stream.h"

#include <utility>

namespace egress::source {
namespace {

Error TooLong() {
  return {"an object of more than " + std::to_string(kMaxObjectBytes >> 20) + " MiB; the answer is given up"};
}

}  // namespace

Result<void> ListSplitter::Feed(std::string_view bytes) {
  for (const char c : bytes) Take(c);
  if (current_.size() > kMaxObjectBytes || rest_.size() > kMaxObjectBytes) return TooLong();
  return {};
}

void ListSplitter::Take(char c) {
  if (in_item_) {
    current_ += c;
  } else if (!in_items_ || c == ']') {
    rest_ += c;
  }
  if (in_string_) {
    if (escaped_) {
      escaped_ = false;
    } else if (c == '\\') {
      escaped_ = true;
    } else if (c == '"') {
      in_string_ = false;
      return;
    }
    if (depth_ == 1) last_string_ += c;
    return;
  }
  Structure(c);
}

void ListSplitter::Structure(char c) {
  switch (c) {
    case '"':
      in_string_ = true;
      if (depth_ == 1) last_string_.clear();
      return;
    case ':':
      if (depth_ == 1) key_is_items_ = last_string_ == "items";
      return;
    case ',':
      if (depth_ == 1) key_is_items_ = false;
      return;
    case '[':
      if (depth_ == 1 && key_is_items_) in_items_ = true;
      ++depth_;
      return;
    case '{':
      if (in_items_ && depth_ == 2 && !in_item_) {
        in_item_ = true;
        current_ = c;
      }
      ++depth_;
      return;
    case ']':
      --depth_;
      if (in_items_ && depth_ == 1) in_items_ = false;
      return;
    case '}':
      --depth_;
      complete_ = depth_ == 0;
      if (!in_item_ || depth_ != 2) return;
      in_item_ = false;
      item_(std::exchange(current_, {}));
      return;
    default: return;
  }
}

Result<std::string> ListSplitter::Rest() const {
  if (!complete_) return Error{"the list ends before its end"};
  return rest_;
}

Result<void> LineSplitter::Feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t end = bytes.find('\n');
    if (end == std::string_view::npos) {
      current_ += bytes;
      break;
    }
    if (current_.empty()) {
      if (end > 0) line_(bytes.substr(0, end));
    } else {
      current_ += bytes.substr(0, end);
      const std::string line = std::exchange(current_, {});
      line_(line);
    }
    bytes.remove_prefix(end + 1);
  }
  if (current_.size() > kMaxObjectBytes) return TooLong();
  return {};
}

}  // namespace egress::source
