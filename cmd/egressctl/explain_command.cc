#include <iostream>

#include "cmd/egressctl/client.h"
#include "cmd/egressctl/commands.h"
#include "cmd/egressctl/explain.h"
#include "cmd/egressctl/pod_process.h"
#include "cmd/egressctl/resolve.h"
#include "cmd/egressd/status.h"

namespace egress::ctl {

using nlohmann::json;

namespace {

Result<Question> QuestionFrom(const ExplainArguments& arguments) {
  Question question;
  auto target = ParseTarget(arguments.to);
  if (!target) return std::move(target).error();
  question.target = *std::move(target);
  question.sni = arguments.sni;
  if (arguments.http) {
    auto request = ParseRequest(*arguments.http);
    if (!request) return std::move(request).error();
    question.request = *std::move(request);
  }
  for (const std::string& text : arguments.headers) {
    auto header = ParseHeader(text);
    if (!header) return std::move(header).error();
    question.headers.push_back(*std::move(header));
  }
  return question;
}

// What a running agent knows of the pod; nullopt where none runs, or where it does not know the pod.
std::optional<report::PodStatus> AskAgent(const Options& options, const std::string& pod) {
  json pods;
  AgentError error;
  if (!Ask(options.run_dir, {{"command", "pods"}}, pods, error) || !pods.is_array()) return std::nullopt;
  for (const json& item : pods) {
    auto status = report::PodStatusFromJson(item);
    if (status && status->pod == pod) return *std::move(status);
  }
  return std::nullopt;
}

// Where the pod resolves names. Its processes are found by the cookie of its namespace, so this needs no agent; the
// agent's knowledge helps where /proc does not show them.
ResolveFrom WhereItResolves(const datapath::PinnedPod& pod, const std::optional<report::PodStatus>& known) {
  ResolveFrom from;
  if (const auto process = FindPodProcess(pod.cookie)) {
    from.netns_path = "/proc/" + std::to_string(*process) + "/ns/net";
    from.config = ParseResolvConf(ReadFileOf(*process, "/etc/resolv.conf").value_or(""));
    from.hosts = ReadFileOf(*process, "/etc/hosts").value_or("");
  } else if (known && !known->netns.empty()) {
    from.netns_path = known->netns;
    Complain("no process of the pod is found: this machine's resolv.conf is used, from the pod's network namespace");
  } else {
    Complain("neither a process of the pod nor its network namespace is found: the name is resolved from here");
  }
  return from;
}

// The addresses that the pod would try for the target.
Result<std::vector<Address>> AddressesOf(const Target& target, const datapath::PinnedPod& pod,
                                         const std::optional<report::PodStatus>& known) {
  if (target.address) return std::vector<Address>{*target.address};
  return ResolveName(target.host, WhereItResolves(pod, known));
}

// The verdict on the whole: allowed only if each address is. The first that is not is the answer, else the first.
const Answer& Deciding(const std::vector<Answer>& answers) {
  for (const Answer& answer : answers) {
    if (!answer.passes()) return answer;
  }
  return answers.front();
}

void Write(const Options& options, const ExplainArguments& arguments, const std::vector<Answer>& answers) {
  const Answer& deciding = Deciding(answers);
  if (options.format != Format::kTable) {
    json result = deciding.ToJson();
    result["pod"] = arguments.pod;
    result["to"] = arguments.to;
    result["addresses"] = json::array();
    for (const Answer& answer : answers) result["addresses"].push_back(answer.ToJson());
    WriteData(std::cout, options.format, result);
    return;
  }
  const auto line = [](const char* key, const std::string& value) {
    if (!value.empty()) std::cout << key << value << "\n";
  };
  line("verdict:  ", deciding.verdict);
  line("reason:   ", deciding.reason);
  line(deciding.verdict == "allow" ? "policy:   " : "closest:  ", deciding.policy);
  line("rule:     ", deciding.rule);
  line("address:  ", deciding.address);
  line("note:     ", deciding.note);
  if (answers.size() < 2) return;
  std::vector<std::vector<std::string>> rows;
  for (const Answer& answer : answers) rows.push_back({answer.address, answer.verdict, answer.reason, answer.policy});
  std::cout << "\n" << Table({"ADDRESS", "VERDICT", "REASON", "POLICY"}, rows);
}

int Fail(const Error& error) {
  Complain(error.message);
  return kExitError;
}

int NotInMaps(const Options& options, const ExplainArguments& arguments, const Question& question,
              const std::optional<report::PodStatus>& known) {
  if (!known) {
    return Fail({"no pod " + arguments.pod + " is known, neither to the pinned maps in " + options.bpffs +
                 " nor to a running egressd: see egressctl pods"});
  }
  if (known->governed) {
    return Fail({"the pod " + arguments.pod + " is not set up yet (" + known->state +
                 "): " + (known->note.empty() ? "try again, or see egressctl status" : known->note)});
  }
  Answer answer;
  if (question.target.address) answer.address = question.target.address->ToString();
  answer.verdict = "allow";
  answer.reason = "not governed";
  answer.note = known->why;
  Write(options, arguments, {answer});
  return kExitOk;
}

}  // namespace

int ExplainCommand(const Options& options, const ExplainArguments& arguments) {
  const auto question = QuestionFrom(arguments);
  if (!question) return Fail(question.error());
  const auto view = datapath::PinnedView::Open(options.bpffs);
  if (!view) return Fail(view.error());
  auto pod = view->PolicyOf(arguments.pod);
  if (!pod) return Fail(pod.error());
  const auto known = AskAgent(options, arguments.pod);
  if (!*pod) return NotInMaps(options, arguments, *question, known);

  const auto addresses = AddressesOf(question->target, (*pod)->pod, known);
  if (!addresses) return Fail(addresses.error());
  const Explainer explainer(**std::move(pod));
  std::vector<Answer> answers;
  for (const Address& address : *addresses) answers.push_back(explainer.Decide(address, *question));
  Write(options, arguments, answers);
  return Deciding(answers).passes() ? kExitOk : kExitNo;
}

}  // namespace egress::ctl
