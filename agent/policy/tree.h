// Tree: manifest text as a tree of values that know their lines, before anybody asks what they mean.
//
// The text is hostile: size, depth and node count are bounded (aliases are counted as what they expand to), and
// nothing here recurses deeper than kMaxDepth.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace egress::policy {

inline constexpr std::size_t kMaxTextBytes = 16U << 20;
inline constexpr std::size_t kMaxNodes = 2'000'000;  // of one text, aliases expanded
inline constexpr int kMaxDepth = 64;

struct Node {
  // kNumber is what looks like a number but is not a plain decimal integer: 80.0, 0x50, 0120, .inf.
  enum class Type { kNull, kBool, kInteger, kNumber, kString, kList, kMap };

  Type type = Type::kNull;
  int line = 0;      // of the field's name in a map, of the item in a list; from 1
  std::string key;   // where the parent is a map
  std::string text;  // of scalars
  std::vector<Node> children;

  bool IsNull() const { return type == Type::kNull; }
  bool IsMap() const { return type == Type::kMap; }
  bool IsList() const { return type == Type::kList; }
  bool IsString() const { return type == Type::kString; }

  // The value of a map's key (of equal keys the first); nullptr where there is none, or this is no map.
  const Node* Find(std::string_view name) const;
  // The same along "metadata.name".
  const Node* FindPath(std::string_view path) const;
};

// "a string", "a list", ... for messages.
const char* TypeName(Node::Type type);

// Something wrong with the text itself.
struct TextProblem {
  int line = 0;
  std::string path;  // of the field, where it is known
  std::string message;
};

struct Document {
  Node root;
  std::vector<TextProblem> duplicates;  // keys that stand twice in one map
};

struct Documents {
  std::vector<Document> documents;     // those that are not empty
  std::optional<TextProblem> failure;  // the text does not parse; `documents` is empty then
  bool other_syntax = false;           // of ReadJson(): it is no JSON, but may be YAML in flow style
};

// YAML (several documents) or JSON.
Documents ReadDocuments(std::string_view text);

// The type of an unquoted YAML scalar: the core schema of YAML 1.2 without octal and hex integers, which a person may
// read otherwise; they, and what YAML 1.1 took for numbers, are kNumber. `yes`, `on` and the like are strings.
Node::Type PlainScalarType(std::string_view text);

// Builds trees from the events of a parser. Throws TextProblem on what makes the text unreadable.
class TreeBuilder {
 public:
  void StartDocument();
  Document EndDocument();
  // `anchor` is 0 where the node bears none.
  void Scalar(int line, Node::Type type, std::string text, std::size_t anchor = 0);
  void Start(int line, Node::Type type, std::size_t anchor = 0);
  void End();
  void Alias(int line, std::size_t anchor);

 private:
  struct Open {
    Node node;
    std::size_t anchor = 0;
    bool has_key = false;
    std::string key;
    int key_line = 0;
  };
  struct Anchored {
    Node node;
    std::size_t nodes = 0;
    int depth = 0;
  };

  void Add(Node node, std::size_t anchor);
  void Count(int line, std::size_t nodes);
  void FindDuplicates(const Node& map);
  std::string Path() const;

  std::vector<Open> open_;
  std::unordered_map<std::size_t, Anchored> anchored_;
  std::size_t nodes_ = 0;
  Document document_;
};

// The two readers behind ReadDocuments(); `text` is valid UTF-8 without control characters.
Documents ReadYaml(std::string_view text);
Documents ReadJson(std::string_view text);

}  // namespace egress::policy
