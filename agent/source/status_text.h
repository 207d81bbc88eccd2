// What an answer that is no success means, in words.
#pragma once

#include <string>

#include "agent/source/http_client.h"

namespace egress::source {

// "cannot reach https://...: Connection refused", "403: egresses is forbidden: ...". Of a Status object the message.
std::string Explain(const HttpClient::Outcome& outcome, const std::string& server);

}  // namespace egress::source
