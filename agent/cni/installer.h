// Installer: puts egress-cni into the node's CNI configuration, keeps it there, and takes it out again.
//
// The configuration that counts is the first file of the folder by name (*.conf, *.conflist, *.json) that holds one:
// containerd and CRI-O choose so. A list gets our plugin at its end. A lone X.conf is wrapped into X.conf.conflist, which
// sorts next to it, and is kept as X.conf.egressd-original.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "agent/base/event_loop.h"
#include "agent/base/fd.h"
#include "agent/base/result.h"
#include "agent/cni/conflist.h"

namespace egress::cni {

struct InstallOptions {
  std::string conf_dir;  // /etc/cni/net.d
  std::string bin_dir;   // /opt/cni/bin
  std::string program;   // the egress-cni to copy
  PluginEntry entry;
  // So many changes put back within `fight_window` are a fight; from then on each waits, twice as long each time.
  unsigned fight_changes = 5;
  std::chrono::milliseconds fight_window = std::chrono::minutes(1);
  std::chrono::milliseconds first_wait = std::chrono::seconds(10);
  std::chrono::milliseconds longest_wait = std::chrono::minutes(5);
};

class Installer {
 public:
  // Installs, and watches both folders. What goes wrong is told by problem(), and tried again when they change.
  // `changed` is called when problem() is another than before.
  static Result<std::unique_ptr<Installer>> Start(EventLoop& loop, InstallOptions options,
                                                  std::function<void()> changed);
  ~Installer();
  Installer(const Installer&) = delete;
  Installer& operator=(const Installer&) = delete;

  // In words, with what to do; empty: the plugin is in place, in the file that configured_file() names.
  const std::string& problem() const { return problem_; }
  const std::string& configured_file() const { return file_; }

 private:
  Installer(EventLoop& loop, InstallOptions options, std::function<void()> changed);
  Result<void> Watch();
  void OnEvents();
  void Check();
  void Tell(std::string problem);
  void ComeBack(std::chrono::steady_clock::time_point when);
  Result<void> PutInPlace();
  Result<void> PutInPlace(const std::string& path, const std::string& text, bool wrapped);
  bool Quiet() const;
  bool HasToWait();

  EventLoop& loop_;
  InstallOptions options_;
  std::function<void()> changed_;
  Fd inotify_;
  std::string problem_;
  std::string file_;
  bool was_in_place_ = false;
  std::deque<std::chrono::steady_clock::time_point> changes_;  // put back, within the window and the last one
  std::chrono::milliseconds wait_{};                           // of the fight; 0: there is none
  std::chrono::steady_clock::time_point not_before_{};
  EventLoop::TimerId timer_ = 0;
};

// The reverse: configuration first, then the program. Folders that are not there hold nothing of ours.
Result<void> RemoveInstallation(const std::string& conf_dir, const std::string& bin_dir);

}  // namespace egress::cni
