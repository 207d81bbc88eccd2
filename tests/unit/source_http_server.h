// HttpServer: a server on loopback whose every answer the test writes, byte by byte where it wants to.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "agent/base/fd.h"

namespace egress::source {

class HttpServer {
 public:
  struct Request {
    std::string method;
    std::string target;                          // path and query
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
  };

  // One connection, in the thread that serves it.
  class Connection {
   public:
    explicit Connection(int fd) : fd_(fd) {}
    void Send(std::string_view bytes) const;  // as they are
    void Answer(int status, std::string_view body, std::string_view more_headers = "") const;
    void BeginChunks() const;  // 200
    void Chunk(std::string_view data) const;
    void EndChunks() const { Send("0\r\n\r\n"); }
    // Until the client has closed it, or the server ends.
    void WaitClosed() const;

   private:
    int fd_;
  };

  // Called in the connection's thread; true keeps the connection for the next request.
  using Handler = std::function<bool(const Request&, const Connection&)>;

  explicit HttpServer(Handler handler);
  ~HttpServer();

  std::string url() const;
  std::vector<std::string> Targets() const;  // "GET /x" of the requests so far

 private:
  void Accept();
  void Serve(int fd);
  bool ReadRequest(int fd, std::string& buffer, Request& request);

  Handler handler_;
  Fd listener_;
  int port_ = 0;
  std::atomic<bool> ending_ = false;
  mutable std::mutex mutex_;  // guards what follows
  std::vector<std::string> targets_;
  std::vector<int> open_;
  std::list<std::thread> threads_;
  std::thread acceptor_;
};

}  // namespace egress::source
