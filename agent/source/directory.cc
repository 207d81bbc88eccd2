#include "agent/source/directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <utility>

namespace egress::source {
namespace {

// IN_MODIFY is no reason to read, but a reason not to: somebody writes, and will close.
constexpr std::uint32_t kDirectoryEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE |
                                           IN_MODIFY | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
constexpr std::uint32_t kParentEvents = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR;

// Files that were written again while they were read are read again so often within one Poll().
constexpr int kRounds = 4;

// The link that a mounted ConfigMap or Secret swaps to show all its new files at once.
constexpr std::string_view kConfigMapData = "..data";

bool IsManifest(std::string_view name) {
  if (name.empty() || name.front() == '.') return false;
  return name.ends_with(".yaml") || name.ends_with(".yml") || name.ends_with(".json");
}

std::string Megabytes(std::size_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

struct Content {
  enum class Kind { kText, kError, kNone } kind = Kind::kNone;
  std::string text;  // or the error in words
};

Content Unreadable(std::string why) { return {Content::Kind::kError, std::move(why)}; }

Content ReadWhole(const Fd& file, const std::string& path, std::size_t expected) {
  std::string text;
  text.reserve(expected + 1);
  std::array<char, 64 << 10> buffer;
  for (;;) {
    const ssize_t size = ::read(file.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return Unreadable(ErrnoError("read " + path).message);
    if (size == 0) return {Content::Kind::kText, std::move(text)};
    text.append(buffer.data(), static_cast<std::size_t>(size));
    if (text.size() > DirectorySource::kMaxFileBytes) {
      return Unreadable(path + " is longer than " + Megabytes(DirectorySource::kMaxFileBytes) + ": split it");
    }
  }
}

Content ReadManifest(const std::string& path) {
  // O_NONBLOCK: a FIFO with such a name must not hold up the agent.
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  struct stat info {};
  if (!file) {
    const int error = errno;
    if (error == ENOENT && ::lstat(path.c_str(), &info) != 0) return {};
    return Unreadable(ErrnoError("open " + path, error).message);  // ENOENT: a link that leads nowhere
  }
  if (::fstat(file.get(), &info) != 0) return Unreadable(ErrnoError("stat " + path).message);
  if (S_ISDIR(info.st_mode)) return {};
  if (!S_ISREG(info.st_mode)) return Unreadable(path + " is not a regular file");
  if (static_cast<std::size_t>(info.st_size) > DirectorySource::kMaxFileBytes) {
    return Unreadable(path + " is longer than " + Megabytes(DirectorySource::kMaxFileBytes) + ": split it");
  }
  return ReadWhole(file, path, static_cast<std::size_t>(info.st_size));
}

// A new name without a writer: a symbolic link, or a finished file that was linked in (O_TMPFILE, ln). What a writer
// has just created is empty still, or announces itself with IN_MODIFY.
bool IsLinkedIn(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && (S_ISLNK(info.st_mode) || (S_ISREG(info.st_mode) && info.st_size > 0));
}

}  // namespace

DirectorySource::DirectorySource(std::string dir) : dir_(std::move(dir)) {}

Result<std::unique_ptr<DirectorySource>> DirectorySource::Open(const std::string& dir) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(dir, error).lexically_normal();
  if (error) return Error{"manifests directory " + dir + ": " + error.message()};
  if (!path.has_filename() && path.has_relative_path()) path = path.parent_path();  // a trailing slash
  std::unique_ptr<DirectorySource> source(new DirectorySource(path.string()));
  auto started = source->Start();
  if (!started) return std::move(started).error();
  return source;
}

Result<void> DirectorySource::Start() {
  inotify_.Reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (!inotify_) return ErrnoError("inotify_init1 (see fs.inotify.max_user_instances)");
  again_.Reset(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!again_) return ErrnoError("eventfd");
  epoll_.Reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return ErrnoError("epoll_create1");
  for (const int fd : {inotify_.get(), again_.get()}) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return ErrnoError("epoll_ctl");
  }
  const std::string parent = std::filesystem::path(dir_).parent_path().string();
  // Without the parent (no permission) all works but the return of a directory that was moved away.
  if (parent != dir_) parent_watch_ = ::inotify_add_watch(inotify_.get(), parent.c_str(), kParentEvents);
  return WatchDirectory();
}

Result<void> DirectorySource::WatchDirectory() {
  const int watch = ::inotify_add_watch(inotify_.get(), dir_.c_str(), kDirectoryEvents);
  if (watch < 0) {
    const char* hint = errno == ENOSPC ? " (see fs.inotify.max_user_watches)" : "";
    return ErrnoError("watch manifests directory " + dir_ + hint);
  }
  if (watch != watch_) DropDirectoryWatch();
  watch_ = watch;
  return {};
}

void DirectorySource::DropDirectoryWatch() {
  if (watch_ >= 0) ::inotify_rm_watch(inotify_.get(), watch_);
  watch_ = -1;
}

Result<std::vector<DirectorySource::Change>> DirectorySource::InitialScan() {
  rescan_ = true;
  return Poll();
}

Result<std::vector<DirectorySource::Change>> DirectorySource::Poll() {
  std::uint64_t count = 0;
  [[maybe_unused]] const ssize_t size = ::read(again_.get(), &count, sizeof count);
  Changes changes;
  auto settled = Settle(changes);
  if (!settled) return std::move(settled).error();
  std::vector<Change> result;
  result.reserve(changes.size());
  for (auto& [name, change] : changes) {
    if (change.error) {
      unreadable_.insert(name);
    } else {
      unreadable_.erase(name);
    }
    if (change.text || change.error) {
      known_.insert(name);
    } else if (known_.erase(name) == 0) {
      continue;  // came and went between two calls
    }
    result.push_back(std::move(change));
  }
  return result;
}

// Reads what events ask for, until no event came while reading: only then was nobody writing meanwhile.
Result<void> DirectorySource::Settle(Changes& changes) {
  ReadEvents(changes);
  for (int round = 0; round < kRounds; ++round) {
    if (std::exchange(reopen_, false) && WatchDirectory().ok()) {
      rescan_ = true;
      lost_ = false;
    }
    if (std::exchange(rescan_, false) && watch_ >= 0) {
      auto scanned = Rescan(changes);
      if (!scanned) return scanned;
    }
    ReadPending(changes);
    // The changes first, the bad news at the next call.
    if (lost_ && changes.empty()) {
      lost_ = false;
      return Error{"manifests directory " + dir_ + " has gone away: waiting until it is back"};
    }
    ReadEvents(changes);
    if (pending_.empty() && !rescan_ && !reopen_ && !lost_) return {};
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t size = ::write(again_.get(), &one, sizeof one);
  return {};
}

void DirectorySource::ReadEvents(Changes& changes) {
  alignas(inotify_event) std::array<char, 16 << 10> buffer;
  for (;;) {
    const ssize_t size = ::read(inotify_.get(), buffer.data(), buffer.size());
    if (size <= 0) return;  // EAGAIN: that was all
    for (ssize_t at = 0; at < size;) {
      const auto* event = reinterpret_cast<const inotify_event*>(buffer.data() + at);
      at += static_cast<ssize_t>(sizeof *event + event->len);
      const std::string_view name = event->len > 0 ? event->name : "";
      if ((event->mask & IN_Q_OVERFLOW) != 0) {
        rescan_ = true;
        reopen_ = true;
      } else if (event->wd == watch_) {
        OnDirectoryEvent(*event, name, changes);
      } else if (event->wd == parent_watch_) {
        OnParentEvent(name);
      }
    }
  }
}

void DirectorySource::OnDirectoryEvent(const inotify_event& event, std::string_view name, Changes& changes) {
  if ((event.mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)) != 0) {
    DropDirectoryWatch();
    // A directory that is deleted was empty by then, so its files are gone; of one that moved nothing is known.
    if ((event.mask & IN_DELETE_SELF) != 0) {
      pending_.insert(known_.begin(), known_.end());
    } else {
      pending_.clear();
    }
    lost_ = true;
    reopen_ = true;  // perhaps another stands there already
    return;
  }
  if (name == kConfigMapData && (event.mask & IN_MOVED_TO) != 0) rescan_ = true;
  if (!IsManifest(name)) return;
  const std::string file(name);
  if ((event.mask & IN_MODIFY) != 0) {
    // What was read of it may be half of it.
    pending_.erase(file);
    changes.erase(file);
  } else if ((event.mask & IN_ATTRIB) != 0) {
    if (unreadable_.contains(file)) pending_.insert(file);  // chmod may have mended it
  } else if ((event.mask & IN_CREATE) == 0 || IsLinkedIn(dir_ + "/" + file)) {
    pending_.insert(file);
  }
}

void DirectorySource::OnParentEvent(std::string_view name) {
  if (name == std::filesystem::path(dir_).filename().string()) reopen_ = true;
}

Result<void> DirectorySource::Rescan(Changes& changes) {
  DIR* dir = ::opendir(dir_.c_str());
  if (dir == nullptr) return ErrnoError("read manifests directory " + dir_);
  pending_.insert(known_.begin(), known_.end());
  errno = 0;
  while (const dirent* entry = ::readdir(dir)) {
    if (IsManifest(entry->d_name)) pending_.insert(entry->d_name);
    errno = 0;
  }
  const int error = errno;
  ::closedir(dir);
  if (error != 0) return ErrnoError("read manifests directory " + dir_, error);
  ReadPending(changes);
  return {};
}

void DirectorySource::ReadPending(Changes& changes) {
  for (const std::string& name : std::exchange(pending_, {})) Consider(name, changes);
}

void DirectorySource::Consider(const std::string& name, Changes& changes) {
  Content content = ReadManifest(dir_ + "/" + name);
  // A writer truncates before the kernel announces it. So an empty file is believed at the second look, behind
  // whose back the announcement would have come.
  const bool emptied = content.kind == Content::Kind::kText && content.text.empty() && known_.contains(name);
  if (emptied && doubtful_.insert(name).second) {
    pending_.insert(name);
    return;
  }
  doubtful_.erase(name);
  Change change{.file_name = name, .text = {}, .error = {}};
  if (content.kind == Content::Kind::kText) change.text = std::move(content.text);
  if (content.kind == Content::Kind::kError) change.error = std::move(content.text);
  changes.insert_or_assign(name, std::move(change));
}

}  // namespace egress::source
