// What `egressctl explain` decides: the verdict on one flow or request of a pod, from the policies that the pinned
// maps hold. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/address.h"
#include "agent/base/result.h"
#include "agent/datapath/pinned_view.h"
#include "agent/policy/decide.h"

namespace egress::ctl {

// "HOST:PORT", "192.0.2.1:443", "[2001:db8::1]:443".
struct Target {
  std::string host;  // name or address, without brackets
  std::optional<Address> address;
  std::uint16_t port = 0;
};
Result<Target> ParseTarget(const std::string& text);

struct RequestQuestion {
  std::string method;
  std::string authority;  // empty: the target's name
  std::string path;       // with query
  bool tls = false;       // an https URL: only the SNI can be seen
};
// "METHOD URL"; the URL may be a path only.
Result<RequestQuestion> ParseRequest(const std::string& text);

using Header = std::pair<std::string, std::string>;
// "name: value"
Result<Header> ParseHeader(const std::string& text);

struct Question {
  Target target;
  std::optional<std::string> sni;
  std::optional<RequestQuestion> request;
  std::vector<Header> headers;
};

struct Answer {
  std::string address;
  std::string verdict;  // allow, deny, audit
  std::string reason;
  std::string policy;  // NAMESPACE/NAME; empty where none decides
  std::string rule;    // in words
  std::string note;    // what was assumed, or would be needed

  bool passes() const { return verdict != "deny"; }
  nlohmann::json ToJson() const;
};

class Explainer {
 public:
  explicit Explainer(datapath::PodPolicy pod);

  // The verdict on `question` when it goes to `address`.
  Answer Decide(const Address& address, const Question& question) const;

 private:
  Answer DecideJudged(const Address& address, const Question& question, const policy::ConnectDecision& connect) const;
  policy::Decision Tls(const Address& address, const Question& question, std::uint8_t protocols,
                       const std::string& sni) const;
  policy::Decision Http(const Address& address, const Question& question, std::uint8_t protocols,
                        const RequestQuestion& request) const;
  Answer Unnamed(const Address& address, const Question& question, const policy::ConnectDecision& connect) const;
  bool HasFamilyOf(const Address& address) const;
  std::string Notes(const Address& address, const policy::Decision& decision, std::string note) const;
  Answer MakeAnswer(const Address& address, const policy::Decision& decision, const std::string& note = "") const;

  datapath::PodPolicy pod_;
  policy::PolicyIndex index_;
};

}  // namespace egress::ctl
