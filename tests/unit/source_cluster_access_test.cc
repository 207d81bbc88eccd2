// ClusterAccess: kubeconfig files and the configuration of a pod.

#include "agent/source/cluster_access.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "agent/source/http_client.h"
#include "tests/unit/source_http_server.h"

namespace egress::source {
namespace {

class ClusterAccessTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = ::testing::TempDir() + "kubeconfig-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(folder_ + "/" + name) << text;
    return folder_ + "/" + name;
  }

  // A kubeconfig with one of everything.
  std::string Config(const std::string& cluster, const std::string& user, const std::string& name = "config") {
    return Write(name,
                 "apiVersion: v1\nkind: Config\ncurrent-context: one\ncontexts:\n- name: one\n  context: {cluster: c, "
                 "user: u}\nclusters:\n- name: c\n  cluster: " +
                     cluster + "\nusers:\n- name: u\n  user: " + user + "\n");
  }

  std::string ErrorOf(const std::string& cluster, const std::string& user) {
    const auto access = ReadKubeconfig({Config(cluster, user)});
    return access ? "" : access.error().message;
  }

  std::string folder_;
};

TEST_F(ClusterAccessTest, ReadsClusterAndUserOfTheCurrentContext) {
  const auto access = ReadKubeconfig({Config(
      "{server: 'https://10.0.0.1:6443/', certificate-authority-data: Q0E=, tls-server-name: api.test, proxy-url: "
      "'http://p:1'}",
      "{tokenFile: token, client-certificate: pki/cert.pem, client-key-data: S0VZ, as: jane, as-groups: [a, b]}")});
  ASSERT_TRUE(access.ok()) << access.error().message;
  EXPECT_EQ(access->server, "https://10.0.0.1:6443");
  EXPECT_EQ(access->ca_data, "CA");
  EXPECT_EQ(access->tls_server_name, "api.test");
  EXPECT_EQ(access->proxy_url, "http://p:1");
  EXPECT_EQ(access->token_file, folder_ + "/token");
  EXPECT_EQ(access->certificate_file, folder_ + "/pki/cert.pem");
  EXPECT_EQ(access->key_data, "KEY");
  EXPECT_EQ(access->headers,
            (std::vector<std::string>{"Impersonate-User: jane", "Impersonate-Group: a", "Impersonate-Group: b"}));
}

TEST_F(ClusterAccessTest, OfSeveralFilesTheFirstThatNamesAThingCounts) {
  const std::string first = Write("first", "contexts:\n- name: one\n  context: {cluster: c, user: u}\n");
  const std::string second = Config("{server: 'https://second:1'}", "{token: t}", "second");
  const std::string third = Config("{server: 'https://third:1'}", "{token: other}", "third");
  const auto access = ReadKubeconfig({folder_ + "/missing", first, second, third});
  ASSERT_TRUE(access.ok()) << access.error().message;
  EXPECT_EQ(access->server, "https://second:1");
  EXPECT_EQ(access->token, "t");
  EXPECT_FALSE(ReadKubeconfig({second}, "two").ok());
}

TEST_F(ClusterAccessTest, WhatCannotBeDoneIsRefusedWithWhatToDo) {
  const std::string good = "{server: 'https://a:1'}";
  const struct {
    const char* name;
    std::string cluster, user, part;
  } cases[] = {
      {"exec", good, "{exec: {command: aws}}",
       "user \"u\" logs in through exec, which runs a program; give it a token"},
      {"auth-provider", good, "{auth-provider: {name: gcp}}", "logs in through auth-provider"},
      {"password", good, "{username: a, password: b}", "has a password"},
      {"half a certificate", good, "{client-certificate: c.pem}", "only one of client-certificate and client-key"},
      {"no server", "{}", "{token: t}", "server must be a URL"},
      {"no scheme", "{server: '10.0.0.1:6443'}", "{token: t}", "server must be a URL"},
      {"not base64", "{server: 'https://a:1', certificate-authority-data: '%%%'}", "{token: t}", "is not base64"},
      {"both", "{server: 'https://a:1', insecure-skip-tls-verify: true, certificate-authority: ca}", "{token: t}",
       "exclude each other"},
  };
  for (const auto& one : cases) {
    EXPECT_NE(ErrorOf(one.cluster, one.user).find(one.part), std::string::npos)
        << one.name << ": " << ErrorOf(one.cluster, one.user);
  }
  EXPECT_EQ(ErrorOf(good, "{token: t}"), "");
  EXPECT_NE(ReadKubeconfig({folder_ + "/missing"}).error().message.find("there is no kubeconfig"), std::string::npos);
  EXPECT_FALSE(ReadKubeconfig({Write("broken", "a: [")}).ok());
  EXPECT_FALSE(ReadKubeconfig({Write("list", "[]")}).ok());
}

TEST_F(ClusterAccessTest, InAPodItIsTheServiceAccount) {
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  EXPECT_NE(InClusterAccess(folder_).error().message.find("--manifests DIR"), std::string::npos);
  ::setenv("KUBERNETES_SERVICE_HOST", "fd00::1", 1);
  ::setenv("KUBERNETES_SERVICE_PORT", "443", 1);
  EXPECT_NE(InClusterAccess(folder_).error().message.find("automountServiceAccountToken"), std::string::npos);
  Write("token", "t");
  Write("ca.crt", "c");
  const auto access = InClusterAccess(folder_);
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  ::unsetenv("KUBERNETES_SERVICE_PORT");
  ASSERT_TRUE(access.ok()) << access.error().message;
  EXPECT_EQ(access->server, "https://[fd00::1]:443");
  EXPECT_EQ(access->token_file, folder_ + "/token");
  EXPECT_EQ(access->ca_file, folder_ + "/ca.crt");
}

TEST_F(ClusterAccessTest, ATokenFileIsReadAgainForEveryRequest) {
  std::vector<std::string> tokens;
  std::mutex mutex;
  HttpServer server([&](const HttpServer::Request& request, const HttpServer::Connection& connection) {
    const std::lock_guard lock(mutex);
    const auto found = request.headers.find("authorization");
    tokens.push_back(found == request.headers.end() ? "" : found->second);
    connection.Answer(200, "{}");
    return true;
  });
  auto loop = EventLoop::Create();
  ASSERT_TRUE(loop.ok());
  ClusterAccess access;
  access.server = server.url();
  access.token_file = Write("token", "first\n");
  HttpClient client(*loop, access, "test");
  const auto ask = [&] {
    HttpClient::Outcome result;
    HttpClient::Request request;
    request.path = "/x";
    client.Start(request, {{}, {}, [&](HttpClient::Outcome outcome) {
                             result = std::move(outcome);
                             loop->Stop();
                           }});
    loop->Run();
    return result;
  };
  EXPECT_TRUE(ask().ok());
  Write("token", "second\n");
  EXPECT_TRUE(ask().ok());
  EXPECT_EQ(tokens, (std::vector<std::string>{"Bearer first", "Bearer second"}));
  std::filesystem::remove(access.token_file);
  const auto without = ask();
  EXPECT_EQ(without.status, 0);
  EXPECT_NE(without.error.find("read token"), std::string::npos) << without.error;
}

}  // namespace
}  // namespace egress::source
