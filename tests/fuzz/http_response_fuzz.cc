// Bytes from an origin: response heads. What is accepted must frame the same body once it is written anew.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "agent/proxy/http_response.h"
#include "agent/proxy/http_rewrite.h"
#include "tests/fuzz/reader_limits.h"

namespace {

using namespace egress::proxy;

void Require(bool holds) {
  if (!holds) std::abort();
}

void CheckRewritten(const ResponseHead& head, const ResponseContext& context) {
  static BlockPool pool;
  BufferAccount account{.pool = &pool, .max_large = 4};
  Buffer out(&account);
  if (head.code == 101 || !WriteResponse(head, Persistence::kClose, head.fields.chunked, &out)) return;
  static ResponseHead again;
  const ParseStatus status = ParseResponse(out.data(), context, &again);
  if (IsPastReaderLimits(out.data())) return Require(status == ParseStatus::kTooLarge);
  Require(status == ParseStatus::kComplete);
  Require(again.size == out.size());
  Require(again.code == head.code && again.reason == head.reason);
  Require(again.body == head.body);
  Require(again.body != BodyKind::kLength || again.length == head.length);
  Require(!again.keep_alive);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
  const ResponseContext context{.to_head = (bytes[0] & 1) != 0, .to_connect = (bytes[0] & 2) != 0};
  static ResponseHead head;
  if (ParseResponse(text, context, &head) != ParseStatus::kComplete) return 0;
  Require(head.size <= text.size());
  CheckRewritten(head, context);
  static ResponseHead prefix;
  Require(ParseResponse(text.substr(0, head.size - 1), context, &prefix) == ParseStatus::kIncomplete);
  return 0;
}
