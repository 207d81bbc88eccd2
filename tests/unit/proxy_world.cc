#include "tests/unit/proxy_world.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <chrono>
#include <cstring>

namespace egress::proxy {
namespace {

constexpr std::chrono::seconds kPatience(Peer::kPatience);

bool Ready(int fd, short events, int milliseconds) {
  pollfd polled{fd, events, 0};
  return ::poll(&polled, 1, milliseconds) > 0;
}

Fd Listen(std::uint16_t* port) {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 || ::listen(fd.get(), 128) != 0) return Fd();
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  *port = ntohs(address.sin_port);
  return fd;
}

}  // namespace

Peer::Peer(Fd fd) : fd_(std::move(fd)) {
  const timeval patience{kPatience, 0};
  const int one = 1;
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

bool Peer::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Peer::Fill() {
  char block[65536];
  const ssize_t got = ::recv(fd_.get(), block, sizeof block, 0);
  if (got < 0 && errno == ECONNRESET) reset_ = true;
  if (got <= 0) return false;
  read_.append(block, static_cast<std::size_t>(got));
  return true;
}

std::string Peer::Read(std::size_t count) {
  while (read_.size() < count && Fill()) {
  }
  std::string taken = read_.substr(0, count);
  read_.erase(0, taken.size());
  return taken;
}

std::string Peer::ReadUntil(std::string_view mark) {
  std::size_t at = 0;
  while ((at = read_.find(mark)) == std::string::npos) {
    if (!Fill()) return Read(read_.size());
  }
  return Read(at + mark.size());
}

std::string Peer::ReadResponse(bool to_head) {
  const std::string head = ReadHead();
  const std::size_t at = head.find("Content-Length: ");
  if (to_head || at == std::string::npos) return head;
  return head + Read(std::stoul(head.substr(at + 16)));
}

Peer::Ending Peer::ReadEnding() {
  read_.clear();
  while (true) {
    if (reset_) return Ending::kReset;
    char block[4096];
    const ssize_t got = ::recv(fd_.get(), block, sizeof block, 0);
    if (got == 0) return Ending::kFin;
    if (got < 0 && errno == ECONNRESET) return Ending::kReset;
    if (got < 0) return Ending::kNone;
  }
}

bool Peer::Silent(int milliseconds) { return read_.empty() && !Ready(fd_.get(), POLLIN, milliseconds); }

void Peer::EndWriting() { ::shutdown(fd_.get(), SHUT_WR); }

void Peer::Reset() {
  const linger abort{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
  fd_.Reset();
}

Settings World::FastSettings() {
  Settings settings;
  settings.timeouts.tick = std::chrono::milliseconds(20);
  return settings;
}

World::World(Settings settings) {
  origin_ = Listen(&origin_port_);
  Fd listener = Listen(&listener_port_);
  states_ = Fd(::memfd_create("states", MFD_CLOEXEC));
  EXPECT_EQ(::ftruncate(states_.get(), static_cast<off_t>(StateTable::Bytes())), 0);
  void* memory = ::mmap(nullptr, StateTable::Bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, states_.get(), 0);
  state_memory_ = static_cast<char*>(memory);
  Flip(0);
  int pair[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  channel_ = std::make_unique<Channel>(Fd(pair[0]));
  auto lookup = [this](int) -> std::optional<socket_verdict> {
    if (!known) return std::nullopt;
    socket_verdict verdict{};
    verdict.kind = EGRESS_SOCKET_DOWNSTREAM;
    verdict.slot = kSlot;
    verdict.protocols = static_cast<__u8>(protocols.load());
    const Address address = *ParseAddress("127.0.0.1");
    std::memcpy(verdict.original, address.bytes.data(), sizeof verdict.original);
    verdict.original_port = htons(origin_port_);
    return verdict;
  };
  proxy_ = std::make_unique<Proxy>(settings, Channel(Fd(pair[1])), lookup);
  stop_ = Fd(::eventfd(0, EFD_CLOEXEC));
  proxy_thread_ = std::thread([this] {
    [[maybe_unused]] const Result<void> ended = proxy_->Run(-1);
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  });
  agent_thread_ = std::thread([this] { RunAgent(); });
  std::vector<Fd> maps;
  maps.emplace_back(::dup(states_.get()));
  maps.emplace_back(::dup(states_.get()));
  Send({{"type", "start"}, {"revoke", settings.revoke}}, std::move(maps));
  EXPECT_TRUE(Await("ready"));
  std::vector<Fd> listeners;
  listeners.push_back(std::move(listener));
  Send({{"type", "pod"}, {"slot", kSlot}, {"cookie", 1}, {"name", "curl/curl"}, {"serviceAccount", "curl/curl"}},
       std::move(listeners));
}

World::~World() {
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(stop_.get(), &one, sizeof one), 8);
  agent_thread_.join();
  channel_.reset();  // the proxy ends at the end of its channel
  proxy_thread_.join();
  proxy_.reset();
  ::munmap(state_memory_, StateTable::Bytes());
}

void World::RunAgent() {
  while (true) {
    pollfd polled[] = {{channel_->fd(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    ::poll(polled, 2, -1);
    if (polled[1].revents != 0) return;
    while (true) {
      Result<std::optional<Message>> message = [&] {
        const std::lock_guard lock(channel_mutex_);
        return channel_->Receive();
      }();
      if (!message) return;
      if (!message->has_value()) break;
      OnMessage(std::move(**message));
    }
  }
}

void World::OnMessage(Message message) {
  const std::string type = message.body.value("type", "");
  if (type == "want" && supplies_sockets) {
    std::vector<Fd> sockets;
    for (int i = 0; i < message.body["count"]; ++i) {
      sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    }
    if (keeps_sockets) {
      for (const Fd& socket : sockets) kept_.emplace_back(::dup(socket.get()));
    }
    Send({{"type", "sockets"},
          {"slot", message.body["slot"]},
          {"kind", message.body["kind"]},
          {"family", message.body["family"]}},
         std::move(sockets));
  }
  const std::lock_guard lock(mutex_);
  if (type == "requests") {
    for (const nlohmann::json& count : message.body["counts"]) {
      const std::string key = std::to_string(count["code"].get<int>()) + " " + count["verdict"].get<std::string>() +
                              " " + count["reason"].get<std::string>();
      counts_[key] += count["count"].get<std::uint64_t>();
    }
  }
  if (type == "events") {
    for (const nlohmann::json& event : message.body["events"]) events_.push_back(event);
  }
  messages_.push_back(std::move(message.body));
  changed_.notify_all();
}

void World::Send(const nlohmann::json& message, std::vector<Fd> fds) {
  std::vector<int> numbers;
  for (const Fd& fd : fds) numbers.push_back(fd.get());
  const std::lock_guard lock(channel_mutex_);
  EXPECT_TRUE(channel_->Send(message, numbers).ok());
  while (channel_->wants_write()) {
    if (!channel_->Flush()) return;
    if (channel_->wants_write()) Ready(channel_->fd(), POLLOUT, 1000);
  }
}

void World::SetPolicy(const std::string& name, std::uint32_t generation, const nlohmann::json& changes) {
  nlohmann::json document = {{"policy", "curl/" + name},
                             {"serviceAccounts", {"curl/curl"}},
                             {"ports", {{{"number", origin_port_}, {"protocol", "http"}}}},
                             {"cidrs", {"any"}},
                             {"hosts", {"origin.test"}},
                             {"routes", nullptr},
                             {"limits", nlohmann::json::object()}};
  if (!changes.is_null()) document.update(changes);
  Send({{"type", "policy"}, {"id", "curl/" + name}, {"generation", generation}, {"document", document.dump()}});
  Commit(generation);
}

void World::RemovePolicy(const std::string& name, std::uint32_t generation) {
  Send({{"type", "remove"}, {"id", "curl/" + name}, {"generation", generation}});
  Commit(generation);
}

void World::Commit(std::uint32_t generation) {
  Send({{"type", "commit"}, {"generation", generation}});
  EXPECT_TRUE(Await("committed"));
}

void World::Flip(std::uint32_t generation, int flags) {
  pod_state state{};
  state.generation = generation;
  state.governed = (flags & kGoverned) != 0;
  state.open = (flags & kOpen) != 0;
  state.audit = (flags & kAudit) != 0;
  std::uint64_t word = 0;
  std::memcpy(&word, &state, sizeof word);
  __atomic_store_n(reinterpret_cast<std::uint64_t*>(state_memory_ + kSlot * StateTable::kStride), word,
                   __ATOMIC_RELEASE);
}

void World::RemovePod(bool reset) { Send({{"type", "pod-gone"}, {"slot", kSlot}, {"reset", reset}}); }

std::optional<nlohmann::json> World::Await(const std::string& type) {
  std::unique_lock lock(mutex_);
  std::optional<nlohmann::json> found;
  changed_.wait_for(lock, kPatience, [&] {
    for (auto at = messages_.begin(); at != messages_.end() && !found; ++at) {
      if (at->value("type", "") != type) continue;
      found = std::move(*at);
      messages_.erase(at);
      break;
    }
    return found.has_value();
  });
  return found;
}

bool World::AwaitCount(int code, const std::string& verdict, const std::string& reason, std::uint64_t wanted) {
  const std::string key = std::to_string(code) + " " + verdict + " " + reason;
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return counts_[key] >= wanted; });
}

std::optional<nlohmann::json> World::AwaitEvent(const std::string& verdict, const std::string& reason) {
  std::unique_lock lock(mutex_);
  std::optional<nlohmann::json> found;
  changed_.wait_for(lock, kPatience, [&] {
    for (const nlohmann::json& event : events_) {
      if (event["verdict"] == verdict && event["reason"] == reason) found = event;
    }
    return found.has_value();
  });
  return found;
}

bool World::AwaitEnd() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, kPatience, [&] { return ended_; });
}

Peer World::Connect() {
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(listener_port_);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  return Peer(std::move(fd));
}

Peer World::Accept() {
  if (!Ready(origin_.get(), POLLIN, Peer::kPatience * 1000)) return {};
  return Peer(Fd(::accept4(origin_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
}

bool World::NoConnection(int milliseconds) { return !Ready(origin_.get(), POLLIN, milliseconds); }

}  // namespace egress::proxy
