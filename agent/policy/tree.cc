#include "agent/policy/tree.h"

#include <algorithm>
#include <array>

namespace egress::policy {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Sizes a subtree: nodes and depth.
std::pair<std::size_t, int> Measure(const Node& node) {
  std::size_t nodes = 1;
  int depth = 0;
  for (const Node& child : node.children) {
    const auto [below, levels] = Measure(child);
    nodes += below;
    depth = std::max(depth, levels);
  }
  return {nodes, depth + 1};
}

// Bytes of the UTF-8 sequence at the front of `text` (RFC 3629), 0 where there is none.
std::size_t SequenceLength(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return 1;
  const std::size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  if (byte(0) == 0xe0 && byte(1) < 0xa0) return 0;
  if (byte(0) == 0xed && byte(1) > 0x9f) return 0;
  if (byte(0) == 0xf0 && byte(1) < 0x90) return 0;
  if (byte(0) == 0xf4 && byte(1) > 0x8f) return 0;
  return length;
}

// What no manifest may hold, whatever the parser makes of it: yaml-cpp takes 0x04 for the end of the text.
std::optional<TextProblem> CheckBytes(std::string_view text) {
  if (text.size() > kMaxTextBytes) {
    return TextProblem{1, "", "is larger than " + std::to_string(kMaxTextBytes >> 20) + " MiB; split it"};
  }
  int line = 1;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte == '\n') ++line;
    if ((byte < 0x20 && byte != '\n' && byte != '\r' && byte != '\t') || byte == 0x7f) {
      return TextProblem{line, "", "holds a control character (byte " + std::to_string(byte) + "); remove it"};
    }
    const std::size_t length = SequenceLength(text.substr(i));
    if (length == 0) return TextProblem{line, "", "is not UTF-8 text; save it as UTF-8"};
    i += length;
  }
  return std::nullopt;
}

}  // namespace

const Node* Node::Find(std::string_view name) const {
  if (type != Type::kMap) return nullptr;
  for (const Node& child : children) {
    if (child.key == name) return &child;
  }
  return nullptr;
}

const Node* Node::FindPath(std::string_view path) const {
  const Node* node = this;
  while (node != nullptr && !path.empty()) {
    const std::size_t dot = path.find('.');
    node = node->Find(path.substr(0, dot));
    path = dot == std::string_view::npos ? std::string_view() : path.substr(dot + 1);
  }
  return node;
}

const char* TypeName(Node::Type type) {
  switch (type) {
    case Node::Type::kNull: return "nothing";
    case Node::Type::kBool: return "a boolean";
    case Node::Type::kInteger: return "an integer";
    case Node::Type::kNumber: return "a number";
    case Node::Type::kString: return "a string";
    case Node::Type::kList: return "a list";
    case Node::Type::kMap: return "a map";
  }
  return "";
}

Node::Type PlainScalarType(std::string_view text) {
  static constexpr std::array<std::string_view, 5> kNulls = {"", "~", "null", "Null", "NULL"};
  static constexpr std::array<std::string_view, 6> kBools = {"true", "True", "TRUE", "false", "False", "FALSE"};
  static constexpr std::array<std::string_view, 6> kWords = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"};
  if (std::find(kNulls.begin(), kNulls.end(), text) != kNulls.end()) return Node::Type::kNull;
  if (std::find(kBools.begin(), kBools.end(), text) != kBools.end()) return Node::Type::kBool;
  std::string_view rest = text;
  if (rest.front() == '-' || rest.front() == '+') rest.remove_prefix(1);
  if (std::find(kWords.begin(), kWords.end(), rest) != kWords.end()) return Node::Type::kNumber;
  if (rest.empty()) return Node::Type::kString;
  if (std::all_of(rest.begin(), rest.end(), IsDigit)) {
    return rest.size() == 1 || rest[0] != '0' ? Node::Type::kInteger : Node::Type::kNumber;
  }
  if (rest.size() > 2 && rest[0] == '0' && (rest[1] == 'x' || rest[1] == 'o' || rest[1] == 'b')) {
    const bool hex = std::all_of(rest.begin() + 2, rest.end(), [](char c) {
      return IsDigit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F') || c == '_';
    });
    return hex ? Node::Type::kNumber : Node::Type::kString;
  }
  // [digits _][.digits][e[+-]digits], with a digit somewhere.
  std::size_t i = 0;
  const auto digits = [&] {
    const std::size_t from = i;
    while (i < rest.size() && (IsDigit(rest[i]) || (rest[i] == '_' && i > 0))) ++i;
    return i - from;
  };
  std::size_t count = digits();
  if (i < rest.size() && rest[i] == '.') {
    ++i;
    count += digits();
  }
  if (count == 0) return Node::Type::kString;
  if (i < rest.size() && (rest[i] == 'e' || rest[i] == 'E')) {
    ++i;
    if (i < rest.size() && (rest[i] == '+' || rest[i] == '-')) ++i;
    if (digits() == 0) return Node::Type::kString;
  }
  return i == rest.size() ? Node::Type::kNumber : Node::Type::kString;
}

void TreeBuilder::StartDocument() {
  open_.clear();
  anchored_.clear();
  document_ = Document();
}

Document TreeBuilder::EndDocument() { return std::move(document_); }

void TreeBuilder::Count(int line, std::size_t nodes) {
  nodes_ += nodes;
  if (nodes_ > kMaxNodes) {
    throw TextProblem{line, "", "has more than " + std::to_string(kMaxNodes) + " values; split it"};
  }
}

void TreeBuilder::Scalar(int line, Node::Type type, std::string text, std::size_t anchor) {
  Count(line, 1);
  if (!open_.empty() && open_.back().node.IsMap() && !open_.back().has_key) {
    open_.back().has_key = true;
    open_.back().key = std::move(text);
    open_.back().key_line = line;
    if (anchor != 0) throw TextProblem{line, "", "an anchor on a field name is not supported; remove it"};
    return;
  }
  Node node;
  node.type = type;
  node.line = line;
  node.text = std::move(text);
  Add(std::move(node), anchor);
}

void TreeBuilder::Start(int line, Node::Type type, std::size_t anchor) {
  Count(line, 1);
  if (open_.size() >= kMaxDepth) {
    throw TextProblem{line, "", "is nested deeper than " + std::to_string(kMaxDepth) + " levels"};
  }
  if (!open_.empty() && open_.back().node.IsMap() && !open_.back().has_key) {
    throw TextProblem{line, "", "a field name must be a string"};
  }
  Open open;
  open.node.type = type;
  open.node.line = line;
  open.anchor = anchor;
  open_.push_back(std::move(open));
}

void TreeBuilder::End() {
  if (open_.back().node.IsMap()) FindDuplicates(open_.back().node);
  Open closed = std::move(open_.back());
  open_.pop_back();
  Add(std::move(closed.node), closed.anchor);
}

void TreeBuilder::Alias(int line, std::size_t anchor) {
  const auto found = anchored_.find(anchor);
  if (found == anchored_.end()) throw TextProblem{line, "", "an alias inside its own anchor is not possible"};
  if (!open_.empty() && open_.back().node.IsMap() && !open_.back().has_key) {
    throw TextProblem{line, "", "an alias as a field name is not supported; write the name"};
  }
  Count(line, found->second.nodes);
  if (static_cast<int>(open_.size()) + found->second.depth > kMaxDepth) {
    throw TextProblem{line, "", "is nested deeper than " + std::to_string(kMaxDepth) + " levels"};
  }
  Node copy = found->second.node;
  copy.line = line;
  Add(std::move(copy), 0);
}

void TreeBuilder::Add(Node node, std::size_t anchor) {
  if (anchor != 0) {
    const auto [nodes, depth] = Measure(node);
    Count(node.line, nodes);  // the copy that is kept for aliases
    anchored_[anchor] = Anchored{node, nodes, depth};
  }
  if (open_.empty()) {
    document_.root = std::move(node);
    return;
  }
  Open& parent = open_.back();
  if (parent.node.IsMap()) {
    node.key = std::move(parent.key);
    node.line = parent.key_line;
    parent.key.clear();
    parent.has_key = false;
  }
  parent.node.children.push_back(std::move(node));
}

std::string TreeBuilder::Path() const {
  std::string path;
  for (std::size_t i = 0; i + 1 < open_.size(); ++i) {
    const Open& level = open_[i];
    if (level.node.IsMap()) {
      path += (path.empty() ? "" : ".") + level.key;
    } else {
      path += "[" + std::to_string(level.node.children.size()) + "]";
    }
  }
  return path;
}

void TreeBuilder::FindDuplicates(const Node& map) {
  if (map.children.size() < 2) return;
  std::vector<const Node*> sorted;
  sorted.reserve(map.children.size());
  for (const Node& child : map.children) sorted.push_back(&child);
  std::stable_sort(sorted.begin(), sorted.end(), [](const Node* a, const Node* b) { return a->key < b->key; });
  for (std::size_t i = 1; i < sorted.size(); ++i) {
    if (sorted[i]->key != sorted[i - 1]->key) continue;
    const std::string parent = Path();
    const std::string path = parent.empty() ? sorted[i]->key : parent + "." + sorted[i]->key;
    const std::string message =
        "stands twice here (first in line " + std::to_string(sorted[i - 1]->line) + "); keep one of them";
    // Which object this is would depend on which of the two counts.
    if (path == "kind" || path == "apiVersion" || path == "metadata" || path == "metadata.name" ||
        path == "metadata.namespace") {
      throw TextProblem{sorted[i]->line, path, message};
    }
    document_.duplicates.push_back({sorted[i]->line, path, message});
  }
}

Documents ReadDocuments(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark says nothing in UTF-8
  if (auto problem = CheckBytes(text)) return {{}, std::move(problem), false};
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string_view::npos && text[first] == '{') {
    // JSON, or YAML's flow style, which only looks like it.
    Documents json = ReadJson(text);
    if (!json.other_syntax) return json;
  }
  return ReadYaml(text);
}

}  // namespace egress::policy
