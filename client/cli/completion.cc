#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "CLI/App.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"

namespace trun::cli {
namespace {

// What can follow a chain of subcommands: taken from the parser itself, so that it is never out of date.
struct Node {
  std::string path;                                              // "toolchains install"; empty for the root
  std::vector<std::pair<std::string, std::string>> subcommands;  // name, description
  std::vector<std::pair<std::string, std::string>> options;      // "--json", description
};

void Collect(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  Node node;
  node.path = path;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    node.subcommands.emplace_back(sub->get_name(), sub->get_description());
  }
  for (const CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    for (const std::string& name : option->get_lnames())
      node.options.emplace_back("--" + name, option->get_description());
    for (const std::string& name : option->get_snames())
      node.options.emplace_back("-" + name, option->get_description());
  }
  nodes.push_back(node);
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    Collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), nodes);
  }
}

std::string Words(const Node& node, const Node& root) {
  std::vector<std::string> words;
  for (const auto& sub : node.subcommands) words.push_back(sub.first);
  for (const auto& option : node.options) words.push_back(option.first);
  if (!node.path.empty()) {
    for (const auto& option : root.options) words.push_back(option.first);
  }
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return absl::StrJoin(words, " ");
}

std::string Bash(const std::vector<Node>& nodes) {
  std::string out =
      "# bash completion for trun-client: source <(trun-client completion bash)\n"
      "_trun_client() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} path= word words\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    case \"$path $word\" in\n";
  std::vector<std::string> paths;
  for (const Node& node : nodes) {
    if (!node.path.empty()) paths.push_back(absl::StrCat("' ", node.path, "'"));
  }
  absl::StrAppend(&out, "      ", absl::StrJoin(paths, "|"), ") path=\"$path $word\" ;;\n",
                  "    esac\n  done\n  case \"$path\" in\n");
  for (const Node& node : nodes) {
    absl::StrAppend(&out, "    '", node.path.empty() ? "" : " ", node.path, "') words='",
                    Words(node, nodes[0]), "' ;;\n");
  }
  absl::StrAppend(&out,
                  "  esac\n"
                  "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
                  "}\n"
                  "complete -o default -F _trun_client trun-client\n");
  return out;
}

std::string Zsh(const std::vector<Node>& nodes) {
  return absl::StrCat(
      "#compdef trun-client\n"
      "# zsh completion for trun-client: source <(trun-client completion zsh)\n"
      "autoload -U +X bashcompinit && bashcompinit\n",
      Bash(nodes));
}

std::string FishQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

std::string Fish(const std::vector<Node>& nodes) {
  std::string out = "# fish completion for trun-client: trun-client completion fish | source\n";
  for (const Node& node : nodes) {
    const size_t space = node.path.rfind(' ');
    const std::string last = space == std::string::npos ? node.path : node.path.substr(space + 1);
    std::string condition = "__fish_use_subcommand";
    if (!node.path.empty()) {
      condition = absl::StrCat("__fish_seen_subcommand_from ", node.path.substr(0, node.path.find(' ')));
      if (space != std::string::npos) absl::StrAppend(&condition, "; and __fish_seen_subcommand_from ", last);
    }
    for (const auto& [name, what] : node.subcommands) {
      absl::StrAppend(&out, "complete -c trun-client -f -n ", FishQuote(condition), " -a ", name, " -d ",
                      FishQuote(what), "\n");
    }
    for (const auto& [name, what] : node.options) {
      const bool is_long = name.substr(0, 2) == "--";
      absl::StrAppend(&out, "complete -c trun-client", node.path.empty() ? "" : " -n " + FishQuote(condition),
                      is_long ? " -l " : " -s ", name.substr(is_long ? 2 : 1), " -d ", FishQuote(what), "\n");
    }
  }
  return out;
}

}  // namespace

void AddCompletion(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("completion", "Print the completion script of a shell");
  auto shell = std::make_shared<std::string>();
  command->add_option("shell", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer("Example:\n  source <(trun-client completion bash)\n");
  const CLI::App* top = &root;
  tree.commands.push_back({command, [shell, top](Invocation& invocation) -> absl::StatusOr<int> {
                             std::vector<Node> nodes;
                             Collect(*top, "", nodes);
                             invocation.console.Print(*shell == "bash"  ? Bash(nodes)
                                                      : *shell == "zsh" ? Zsh(nodes)
                                                                        : Fish(nodes));
                             return kExitOk;
                           }});
}

}  // namespace trun::cli
