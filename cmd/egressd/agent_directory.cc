// Agent: a folder of manifests as its source.
#include <sys/epoll.h>

#include "cmd/egressd/agent.h"

namespace egress::agent {

Result<void> Agent::OpenDirectory() {
  auto directory = source::DirectorySource::Open(options_.manifests);
  if (!directory) return std::move(directory).error();
  directory_ = *std::move(directory);
  auto files = directory_->InitialScan();
  if (!files) return std::move(files).error();
  TakeUnits(*files);
  return loop_.Watch(directory_->fd(), EPOLLIN, [this](std::uint32_t) { OnDirectory(); });
}

void Agent::TakeUnits(const std::vector<source::DirectorySource::Change>& changes) {
  for (const auto& change : changes) {
    const std::string path = options_.manifests + "/" + change.file_name;
    if (change.text) {
      store_.SetUnit(change.file_name, *change.text, path);
    } else if (change.error) {
      store_.SetUnreadableUnit(change.file_name, *change.error, path);
    } else {
      store_.RemoveUnit(change.file_name);
    }
  }
}

void Agent::OnDirectory() {
  const auto read = std::chrono::steady_clock::now();
  auto files = directory_->Poll();
  if (!files) {
    Problem(files.error().message + "; what is in force stays");
    return;
  }
  TakeUnits(*files);
  Settle(read);
}

}  // namespace egress::agent
