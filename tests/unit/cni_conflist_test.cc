#include "agent/cni/conflist.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace egress::cni {
namespace {

using nlohmann::ordered_json;

const PluginEntry kEntry = {"/run/egressd/cni.sock", "/var/lib/egressd/cni.json", {"kube-system", "egressd"}};

constexpr const char* kList = R"({
  "zeta": 1, "name": "pods", "cniVersion": "1.0.0",
  "plugins": [{"type": "bridge", "ipam": {"type": "host-local", "b": 1, "a": 2}, "hairpin": true},
              {"type": "portmap", "capabilities": {"portMappings": true}, "snat": 1.0}],
  "disableCheck": true})";

TEST(CniConflist, ThePluginComesLastAndTheRestStaysInItsOrder) {
  const auto text = AddPlugin(kList, kEntry);
  ASSERT_TRUE(text) << text.error().message;
  ordered_json changed = ordered_json::parse(*text);
  ASSERT_EQ(changed["plugins"].size(), 3u);
  EXPECT_EQ(changed["plugins"][2]["type"], "egress-cni");
  EXPECT_EQ(changed["plugins"][2]["socket"], kEntry.socket);
  EXPECT_EQ(changed["plugins"][2]["systemNamespaces"], ordered_json({"kube-system", "egressd"}));
  changed["plugins"].erase(2);
  EXPECT_EQ(changed.dump(), ordered_json::parse(kList).dump());
}

TEST(CniConflist, ATextThatHoldsThePluginStaysByteByByte) {
  const auto once = AddPlugin(kList, kEntry);
  ASSERT_TRUE(once);
  const std::string other = ordered_json::parse(*once).dump(7);
  const auto twice = AddPlugin(other, kEntry);
  ASSERT_TRUE(twice);
  EXPECT_EQ(*twice, other);
}

TEST(CniConflist, AnOldEntryIsReplacedWhereItStands) {
  ordered_json list = ordered_json::parse(*AddPlugin(kList, kEntry));
  list["plugins"].push_back({{"type", "tuning"}});
  PluginEntry other = kEntry;
  other.audit = true;
  const auto text = AddPlugin(list.dump(), other);
  ASSERT_TRUE(text);
  const auto changed = ordered_json::parse(*text);
  ASSERT_EQ(changed["plugins"].size(), 4u);
  EXPECT_EQ(changed["plugins"][2]["audit"], true);
  EXPECT_EQ(changed["plugins"][3]["type"], "tuning");
}

TEST(CniConflist, RemovingGivesBackWhatWasThere) {
  const auto text = AddPlugin(kList, kEntry);
  ASSERT_TRUE(text);
  const auto back = RemovePlugin(*text);
  ASSERT_TRUE(back);
  EXPECT_EQ(ordered_json::parse(*back).dump(), ordered_json::parse(kList).dump());
  EXPECT_FALSE(RemovePlugin(kList));
  EXPECT_FALSE(RemovePlugin("{"));
  EXPECT_FALSE(RemovePlugin(R"({"plugins": {"type": "egress-cni"}})"));
}

TEST(CniConflist, ALoneConfigurationBecomesAListAsRuntimesMakeOne) {
  const auto text = WrapConf(R"({"cniVersion":"0.3.1","name":"mynet","type":"bridge","bridge":"cni0"})", kEntry);
  ASSERT_TRUE(text) << text.error().message;
  const auto list = ordered_json::parse(*text);
  EXPECT_EQ(list["cniVersion"], "0.3.1");
  EXPECT_EQ(list["name"], "mynet");
  EXPECT_EQ(list["plugins"][0]["bridge"], "cni0");
  EXPECT_EQ(list["plugins"][1]["type"], "egress-cni");
}

TEST(CniConflist, WhatThePluginCouldNotServeIsLeftAloneWithTheReason) {
  for (const char* text :
       {"", "{", "[]", "7", R"({"cniVersion":"1.0.0"})", R"({"cniVersion":"1.0.0","plugins":[]})",
        R"({"cniVersion":"1.0.0","plugins":{"type":"bridge"}})", R"({"plugins":[{"type":"bridge"}]})",
        R"({"cniVersion":"0.2.0","plugins":[{"type":"bridge"}]})",
        R"({"cniVersion":"1.0.0","cniVersions":["1.0.0","2.0.0"],"plugins":[{"type":"bridge"}]})",
        R"({"cniVersion":1,"plugins":[{"type":"bridge"}]})",
        R"({"cniVersion":"1.0.0","plugins":[{"type":"egress-cni"}]})"}) {
    const auto changed = AddPlugin(text, kEntry);
    ASSERT_FALSE(changed) << text;
    EXPECT_FALSE(changed.error().message.empty());
  }
  EXPECT_FALSE(WrapConf(R"({"cniVersion":"1.0.0","name":"x"})", kEntry));
}

}  // namespace
}  // namespace egress::cni
