#include <yaml-cpp/binary.h>
#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "agent/source/cluster_access.h"

namespace egress::source {
namespace {

// What is wrong, thrown as far as ReadKubeconfig().
struct Refused {
  std::string message;
};

// A named entry of `clusters`, `users` or `contexts`, and the file that it stands in.
struct Entry {
  YAML::Node node;
  std::string file;

  std::string Text(const char* field) const {
    const YAML::Node value = node[field];
    if (!value || value.IsNull()) return "";
    if (!value.IsScalar()) throw Refused{file + ": " + field + " must be a string"};
    return value.Scalar();
  }

  bool Has(const char* field) const { return node[field] && !node[field].IsNull(); }

  // A path of the file, made absolute.
  std::string Path(const char* field) const {
    const std::string path = Text(field);
    if (path.empty()) return "";
    return (std::filesystem::absolute(file).parent_path() / path).lexically_normal();
  }

  std::string Decoded(const char* field) const {
    std::string text = Text(field);
    if (text.empty()) return "";
    std::erase_if(text, [](char c) { return c == '\n' || c == '\r' || c == ' '; });
    const auto bytes = YAML::DecodeBase64(text);
    if (bytes.empty()) throw Refused{file + ": " + field + " is not base64"};
    return {bytes.begin(), bytes.end()};
  }
};

class Files {
 public:
  explicit Files(const std::vector<std::string>& names) {
    std::string list;
    for (const std::string& name : names) {
      list += (list.empty() ? "" : ", ") + name;
      if (!std::filesystem::exists(name)) continue;
      try {
        files_.push_back({YAML::LoadFile(name), name});
      } catch (const YAML::Exception& error) {
        throw Refused{name + ": " + error.what()};
      }
      if (!files_.back().node.IsMap()) throw Refused{name + ": is no kubeconfig"};
    }
    if (files_.empty()) throw Refused{"there is no kubeconfig (" + list + ")"};
  }

  std::string CurrentContext() const {
    for (const Entry& file : files_) {
      if (const std::string context = file.Text("current-context"); !context.empty()) return context;
    }
    throw Refused{files_.front().file + ": current-context is not set; set it with kubectl config use-context"};
  }

  // The content of `field` of the entry `name` in `list`.
  Entry Find(const char* list, const char* field, const std::string& name) const {
    for (const Entry& file : files_) {
      for (const YAML::Node& entry : file.node[list]) {
        if (!entry.IsMap() || !entry["name"] || entry["name"].Scalar() != name) continue;
        if (!entry[field] || !entry[field].IsMap()) break;
        return {entry[field], file.file};
      }
    }
    throw Refused{files_.front().file + ": there is no " + field + " \"" + name + "\" in " + list};
  }

 private:
  std::vector<Entry> files_;
};

void ReadCluster(const Entry& cluster, ClusterAccess* access) {
  access->server = cluster.Text("server");
  while (access->server.ends_with('/')) access->server.pop_back();
  if (!access->server.starts_with("https://") && !access->server.starts_with("http://")) {
    throw Refused{cluster.file + ": server must be a URL, is \"" + access->server + "\""};
  }
  access->ca_file = cluster.Path("certificate-authority");
  access->ca_data = cluster.Decoded("certificate-authority-data");
  access->skip_tls_verify = cluster.Text("insecure-skip-tls-verify") == "true";
  if (access->skip_tls_verify && !(access->ca_file.empty() && access->ca_data.empty())) {
    throw Refused{cluster.file + ": insecure-skip-tls-verify and a certificate-authority exclude each other"};
  }
  access->tls_server_name = cluster.Text("tls-server-name");
  access->proxy_url = cluster.Text("proxy-url");
}

void ReadUser(const Entry& user, const std::string& name, ClusterAccess* access) {
  for (const char* plugin : {"exec", "auth-provider"}) {
    if (!user.Has(plugin)) continue;
    throw Refused{user.file + ": user \"" + name + "\" logs in through " + plugin +
                  ", which runs a program; give it a token, a tokenFile or a client certificate instead"};
  }
  if (user.Has("username") || user.Has("password")) {
    throw Refused{user.file + ": user \"" + name +
                  "\" has a password, which Kubernetes does not take any more; give it a token"};
  }
  if (user.Has("as-user-extra")) throw Refused{user.file + ": user \"" + name + "\": as-user-extra is not supported"};
  access->token = user.Text("token");
  access->token_file = user.Path("tokenFile");
  access->certificate_file = user.Path("client-certificate");
  access->certificate_data = user.Decoded("client-certificate-data");
  access->key_file = user.Path("client-key");
  access->key_data = user.Decoded("client-key-data");
  if ((access->certificate_file.empty() && access->certificate_data.empty()) !=
      (access->key_file.empty() && access->key_data.empty())) {
    throw Refused{user.file + ": user \"" + name + "\" has only one of client-certificate and client-key"};
  }
  if (const std::string as = user.Text("as"); !as.empty()) access->headers.push_back("Impersonate-User: " + as);
  if (const std::string uid = user.Text("as-uid"); !uid.empty()) access->headers.push_back("Impersonate-Uid: " + uid);
  for (const YAML::Node& group : user.node["as-groups"]) {
    access->headers.push_back("Impersonate-Group: " + group.Scalar());
  }
}

}  // namespace

Result<ClusterAccess> ReadKubeconfig(const std::vector<std::string>& files, const std::string& context) {
  try {
    const Files config(files);
    const Entry chosen = config.Find("contexts", "context", context.empty() ? config.CurrentContext() : context);
    ClusterAccess access;
    ReadCluster(config.Find("clusters", "cluster", chosen.Text("cluster")), &access);
    if (const std::string user = chosen.Text("user"); !user.empty()) {
      ReadUser(config.Find("users", "user", user), user, &access);
    }
    return access;
  } catch (const Refused& refused) {
    return Error{"kubeconfig: " + refused.message};
  } catch (const std::exception& error) {  // of yaml-cpp and std::filesystem
    return Error{std::string("kubeconfig: ") + error.what()};
  }
}

std::vector<std::string> DefaultKubeconfigFiles() {
  std::vector<std::string> files;
  if (const char* list = std::getenv("KUBECONFIG"); list != nullptr && *list != '\0') {
    std::istringstream names(list);
    for (std::string name; std::getline(names, name, ':');) {
      if (!name.empty()) files.push_back(name);
    }
    return files;
  }
  const char* home = std::getenv("HOME");
  return {std::string(home == nullptr ? "" : home) + "/.kube/config"};
}

}  // namespace egress::source
