// Request targets: which ones are refused rather than normalised (SEMANTICS 4, Paths).
#pragma once

#include <string_view>

namespace egress::proxy {

// Null where an origin-form target ("/path?query") is fine, else what is wrong, in words. Refused are bytes that no
// URI holds, broken percent-encodings, "." and ".." segments (also with parameters, "..;x": some servers strip them),
// and in the path encoded slashes, backslashes, dots and NULs: servers differ in what they make of those.
const char* TargetProblem(std::string_view target);

}  // namespace egress::proxy
