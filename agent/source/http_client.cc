#include "agent/source/http_client.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <vector>

#include "agent/base/file.h"

namespace egress::source {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kUnacknowledgedMs = 30'000;  // TCP_USER_TIMEOUT; of an idle connection it bounds keep-alive, too
constexpr long kKeepAliveSeconds = 10;
constexpr long kConnectMs = 10'000;
constexpr std::chrono::milliseconds kAnswerBegins{30'000};

// curl wants one initialisation in the process, before there are threads.
void InitialiseOnce() {
  static const CURLcode done = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)done;
}

int SetSocketOptions(void*, curl_socket_t fd, curlsocktype) {
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUnacknowledgedMs, sizeof kUnacknowledgedMs);
  return CURL_SOCKOPT_OK;
}

struct SplitUrl {
  std::string scheme, host, port;  // the host of IPv6 in brackets
  std::string path;                // in front of every request's path
};

// `server` begins with http:// or https://.
SplitUrl Split(const std::string& server) {
  SplitUrl split;
  const std::size_t host = server.find("://") + 3;
  split.scheme = server.substr(0, host - 3);
  const std::size_t path = server.find('/', host);
  std::string authority = server.substr(host, path == std::string::npos ? path : path - host);
  if (path != std::string::npos) split.path = server.substr(path);
  const std::size_t colon = authority.rfind(':');
  if (colon != std::string::npos && authority.find(']', colon) == std::string::npos) {
    split.port = authority.substr(colon + 1);
    authority.resize(colon);
  } else {
    split.port = split.scheme == "https" ? "443" : "80";
  }
  split.host = authority;
  return split;
}

// "... port 443 after 12 ms: ..." without the time: the same error has the same text.
std::string WithoutTimes(std::string text) {
  const std::size_t at = text.find(" after ");
  if (at == std::string::npos) return text;
  const std::size_t number = at + 7;
  const std::size_t end = text.find_first_not_of("0123456789", number);
  if (end != std::string::npos && end > number && text.compare(end, 3, " ms") == 0) text.erase(at, end + 3 - at);
  return text;
}

}  // namespace

struct HttpClient::Transfer {
  RequestId id = 0;
  Request request;
  Handlers handlers;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  curl_slist* connect_to = nullptr;
  char error[CURL_ERROR_SIZE] = "";
  std::string received;  // and not yet delivered
  Outcome outcome;
  enum class Answer { kNone, kBegun, kTold } answer = Answer::kNone;
  Clock::time_point heard = Clock::now();
  EventLoop::TimerId silence_timer = 0;

  ~Transfer() {
    ::curl_easy_cleanup(easy);
    ::curl_slist_free_all(headers);
    ::curl_slist_free_all(connect_to);
  }
};

// curl calls back from within its own functions, where none of them may be called. So its callbacks only take notes.
struct HttpClient::Multi {
  CURLM* handle = ::curl_multi_init();
  EventLoop& loop;
  HttpClient& client;
  EventLoop::TimerId timer = 0;
  std::map<int, std::uint32_t> watched;  // fd -> events

  Multi(EventLoop& given, HttpClient& owner) : loop(given), client(owner) {
    ::curl_multi_setopt(handle, CURLMOPT_SOCKETFUNCTION, &OnSocket);
    ::curl_multi_setopt(handle, CURLMOPT_SOCKETDATA, this);
    ::curl_multi_setopt(handle, CURLMOPT_TIMERFUNCTION, &OnTimer);
    ::curl_multi_setopt(handle, CURLMOPT_TIMERDATA, this);
  }

  ~Multi() {
    ::curl_multi_cleanup(handle);
    for (const auto& [fd, events] : watched) loop.Unwatch(fd);
    loop.Cancel(timer);
  }

  static int OnSocket(CURL*, curl_socket_t fd, int what, void* self, void*) {
    auto& multi = *static_cast<Multi*>(self);
    if (what == CURL_POLL_REMOVE) {
      multi.loop.Unwatch(fd);
      multi.watched.erase(fd);
      return 0;
    }
    const std::uint32_t events =
        ((what & CURL_POLL_IN) != 0 ? EPOLLIN : 0U) | ((what & CURL_POLL_OUT) != 0 ? EPOLLOUT : 0U);
    if (multi.watched.contains(fd)) {
      (void)multi.loop.Modify(fd, events);
    } else {
      (void)multi.loop.Watch(fd, events, [&multi, fd](std::uint32_t seen) {
        int action = 0;
        if ((seen & EPOLLIN) != 0) action |= CURL_CSELECT_IN;
        if ((seen & EPOLLOUT) != 0) action |= CURL_CSELECT_OUT;
        if ((seen & (EPOLLERR | EPOLLHUP)) != 0) action |= CURL_CSELECT_ERR;
        multi.client.Drive(fd, action);
      });
    }
    multi.watched[fd] = events;
    return 0;
  }

  static int OnTimer(CURLM*, long timeout_ms, void* self) {
    auto& multi = *static_cast<Multi*>(self);
    multi.loop.Cancel(multi.timer);
    multi.timer = 0;
    if (timeout_ms < 0) return 0;
    multi.timer = multi.loop.After(std::chrono::milliseconds(timeout_ms),
                                   [&multi] { multi.client.Drive(CURL_SOCKET_TIMEOUT, 0); });
    return 0;
  }

  // Line by line; the last one is empty.
  static std::size_t OnHeader(char* bytes, std::size_t size, std::size_t count, void* self) {
    auto& transfer = *static_cast<Transfer*>(self);
    long status = 0;
    ::curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    const bool end = std::string_view(bytes, size * count) == "\r\n";
    if (end && status >= 200 && status < 300 && transfer.answer == Transfer::Answer::kNone) {
      transfer.answer = Transfer::Answer::kBegun;
    }
    return size * count;
  }

  static std::size_t OnData(char* bytes, std::size_t size, std::size_t count, void* self) {
    static_cast<Transfer*>(self)->received.append(bytes, size * count);
    return size * count;
  }
};

HttpClient::HttpClient(EventLoop& loop, ClusterAccess access, std::string user_agent)
    : loop_(loop), access_(std::move(access)), user_agent_(std::move(user_agent)) {
  InitialiseOnce();
  multi_ = std::make_unique<Multi>(loop, *this);
}

HttpClient::~HttpClient() {
  while (!transfers_.empty()) Cancel(transfers_.begin()->first);
}

HttpClient::RequestId HttpClient::Start(Request request, Handlers handlers) {
  const RequestId id = next_++;
  auto& transfer = *(transfers_[id] = std::make_unique<Transfer>());
  transfer.id = id;
  transfer.request = std::move(request);
  transfer.handlers = std::move(handlers);
  auto token = Token();
  if (!token) {
    loop_.After(std::chrono::milliseconds(0), [this, id, message = token.error().message] { Fail(id, message); });
    return id;
  }
  if (!token->empty()) {
    transfer.headers = ::curl_slist_append(transfer.headers, ("Authorization: Bearer " + *token).c_str());
  }
  Prepare(transfer);
  ::curl_multi_add_handle(multi_->handle, transfer.easy);
  WatchSilence(transfer);
  return id;
}

// The token of a pod is replaced from time to time, long before it expires.
Result<std::string> HttpClient::Token() const {
  if (access_.token_file.empty()) return access_.token;
  auto token = ReadFile(access_.token_file);
  if (!token) return std::move(token).error().Wrap("read token");
  while (!token->empty() && static_cast<unsigned char>(token->back()) <= ' ') token->pop_back();
  if (token->empty()) return Error{"token " + access_.token_file + " is empty"};
  return token;
}

void HttpClient::Prepare(Transfer& transfer) {
  CURL* easy = transfer.easy = ::curl_easy_init();
  const Request& request = transfer.request;
  const SplitUrl url = Split(access_.server);
  std::string authority = url.host + ":" + url.port;
  if (!access_.tls_server_name.empty() && url.scheme == "https") {
    // curl takes SNI and the name to verify from the URL: so the name stands there, and the connection goes elsewhere.
    transfer.connect_to = ::curl_slist_append(
        nullptr, (access_.tls_server_name + ":" + url.port + ":" + url.host + ":" + url.port).c_str());
    ::curl_easy_setopt(easy, CURLOPT_CONNECT_TO, transfer.connect_to);
    transfer.headers = ::curl_slist_append(transfer.headers, ("Host: " + authority).c_str());
    authority = access_.tls_server_name + ":" + url.port;
  }
  ::curl_easy_setopt(easy, CURLOPT_URL, (url.scheme + "://" + authority + url.path + request.path).c_str());
  ::curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  ::curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  ::curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  ::curl_easy_setopt(easy, CURLOPT_USERAGENT, user_agent_.c_str());
  ::curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer.error);
  ::curl_easy_setopt(easy, CURLOPT_PRIVATE, reinterpret_cast<char*>(transfer.id));
  ::curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, &Multi::OnHeader);
  ::curl_easy_setopt(easy, CURLOPT_HEADERDATA, &transfer);
  ::curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // of a proxy
  ::curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Multi::OnData);
  ::curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
  ::curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, kConnectMs);
  if (request.deadline.count() > 0) {
    ::curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.deadline.count()));
  }
  ::curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  ::curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, kKeepAliveSeconds);
  ::curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, kKeepAliveSeconds);
  ::curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, &SetSocketOptions);
  if (!access_.proxy_url.empty()) ::curl_easy_setopt(easy, CURLOPT_PROXY, access_.proxy_url.c_str());
  if (request.method != "GET") {
    ::curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    ::curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    ::curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
    transfer.headers = ::curl_slist_append(transfer.headers, ("Content-Type: " + request.content_type).c_str());
  }
  transfer.headers = ::curl_slist_append(transfer.headers, "Accept: application/json");
  transfer.headers = ::curl_slist_append(transfer.headers, "Expect:");
  for (const std::string& header : access_.headers) {
    transfer.headers = ::curl_slist_append(transfer.headers, header.c_str());
  }
  ::curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer.headers);
  PrepareTls(transfer);
}

void HttpClient::PrepareTls(Transfer& transfer) {
  CURL* easy = transfer.easy;
  // The content of `access_` lives as long as the transfers.
  const auto give = [easy](CURLoption file_option, CURLoption blob_option, const std::string& file,
                           const std::string& data) {
    if (!data.empty()) {
      curl_blob blob = {const_cast<char*>(data.data()), data.size(), CURL_BLOB_NOCOPY};
      ::curl_easy_setopt(easy, blob_option, &blob);
    } else if (!file.empty()) {
      ::curl_easy_setopt(easy, file_option, file.c_str());
    }
  };
  give(CURLOPT_CAINFO, CURLOPT_CAINFO_BLOB, access_.ca_file, access_.ca_data);
  if (!access_.ca_file.empty() || !access_.ca_data.empty()) ::curl_easy_setopt(easy, CURLOPT_CAPATH, nullptr);
  ::curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);  // the file may be replaced
  give(CURLOPT_SSLCERT, CURLOPT_SSLCERT_BLOB, access_.certificate_file, access_.certificate_data);
  give(CURLOPT_SSLKEY, CURLOPT_SSLKEY_BLOB, access_.key_file, access_.key_data);
  ::curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (access_.skip_tls_verify) {
    ::curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    ::curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
}

void HttpClient::Cancel(RequestId id) {
  const auto found = transfers_.find(id);
  if (found == transfers_.end()) return;
  loop_.Cancel(found->second->silence_timer);
  if (found->second->easy != nullptr) ::curl_multi_remove_handle(multi_->handle, found->second->easy);
  transfers_.erase(found);
}

void HttpClient::Drive(int fd, int action) {
  int running = 0;
  ::curl_multi_socket_action(multi_->handle, fd, action, &running);
  Deliver();
  Collect();
}

// Hands over what has come. A handler may end any transfer.
void HttpClient::Deliver() {
  std::vector<RequestId> ready;
  for (const auto& [id, transfer] : transfers_) {
    if (!transfer->received.empty() || transfer->answer == Transfer::Answer::kBegun) ready.push_back(id);
  }
  for (const RequestId id : ready) {
    auto found = transfers_.find(id);
    if (found == transfers_.end()) continue;
    found->second->heard = Clock::now();
    if (found->second->answer == Transfer::Answer::kBegun) {
      found->second->answer = Transfer::Answer::kTold;
      if (const auto opened = found->second->handlers.opened) opened();  // a copy, which outlives the transfer
      found = transfers_.find(id);
      if (found == transfers_.end()) continue;
    }
    Transfer& transfer = *found->second;
    if (transfer.received.empty()) continue;
    const std::string bytes = std::exchange(transfer.received, {});
    long status = 0;
    ::curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300 && transfer.handlers.data) {
      const auto data = transfer.handlers.data;  // outlives the transfer
      data(bytes);
    } else {
      std::string& body = transfer.outcome.body;
      body.append(bytes, 0, kMaxBody - body.size());
    }
  }
}

void HttpClient::Collect() {
  std::vector<std::pair<RequestId, int>> ended;
  int left = 0;
  while (const CURLMsg* message = ::curl_multi_info_read(multi_->handle, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    char* id = nullptr;
    ::curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &id);
    ended.emplace_back(reinterpret_cast<RequestId>(id), message->data.result);
  }
  for (const auto& [id, code] : ended) Finish(id, code);
}

void HttpClient::Finish(RequestId id, int code) {
  const auto found = transfers_.find(id);
  if (found == transfers_.end()) return;  // cancelled by the handler of another
  Transfer& transfer = *found->second;
  long status = 0;
  curl_off_t retry_after = 0;
  ::curl_easy_getinfo(transfer.easy, CURLINFO_RESPONSE_CODE, &status);
  ::curl_easy_getinfo(transfer.easy, CURLINFO_RETRY_AFTER, &retry_after);
  Outcome outcome = std::move(transfer.outcome);
  outcome.status = static_cast<int>(status);
  outcome.retry_after = std::chrono::seconds(retry_after);
  if (code != CURLE_OK) {
    const auto result = static_cast<CURLcode>(code);
    outcome.error = WithoutTimes(transfer.error[0] != '\0' ? transfer.error : ::curl_easy_strerror(result));
  }
  const auto done = std::move(transfer.handlers.done);
  Cancel(id);
  done(std::move(outcome));
}

void HttpClient::Fail(RequestId id, const std::string& error, bool silent) {
  const auto found = transfers_.find(id);
  if (found == transfers_.end()) return;
  const auto done = std::move(found->second->handlers.done);
  Cancel(id);
  Outcome outcome;
  outcome.error = error;
  outcome.silent = silent;
  done(std::move(outcome));
}

void HttpClient::WatchSilence(Transfer& transfer) {
  const auto allowed = [](const Transfer& of) {
    return of.answer == Transfer::Answer::kNone ? std::min(of.request.silence, kAnswerBegins) : of.request.silence;
  };
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(transfer.heard + allowed(transfer) - Clock::now());
  transfer.silence_timer = loop_.After(left, [this, allowed, id = transfer.id] {
    Transfer& silent = *transfers_.at(id);
    if (silent.heard + allowed(silent) > Clock::now()) return WatchSilence(silent);
    Fail(id, "no byte from the server in " + std::to_string(allowed(silent).count()) + " ms",
         silent.answer != Transfer::Answer::kNone);
  });
}

}  // namespace egress::source
