#include "agent/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>

#include "agent/base/fd.h"

namespace egress {
namespace {

constexpr std::size_t kMaxSize = 16 << 20;

Result<void> WriteAll(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t written = ::write(fd, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError("write");
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

}  // namespace

Result<std::string> ReadFile(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (!file) return ErrnoError("open " + path);
  std::string content;
  char buffer[65536];
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoError("read " + path);
    if (got == 0) return content;
    content.append(buffer, static_cast<std::size_t>(got));
    if (content.size() > kMaxSize) return Error{path + " is larger than 16 MB"};
  }
}

Result<void> ReplaceFile(const std::string& path, std::string_view content, mode_t mode) {
  const std::filesystem::path target(path);
  const std::string folder = target.parent_path().string();
  const std::string beside = folder + "/." + target.filename().string() + ".new";
  ::unlink(beside.c_str());
  Fd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return ErrnoError("make " + beside);
  auto done = WriteAll(file.get(), content);
  if (done && ::fchmod(file.get(), mode) != 0) done = ErrnoError("chmod");
  if (done && ::fsync(file.get()) != 0) done = ErrnoError("sync");
  file.Reset();
  if (done && ::rename(beside.c_str(), path.c_str()) != 0) done = ErrnoError("rename to " + path);
  if (!done) {
    ::unlink(beside.c_str());
    return std::move(done).error().Wrap(beside);
  }
  const Fd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return ErrnoError("sync " + folder);
  return {};
}

}  // namespace egress
