// What goes out is written anew from the parsed form: same order, same case, without what is hop-by-hop.
#pragma once

#include <string_view>

#include "agent/proxy/buffer.h"
#include "agent/proxy/chunked.h"
#include "agent/proxy/http_request.h"
#include "agent/proxy/http_response.h"

namespace egress::proxy {

// Appends the head as the upstream gets it, always HTTP/1.1 (RFC 9112, 2.3). `upgrade`: also the WebSocket upgrade.
// False, and nothing is appended, where the buffer may not grow so far.
bool WriteRequest(const RequestHead& head, bool upgrade, Buffer* out);

// How the connection to the client goes on behind a response, in the words that HTTP has for it.
enum class Persistence {
  kPlain,      // goes on; nothing has to be said
  kKeepAlive,  // goes on, and a client of HTTP/1.0 has to be told
  kClose,
  kUpgrade,  // 101
};

// Appends the head as the client gets it. `chunked`: the body follows in the chunked coding.
bool WriteResponse(const ResponseHead& head, Persistence persistence, bool chunked, Buffer* out);

// Appends an answer of the proxy's own, with `text` as its body (none for `to_head`).
bool WriteAnswer(int code, std::string_view text, bool to_head, Persistence persistence, Buffer* out);

// Makes room for a chunk of at most `wanted` bytes; returns how many fit, 0 if none do for now.
std::size_t ReserveChunk(std::size_t wanted, Buffer* out);
// Appends what a decoder gave as a chunk of its own, or as the end of the body. Its data fits ReserveChunk().
void AppendChunk(const ChunkDecoder::Piece& piece, Buffer* out);

}  // namespace egress::proxy
