// JSON text -> Documents, through nlohmann's SAX interface, which does not recurse. It knows no lines, so the iterator
// that it reads through counts them.

#include <iterator>
#include <nlohmann/json.hpp>

#include "agent/policy/tree.h"

namespace egress::policy {
namespace {

using Json = nlohmann::json;

// Counts the line ends that have been read.
class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, int* line) : at_(at), line_(line) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    if (*at_ == '\n') ++*line_;
    ++at_;
    return *this;
  }
  CountingIterator operator++(int) {
    CountingIterator before = *this;
    ++*this;
    return before;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  int* line_;
};

class Sax {
 public:
  explicit Sax(const int* line) : line_(line) { builder_.StartDocument(); }

  Document Take() { return builder_.EndDocument(); }
  const std::string& message() const { return message_; }

  // NOLINTBEGIN(readability-identifier-naming): the names are nlohmann's.
  bool null() { return Scalar(Node::Type::kNull, ""); }
  bool boolean(bool value) { return Scalar(Node::Type::kBool, value ? "true" : "false"); }
  bool number_integer(Json::number_integer_t value) { return Scalar(Node::Type::kInteger, std::to_string(value)); }
  bool number_unsigned(Json::number_unsigned_t value) { return Scalar(Node::Type::kInteger, std::to_string(value)); }
  bool number_float(Json::number_float_t, const std::string& text) { return Scalar(Node::Type::kNumber, text); }
  bool string(std::string& value) { return Scalar(Node::Type::kString, value); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(std::size_t) {
    builder_.Start(*line_, Node::Type::kMap);
    return true;
  }
  bool key(std::string& value) { return Scalar(Node::Type::kString, value); }
  bool end_object() {
    builder_.End();
    return true;
  }
  bool start_array(std::size_t) {
    builder_.Start(*line_, Node::Type::kList);
    return true;
  }
  bool end_array() { return end_object(); }
  bool parse_error(std::size_t, const std::string&, const Json::exception& error) {
    message_ = error.what();
    return false;
  }
  // NOLINTEND(readability-identifier-naming)

 private:
  bool Scalar(Node::Type type, std::string text) {
    builder_.Scalar(*line_, type, std::move(text));
    return true;
  }

  const int* line_;
  TreeBuilder builder_;
  std::string message_;
};

}  // namespace

Documents ReadJson(std::string_view text) {
  int line = 1;
  Sax sax(&line);
  try {
    const CountingIterator begin(text.data(), &line);
    const CountingIterator end(text.data() + text.size(), &line);
    if (!Json::sax_parse(begin, end, &sax)) {
      return {{}, TextProblem{line, "", "is not valid JSON: " + sax.message()}, true};
    }
  } catch (TextProblem& problem) {
    return {{}, std::move(problem), false};
  } catch (const std::exception& error) {
    return {{}, TextProblem{line, "", std::string("is not valid JSON: ") + error.what()}, true};
  }
  Documents result;
  result.documents.push_back(sax.Take());
  return result;
}

}  // namespace egress::policy
