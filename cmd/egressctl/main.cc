// egressctl: shows and explains what egressd enforces.
#include <CLI/CLI.hpp>

#include <csignal>
#include <functional>
#include <map>

#include "cmd/egressctl/commands.h"

namespace {

using egress::ctl::Format;
using egress::ctl::Options;

const std::map<std::string, Format> kFormats = {
    {"table", Format::kTable}, {"json", Format::kJson}, {"yaml", Format::kYaml}};

// What was asked for; `run` is set by the command that was given.
struct CommandLine {
  Options options;
  std::string rules_pod;
  egress::ctl::ExplainArguments explain;
  egress::ctl::EventsArguments events;
  egress::ctl::NamespaceArguments namespaces;
  std::string config;
  std::vector<std::string> files;
  std::function<int()> run;
};

void AddExplain(CLI::App& app, CommandLine& line) {
  CLI::App* explain = app.add_subcommand("explain", "The verdict on a connection or request of a pod, and why");
  explain->add_option("--pod", line.explain.pod, "The pod that asks")->required()->type_name("NAMESPACE/NAME");
  explain->add_option("--to", line.explain.to, "Where it wants to go")->required()->type_name("HOST_OR_IP:PORT");
  explain->add_option("--sni", line.explain.sni, "The server name of its ClientHello")->type_name("NAME");
  explain->add_option("--http", line.explain.http, "Its HTTP request")->type_name("\"METHOD URL\"");
  explain->add_option("-H,--header", line.explain.headers, "A header of the request; may be given again")
      ->type_name("\"NAME: VALUE\"")
      ->allow_extra_args(false);
  explain->callback([&line] { line.run = [&line] { return ExplainCommand(line.options, line.explain); }; });
}

void AddEvents(CLI::App& app, CommandLine& line) {
  CLI::App* events = app.add_subcommand("events", "The last decisions");
  events->add_flag("--follow,-f", line.events.follow, "Also those to come, until interrupted");
  events->add_option("--pod", line.events.pod, "Of this pod only")->type_name("NAMESPACE/NAME");
  events->add_option("--verdict", line.events.verdict, "With this verdict only")
      ->check(CLI::IsMember({"allow", "deny", "audit"}));
  events->callback([&line] { line.run = [&line] { return EventsCommand(line.options, line.events); }; });
}

void AddNamespace(CLI::App& app, CommandLine& line) {
  using egress::ctl::NamespaceAction;
  auto& arguments = line.namespaces;
  CLI::App* group = app.add_subcommand("namespace", "Which namespaces belong to the mesh, in the Kubernetes API");
  group->fallthrough();
  group->require_subcommand(1);
  group
      ->add_option("--kubeconfig", arguments.kubeconfig,
                   "How to reach the cluster; as with kubectl where it is missing")
      ->type_name("FILE");
  group->add_option("--context", arguments.context, "Its context to use")->type_name("NAME");
  const auto action = [&](const char* name, const char* what, NamespaceAction which) {
    CLI::App* command = group->add_subcommand(name, what);
    command->fallthrough();
    command->add_option("--mesh-name", arguments.mesh_name,
                        which == NamespaceAction::kList ? "Of this mesh only" : "The mesh; osm where it is missing");
    command->callback([&line, &arguments, which] {
      arguments.action = which;
      if (which != NamespaceAction::kList && arguments.mesh_name.empty()) arguments.mesh_name = "osm";
      line.run = [&line] { return NamespaceCommand(line.options, line.namespaces); };
    });
    return command;
  };
  CLI::App* add = action("add", "Add namespaces to the mesh", NamespaceAction::kAdd);
  add->add_option("namespaces", arguments.namespaces, "Namespaces")->required()->type_name("NAMESPACE");
  add->add_flag("--disable-sidecar-injection", arguments.disable_injection, "Add them, but do not govern their pods");
  action("remove", "Take a namespace out of the mesh", NamespaceAction::kRemove)
      ->add_option("namespaces", arguments.namespaces, "The namespace")
      ->required()
      ->expected(1)
      ->type_name("NAMESPACE");
  action("list", "Show the namespaces of the mesh", NamespaceAction::kList);
}

void AddCommands(CLI::App& app, CommandLine& line) {
  app.add_subcommand("status", "How the agent is, and what is wrong with the policies")->callback([&line] {
    line.run = [&line] { return StatusCommand(line.options); };
  });
  app.add_subcommand("pods", "The pods of this node")->callback([&line] {
    line.run = [&line] { return PodsCommand(line.options); };
  });
  CLI::App* rules = app.add_subcommand("rules", "The rules in force, read from the kernel's maps");
  rules->add_option("--pod", line.rules_pod, "Of this pod only")->type_name("NAMESPACE/NAME");
  rules->callback([&line] { line.run = [&line] { return RulesCommand(line.options, line.rules_pod); }; });
  AddExplain(app, line);
  AddEvents(app, line);
  AddNamespace(app, line);
  CLI::App* validate = app.add_subcommand("validate", "Check manifests, as egressd --check does");
  validate->add_option("--config", line.config, "The agent's configuration")->type_name("FILE");
  validate->add_option("files", line.files, "Manifests: files, or folders of them")->required()->type_name("FILE");
  validate->callback(
      [&line] { line.run = [&line] { return ValidateCommand(line.options, line.config, line.files); }; });
  app.add_subcommand("version", "The version of egressctl")->callback([&line] {
    line.run = [&line] { return VersionCommand(line.options); };
  });
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_DFL);  // `egressctl events --follow | head` ends with head
  CommandLine line;
  CLI::App app("Shows and explains what egressd enforces on this node.", "egressctl");
  app.fallthrough();  // the global options may also stand behind the command
  app.require_subcommand(1);
  app.add_option("--run-dir", line.options.run_dir, "The agent's run folder")->capture_default_str();
  app.add_option("--bpffs", line.options.bpffs, "The folder of the agent's pinned maps")->capture_default_str();
  std::string format = "table";
  app.add_option("-o,--output", format, "How to write the answer")
      ->check(CLI::IsMember({"table", "json", "yaml"}))
      ->capture_default_str();
  AddCommands(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? egress::ctl::kExitOk : egress::ctl::kExitError;
  }
  line.options.format = kFormats.at(format);
  return line.run();
}
