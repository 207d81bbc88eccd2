#include "agent/cni/known.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "agent/base/file.h"
#include "agent/cni/request.h"

namespace egress::cni {
namespace {

class CniKnown : public testing::Test {
 protected:
  CniKnown() : folder_(std::filesystem::path(testing::TempDir()) / ("known-" + std::to_string(::getpid()))) {}
  ~CniKnown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(CniKnown, IsReadAsItWasWritten) {
  Known known;
  known.mesh_cidrs = {*ParsePrefix("10.244.0.0/16"), *ParsePrefix("fd00:10:244::/48")};
  known.enrolled = {"curl"};
  known.not_enrolled = {"default", "other"};
  const std::string path = folder_ / "deep/cni.json";
  ASSERT_TRUE(WriteKnown(path, known));
  const auto read = ReadKnown(path);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, known);
  EXPECT_EQ(read->Of("curl"), Enrolment::kEnrolled);
  EXPECT_EQ(read->Of("default"), Enrolment::kNotEnrolled);
  EXPECT_EQ(read->Of("new"), Enrolment::kUnknown);
}

TEST_F(CniKnown, NothingOfAFileThatIsNotWholeCounts) {
  std::filesystem::create_directories(folder_);
  const std::string path = folder_ / "cni.json";
  EXPECT_FALSE(ReadKnown(path));
  for (const char* text :
       {"", "{", "[]", R"({"meshCIDRs":[],"enrolled":[]})", R"({"meshCIDRs":["x"],"enrolled":[],"notEnrolled":[]})",
        R"({"meshCIDRs":[],"enrolled":[1],"notEnrolled":["default"]})",
        R"({"meshCIDRs":[],"enrolled":null,"notEnrolled":["default"]})"}) {
    ASSERT_TRUE(ReplaceFile(path, text, 0600));
    EXPECT_FALSE(ReadKnown(path)) << text;
  }
  ASSERT_TRUE(ReplaceFile(path, R"({"meshCIDRs":[],"enrolled":["a"],"notEnrolled":["a"]})", 0600));
  EXPECT_EQ(ReadKnown(path)->Of("a"), Enrolment::kEnrolled);
}

TEST(CniRequest, IsReadAsItWasWritten) {
  Request request{"ADD", "curl", "curl-1", "u-1", "0123", "/run/netns/x", "veth1", {*ParseAddress("10.244.1.5")}};
  request.pod_name = "odd \"name\"\n\xff";
  const std::string text = request.ToText();
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto read = ParseRequest(text);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(read->addresses, request.addresses);
  EXPECT_EQ(read->container_id, "0123");
  for (const char* wrong : {"", "{}", "[]", R"({"command":"ADD"})"}) EXPECT_FALSE(ParseRequest(wrong)) << wrong;
}

}  // namespace
}  // namespace egress::cni
