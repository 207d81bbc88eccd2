// Cuts what the API server sends into objects while it comes, so that no list is ever held as one document. Only the
// outline of JSON is looked at (strings, braces, brackets); whoever parses an object finds the rest.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace egress::source {

// The longest object, and the longest of all that is no object. etcd takes no more than 1.5 MiB.
inline constexpr std::size_t kMaxObjectBytes = std::size_t{8} << 20;

// A list: {"kind": ..., "metadata": {...}, "items": [OBJECT, OBJECT, ...]}.
class ListSplitter {
 public:
  explicit ListSplitter(std::function<void(std::string)> item) : item_(std::move(item)) {}

  // The next bytes. Fails where something is too long.
  Result<void> Feed(std::string_view bytes);
  // The list without its items, once all bytes have come. Fails where it is not complete.
  Result<std::string> Rest() const;

 private:
  void Take(char c);
  void Structure(char c);

  std::function<void(std::string)> item_;
  std::string rest_;
  std::string current_;      // the item that is being read
  std::string last_string_;  // of the outermost object
  bool key_is_items_ = false;
  bool in_items_ = false;
  bool in_item_ = false;
  bool in_string_ = false;
  bool escaped_ = false;
  int depth_ = 0;
  bool complete_ = false;
};

// A watch: one object a line.
class LineSplitter {
 public:
  explicit LineSplitter(std::function<void(std::string_view)> line) : line_(std::move(line)) {}

  // Lines that are empty are passed over; what is not ended yet waits. Fails where a line is too long.
  Result<void> Feed(std::string_view bytes);

 private:
  std::function<void(std::string_view)> line_;
  std::string current_;
};

}  // namespace egress::source
