// SandboxCache: the sandboxes of this node as libcni's cache has them.
#pragma once

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/node/sandbox.h"

namespace egress::node {

class SandboxCache {
 public:
  // The folder need not exist yet.
  static Result<SandboxCache> Open(std::string folder);

  int fd() const { return inotify_.get(); }

  // (namespace, name) of the pods whose sandboxes came, changed or went since the last call; the first call tells all.
  std::set<std::pair<std::string, std::string>> Poll();

  struct Entry {
    Sandbox sandbox;
    std::int64_t written_ns = 0;  // time of the file, since 1970
  };
  // By file name.
  const std::map<std::string, Entry>& entries() const { return entries_; }

 private:
  explicit SandboxCache(std::string folder) : folder_(std::move(folder)) {}
  void Watch();
  void Read(const std::string& name, std::set<std::pair<std::string, std::string>>& told);
  void ReadAll(std::set<std::pair<std::string, std::string>>& told);

  std::string folder_;
  Fd inotify_;
  int watch_ = -1;
  bool in_place_ = false;  // the watch is on the folder itself, not on one above it
  bool read_all_ = true;
  std::map<std::string, Entry> entries_;
};

}  // namespace egress::node
