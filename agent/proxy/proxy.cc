#include "agent/proxy/proxy.h"

#include <fcntl.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <utility>

namespace egress::proxy {
namespace {

constexpr std::chrono::milliseconds kReportEvery{200};
constexpr std::chrono::milliseconds kReportIdle{1000};

policy::ObjectId ToId(const std::string& text) {
  const std::size_t slash = text.find('/');
  if (slash == std::string::npos) return {"", text};
  return {text.substr(0, slash), text.substr(slash + 1)};
}

// Nothing may block a worker, whoever made the socket.
void MakeNonBlocking(const Fd& fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags >= 0 && (flags & O_NONBLOCK) == 0) ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK);
}

}  // namespace

Proxy::Proxy(const Settings& settings, Channel channel, OriginalLookup lookup)
    : settings_(settings),
      channel_(std::move(channel)),
      lookup_(std::move(lookup)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Proxy::~Proxy() { StopWorkers(); }

void Proxy::StopWorkers() {
  for (const auto& worker : workers_) worker->Stop();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  // Until here a worker may still have posted to another.
  workers_.clear();  // resets what is still live
  for (const auto& [slot, pod] : pods_) pod->sockets.Close();
}

void Proxy::Wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

Result<void> Proxy::Run(int signal_fd) {
  next_report_ = std::chrono::steady_clock::now() + kReportEvery;
  while (true) {
    const short channel_events = static_cast<short>(POLLIN | (channel_.wants_write() ? POLLOUT : 0));
    pollfd polled[] = {{channel_.fd(), channel_events, 0}, {wake_.get(), POLLIN, 0}, {signal_fd, POLLIN, 0}};
    const int count = ::poll(polled, 3, WaitMilliseconds(std::chrono::steady_clock::now()));
    if (count < 0 && errno != EINTR) return ErrnoError("poll");
    std::uint64_t ignored = 0;
    [[maybe_unused]] ssize_t got = 0;
    if (polled[1].revents != 0) got = ::read(wake_.get(), &ignored, sizeof ignored);
    if (polled[2].revents != 0) Drain(std::chrono::seconds(kTermSeconds));
    if (polled[2].revents != 0) signal_fd = -1;  // one is enough; it stays readable
    if (Result<void> received = ReceiveAll(); !received) return received;
    if (Result<void> sent = SendWants(); !sent) return sent;
    const auto now = std::chrono::steady_clock::now();
    const bool drained = drained_by_ && (now >= *drained_by_ || SessionCount() == 0);
    if (drained || now >= next_report_) {
      if (Result<void> sent = SendReports(); !sent) return sent;
      next_report_ = now + (reported_ || SessionCount() > 0 ? kReportEvery : kReportIdle);
    }
    if (Result<void> flushed = channel_.Flush(); !flushed) return flushed;
    if (drained) return {};
  }
}

int Proxy::WaitMilliseconds(std::chrono::steady_clock::time_point now) const {
  auto until = next_report_;
  if (drained_by_) until = std::min(until, *drained_by_);
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, kReportIdle.count()));
}

std::size_t Proxy::SessionCount() const {
  std::size_t count = 0;
  for (const auto& worker : workers_) count += worker->session_count();
  return count;
}

Result<void> Proxy::ReceiveAll() {
  while (true) {
    Result<std::optional<Message>> message = channel_.Receive();
    if (!message) return std::move(message).error();
    if (!message->has_value()) return {};
    if (Result<void> handled = Handle(std::move(**message)); !handled) return handled;
  }
}

Result<void> Proxy::Handle(Message message) {
  const nlohmann::json& body = message.body;
  try {
    const std::string type = body.value("type", "");
    if (type == "start") {
      settings_.revoke = body.value("revoke", true);
      return Start(std::move(message.fds));
    }
    if (type == "pod") return AddPod(body, std::move(message.fds));
    if (type == "policy") SetPolicy(body);
    if (type == "remove") accounts_.RemovePolicy(ToId(body.at("id")));
    if (type == "pod-gone") RemovePod(body.at("slot"), body.value("reset", false));
    if (type == "sockets") AddSockets(body, std::move(message.fds));
    if (type == "drain") Drain(std::chrono::seconds(body.at("seconds").get<int>()));
    if (type == "commit") {
      const auto generation = body.at("generation").get<std::uint32_t>();
      accounts_.Commit(generation);
      return channel_.Send({{"type", "committed"}, {"generation", generation}});
    }
    return {};
  } catch (const nlohmann::json::exception& exception) {
    return Error{std::string("a message from the agent: ") + exception.what()};
  }
}

Result<void> Proxy::Start(std::vector<Fd> fds) {
  if (environment_ != nullptr) return Error{"started twice"};
  if (fds.size() != 2) return Error{"the maps `sockets` and `states` are missing"};
  Result<StateTable> states = StateTable::Map(fds[1].get());
  if (!states) return std::move(states).error();
  sockets_map_ = std::move(fds[0]);
  if (!lookup_) lookup_ = LookupIn(sockets_map_.get());
  environment_ = std::make_unique<Environment>(settings_, std::move(states).value(), lookup_);
  environment_->on_quiet = [this] { Wake(); };
  for (int i = 0; i < settings_.workers; ++i) {
    Result<std::unique_ptr<Worker>> worker = Worker::Create(environment_.get());
    if (!worker) return std::move(worker).error();
    workers_.push_back(std::move(worker).value());
  }
  for (const auto& worker : workers_) environment_->workers.push_back(worker.get());
  for (const auto& worker : workers_) threads_.emplace_back([w = worker.get()] { w->Run(); });
  if (before_ready_) {
    if (Result<void> done = before_ready_(); !done) return done;
  }
  return channel_.Send({{"type", "ready"}});
}

Result<void> Proxy::AddPod(const nlohmann::json& body, std::vector<Fd> fds) {
  if (environment_ == nullptr) return Error{"not started"};
  const std::uint32_t slot = body.at("slot");
  const std::shared_ptr<Account> account = accounts_.Of(ToId(body.at("serviceAccount")));
  std::vector<ListenerPtr> listeners;
  for (Fd& fd : fds) {
    MakeNonBlocking(fd);
    listeners.push_back(std::make_shared<const Fd>(std::move(fd)));
  }
  const std::uint64_t cookie = body.at("cookie");
  const auto known = pods_.find(slot);
  // The same pod again has new listeners, as its addresses have changed; its connections live on.
  if (known != pods_.end() && known->second->cookie == cookie && known->second->account == account) {
    for (const auto& worker : workers_) {
      worker->Post([w = worker.get(), slot, listeners] { w->SetListeners(slot, listeners); });
    }
    return {};
  }
  RemovePod(slot, true);
  auto pod = std::make_shared<Pod>(slot, cookie, body.at("name"), account, AskFor(slot));
  pods_[slot] = pod;
  for (const auto& worker : workers_) {
    worker->Post([w = worker.get(), pod, listeners] { w->AddPod(pod, listeners); });
  }
  return {};
}

// Called by workers: the control thread sends the message.
UpstreamSockets::Ask Proxy::AskFor(std::uint32_t slot) {
  return [this, slot](SocketClass kind, std::uint32_t count) {
    {
      const std::lock_guard lock(wants_mutex_);
      wants_.push_back({slot, kind, count});
    }
    Wake();
  };
}

void Proxy::RemovePod(std::uint32_t slot, bool reset) {
  const auto found = pods_.find(slot);
  if (found == pods_.end()) return;
  found->second->sockets.Close();
  pods_.erase(found);
  for (const auto& worker : workers_) {
    worker->Post([w = worker.get(), slot, reset] { w->RemovePod(slot, reset); });
  }
}

void Proxy::AddSockets(const nlohmann::json& body, std::vector<Fd> fds) {
  const auto found = pods_.find(body.at("slot").get<std::uint32_t>());
  if (found == pods_.end()) return;  // gone meanwhile: they are closed here
  for (const Fd& fd : fds) MakeNonBlocking(fd);
  found->second->sockets.Add({.tls = body.at("kind") == "tls", .v6 = body.at("family") == 6}, std::move(fds));
}

void Proxy::SetPolicy(const nlohmann::json& body) {
  const std::string id = body.at("id");
  const nlohmann::json& document = body.at("document");
  const std::string text = document.is_string() ? document.get<std::string>() : document.dump();
  Result<void> set = accounts_.SetPolicy(ToId(id), text);
  if (!set) spdlog::error("policy {} grants nothing: {}", id, set.error().message);
}

void Proxy::Drain(std::chrono::seconds most) {
  const auto by = std::chrono::steady_clock::now() + most;
  drained_by_ = drained_by_ ? std::min(*drained_by_, by) : by;
  for (const auto& worker : workers_) {
    worker->Post([w = worker.get()] { w->Drain(); });
  }
}

Result<void> Proxy::SendWants() {
  std::vector<Want> wants;
  {
    const std::lock_guard lock(wants_mutex_);
    wants.swap(wants_);
  }
  for (const Want& want : wants) {
    Result<void> sent = channel_.Send({{"type", "want"},
                                       {"slot", want.slot},
                                       {"kind", want.kind.tls ? "tls" : "http"},
                                       {"family", want.kind.v6 ? 6 : 4},
                                       {"count", want.count}});
    if (!sent) return sent;
  }
  return {};
}

Result<void> Proxy::SendReports() {
  nlohmann::json counts = nlohmann::json::array();
  nlohmann::json events = nlohmann::json::array();
  std::uint64_t lost = 0;
  for (const auto& worker : workers_) worker->reports().Collect(&counts, &events, &lost);
  reported_ = !counts.empty() || !events.empty() || lost > 0;
  if (!counts.empty()) {
    Result<void> sent = channel_.Send({{"type", "requests"}, {"counts", std::move(counts)}});
    if (!sent) return sent;
  }
  if (!events.empty() || lost > 0) {
    return channel_.Send({{"type", "events"}, {"events", std::move(events)}, {"lost", lost}});
  }
  return {};
}

}  // namespace egress::proxy
