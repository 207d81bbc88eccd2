// HttpClient: requests to one API server over libcurl, driven by the event loop.
//
// HTTP/1.1: a connection for each stream that is open; idle ones are used again. TCP keep-alive and a bound on data
// that is sent but not acknowledged find a peer that is gone within half a minute.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/event_loop.h"
#include "agent/source/cluster_access.h"

namespace egress::source {

class HttpClient {
 public:
  using RequestId = std::uint64_t;

  struct Request {
    std::string method = "GET";
    std::string path;  // with the query: "/api/v1/pods?limit=500"
    std::string body;
    std::string content_type = "application/json";
    std::chrono::milliseconds deadline{0};      // for the whole exchange; 0: none
    std::chrono::milliseconds silence{30'000};  // the longest time without a byte, once the answer has begun
  };

  struct Outcome {
    int status = 0;     // 0: there was no answer
    std::string error;  // where the answer is not whole, or there is none: why
    std::string body;   // of an answer that is no success, as far as kMaxBody; of others where nobody took `data`
    std::chrono::seconds retry_after{0};
    bool silent = false;  // an answer had begun, and was given up since nothing more of it came
    bool ok() const { return error.empty() && status >= 200 && status < 300; }
  };

  struct Handlers {
    // A successful answer has begun; may be empty.
    std::function<void()> opened;
    // Pieces of a successful answer as they come; may be empty.
    std::function<void(std::string_view)> data;
    // Once, at the end; not after Cancel().
    std::function<void(Outcome)> done;
  };

  // How much of an answer is kept that nobody takes piece by piece.
  static constexpr std::size_t kMaxBody = std::size_t{4} << 20;

  HttpClient(EventLoop& loop, ClusterAccess access, std::string user_agent);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  const ClusterAccess& access() const { return access_; }

  // Handlers are called from the loop, never from within Start(). They may start and cancel anything.
  RequestId Start(Request request, Handlers handlers);
  void Cancel(RequestId id);

 private:
  struct Transfer;
  struct Multi;

  void Prepare(Transfer& transfer);
  void PrepareTls(Transfer& transfer);
  Result<std::string> Token() const;
  void Drive(int fd, int action);
  void Deliver();
  void Collect();
  void Finish(RequestId id, int code);
  void WatchSilence(Transfer& transfer);
  void Fail(RequestId id, const std::string& error, bool silent = false);

  EventLoop& loop_;
  ClusterAccess access_;
  std::string user_agent_;
  std::unique_ptr<Multi> multi_;
  std::map<RequestId, std::unique_ptr<Transfer>> transfers_;
  RequestId next_ = 1;
};

}  // namespace egress::source
