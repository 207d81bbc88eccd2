#include "cmd/egressctl/output.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

#include "cmd/egressctl/status_text.h"

namespace egress::ctl {
namespace {

using nlohmann::json;

TEST(Output, ColumnsAreAlignedAndEmptyCellsMarked) {
  EXPECT_EQ(Table({"A", "LONG"}, {{"first", "x"}, {"", "second"}}), "A      LONG\nfirst  x\n-      second\n");
}

TEST(Output, YamlKeepsTypes) {
  const json value = {{"text", "5"},
                      {"number", 5},
                      {"yes", true},
                      {"word", "true"},
                      {"nothing", nullptr},
                      {"empty", json::array()},
                      {"wild", "*.example.com"},
                      {"colon", "a: b"},
                      {"void", ""},
                      {"list", {"a", "b"}},
                      {"map", {{"x", 1}}}};
  const YAML::Node read = YAML::Load(Yaml(value));
  EXPECT_EQ(read["text"].Tag(), "!");  // quoted, so no number
  EXPECT_EQ(read["number"].Tag(), "?");
  EXPECT_EQ(read["number"].as<int>(), 5);
  EXPECT_EQ(read["yes"].Tag(), "?");
  EXPECT_TRUE(read["yes"].as<bool>());
  EXPECT_EQ(read["word"].Tag(), "!");
  EXPECT_TRUE(read["nothing"].IsNull());
  EXPECT_TRUE(read["empty"].IsSequence());
  EXPECT_EQ(read["wild"].as<std::string>(), "*.example.com");
  EXPECT_EQ(read["colon"].as<std::string>(), "a: b");
  EXPECT_EQ(read["void"].as<std::string>(), "");
  EXPECT_EQ(read["list"][1].as<std::string>(), "b");
  EXPECT_EQ(read["map"]["x"].as<int>(), 1);
}

TEST(Output, BytesThatAreNotUtf8AreReplacedInAllFormats) {
  const json value = {{"path", "/\xff"}};
  for (const Format format : {Format::kJson, Format::kYaml}) {
    std::ostringstream out;
    WriteData(out, format, value);
    EXPECT_EQ(out.str().find('\xff'), std::string::npos);
  }
}

TEST(Output, StatusNamesWhatIsWrong) {
  report::AgentStatus status;
  status.version = "1.2.3";
  status.policies_valid = 3;
  status.policies_invalid = 1;
  status.problems = {"the proxy does not start"};
  policy::Finding finding;
  finding.location = {"bad.yaml", 16};
  finding.kind = "Egress";
  finding.object = {"curl", "broken"};
  finding.field = "spec.ports[1].number";
  finding.message = "write 1 to 65535";
  status.findings = {finding};
  const std::string text = StatusText(status);
  EXPECT_NE(text.find("3 valid, 1 invalid"), std::string::npos) << text;
  EXPECT_NE(text.find("the proxy does not start"), std::string::npos) << text;
  EXPECT_NE(text.find("bad.yaml:16: error: Egress curl/broken: spec.ports[1].number"), std::string::npos) << text;
}

}  // namespace
}  // namespace egress::ctl
