// DirectorySource: the manifests of a directory, and what changes among them.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

struct inotify_event;

namespace egress::source {

// Watches *.yaml, *.yml and *.json in one directory: no hidden files, no subdirectories; symbolic links to files are
// followed. A file is read when its writer closes it, or when it is renamed or linked in; while somebody writes to
// it, what was read before stands. A change behind a symbolic link is seen where Kubernetes makes it (a mounted
// ConfigMap swaps the link `..data`), not where the target itself is written to.
//
// While the directory is away (moved, unmounted) what it held stands; the directory that comes back at the same path
// is compared with that. Files of a directory that is deleted are deleted.
class DirectorySource {
 public:
  // The most that a file may hold. A longer one is reported with an error.
  static constexpr std::size_t kMaxFileBytes = std::size_t{16} << 20;

  // Fails where there is no such directory, or inotify has no watches left.
  static Result<std::unique_ptr<DirectorySource>> Open(const std::string& dir);

  // Readable when Poll() has something to tell.
  int fd() const { return epoll_.get(); }

  struct Change {
    std::string file_name;             // within the directory
    std::optional<std::string> text;   // nullopt: the file is gone, or see `error`
    std::optional<std::string> error;  // why the file cannot be read: what it held is invalid, not deleted
  };

  // All files that are there now, and those gone that were known. Poll() does the same at its first call.
  Result<std::vector<Change>> InitialScan();

  // What changed since the last call, each file once, sorted by name; does not block. Fails once when the directory
  // has gone away; the next call works again.
  Result<std::vector<Change>> Poll();

 private:
  using Changes = std::map<std::string, Change>;

  explicit DirectorySource(std::string dir);
  Result<void> Start();
  Result<void> WatchDirectory();
  void DropDirectoryWatch();
  void ReadEvents(Changes& changes);
  void OnDirectoryEvent(const inotify_event& event, std::string_view name, Changes& changes);
  void OnParentEvent(std::string_view name);
  Result<void> Settle(Changes& changes);
  Result<void> Rescan(Changes& changes);
  void ReadPending(Changes& changes);
  void Consider(const std::string& name, Changes& changes);

  std::string dir_;  // absolute, no trailing slash
  Fd inotify_;
  Fd again_;        // eventfd: Poll() stopped before everything was read
  Fd epoll_;        // of both
  int watch_ = -1;  // of the directory; -1 while it is away
  int parent_watch_ = -1;
  bool rescan_ = true;
  bool reopen_ = false;               // something new stands at the directory's path
  bool lost_ = false;                 // the directory went away, and nobody was told yet
  std::set<std::string> known_;       // files that were reported and not yet reported as gone
  std::set<std::string> unreadable_;  // of these, those that were reported with an error
  std::set<std::string> doubtful_;    // read as empty once
  std::set<std::string> pending_;     // files to look at
};

}  // namespace egress::source
