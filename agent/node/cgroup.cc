#include "agent/node/cgroup.h"

#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <sstream>
#include <utility>

#include "agent/base/file.h"

namespace egress::node {
namespace {

constexpr const char* kMountCgroup2 = "mount it with: mount -t cgroup2 none /sys/fs/cgroup/unified";

// Blanks, tabs, newlines and backslashes are written as three octal digits behind a backslash (proc(5)).
std::string Unescape(std::string_view text) {
  std::string plain;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::string_view digits = text.substr(at + 1, 3);
    const bool escaped = text[at] == '\\' && digits.size() == 3 && digits.find_first_not_of("01234567") == digits.npos;
    if (escaped) {
      plain += static_cast<char>((digits[0] - '0') * 64 + (digits[1] - '0') * 8 + (digits[2] - '0'));
      at += 3;
    } else {
      plain += text[at];
    }
  }
  return plain;
}

// 36 35 98:0 ROOT MOUNT_POINT OPTIONS [TAG...] - TYPE SOURCE OPTIONS
std::optional<Cgroup2Mount> ParseMount(const std::string& line, std::string_view wanted_type) {
  std::istringstream words(line);
  std::string id, parent, device, root, mount_point, word;
  words >> id >> parent >> device >> root >> mount_point;
  while (words >> word && word != "-") {
  }
  std::string type;
  if (!(words >> type) || type != wanted_type) return std::nullopt;
  return Cgroup2Mount{Unescape(mount_point), Unescape(root)};
}

std::string Normal(std::string_view path) {
  std::string normal = std::filesystem::path(path).lexically_normal().string();
  while (normal.size() > 1 && normal.back() == '/') normal.pop_back();
  return normal;
}

// Within a cgroup namespace, what lies above it is written with "..": the root of the hierarchy is "/", "/..", "/../..".
// How many levels up `root` leads, -1 where it leads to anything else.
int LevelsUp(std::string_view root) {
  if (root == "/") return 0;
  int levels = 0;
  for (; root.starts_with("/.."); root.remove_prefix(3)) ++levels;
  return root.empty() ? levels : -1;
}

Result<long> FileSystemOf(const std::string& dir) {
  struct statfs info {};
  if (::statfs(dir.c_str(), &info) != 0) return ErrnoError(dir);
  return static_cast<long>(info.f_type);
}

}  // namespace

std::vector<Cgroup2Mount> Cgroup2Mounts(std::string_view mountinfo) {
  std::vector<Cgroup2Mount> mounts;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    if (auto mount = ParseMount(line, "cgroup2")) mounts.push_back(std::move(*mount));
  }
  return mounts;
}

std::vector<std::string> Cgroup1Mounts(std::string_view mountinfo) {
  std::vector<std::string> mounts;
  std::istringstream lines{std::string(mountinfo)};
  for (std::string line; std::getline(lines, line);) {
    auto mount = ParseMount(line, "cgroup");
    if (mount && mount->root == "/") mounts.push_back(std::move(mount->mount_point));
  }
  return mounts;
}

Result<std::string> Cgroup2Root(const std::string& proc) {
  const auto mountinfo = ReadFile(proc + "/mountinfo");
  if (!mountinfo) return mountinfo.error();
  const auto mounts = Cgroup2Mounts(*mountinfo);
  const auto whole = std::max_element(mounts.begin(), mounts.end(),
                                      [](const auto& a, const auto& b) { return LevelsUp(a.root) < LevelsUp(b.root); });
  if (whole != mounts.end() && LevelsUp(whole->root) >= 0) return whole->mount_point;
  if (!mounts.empty()) {
    return Error{"only a part of cgroup2 (" + mounts.front().root + ") is mounted at " + mounts.front().mount_point +
                 ": name the folder above the pods with --cgroup-root"};
  }
  return Error{std::string("cgroup2 is not mounted; ") + kMountCgroup2};
}

Result<std::string> OwnCgroup(const std::string& proc) {
  const auto cgroups = ReadFile(proc + "/cgroup");
  if (!cgroups) return cgroups.error();
  const auto mountinfo = ReadFile(proc + "/mountinfo");
  if (!mountinfo) return mountinfo.error();
  std::istringstream lines(*cgroups);
  std::string own;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("0::")) own = line.substr(3);
  }
  if (own.empty()) return Error{proc + "/cgroup names no cgroup2; " + kMountCgroup2};
  for (const Cgroup2Mount& mount : Cgroup2Mounts(*mountinfo)) {
    // "/../x": outside of what the process may see, or above it, where its own name is not known.
    if (own.starts_with("/..") || mount.root.starts_with("/..") || !IsBelow(own, mount.root)) continue;
    const std::string rest = mount.root == "/" ? own : own.substr(mount.root.size());
    return Normal(mount.mount_point + "/" + rest);
  }
  return Error{"the cgroup of this process, " + own + ", does not show in any mounted cgroup2; " + kMountCgroup2};
}

bool IsBelow(std::string_view path, std::string_view root) {
  const std::string below = Normal(path);
  const std::string above = Normal(root);
  if (above == "/") return below.starts_with('/');
  return below == above || below.starts_with(above + "/");
}

Result<void> CheckCgroup2(const std::string& dir) {
  auto type = FileSystemOf(dir);
  if (!type) return std::move(type).error().Wrap("cgroup2 folder");
  if (*type == CGROUP2_SUPER_MAGIC) return {};
  if (*type == CGROUP_SUPER_MAGIC) {
    return Error{dir + " is on cgroup v1, which has no socket programs; name a folder of cgroup2, or " + kMountCgroup2};
  }
  return Error{dir + " is not on cgroup2; " + kMountCgroup2};
}

Result<void> CheckBpffs(const std::string& dir) {
  auto type = FileSystemOf(dir);
  if (!type) return std::move(type).error().Wrap("bpf file system");
  if (*type == BPF_FS_MAGIC) return {};
  return Error{dir + " is not on a bpf file system; mount it with: mount -t bpf bpf /sys/fs/bpf"};
}

bool IsHierarchyRoot(const std::string& dir) {
  return CheckCgroup2(dir).ok() && ::access((dir + "/cgroup.type").c_str(), F_OK) != 0;
}

}  // namespace egress::node
