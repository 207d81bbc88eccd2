// The installer among the files of a node: what the CNI writes, and what is put back.
#include "agent/cni/installer.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "agent/base/file.h"

namespace egress::cni {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr const char* kList = R"({"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"}]})";
constexpr const char* kConf = R"({"cniVersion":"1.0.0","name":"pods","type":"bridge"})";

class CniInstaller : public testing::Test {
 protected:
  CniInstaller() : loop_(*EventLoop::Create()) {
    folder_ = fs::path(testing::TempDir()) /
              (std::string("cni-") + testing::UnitTest::GetInstance()->current_test_info()->name() +
               std::to_string(::getpid()));
    fs::create_directories(folder_ / "conf");
    Write(folder_ / "program", "the plugin");
    options_.conf_dir = folder_ / "conf";
    options_.bin_dir = folder_ / "bin";
    options_.program = folder_ / "program";
    options_.entry = {"/run/egressd/cni.sock", "/var/lib/egressd/cni.json", {"kube-system"}};
    options_.fight_changes = 3;
  }
  ~CniInstaller() override { fs::remove_all(folder_); }

  static void Write(const fs::path& path, const std::string& text) { ASSERT_TRUE(ReplaceFile(path, text, 0640)); }
  std::string Read(const std::string& name) const {
    auto text = ReadFile(folder_ / "conf" / name);
    return text ? *text : "";
  }
  bool InPlace(const std::string& name) const { return Read(name).find("egress-cni") != std::string::npos; }
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder_ / "conf")) names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  void Start() {
    auto installer = Installer::Start(loop_, options_, [this] { ++told_; });
    ASSERT_TRUE(installer) << installer.error().message;
    installer_ = *std::move(installer);
  }
  // Runs the loop until predicate() holds; gives up after ten seconds.
  bool Until(const std::function<bool()>& predicate) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    bool held = false;
    std::function<void()> look = [&] {
      held = predicate();
      if (held || std::chrono::steady_clock::now() > end) return loop_.Stop();
      loop_.After(milliseconds(1), look);
    };
    loop_.After(milliseconds(0), look);
    loop_.Run();
    return held;
  }

  EventLoop loop_;
  InstallOptions options_;
  fs::path folder_;
  std::unique_ptr<Installer> installer_;
  int told_ = 0;
};

TEST_F(CniInstaller, TheFirstListGetsThePluginAndTheProgramIsCopied) {
  Write(folder_ / "conf/10-pods.conflist", kList);
  Write(folder_ / "conf/20-other.conflist", kList);
  Write(folder_ / "conf/00-readme.txt", "no configuration");
  Start();
  EXPECT_EQ(installer_->problem(), "");
  EXPECT_TRUE(InPlace("10-pods.conflist"));
  EXPECT_EQ(Read("20-other.conflist"), kList);
  struct stat program {
  }, conf{};
  ASSERT_EQ(::stat((folder_ / "bin/egress-cni").c_str(), &program), 0);
  EXPECT_EQ(program.st_mode & 0777, 0755u);
  ASSERT_EQ(::stat((folder_ / "conf/10-pods.conflist").c_str(), &conf), 0);
  EXPECT_EQ(conf.st_mode & 0777, 0640u);
  EXPECT_EQ(Names(), (std::vector<std::string>{"00-readme.txt", "10-pods.conflist", "20-other.conflist"}));
}

TEST_F(CniInstaller, ALoneConfigurationIsWrappedAndPutBackOnRemoval) {
  Write(folder_ / "conf/10-pods.conf", kConf);
  Write(folder_ / "conf/20-other.conflist", kList);
  Start();
  EXPECT_EQ(Names(),
            (std::vector<std::string>{"10-pods.conf.conflist", "10-pods.conf.egressd-original", "20-other.conflist"}));
  EXPECT_TRUE(InPlace("10-pods.conf.conflist"));
  installer_.reset();
  ASSERT_TRUE(RemoveInstallation(options_.conf_dir, options_.bin_dir));
  EXPECT_EQ(Names(), (std::vector<std::string>{"10-pods.conf", "20-other.conflist"}));
  EXPECT_EQ(Read("10-pods.conf"), kConf);
  EXPECT_FALSE(fs::exists(folder_ / "bin/egress-cni"));
}

TEST_F(CniInstaller, ALoneConfigurationThatTheCniWritesAnewIsWrappedAnew) {
  Write(folder_ / "conf/10-pods.conf", kConf);
  Start();
  Write(folder_ / "conf/10-pods.conf", R"({"cniVersion":"0.4.0","name":"pods","type":"bridge"})");
  EXPECT_TRUE(Until([&] { return !fs::exists(folder_ / "conf/10-pods.conf"); }));
  EXPECT_NE(Read("10-pods.conf.conflist").find("0.4.0"), std::string::npos);
  installer_.reset();
  ASSERT_TRUE(RemoveInstallation(options_.conf_dir, options_.bin_dir));
  EXPECT_NE(Read("10-pods.conf").find("0.4.0"), std::string::npos);
}

TEST_F(CniInstaller, WhatDoesNotParseIsReportedAndLeftAlone) {
  Write(folder_ / "conf/10-pods.conflist", "{");
  Start();
  EXPECT_NE(installer_->problem().find("10-pods.conflist"), std::string::npos);
  EXPECT_EQ(Read("10-pods.conflist"), "{");
  Write(folder_ / "conf/10-pods.conflist", kList);
  EXPECT_TRUE(Until([&] { return InPlace("10-pods.conflist"); }));
  EXPECT_EQ(installer_->problem(), "");
  EXPECT_EQ(told_, 2);
}

TEST_F(CniInstaller, AConfigurationThatComesLaterGetsThePlugin) {
  Start();
  EXPECT_NE(installer_->problem(), "");
  Write(folder_ / "conf/20-pods.conflist", kList);
  EXPECT_TRUE(Until([&] { return InPlace("20-pods.conflist"); }));
  Write(folder_ / "conf/10-first.conflist", kList);  // now the one that counts
  EXPECT_TRUE(Until([&] { return InPlace("10-first.conflist"); }));
}

TEST_F(CniInstaller, WhatTheCniRewritesOrRemovesIsPutBack) {
  Write(folder_ / "conf/10-pods.conflist", kList);
  Start();
  Write(folder_ / "conf/10-pods.conflist", kList);
  EXPECT_TRUE(Until([&] { return InPlace("10-pods.conflist"); }));
  fs::remove(folder_ / "bin/egress-cni");
  EXPECT_TRUE(Until([&] { return fs::exists(folder_ / "bin/egress-cni"); }));
  EXPECT_EQ(installer_->problem(), "");
}

TEST_F(CniInstaller, AFightIsToldAndWaitsLongerEachTimeUntilItIsOver) {
  options_.fight_window = milliseconds(1000);
  options_.first_wait = milliseconds(200);
  options_.longest_wait = milliseconds(400);
  Write(folder_ / "conf/10-pods.conflist", kList);
  Start();
  for (unsigned i = 0; i < options_.fight_changes; ++i) {
    Write(folder_ / "conf/10-pods.conflist", kList);
    ASSERT_TRUE(Until([&] { return InPlace("10-pods.conflist"); }));
    EXPECT_EQ(installer_->problem(), "");
  }
  Write(folder_ / "conf/10-pods.conflist", kList);
  ASSERT_TRUE(Until([&] { return installer_->problem() != ""; }));
  EXPECT_NE(installer_->problem().find("10-pods.conflist"), std::string::npos);
  EXPECT_FALSE(InPlace("10-pods.conflist"));
  EXPECT_TRUE(Until([&] { return InPlace("10-pods.conflist"); }));  // after the first wait
  Write(folder_ / "conf/10-pods.conflist", kList);
  EXPECT_TRUE(Until([&] { return !InPlace("10-pods.conflist") && told_ > 0; }));
  EXPECT_TRUE(Until([&] { return InPlace("10-pods.conflist"); }));  // after the second
  EXPECT_NE(installer_->problem(), "");
  EXPECT_TRUE(Until([&] { return installer_->problem() == ""; }));  // nobody fights any more
}

TEST_F(CniInstaller, RemovalFromANodeThatHasNothingOfOursChangesNothing) {
  Write(folder_ / "conf/10-pods.conflist", kList);
  ASSERT_TRUE(RemoveInstallation(options_.conf_dir, options_.bin_dir));
  EXPECT_EQ(Read("10-pods.conflist"), kList);
  EXPECT_TRUE(RemoveInstallation(folder_ / "missing", folder_ / "missing"));
}

TEST_F(CniInstaller, TheNameOfAFileBesideIsNoConfiguration) {
  fs::create_directories(folder_ / "conf/10-pods.conflist");  // a folder: the file cannot take its place
  const auto done = ReplaceFile(folder_ / "conf/10-pods.conflist", kList, 0600);
  EXPECT_FALSE(done);
  EXPECT_EQ(Names(), std::vector<std::string>{"10-pods.conflist"});  // nothing is left beside
}

}  // namespace
}  // namespace egress::cni
