// A node and its pods for tests: network namespaces that nobody else sees, gone when the test ends.
#pragma once

#include <string>

#include "agent/base/fd.h"

namespace egress::node {

// The thread that makes one is in a fresh network namespace, "the node", until it goes. Needs root.
class World {
 public:
  World();
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // A new namespace, bound to the path that is returned; `lo` is up.
  std::string AddNetns(const std::string& name);
  // The same in two steps, as a container runtime does it: the empty file first.
  void TouchNetns(const std::string& name);
  void BindNetns(const std::string& name);
  // Unbinds it; the file stays, unless `unlink`.
  void RemoveNetns(const std::string& name, bool unlink = true);

  // AddNetns and a veth: `eth0` in there, "v-NAME" here, both up, with 192.0.2.HOST/24 and 2001:db8::HOST/64 in
  // there, and 192.0.2.1, 2001:db8::1 here.
  std::string AddPod(const std::string& name, int host);

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }

  // Shell commands that must succeed, on the node and in a namespace.
  void Run(const std::string& command);
  void RunIn(const std::string& name, const std::string& command);

 private:
  std::string folder_;
  Fd outside_;  // the namespace that the thread was in before
};

// Waits until `fd` is readable. False after five seconds: the event did not come.
bool WaitReadable(int fd);

}  // namespace egress::node
