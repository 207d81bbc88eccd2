#include "cmd/egressd/pages.h"

#include <arpa/inet.h>
#include <civetweb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/fd.h"

namespace egress::report {

namespace {

constexpr auto kLoopPatience = std::chrono::seconds(5);
constexpr const char* kMetricsType = "text/plain; version=0.0.4; charset=utf-8";
constexpr const char* kTextType = "text/plain; charset=utf-8";

struct Page {
  int code = 200;
  const char* type = kTextType;
  std::string body;
};

Page HealthPage(const std::function<std::optional<std::string>()>& check) {
  const std::optional<std::string> why_not = check();
  if (why_not) return {503, kTextType, *why_not + "\n"};
  return {200, kTextType, "ok\n"};
}

// A question that a thread of the server has for the loop. Both sides hold it: either may be gone first.
struct Question {
  std::mutex mutex;
  std::condition_variable answered;
  std::optional<Page> page;
};

// What the threads of the server, the loop and the owner share.
struct Shared {
  Pages::Handlers handlers;
  std::mutex mutex;
  bool stopping = false;
  std::vector<std::weak_ptr<Question>> waiting;
};

Page PageAt(const Pages::Handlers& handlers, const std::string& path) {
  if (path == "/metrics") return {200, kMetricsType, handlers.metrics()};
  if (path == "/healthz") return HealthPage(handlers.healthz);
  if (path == "/readyz") return HealthPage(handlers.readyz);
  return {404, kTextType, "there are /metrics, /healthz and /readyz\n"};
}

sockaddr_storage SocketAddress(const ListenAddress& listen, int port) {
  sockaddr_storage result{};
  if (listen.host.find(':') == std::string::npos) {
    auto& v4 = reinterpret_cast<sockaddr_in&>(result);
    v4.sin_family = AF_INET;
    v4.sin_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET, listen.host.c_str(), &v4.sin_addr);
  } else {
    auto& v6 = reinterpret_cast<sockaddr_in6&>(result);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(static_cast<std::uint16_t>(port));
    ::inet_pton(AF_INET6, listen.host.c_str(), &v6.sin6_addr);
  }
  return result;
}

void Answer(Question& question, Page page) {
  const std::lock_guard lock(question.mutex);
  if (!question.page) question.page = std::move(page);
  question.answered.notify_one();
}

}  // namespace

struct Pages::Impl {
  EventLoop* loop = nullptr;
  std::shared_ptr<Shared> shared = std::make_shared<Shared>();
  mg_context* server = nullptr;
  int port = 0;
  sockaddr_storage address{};
  std::atomic<bool> started = false;
  std::string start_error;  // what civetweb said while it started

  ~Impl() {
    {
      const std::lock_guard lock(shared->mutex);
      shared->stopping = true;
      for (const auto& waiting : shared->waiting) {
        if (const auto question = waiting.lock()) Answer(*question, {503, kTextType, "the agent is ending\n"});
      }
    }
    if (server != nullptr) StopServer();
  }

  void StopServer();

  Page Ask(const std::string& path);
  static int OnRequest(mg_connection* connection, void* self);
};

// civetweb looks every two seconds whether it has been stopped, and whenever somebody connects. The agent's loop waits
// here, so somebody does.
void Pages::Impl::StopServer() {
  std::atomic<bool> stopped = false;
  std::thread stopping([&] {
    mg_stop(server);
    stopped = true;
  });
  // A connection that comes before civetweb looks away from its listener for good wakes it, so a few tries do.
  while (!stopped) {
    const Fd knock(::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!knock) break;
    ::connect(knock.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    pollfd wait{knock.get(), POLLIN, 0};
    ::poll(&wait, 1, 10);  // until civetweb closes it, or 10 ms
  }
  stopping.join();
}

Page Pages::Impl::Ask(const std::string& path) {
  const auto question = std::make_shared<Question>();
  {
    const std::lock_guard lock(shared->mutex);
    if (shared->stopping) return {503, kTextType, "the agent is ending\n"};
    std::erase_if(shared->waiting, [](const auto& waiting) { return waiting.expired(); });
    shared->waiting.push_back(question);
  }
  loop->Post([shared = shared, question, path] {
    {
      const std::lock_guard lock(shared->mutex);
      if (shared->stopping) return;  // the handlers may be gone
    }
    Answer(*question, PageAt(shared->handlers, path));
  });
  std::unique_lock lock(question->mutex);
  if (question->answered.wait_for(lock, kLoopPatience, [&] { return question->page.has_value(); })) {
    return *question->page;
  }
  return {503, kTextType, "the agent's loop has not answered for 5 s\n"};
}

int Pages::Impl::OnRequest(mg_connection* connection, void* self) {
  const mg_request_info* request = mg_get_request_info(connection);
  const std::string method = request->request_method;
  Page page{405, kTextType, "GET and HEAD only\n"};
  if (method == "GET" || method == "HEAD") page = static_cast<Impl*>(self)->Ask(request->local_uri);
  mg_printf(connection,
            "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
            "Connection: close\r\n\r\n",
            page.code, mg_get_response_code_text(connection, page.code), page.type, page.body.size());
  if (method != "HEAD") mg_write(connection, page.body.data(), page.body.size());
  return page.code;
}

Result<ListenAddress> ParseListenAddress(const std::string& text) {
  const Error wrong{"'" + text + "' is no address to listen on: write HOST:PORT, as 127.0.0.1:9469 or [::1]:9469"};
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return wrong;
  ListenAddress result;
  result.host = text.substr(0, colon);
  const bool brackets = result.host.size() > 2 && result.host.front() == '[' && result.host.back() == ']';
  if (brackets) result.host = result.host.substr(1, result.host.size() - 2);
  std::array<unsigned char, 16> bytes{};
  if (::inet_pton(brackets ? AF_INET6 : AF_INET, result.host.c_str(), bytes.data()) != 1) return wrong;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, result.port);
  if (error != std::errc() || rest != end || result.port < 0 || result.port > 65535) return wrong;
  return result;
}

Pages::Pages(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Pages::~Pages() = default;
Pages::Pages(Pages&&) noexcept = default;
Pages& Pages::operator=(Pages&&) noexcept = default;

int Pages::port() const { return impl_->port; }

Result<Pages> Pages::Start(EventLoop& loop, const std::string& listen, Handlers handlers) {
  const auto address = ParseListenAddress(listen);
  if (!address) return address.error();
  auto impl = std::make_unique<Impl>();
  impl->loop = &loop;
  impl->shared->handlers = std::move(handlers);
  const bool v6 = address->host.find(':') != std::string::npos;
  const std::string where = (v6 ? "[" + address->host + "]" : address->host) + ":" + std::to_string(address->port);
  const std::array<const char*, 11> options = {
      "listening_ports",   where.c_str(), "num_threads", "4", "request_timeout_ms", "10000", "enable_keep_alive", "no",
      "linger_timeout_ms", "1000",        nullptr};
  mg_callbacks callbacks{};
  callbacks.log_message = [](const mg_connection* connection, const char* message) {
    auto* self = static_cast<Impl*>(mg_get_user_data(mg_get_context(connection)));
    if (!self->started) self->start_error += (self->start_error.empty() ? "" : "; ") + std::string(message);
    return 1;  // goes to no log of its own
  };
  mg_init_library(0);
  impl->server = mg_start(&callbacks, impl.get(), const_cast<const char**>(options.data()));
  if (impl->server == nullptr) {
    return Error{"listen on " + listen + " for metrics: " + impl->start_error +
                 ": choose another --metrics-listen, or end what holds the port"};
  }
  impl->started = true;
  mg_server_port port{};
  if (mg_get_server_ports(impl->server, 1, &port) == 1) impl->port = port.port;
  impl->address = SocketAddress(*address, impl->port);
  mg_set_request_handler(impl->server, "/", Impl::OnRequest, impl.get());
  return Pages(std::move(impl));
}

}  // namespace egress::report
