// LinkMonitor: what happens to the links of a network namespace.
#pragma once

#include <string>
#include <vector>

#include "agent/base/fd.h"
#include "agent/base/result.h"

namespace egress::node {

struct LinkChange {
  int ifindex = 0;
  std::string name;
  bool removed = false;  // also: moved to another namespace
  bool xdp = false;      // has an XDP program
};

struct LinkChanges {
  std::vector<LinkChange> links;  // in the order in which they happened; one link may come up several times
  bool resync = false;            // some were lost: look at all links again
};

class LinkMonitor {
 public:
  // Of the caller's namespace.
  static Result<LinkMonitor> Open();
  // Of `netns`, which it keeps alive: close it when the pod's path no longer leads there.
  static Result<LinkMonitor> OpenIn(const Fd& netns);

  // Readable when there are changes: links that come, go, are renamed, go up or down, get other features (GRO) or
  // an XDP program.
  int fd() const { return socket_.get(); }

  // Does not block. What happened before the monitor was opened is not told.
  Result<LinkChanges> Poll();

 private:
  explicit LinkMonitor(Fd socket) : socket_(std::move(socket)) {}
  static Result<LinkMonitor> Subscribe(Fd socket);

  Fd socket_;
};

}  // namespace egress::node
