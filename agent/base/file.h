// Whole small files, read and put in place in one step.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace egress {

// At most 16 MB.
Result<std::string> ReadFile(const std::string& path);

// Writes beside `path`, syncs, and renames: whoever reads `path` finds the file of before or this one, whole, also after a
// power cut. The name beside begins with a dot and ends in ".new", so that who reads a folder passes over it.
Result<void> ReplaceFile(const std::string& path, std::string_view content, mode_t mode);

}  // namespace egress
