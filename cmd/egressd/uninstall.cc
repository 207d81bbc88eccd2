#include "cmd/egressd/uninstall.h"

#include <fcntl.h>
#include <sys/file.h>

#include <filesystem>

#include "agent/datapath/attachments.h"
#include "agent/datapath/kernel_object.h"
#include "cmd/egressd/cni.h"

namespace egress::agent {
namespace {

// A folder of the node that is mounted into a container cannot be removed from within; emptied, it is as good as gone.
Result<void> RemoveFolder(const std::string& path) {
  std::error_code error, ignored;
  std::filesystem::remove_all(path, error);
  if (!error || std::filesystem::is_empty(path, ignored)) return {};
  return Error{"remove " + path + ": " + error.message()};
}

}  // namespace

Result<void> Uninstall(const Options& options) {
  const std::string lock = options.run_dir + "/egressd.lock";
  const Fd held(::open(lock.c_str(), O_RDWR | O_CLOEXEC));
  if (held && ::flock(held.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error{"egressd runs with --run-dir " + options.run_dir + ": end it first"};
  }
  if (options.manifests.empty()) {
    if (auto done = UninstallCni(options); !done) return done;
    if (auto done = RemoveFolder(options.state_dir); !done) return done;
  }
  datapath::RemoveClsactFilters();
  if (auto done = datapath::RemovePins(options.bpffs); !done) return done;
  return RemoveFolder(options.run_dir);
}

}  // namespace egress::agent
