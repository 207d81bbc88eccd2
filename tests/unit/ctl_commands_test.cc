// Exit status and output of the commands where there is neither an agent nor a map.
#include "cmd/egressctl/commands.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

namespace egress::ctl {
namespace {

class CommandsTest : public ::testing::Test {
 protected:
  CommandsTest() {
    std::string name = std::filesystem::temp_directory_path() / "commands-XXXXXX";
    options_.run_dir = ::mkdtemp(name.data());
    options_.bpffs = options_.run_dir + "/nothing-is-pinned-here";
  }
  ~CommandsTest() override { std::filesystem::remove_all(options_.run_dir); }

  int Run(const std::function<int()>& command) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int status = command();
    out_ = ::testing::internal::GetCapturedStdout();
    err_ = ::testing::internal::GetCapturedStderr();
    return status;
  }

  std::string Write(const std::string& name, const std::string& text) {
    const std::string path = options_.run_dir + "/" + name;
    std::ofstream(path) << text;
    return path;
  }

  Options options_;
  std::string out_;
  std::string err_;
};

constexpr const char* kGood = R"({"apiVersion": "policy.openservicemesh.io/v1alpha1", "kind": "Egress",
"metadata": {"name": "fine", "namespace": "curl"},
"spec": {"sources": [{"kind": "ServiceAccount", "name": "curl", "namespace": "curl"}],
"ports": [{"number": 443, "protocol": "tcp"}]}})";

TEST_F(CommandsTest, RulesWithoutMapsSaysWhatToDo) {
  EXPECT_EQ(Run([&] { return RulesCommand(options_, ""); }), kExitError);
  EXPECT_NE(err_.find("--bpffs"), std::string::npos) << err_;
  EXPECT_EQ(out_, "");
}

TEST_F(CommandsTest, ExplainWithoutMapsIsAnErrorNotADenial) {
  EXPECT_EQ(Run([&] { return ExplainCommand(options_, {"curl/curl", "192.0.2.1:80", {}, {}, {}}); }), kExitError);
  EXPECT_NE(err_.find("--bpffs"), std::string::npos) << err_;
}

TEST_F(CommandsTest, ExplainNamesWhatItCannotRead) {
  EXPECT_EQ(Run([&] { return ExplainCommand(options_, {"curl/curl", "nowhere", {}, {}, {}}); }), kExitError);
  EXPECT_NE(err_.find("HOST:PORT"), std::string::npos) << err_;
  EXPECT_EQ(Run([&] { return ExplainCommand(options_, {"curl/curl", "192.0.2.1:80", {}, "GET", {}}); }), kExitError);
  EXPECT_NE(err_.find("METHOD URL"), std::string::npos) << err_;
}

TEST_F(CommandsTest, StatusWithoutAgentSaysSoAndIsNotSuccess) {
  EXPECT_EQ(Run([&] { return StatusCommand(options_); }), kExitNo);
  EXPECT_NE(out_.find("does not run"), std::string::npos) << out_;
  options_.format = Format::kJson;
  EXPECT_EQ(Run([&] { return StatusCommand(options_); }), kExitNo);
  EXPECT_EQ(nlohmann::json::parse(out_)["running"], false);
}

TEST_F(CommandsTest, PodsAndEventsWithoutAgentAreErrors) {
  EXPECT_EQ(Run([&] { return PodsCommand(options_); }), kExitError);
  EXPECT_NE(err_.find("--run-dir"), std::string::npos) << err_;
  EXPECT_EQ(Run([&] { return EventsCommand(options_, {}); }), kExitError);
  EXPECT_NE(err_.find("--run-dir"), std::string::npos) << err_;
}

TEST_F(CommandsTest, ValidateTellsErrorsFromNoneAndFromWhatItCannotRead) {
  std::string bad = kGood;
  bad.replace(bad.find("443"), 3, "70000");
  const std::string good_file = Write("good.json", kGood);
  const std::string bad_file = Write("bad.json", bad);
  EXPECT_EQ(Run([&] { return ValidateCommand(options_, "", {good_file}); }), kExitOk);
  EXPECT_EQ(Run([&] { return ValidateCommand(options_, "", {bad_file}); }), kExitNo);
  EXPECT_NE(out_.find("bad.json:4: error: Egress curl/fine: spec.ports[0].number: "), std::string::npos) << out_;
  EXPECT_EQ(Run([&] { return ValidateCommand(options_, "", {options_.run_dir + "/none.yaml"}); }), kExitError);
  EXPECT_EQ(Run([&] { return ValidateCommand(options_, options_.run_dir + "/none.yaml", {good_file}); }), kExitError);
  options_.format = Format::kJson;
  EXPECT_EQ(Run([&] { return ValidateCommand(options_, "", {bad_file}); }), kExitNo);
  EXPECT_EQ(nlohmann::json::parse(out_)[0]["field"], "spec.ports[0].number");
}

TEST_F(CommandsTest, VersionIsThatOfTheProject) {
  options_.format = Format::kJson;
  EXPECT_EQ(Run([&] { return VersionCommand(options_); }), kExitOk);
  EXPECT_FALSE(nlohmann::json::parse(out_)["version"].get<std::string>().empty());
}

}  // namespace
}  // namespace egress::ctl
