#include "agent/source/node_taint.h"

#include "agent/base/json_fields.h"
#include "agent/source/status_text.h"

namespace egress::source {
namespace {

using Json = nlohmann::json;

constexpr std::chrono::milliseconds kDeadline{15'000};

// A JSON patch (RFC 6902) that takes the taint out of the list, and fails where the list has changed meanwhile. Empty:
// it is not there.
Json PatchOf(const Json& node) {
  Json patch = Json::array();
  const Json* taints = Member(Member(&node, "spec"), "taints");
  if (taints == nullptr || !taints->is_array()) return patch;
  for (std::size_t i = taints->size(); i-- > 0;) {  // from the end: what is taken out moves nothing before it
    const Json& taint = (*taints)[i];
    if (TextAt(taint, "key") != kNotReadyTaint) continue;
    const std::string path = "/spec/taints/" + std::to_string(i);
    patch.push_back({{"op", "test"}, {"path", path}, {"value", taint}});
    patch.push_back({{"op", "remove"}, {"path", path}});
  }
  return patch;
}

}  // namespace

void RemoveNotReadyTaint(HttpClient& http, const std::string& node, std::function<void(Result<void>)> done) {
  HttpClient::Request get;
  get.path = "/api/v1/nodes/" + node;
  get.deadline = kDeadline;
  const auto failed = [&http, node](const HttpClient::Outcome& outcome) {
    return Error{"take the taint " + std::string(kNotReadyTaint) + " off node " + node + ": " +
                 Explain(outcome, http.access().server)};
  };
  http.Start(std::move(get), {{}, {}, [&http, node, done, failed](const HttpClient::Outcome& found) {
                                if (!found.ok()) return done(failed(found));
                                const Json patch = PatchOf(Json::parse(found.body, nullptr, false));
                                if (patch.empty()) return done({});
                                HttpClient::Request request;
                                request.method = "PATCH";
                                request.path = "/api/v1/nodes/" + node;
                                request.content_type = "application/json-patch+json";
                                request.body = patch.dump();
                                request.deadline = kDeadline;
                                http.Start(std::move(request),
                                           {{}, {}, [done, failed](const HttpClient::Outcome& outcome) {
                                              done(outcome.ok() ? Result<void>() : Result<void>(failed(outcome)));
                                            }});
                              }});
}

}  // namespace egress::source
