#include "agent/proxy/http_path.h"

#include <cstddef>

namespace egress::proxy {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool IsDotSegment(std::string_view segment) {
  segment = segment.substr(0, segment.find(';'));
  return segment == "." || segment == "..";
}

// `text` begins at the percent sign.
const char* EncodingProblem(std::string_view text, bool in_path) {
  const int high = text.size() > 2 ? HexValue(text[1]) : -1;
  const int low = text.size() > 2 ? HexValue(text[2]) : -1;
  if (high < 0 || low < 0) return "broken percent-encoding in the target";
  const int byte = high * 16 + low;
  if (in_path && (byte == '/' || byte == '\\')) return "encoded slash in the path";
  if (in_path && byte == '.') return "encoded dot in the path";
  if (in_path && byte == 0) return "encoded NUL in the path";
  return nullptr;
}

}  // namespace

const char* TargetProblem(std::string_view target) {
  if (target.empty() || target.front() != '/') return "target does not begin with a slash";
  bool in_path = true;
  std::size_t segment = 1;
  for (std::size_t i = 1; i <= target.size(); ++i) {
    const bool at_end = i == target.size();
    const char c = at_end ? '\0' : target[i];
    if (in_path && (at_end || c == '/' || c == '?')) {
      if (IsDotSegment(target.substr(segment, i - segment))) return "dot segment in the path";
      segment = i + 1;
      in_path = c == '/';
      continue;
    }
    if (at_end) break;
    if (c <= 0x20 || c == 0x7f || c == '#' || (in_path && c == '\\')) return "forbidden character in the target";
    if (c != '%') continue;
    const char* problem = EncodingProblem(target.substr(i), in_path);
    if (problem != nullptr) return problem;
  }
  return nullptr;
}

}  // namespace egress::proxy
