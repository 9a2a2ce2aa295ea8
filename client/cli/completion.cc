#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "client/cli/command.h"
#include "client/cli/exit_code.h"
#include "common/ir/level.h"

namespace trun::cli {
namespace {

// What an argument or an option can be is known to the daemon, or to this program: the scripts call
// `trun-client completion KIND` for the words. Empty: a file, or whatever the shell makes of it.
std::string KindOf(const CLI::Option& option, absl::string_view path) {
  const std::string name = option.get_positional() ? option.get_name(true) : option.get_name();
  if (name == "--toolchain" || (name == "name" && absl::StartsWith(path, "toolchains "))) return "toolchains";
  if (name == "--device") return "devices";
  if (name == "--level" || name == "--to") return "levels";
  if (name == "key" || name == "keys") return "keys";
  if (name == "session") return "sessions";
  if (name == "shell") return "shells";
  return "";
}

// What can follow a chain of subcommands: taken from the parser itself, so that it is never out of date.
struct Node {
  std::string path;                                              // "toolchains install"; empty for the root
  std::vector<std::pair<std::string, std::string>> subcommands;  // name, description
  std::vector<std::pair<std::string, std::string>> options;      // "--json", description
  std::vector<std::pair<std::string, std::string>> kinds;        // "--device", what it can be
  std::string argument_kind;                                     // of its arguments
};

void Collect(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  Node node;
  node.path = path;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    node.subcommands.emplace_back(sub->get_name(), sub->get_description());
  }
  for (const CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    const std::string kind = KindOf(*option, path);
    if (option->get_positional() && !kind.empty()) node.argument_kind = kind;
    for (const std::string& name : option->get_lnames()) {
      node.options.emplace_back("--" + name, option->get_description());
      if (!kind.empty()) node.kinds.emplace_back("--" + name, kind);
    }
    for (const std::string& name : option->get_snames())
      node.options.emplace_back("-" + name, option->get_description());
  }
  nodes.push_back(node);
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    Collect(*sub, path.empty() ? sub->get_name() : path + " " + sub->get_name(), nodes);
  }
}

// Its own and the program's, each once.
std::vector<std::pair<std::string, std::string>> OptionsOf(const Node& node, const Node& root) {
  std::vector<std::pair<std::string, std::string>> options = node.options;
  if (!node.path.empty()) options.insert(options.end(), root.options.begin(), root.options.end());
  const auto by_name = [](const auto& a, const auto& b) { return a.first < b.first; };
  std::stable_sort(options.begin(), options.end(), by_name);
  const auto same_name = [](const auto& a, const auto& b) { return a.first == b.first; };
  options.erase(std::unique(options.begin(), options.end(), same_name), options.end());
  return options;
}

std::string OneLine(const std::string& text) { return absl::StrReplaceAll(text, {{"\n", " "}}); }

// For bash and zsh: follows the subcommands among the words into the variable `chain`.
std::string ChainCase(const std::vector<Node>& nodes) {
  std::vector<std::string> chains;
  for (const Node& node : nodes) {
    if (!node.path.empty()) chains.push_back(absl::StrCat("' ", node.path, "'"));
  }
  return absl::StrCat("    case \"$chain $word\" in\n      ", absl::StrJoin(chains, "|"),
                      ") chain=\"$chain $word\" ;;\n    esac\n");
}

// For bash and zsh: after an option that takes one of some words sets `kind`.
std::string KindCase(const std::vector<Node>& nodes) {
  std::vector<std::string> lines;
  for (const Node& node : nodes) {
    for (const auto& [option, kind] : node.kinds)
      lines.push_back(absl::StrCat("    ", option, ") kind=", kind, " ;;\n"));
  }
  std::sort(lines.begin(), lines.end());
  lines.erase(std::unique(lines.begin(), lines.end()), lines.end());
  return absl::StrJoin(lines, "");
}

std::string Bash(const std::vector<Node>& nodes) {
  std::string out = absl::StrCat(
      "# bash completion for trun-client: source <(trun-client completion bash)\n"
      "_trun_client() {\n"
      "  local at=$COMP_CWORD current=${COMP_WORDS[COMP_CWORD]} begun= chain= word words= kind=\n"
      // "emulator:0" is one word to the program and three to bash, which replaces the last of them.
      "  if [[ $current == : ]]; then\n"
      "    begun=${COMP_WORDS[at-1]}: current=$begun at=$((at-1))\n"
      "  elif ((at > 2)) && [[ ${COMP_WORDS[at-1]} == : ]]; then\n"
      "    begun=${COMP_WORDS[at-2]}: current=$begun$current at=$((at-2))\n"
      "  fi\n"
      "  for word in \"${COMP_WORDS[@]:1:at-1}\"; do\n",
      ChainCase(nodes), "  done\n  case \"${COMP_WORDS[at-1]}\" in\n", KindCase(nodes),
      "  *)\n    case \"$chain\" in\n");
  for (const Node& node : nodes) {
    std::vector<std::string> words;
    for (const auto& sub : node.subcommands) words.push_back(sub.first);
    for (const auto& option : OptionsOf(node, nodes[0])) words.push_back(option.first);
    absl::StrAppend(&out, "      '", node.path.empty() ? "" : " ", node.path, "') kind=", node.argument_kind,
                    " words='", absl::StrJoin(words, " "), "' ;;\n");
  }
  absl::StrAppend(&out,
                  "    esac ;;\n  esac\n"
                  "  [[ -z $kind || $current == -* ]] ||\n"
                  "    words+=\" $(\"${COMP_WORDS[0]}\" completion \"$kind\" 2>/dev/null)\"\n"
                  "  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
                  "  COMPREPLY=(\"${COMPREPLY[@]#\"$begun\"}\")\n"
                  "}\n"
                  "complete -o default -F _trun_client trun-client\n");
  return out;
}

std::string ShellQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"'", "'\\''"}}), "'");
}

// "name:what it does" for zsh's _describe.
std::string ZshWords(const std::vector<std::pair<std::string, std::string>>& words) {
  return absl::StrJoin(words, " ", [](std::string* out, const auto& word) {
    absl::StrAppend(out, ShellQuote(absl::StrCat(word.first, ":", OneLine(word.second))));
  });
}

std::string Zsh(const std::vector<Node>& nodes) {
  std::string out = absl::StrCat(
      "#compdef trun-client\n"
      "# zsh completion for trun-client: source <(trun-client completion zsh), after compinit\n"
      "_trun_client() {\n"
      "  local chain= word kind= argument=\n"
      "  local -a subcommands options values\n"
      "  for word in \"${(@)words[2,CURRENT-1]}\"; do\n",
      ChainCase(nodes), "  done\n  case \"${words[CURRENT-1]}\" in\n", KindCase(nodes),
      "  *)\n    case \"$chain\" in\n");
  for (const Node& node : nodes) {
    absl::StrAppend(&out, "      '", node.path.empty() ? "" : " ", node.path,
                    "') argument=", node.argument_kind, "\n        subcommands=(", ZshWords(node.subcommands),
                    ")\n        options=(", ZshWords(OptionsOf(node, nodes[0])), ") ;;\n");
  }
  absl::StrAppend(
      &out,
      "    esac ;;\n  esac\n"
      "  kind=${kind:-$argument}\n"
      "  if [[ -n $kind && ${words[CURRENT]} != -* ]]; then\n"
      "    values=(${(f)\"$(${words[1]} completion $kind 2>/dev/null)\"})\n"
      "    compadd -a values && return\n"
      "  fi\n"
      "  if [[ ${words[CURRENT]} == -* ]]; then\n"
      "    _describe -o option options && return\n"
      "  elif (( $#subcommands )); then\n"
      "    _describe command subcommands && return\n"
      "  fi\n"
      "  _files\n"
      "}\n"
      "if [[ $funcstack[1] == _trun_client ]]; then _trun_client \"$@\"; else compdef _trun_client "
      "trun-client; fi\n");
  return out;
}

std::string FishQuote(const std::string& text) {
  return absl::StrCat("'", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"'", "\\'"}}), "'");
}

std::string Fish(const std::vector<Node>& nodes) {
  std::string out = "# fish completion for trun-client: trun-client completion fish | source\n";
  for (const Node& node : nodes) {
    std::string condition = "__fish_use_subcommand";
    if (!node.path.empty()) {
      condition = absl::StrCat("__fish_seen_subcommand_from ",
                               absl::StrReplaceAll(node.path, {{" ", "; and __fish_seen_subcommand_from "}}));
    }
    std::string undecided = condition;  // none of its own subcommands stands there yet
    if (!node.path.empty() && !node.subcommands.empty()) {
      absl::StrAppend(&undecided, "; and not __fish_seen_subcommand_from");
      for (const auto& sub : node.subcommands) absl::StrAppend(&undecided, " ", sub.first);
    }
    for (const auto& [name, what] : node.subcommands) {
      absl::StrAppend(&out, "complete -c trun-client -f -n ", FishQuote(undecided), " -a ", name, " -d ",
                      FishQuote(OneLine(what)), "\n");
    }
    if (!node.argument_kind.empty()) {
      absl::StrAppend(&out, "complete -c trun-client -f -n ", FishQuote(condition),
                      " -a '(trun-client completion ", node.argument_kind, " 2>/dev/null)'\n");
    }
    for (const auto& [name, what] : node.options) {
      const bool is_long = absl::StartsWith(name, "--");
      absl::StrAppend(&out, "complete -c trun-client", node.path.empty() ? "" : " -n " + FishQuote(condition),
                      is_long ? " -l " : " -s ", name.substr(is_long ? 2 : 1), " -d ",
                      FishQuote(OneLine(what)));
      const auto kind = std::find_if(node.kinds.begin(), node.kinds.end(),
                                     [&name](const auto& known) { return known.first == name; });
      if (kind != node.kinds.end()) {
        absl::StrAppend(&out, " -x -a '(trun-client completion ", kind->second, " 2>/dev/null)'");
      }
      absl::StrAppend(&out, "\n");
    }
  }
  return out;
}

// The words of a kind. Starts no daemon: without one there is nothing to name.
absl::StatusOr<std::vector<std::string>> WordsOf(absl::string_view kind, const GlobalOptions& options) {
  std::vector<std::string> words;
  if (kind == "shells") return std::vector<std::string>{"bash", "fish", "zsh"};
  if (kind == "levels") {
    for (const Level level : {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin})
      words.emplace_back(LevelName(level));
    return words;
  }
  ClientOptions connect;
  connect.address = options.address;
  connect.start_daemon = false;
  TRUN_ASSIGN_OR_RETURN(const Client client, Client::Connect(connect));
  if (kind == "toolchains") {
    TRUN_ASSIGN_OR_RETURN(const std::vector<ToolchainInfo> toolchains, client.toolchains().List());
    for (const ToolchainInfo& toolchain : toolchains) words.push_back(toolchain.name);
  } else if (kind == "devices") {
    TRUN_ASSIGN_OR_RETURN(const std::vector<DeviceInfo> devices, client.ListDevices());
    for (const DeviceInfo& device : devices) words.push_back(device.device);
  } else if (kind == "sessions") {
    TRUN_ASSIGN_OR_RETURN(const std::vector<SessionInfo> sessions, client.ListSessions());
    for (const SessionInfo& session : sessions) words.push_back(session.session);
  } else {
    TRUN_ASSIGN_OR_RETURN(const std::vector<CacheEntryInfo> entries, client.cache().List());
    for (const CacheEntryInfo& entry : entries) words.push_back(entry.key);
  }
  return words;
}

absl::StatusOr<int> Completion(const CLI::App& root, const std::string& what, Invocation& invocation) {
  std::vector<Node> nodes;
  Collect(root, "", nodes);
  if (what == "bash") {
    invocation.console.Print(Bash(nodes));
  } else if (what == "zsh") {
    invocation.console.Print(Zsh(nodes));
  } else if (what == "fish") {
    invocation.console.Print(Fish(nodes));
  } else {
    TRUN_ASSIGN_OR_RETURN(const std::vector<std::string> words, WordsOf(what, invocation.options));
    for (const std::string& word : words) invocation.console.Print(absl::StrCat(word, "\n"));
  }
  return kExitOk;
}

}  // namespace

void AddCompletion(CLI::App& root, CommandTree& tree) {
  CLI::App* command = root.add_subcommand("completion", "Print the completion script of a shell");
  auto shell = std::make_shared<std::string>();
  command
      ->add_option("shell", *shell,
                   "bash, zsh or fish; or a kind of words, as the scripts ask for them: toolchains, devices, "
                   "levels, keys, sessions, shells")
      ->required()
      ->check(CLI::IsMember(
          {"bash", "zsh", "fish", "toolchains", "devices", "levels", "keys", "sessions", "shells"}));
  command->footer("Example:\n  source <(trun-client completion bash)\n");
  const CLI::App* top = &root;
  tree.commands.push_back({command, [shell, top](Invocation& invocation) -> absl::StatusOr<int> {
                             return Completion(*top, *shell, invocation);
                           }});
}

}  // namespace trun::cli
