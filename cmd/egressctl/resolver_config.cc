#include "cmd/egressctl/resolver_config.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <sstream>

namespace egress::ctl {

namespace {

constexpr std::size_t kMaxServers = 3;  // MAXNS of resolv.h
constexpr int kMaxDots = 15;            // RES_MAXNDOTS

std::vector<std::string> Words(const std::string& line) {
  std::istringstream stream(line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// Calls `take` with the words of each line; what follows one of `comment` is no part of it.
template <typename Take>
void ForEachLine(std::string_view text, const char* comment, Take take) {
  std::istringstream stream{std::string(text)};
  for (std::string line; std::getline(stream, line);) {
    const auto words = Words(line.substr(0, line.find_first_of(comment)));
    if (!words.empty()) take(words);
  }
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

void ReadOption(const std::string& option, ResolverConfig& config) {
  constexpr std::string_view kNdots = "ndots:";
  if (option.rfind(kNdots, 0) != 0) return;
  int value = 0;
  const auto [end, error] = std::from_chars(option.data() + kNdots.size(), option.data() + option.size(), value);
  if (error == std::errc() && end != nullptr && value >= 0) config.ndots = std::min(value, kMaxDots);
}

}  // namespace

ResolverConfig ParseResolvConf(std::string_view text) {
  ResolverConfig config;
  ForEachLine(text, "#;", [&](const std::vector<std::string>& words) {
    if (words[0] == "nameserver" && words.size() > 1 && config.servers.size() < kMaxServers) {
      // A zone ("fe80::1%eth0") names an interface of the pod; such a server cannot be asked by its address alone.
      if (const auto address = ParseAddress(words[1])) config.servers.push_back(*address);
    } else if (words[0] == "search" || words[0] == "domain") {  // the last of them holds
      config.search.assign(words.begin() + 1, words.end());
    } else if (words[0] == "options") {
      for (std::size_t i = 1; i < words.size(); ++i) ReadOption(words[i], config);
    }
  });
  if (config.servers.empty()) config.servers.push_back(*ParseAddress("127.0.0.1"));
  return config;
}

std::vector<std::string> NamesToTry(const ResolverConfig& config, const std::string& host) {
  if (host.ends_with('.')) return {host};
  std::vector<std::string> names;
  for (const std::string& suffix : config.search) names.push_back(suffix == "." ? host : host + "." + suffix);
  const bool first = std::count(host.begin(), host.end(), '.') >= config.ndots;
  names.insert(first ? names.begin() : names.end(), host);
  return names;
}

std::vector<Address> AddressesInHosts(std::string_view text, const std::string& host) {
  std::string wanted = Lower(host);
  if (wanted.ends_with('.')) wanted.pop_back();
  std::vector<Address> addresses;
  ForEachLine(text, "#", [&](const std::vector<std::string>& words) {
    const auto address = ParseAddress(words[0]);
    const bool named =
        std::any_of(words.begin() + 1, words.end(), [&](const std::string& name) { return Lower(name) == wanted; });
    if (address && named) addresses.push_back(*address);
  });
  return addresses;
}

}  // namespace egress::ctl
