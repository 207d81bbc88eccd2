#include "agent/cni/installer.h"

#include <spdlog/fmt/fmt.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <utility>
#include <vector>

#include "agent/base/file.h"

namespace egress::cni {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kOriginal = ".egressd-original";  // behind the name of a lone .conf that is wrapped
constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB;

bool IsList(const fs::path& path) { return path.extension() == ".conflist"; }

// Those that a runtime considers, in its order.
Result<std::vector<fs::path>> ConfigurationFiles(const std::string& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const auto extension = entry->path().extension();
    std::error_code ignored;
    if (extension != ".conf" && extension != ".conflist" && extension != ".json") continue;
    if (entry->is_regular_file(ignored)) files.push_back(entry->path());
  }
  if (error) return Error{"read " + folder + ": " + error.message()};
  std::sort(files.begin(), files.end());
  return files;
}

mode_t ModeOf(const fs::path& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0600;
}

Result<void> CopyProgram(const std::string& from, const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return Error{"make " + folder + ": " + error.message()};
  auto program = ReadFile(from);
  if (!program) return std::move(program).error();
  const std::string to = folder + "/" + std::string(kPluginType);
  const auto there = ReadFile(to);
  if (there && *there == *program && (ModeOf(to) & 0555) == 0555) return {};
  return ReplaceFile(to, *program, 0755);
}

// The text of `path` with our plugin in it, and where it belongs.
struct Wanted {
  fs::path path;
  std::string text;
  bool in_place = false;
};

Result<Wanted> WantedOf(const fs::path& path, const PluginEntry& entry) {
  const auto text = ReadFile(path);
  if (!text) return text.error();
  auto changed = IsList(path) ? AddPlugin(*text, entry) : WrapConf(*text, entry);
  if (!changed) return std::move(changed).error().Wrap(path.string());
  Wanted wanted{path, *std::move(changed), false};
  wanted.in_place = IsList(path) && wanted.text == *text;
  if (!IsList(path)) wanted.path += ".conflist";
  return wanted;
}

Result<void> PutBackOriginal(const fs::path& original) {
  const std::string text = original.string();
  const fs::path conf = text.substr(0, text.size() - kOriginal.size());
  std::error_code error;
  // One that the CNI wrote meanwhile is newer than the one that was kept.
  if (fs::exists(conf, error)) {
    fs::remove(original, error);
  } else {
    fs::rename(original, conf, error);
  }
  if (!error) fs::remove(conf.string() + ".conflist", error);
  if (error) return Error{"put back " + conf.string() + ": " + error.message()};
  return {};
}

}  // namespace

Installer::Installer(EventLoop& loop, InstallOptions options, std::function<void()> changed)
    : loop_(loop), options_(std::move(options)), changed_(std::move(changed)) {}

Installer::~Installer() {
  if (inotify_) loop_.Unwatch(inotify_.get());
  if (timer_ != 0) loop_.Cancel(timer_);
}

Result<std::unique_ptr<Installer>> Installer::Start(EventLoop& loop, InstallOptions options,
                                                    std::function<void()> changed) {
  std::unique_ptr<Installer> installer(new Installer(loop, std::move(options), std::move(changed)));
  if (auto done = installer->Watch(); !done) return std::move(done).error();
  installer->Check();
  return installer;
}

Result<void> Installer::Watch() {
  inotify_.Reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!inotify_) return ErrnoError("make an inotify descriptor");
  for (const std::string& folder : {options_.conf_dir, options_.bin_dir}) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) return Error{"make " + folder + ": " + error.message()};
    if (::inotify_add_watch(inotify_.get(), folder.c_str(), kEvents) < 0) return ErrnoError("watch " + folder);
  }
  return loop_.Watch(inotify_.get(), EPOLLIN, [this](std::uint32_t) { OnEvents(); });
}

void Installer::OnEvents() {
  alignas(inotify_event) char buffer[16384];
  bool foreign = false;
  for (ssize_t got; (got = ::read(inotify_.get(), buffer, sizeof buffer)) > 0;) {
    for (char* at = buffer; at < buffer + got;) {
      const auto* event = reinterpret_cast<const inotify_event*>(at);
      // The files that ReplaceFile() writes beside are nobody's business; their renames count.
      foreign = foreign || event->len == 0 || event->name[0] != '.';
      at += sizeof(inotify_event) + event->len;
    }
  }
  if (foreign) Check();
}

void Installer::Tell(std::string problem) {
  if (problem == problem_) return;
  problem_ = std::move(problem);
  changed_();
}

void Installer::ComeBack(std::chrono::steady_clock::time_point when) {
  const auto left = when - std::chrono::steady_clock::now();
  timer_ =
      loop_.After(std::max(std::chrono::ceil<std::chrono::milliseconds>(left), std::chrono::milliseconds(1)), [this] {
        timer_ = 0;
        Check();
      });
}

// Nobody has changed anything for long enough: what was a fight is none any more.
bool Installer::Quiet() const {
  return changes_.empty() || std::chrono::steady_clock::now() - changes_.back() > options_.fight_window + wait_;
}

// A change is put back at once; in a fight once for each wait, and the next one after twice as long.
bool Installer::HasToWait() {
  const auto now = std::chrono::steady_clock::now();
  if (Quiet()) wait_ = {};
  while (changes_.size() > 1 && now - changes_.front() > options_.fight_window) changes_.pop_front();
  if (wait_.count() == 0) {
    if (changes_.size() < options_.fight_changes) return false;
    wait_ = options_.first_wait;
    not_before_ = now + wait_;
    return true;
  }
  if (now < not_before_) return true;
  wait_ = std::min(2 * wait_, options_.longest_wait);
  not_before_ = now + wait_;
  return false;
}

void Installer::Check() {
  if (timer_ != 0) loop_.Cancel(std::exchange(timer_, 0));
  if (auto done = PutInPlace(); !done) {
    Tell(std::move(done).error().message);
  } else if (wait_.count() == 0 || Quiet()) {
    wait_ = {};
    Tell("");
  } else {
    ComeBack(changes_.back() + options_.fight_window + wait_ + std::chrono::milliseconds(1));
  }
}

Result<void> Installer::PutInPlace() {
  if (auto done = CopyProgram(options_.program, options_.bin_dir); !done) {
    return std::move(done).error().Wrap("install egress-cni");
  }
  auto files = ConfigurationFiles(options_.conf_dir);
  if (!files) return std::move(files).error();
  std::string left_alone;
  for (const fs::path& path : *files) {
    auto wanted = WantedOf(path, options_.entry);
    if (!wanted) {
      left_alone += (left_alone.empty() ? "left alone: " : "; ") + wanted.error().message;
      continue;
    }
    file_ = wanted->path;
    if (!wanted->in_place) return PutInPlace(path, wanted->text, !IsList(path));
    was_in_place_ = true;
    return {};
  }
  if (!left_alone.empty()) return Error{left_alone};
  return Error{options_.conf_dir + " holds no CNI configuration yet: egress-cni is put into it once it is there"};
}

Result<void> Installer::PutInPlace(const std::string& path, const std::string& text, bool wrapped) {
  if (was_in_place_) {
    if (HasToWait()) {
      ComeBack(not_before_);
      return Error{fmt::format(
          "another program takes egress-cni out of {} again and again; it is put back every {} s only, and meanwhile new "
          "pods are governed some milliseconds after their start, not from it: let one of the two write the file, or set "
          "cni: off",
          file_, std::chrono::ceil<std::chrono::seconds>(wait_).count())};
    }
    changes_.push_back(std::chrono::steady_clock::now());
  }
  if (auto done = ReplaceFile(file_, text, ModeOf(path)); !done) return done;
  was_in_place_ = true;
  if (!wrapped) return {};
  std::error_code error;
  fs::rename(path, path + std::string(kOriginal), error);
  if (error) return Error{"rename " + path + ": " + error.message()};
  return {};
}

Result<void> RemoveInstallation(const std::string& conf_dir, const std::string& bin_dir) {
  std::error_code error;
  std::vector<fs::path> originals, lists;
  for (fs::directory_iterator entry(conf_dir, error), end; !error && entry != end; entry.increment(error)) {
    const fs::path& path = entry->path();
    if (path.string().ends_with(kOriginal)) originals.push_back(path);
    if (IsList(path)) lists.push_back(path);
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    return Error{"read " + conf_dir + ": " + error.message()};
  }
  for (const fs::path& path : originals) {
    if (auto done = PutBackOriginal(path); !done) return done;
  }
  for (const fs::path& path : lists) {
    const auto text = ReadFile(path);
    if (!text) continue;  // went with its original
    const auto left = RemovePlugin(*text);
    if (!left) continue;
    if (auto done = ReplaceFile(path, *left, ModeOf(path)); !done) return done;
  }
  const std::string program = bin_dir + "/" + std::string(kPluginType);
  if (::unlink(program.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) return ErrnoError("remove " + program);
  return {};
}

}  // namespace egress::cni
