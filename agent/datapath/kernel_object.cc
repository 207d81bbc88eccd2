#include "agent/datapath/kernel_object.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <filesystem>

#include "agent/datapath/map_migration.h"
#include "egress.skel.h"

namespace egress::datapath {
namespace {

constexpr long kBpfFsMagic = 0xcafe4a11;

// What libbpf says last; part of the error where loading fails. One loader at a time.
std::string last_words;

int RememberLastWords(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  char text[512];
  const int length = std::vsnprintf(text, sizeof text, format, arguments);
  last_words = text;
  while (!last_words.empty() && last_words.back() == '\n') last_words.pop_back();
  return length;
}

std::size_t PageAligned(std::size_t size) {
  const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

// Has the pinned map the layout that this build wants?
Result<bool> SameLayout(int pinned, const bpf_map* wanted) {
  bpf_map_info info = {};
  __u32 length = sizeof info;
  if (::bpf_obj_get_info_by_fd(pinned, &info, &length) != 0) return ErrnoError("read a pinned map's layout");
  return info.type == bpf_map__type(wanted) && info.key_size == bpf_map__key_size(wanted) &&
         info.value_size == bpf_map__value_size(wanted) && info.max_entries == bpf_map__max_entries(wanted) &&
         (info.map_flags & ~BPF_F_RDONLY_PROG) == (bpf_map__map_flags(wanted) & ~BPF_F_RDONLY_PROG);
}

// What policy is compiled into. The programs read them together, and those of the agent before this one go on with
// theirs until the last is replaced: so either all are shared with them or none.
constexpr std::string_view kPolicyMaps[] = {"pods",     "states",   "interfaces", "rules",  "classes", "hosts",
                                            "policies", "networks", "ports",      "config", "routes"};
// What cannot be compiled again: which slot is whose, which policy has which number, what is counted, and the
// generation that the sockets' verdicts name.
constexpr std::string_view kKeptMaps[] = {"pods",  "policies", "config",     "connections",
                                          "usage", "awaiting", "hello_bytes"};

template <std::size_t N>
bool IsAmong(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

// Does the kernel let an iterator over the storage of sockets see values that it could write? Some do not under
// lockdown.
bool IteratesOverStorage() {
  const bpf_insn nothing[] = {{BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0}, {BPF_JMP | BPF_EXIT, 0, 0, 0, 0}};
  const int target = libbpf_find_vmlinux_btf_id("bpf_sk_storage_map", BPF_TRACE_ITER);
  if (target < 0) return false;
  LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_TRACE_ITER,
              .attach_btf_id = static_cast<__u32>(target));
  const Fd program(::bpf_prog_load(BPF_PROG_TYPE_TRACING, "probe", "GPL", nothing, std::size(nothing), &options));
  return static_cast<bool>(program);
}

bool IsOwnMap(const bpf_map* map) { return std::strchr(bpf_map__name(map), '.') == nullptr; }  // not .rodata

}  // namespace

KernelObject::KernelObject(std::string bpffs) : bpffs_(std::move(bpffs)) {}

KernelObject::~KernelObject() {
  if (states_ != nullptr) ::munmap(states_, PageAligned(kStateStride * EGRESS_MAX_PODS));
  if (config_ != nullptr) ::munmap(config_, PageAligned(sizeof(egress_config)));
  if (skeleton_ != nullptr) egress_bpf__destroy(skeleton_);
}

Result<std::unique_ptr<KernelObject>> KernelObject::Load(const std::string& bpffs) {
  std::error_code error;
  std::filesystem::create_directories(bpffs, error);
  if (error) {
    return Error{"make " + bpffs + ": " + error.message() +
                 " (is the BPF file system mounted? mount -t bpf bpf /sys/fs/bpf)"};
  }
  struct statfs fs = {};
  if (::statfs(bpffs.c_str(), &fs) != 0) return ErrnoError("statfs " + bpffs);
  if (static_cast<unsigned long>(fs.f_type) != static_cast<unsigned long>(kBpfFsMagic)) {
    return Error{bpffs + " is not on a BPF file system: mount -t bpf bpf /sys/fs/bpf, or choose another --bpffs"};
  }
  std::unique_ptr<KernelObject> object(new KernelObject(bpffs));
  if (auto done = object->OpenAndLoad(); !done) return std::move(done).error();
  if (auto done = object->MigrateKept(); !done) return std::move(done).error();
  if (auto done = object->MapShared(); !done) return std::move(done).error();
  object->InitializeConfig();
  return object;
}

Result<void> KernelObject::OpenAndLoad() {
  libbpf_set_print(RememberLastWords);
  skeleton_ = egress_bpf__open();
  if (skeleton_ == nullptr) return ErrnoError("open the BPF object");
  if (auto done = ReusePins(); !done) return done;
  const bool whole_node = IteratesOverStorage();
  bpf_program__set_autoload(FindProgram("revoke"), whole_node);
  bpf_program__set_autoload(FindProgram("revoke_in_netns"), !whole_node);
  if (egress_bpf__load(skeleton_) != 0) {
    const int error = errno;
    std::string hint;
    if (error == EPERM) hint = "; egressd needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON";
    if (error == ENOENT || error == ESRCH)
      hint = "; the kernel needs CONFIG_DEBUG_INFO_BTF=y (/sys/kernel/btf/vmlinux)";
    return ErrnoError("load the BPF programs (Linux 6.1 or later is needed): " + last_words + hint, error);
  }
  return {};
}

Result<void> KernelObject::ReusePins() {
  std::map<std::string, Fd> pins;
  if (auto done = ComparePins(pins); !done) return done;
  const auto is_new = [this](const std::string& name) { return std::ranges::count(replaced_, name) > 0; };
  policy_replaced_ = std::ranges::any_of(replaced_, [](const auto& name) { return IsAmong(kPolicyMaps, name); });
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) {
    if (!IsOwnMap(map)) continue;
    const std::string name = bpf_map__name(map);
    const auto pin = pins.find(name);
    // The template is what the maps in `inbound` look like.
    const bool shared = pin != pins.end() && !is_new(name) && !(policy_replaced_ && IsAmong(kPolicyMaps, name)) &&
                        !(name == "inbound" && is_new("inbound_template"));
    if (!shared) {
      unpinned_.push_back(name);
      if (pin != pins.end() && IsAmong(kKeptMaps, name)) previous_[name] = std::move(pin->second);
    } else if (bpf_map__reuse_fd(map, pin->second.get()) != 0) {
      return ErrnoError("take over the pinned map " + bpffs_ + "/" + name);
    }
  }
  // Those of another layout last: while one of them is not published yet, the next agent sees that all are to be made.
  std::ranges::stable_partition(unpinned_, [&](const auto& name) { return !is_new(name); });
  return {};
}

// Opens the pins there are, and notes in replaced_ which have another layout.
Result<void> KernelObject::ComparePins(std::map<std::string, Fd>& pins) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, skeleton_->obj) {
    if (!IsOwnMap(map)) continue;
    const std::string name = bpf_map__name(map);
    const std::string path = bpffs_ + "/" + name;
    Fd pinned(::bpf_obj_get(path.c_str()));
    if (!pinned) {
      if (errno != ENOENT) return ErrnoError("open the pinned map " + path);
      continue;
    }
    const auto same = SameLayout(pinned.get(), map);
    if (!same) return same.error();
    if (!*same) replaced_.push_back(name);
    pins[name] = std::move(pinned);
  }
  return {};
}

Result<void> KernelObject::MigrateKept() {
  for (const auto& [name, from] : previous_) {
    const bpf_map* to = bpf_object__find_map_by_name(skeleton_->obj, name.c_str());
    if (auto done = MigrateEntries(from.get(), to, bpf_object__btf(skeleton_->obj)); !done) return done;
  }
  previous_.clear();
  return {};
}

Result<void> KernelObject::Publish() {
  for (const std::string& name : unpinned_) {
    const std::string path = bpffs_ + "/" + name;
    const std::string beside = path + "-new";
    ::unlink(beside.c_str());
    if (::bpf_obj_pin(MapFd(name.c_str()), beside.c_str()) != 0) return ErrnoError("pin map " + beside);
    if (::rename(beside.c_str(), path.c_str()) != 0) {
      // bpffs of older kernels renames only onto what is not there.
      ::unlink(path.c_str());
      if (::rename(beside.c_str(), path.c_str()) != 0) return ErrnoError("rename " + beside + " to " + path);
    }
  }
  unpinned_.clear();
  return {};
}

Result<void> KernelObject::MapShared() {
  void* states = ::mmap(nullptr, PageAligned(kStateStride * EGRESS_MAX_PODS), PROT_READ | PROT_WRITE, MAP_SHARED,
                        MapFd("states"), 0);
  if (states == MAP_FAILED) return ErrnoError("mmap map states");
  states_ = static_cast<char*>(states);
  void* config =
      ::mmap(nullptr, PageAligned(sizeof(egress_config)), PROT_READ | PROT_WRITE, MAP_SHARED, MapFd("config"), 0);
  if (config == MAP_FAILED) return ErrnoError("mmap map config");
  config_ = static_cast<egress_config*>(config);
  return {};
}

void KernelObject::InitializeConfig() {
  if (config_->next_id != 0) return;  // of an agent before this one: its hosts are hashed with its key
  if (::getrandom(config_->hash_key, sizeof config_->hash_key, 0) != sizeof config_->hash_key) std::abort();
  config_->next_id = 1;
}

bpf_program* KernelObject::FindProgram(const char* name) const {
  return bpf_object__find_program_by_name(skeleton_->obj, name);
}

int KernelObject::MapFd(const char* name) const { return bpf_object__find_map_fd_by_name(skeleton_->obj, name); }

Result<Fd> KernelObject::ReadOnlyMap(const char* name) const {
  bpf_map_info info = {};
  __u32 length = sizeof info;
  if (::bpf_obj_get_info_by_fd(MapFd(name), &info, &length) != 0) return ErrnoError("look at map " + std::string(name));
  LIBBPF_OPTS(bpf_get_fd_by_id_opts, options, .open_flags = BPF_F_RDONLY);
  Fd fd(::bpf_map_get_fd_by_id_opts(info.id, &options));
  if (!fd) return ErrnoError("open map " + std::string(name) + " read-only (this needs CAP_SYS_ADMIN)");
  return fd;
}

pod_state* KernelObject::State(std::uint32_t slot) const {
  assert(slot < EGRESS_MAX_PODS);
  return reinterpret_cast<pod_state*>(states_ + slot * kStateStride);
}

Result<Fd> KernelObject::MakeInboundMap() const {
  const btf* types = bpf_object__btf(skeleton_->obj);
  LIBBPF_OPTS(bpf_map_create_opts, options, .btf_fd = static_cast<__u32>(bpf_object__btf_fd(skeleton_->obj)),
              .btf_key_type_id = static_cast<__u32>(btf__find_by_name_kind(types, "inbound_key", BTF_KIND_STRUCT)),
              .btf_value_type_id = static_cast<__u32>(btf__find_by_name_kind(types, "inbound", BTF_KIND_STRUCT)));
  Fd map(::bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "inbound_pod", sizeof(inbound_key), sizeof(struct inbound),
                          EGRESS_MAX_INBOUND, &options));
  if (!map) return ErrnoError("make a map of inbound records");
  return map;
}

Result<void> RemovePins(const std::string& bpffs) {
  std::error_code error;
  // The kernel takes a link down some time after its pin has gone; detached, it does nothing from here on.
  for (const auto& entry : std::filesystem::directory_iterator(bpffs + "/links", error)) {
    if (const Fd link(::bpf_obj_get(entry.path().c_str())); link) (void)::bpf_link_detach(link.get());
  }
  std::filesystem::remove_all(bpffs + "/links", error);
  if (error) return Error{"remove " + bpffs + "/links: " + error.message()};
  std::filesystem::remove_all(bpffs, error);
  if (error) return Error{"remove " + bpffs + ": " + error.message()};
  return {};
}

}  // namespace egress::datapath
