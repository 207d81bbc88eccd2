#include "cmd/check.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace egress::check {
namespace {

constexpr const char* kGood = R"(apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: fine, namespace: curl}
spec:
  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]
  ports: [{number: 443, protocol: tcp}]
)";

constexpr const char* kBad = R"(apiVersion: policy.openservicemesh.io/v1alpha1
kind: Egress
metadata: {name: broken, namespace: curl}
spec:
  sources: [{kind: ServiceAccount, name: curl, namespace: curl}]
  ports:
  - {number: 80, protocol: tcp}
  - {number: 70000, protocol: tcp}
)";

std::string Lines(const std::vector<policy::Finding>& findings) {
  std::string text;
  for (const policy::Finding& finding : findings) text += finding.ToString() + "\n";
  return text;
}

TEST(Check, ManifestsInOrderHaveExitStatusZero) {
  const auto findings = FindProblems(std::nullopt, {{"good.yaml", kGood}});
  EXPECT_EQ(ExitStatus(findings), 0) << Lines(findings);
}

TEST(Check, AnErrorNamesFileLineObjectAndField) {
  const auto findings = FindProblems(std::nullopt, {{"dir/bad.yaml", kBad}, {"good.yaml", kGood}});
  EXPECT_EQ(ExitStatus(findings), 1);
  EXPECT_NE(Lines(findings).find("dir/bad.yaml:8: error: Egress curl/broken: spec.ports[1].number: "),
            std::string::npos)
      << Lines(findings);
  EXPECT_EQ(Lines(findings).find("curl/fine"), std::string::npos) << Lines(findings);
}

TEST(Check, WritesALineForEachProblemAndReturnsTheExitStatus) {
  std::ostringstream out;
  EXPECT_EQ(Check(std::nullopt, {{"bad.yaml", kBad}}, out), 1);
  EXPECT_EQ(out.str(), Lines(FindProblems(std::nullopt, {{"bad.yaml", kBad}})));
  EXPECT_EQ(Check(std::nullopt, {{"good.yaml", kGood}}, out), 0);
}

TEST(Check, WarningsDoNotChangeTheExitStatus) {
  std::string text = kGood;
  text += "  hosts: [httpbin.org]\n";
  const auto findings = FindProblems(std::nullopt, {{"warn.yaml", text}});
  EXPECT_NE(Lines(findings).find(": warning: "), std::string::npos);
  EXPECT_EQ(ExitStatus(findings), 0);
}

TEST(Check, TheConfigurationIsCheckedAndUsed) {
  const auto unknown = FindProblems(Unit{"config.yaml", "meshNaem: osm\n"}, {});
  EXPECT_EQ(ExitStatus(unknown), 1);
  EXPECT_NE(Lines(unknown).find("config.yaml:1: error: "), std::string::npos) << Lines(unknown);

  std::string text = kGood;
  text.replace(text.find("namespace: curl}]"), 15, "namespace: other");
  EXPECT_EQ(ExitStatus(FindProblems(std::nullopt, {{"cross.yaml", text}})), 1);
  EXPECT_EQ(ExitStatus(FindProblems(Unit{"config.yaml", "allowCrossNamespaceSources: true\n"}, {{"cross.yaml", text}})),
            0);
}

TEST(Check, AFolderStandsForItsManifests) {
  std::string name = std::filesystem::temp_directory_path() / "check-XXXXXX";
  const std::filesystem::path folder = ::mkdtemp(name.data());
  for (const char* file : {"b.yml", "a.yaml", "c.json", ".hidden.yaml", "notes.txt"}) {
    std::ofstream(folder / file) << kGood;
  }
  const auto units = ReadUnits({folder.string()});
  ASSERT_TRUE(units.ok()) << units.error().message;
  std::vector<std::string> names;
  for (const Unit& unit : *units) names.push_back(std::filesystem::path(unit.name).filename());
  EXPECT_EQ(names, (std::vector<std::string>{"a.yaml", "b.yml", "c.json"}));
  EXPECT_EQ((*units)[0].text, kGood);
  std::filesystem::remove_all(folder);
}

TEST(Check, WhatCannotBeReadIsAnErrorWithItsName) {
  const auto missing = ReadUnits({"/nonexistent/file.yaml"});
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.error().message.find("/nonexistent/file.yaml"), std::string::npos);
  EXPECT_FALSE(ReadUnit("/").ok());
}

}  // namespace
}  // namespace egress::check
