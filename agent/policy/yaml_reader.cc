// YAML text -> Documents, through the event interface of yaml-cpp: its own node tree resolves no types, keeps the
// last of two equal keys, and shares aliased nodes.

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <sstream>

#include "agent/policy/tree.h"

namespace egress::policy {
namespace {

// Throws TextProblem through yaml-cpp, which keeps nothing that this could harm: the parser is dropped then. Since
// the start of a list or map is announced before its content is parsed, the builder's bound on depth also bounds
// the recursion in yaml-cpp.
class Handler : public YAML::EventHandler {
 public:
  std::vector<Document> documents;

  void OnDocumentStart(const YAML::Mark& mark) override {
    // yaml-cpp makes an endless row of empty documents out of a token that may not stand there, such as a comma.
    if (mark.pos == document_at_) throw TextProblem{Line(mark), "", "is not valid YAML: a character is out of place"};
    document_at_ = mark.pos;
    builder_.StartDocument();
  }
  void OnDocumentEnd() override {
    Document document = builder_.EndDocument();
    if (!document.root.IsNull()) documents.push_back(std::move(document));
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    builder_.Scalar(Line(mark), Node::Type::kNull, "", anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override { builder_.Alias(Line(mark), anchor); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    Node::Type type = Node::Type::kString;
    if (tag.empty() || tag == "?") {
      type = PlainScalarType(value);
    } else if (tag != "!" && tag != "tag:yaml.org,2002:str") {
      RefuseTag(mark, tag);
    }
    builder_.Scalar(Line(mark), type, value, anchor);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    if (!tag.empty() && tag != "?" && tag != "!" && tag != "tag:yaml.org,2002:seq") RefuseTag(mark, tag);
    builder_.Start(Line(mark), Node::Type::kList, anchor);
  }
  void OnSequenceEnd() override { builder_.End(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    if (!tag.empty() && tag != "?" && tag != "!" && tag != "tag:yaml.org,2002:map") RefuseTag(mark, tag);
    builder_.Start(Line(mark), Node::Type::kMap, anchor);
  }
  void OnMapEnd() override { builder_.End(); }

 private:
  static int Line(const YAML::Mark& mark) { return mark.line + 1; }
  [[noreturn]] static void RefuseTag(const YAML::Mark& mark, const std::string& tag) {
    throw TextProblem{Line(mark), "", "the YAML tag " + tag + " is not supported; remove it"};
  }

  TreeBuilder builder_;
  int document_at_ = -1;  // where the document before started
};

}  // namespace

Documents ReadYaml(std::string_view text) {
  try {
    // yaml-cpp accepts a quoted scalar that nobody closes where a line end is the last thing in the text; a document
    // end inside of one it refuses.
    std::string ended(text);
    ended += text.empty() || text.ends_with('\n') ? "...\n" : "\n...\n";
    std::istringstream stream(std::move(ended));
    YAML::Parser parser(stream);
    Handler handler;
    while (parser.HandleNextDocument(handler)) {
    }
    return {std::move(handler.documents), std::nullopt, false};
  } catch (TextProblem& problem) {
    return {{}, std::move(problem), false};
  } catch (const YAML::Exception& error) {
    const int line = error.mark.is_null() ? 1 : error.mark.line + 1;
    return {{}, TextProblem{line, "", "is not valid YAML: " + error.msg}, false};
  } catch (const std::exception& error) {
    return {{}, TextProblem{1, "", std::string("is not valid YAML: ") + error.what()}, false};
  }
}

}  // namespace egress::policy
