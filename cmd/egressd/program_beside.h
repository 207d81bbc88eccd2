// The programs that are installed together.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>

namespace egress::agent {

// The path of `name` in the folder of this program.
inline std::string ProgramBeside(std::string_view name) {
  std::error_code error;
  return (std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / name).string();
}

}  // namespace egress::agent
