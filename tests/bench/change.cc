#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include "tests/bench/traffic.h"

namespace egress::bench {
namespace {

constexpr auto kBetweenTries = std::chrono::microseconds(200);
constexpr double kGiveUpSeconds = 20;

std::string ReadAll(const std::string& path) {
  std::ifstream file(path);
  if (!file) Die(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

void Replace(const ChangeFiles& files, const std::string& text) {
  std::ofstream file(files.beside, std::ios::trunc);
  file << text;
  file.close();
  if (!file) Die(files.beside);
}

bool IsAllowed(const sockaddr_in& to) {
  Fd fd = Connect(to);
  if (!fd) return false;
  Abort(std::move(fd));
  return true;
}

}  // namespace

int Change(const sockaddr_in& to, int count, const ChangeFiles& files) {
  const std::string texts[] = {ReadAll(files.closes), ReadAll(files.opens)};
  std::vector<double> took;
  bool allowed = IsAllowed(to);
  for (int i = 0; i < count; ++i) {
    Replace(files, texts[allowed ? 0 : 1]);
    const auto start = Clock::now();
    if (std::rename(files.beside.c_str(), files.target.c_str()) != 0) Die("rename to " + files.target);
    while (IsAllowed(to) == allowed) {
      if (SecondsSince(start) > kGiveUpSeconds) Die("the change is not in force after 20 s");
      std::this_thread::sleep_for(kBetweenTries);
    }
    took.push_back(SecondsSince(start));
    allowed = !allowed;
  }
  std::sort(took.begin(), took.end());
  std::printf("{\"changes\": %zu, \"p50_ms\": %.3f, \"p99_ms\": %.3f, \"max_ms\": %.3f}\n", took.size(),
              Quantile(took, 0.5) * 1e3, Quantile(took, 0.99) * 1e3, took.back() * 1e3);
  return 0;
}

}  // namespace egress::bench
