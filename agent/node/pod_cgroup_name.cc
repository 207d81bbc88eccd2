#include "agent/node/pod_cgroup_name.h"

#include <algorithm>
#include <cctype>

namespace egress::node {
namespace {

constexpr std::string_view kSlice = ".slice";

// The name of a slice without its suffix; nullopt for folders of the driver cgroupfs.
std::optional<std::string_view> SliceName(std::string_view name) {
  if (!name.ends_with(kSlice)) return std::nullopt;
  return name.substr(0, name.size() - kSlice.size());
}

// Is `last` the end of a name of parts that are joined by dashes?
bool EndsWithPart(std::string_view name, std::string_view last) {
  return name.ends_with(last) && (name.size() == last.size() || name[name.size() - last.size() - 1] == '-');
}

std::optional<std::string> Uid(std::string_view text, char dash) {
  if (text.empty() || text.size() > 64) return std::nullopt;
  std::string uid;
  for (const char c : text) {
    if (c != dash && std::isalnum(static_cast<unsigned char>(c)) == 0) return std::nullopt;
    uid += c == dash ? '-' : c;
  }
  return uid;
}

}  // namespace

bool IsKubepodsFolder(std::string_view name) {
  const auto slice = SliceName(name);
  return slice ? EndsWithPart(*slice, "kubepods") : name == "kubepods";
}

bool IsQosFolder(std::string_view name) {
  const auto slice = SliceName(name);
  if (!slice) return name == "burstable" || name == "besteffort";
  return EndsWithPart(*slice, "kubepods-burstable") || EndsWithPart(*slice, "kubepods-besteffort");
}

std::optional<std::string> PodUidOf(std::string_view name) {
  const auto slice = SliceName(name);
  if (!slice) return name.starts_with("pod") ? Uid(name.substr(3), '-') : std::nullopt;
  const std::size_t last = slice->rfind("-pod");  // a UID has no dashes in here
  if (last == std::string_view::npos) return std::nullopt;
  const std::string_view parent = slice->substr(0, last);
  const std::string folder = std::string(parent) + std::string(kSlice);
  if (!IsKubepodsFolder(folder) && !IsQosFolder(folder)) return std::nullopt;
  return Uid(slice->substr(last + 4), '_');
}

bool IsContainerFolder(std::string_view name) { return name.find("conmon") == std::string_view::npos; }

}  // namespace egress::node
