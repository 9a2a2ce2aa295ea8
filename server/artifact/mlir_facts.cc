#include "server/artifact/mlir_facts.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "server/artifact/signature.h"
#include "server/artifact/tokenizer.h"

namespace trun {
namespace {

bool ConsumeGpuDialect(absl::string_view* name) {
  return absl::ConsumePrefix(name, "ttg.") || absl::ConsumePrefix(name, "triton_gpu.");
}

// %arg7 and %7 are what the printer invents where it has no name.
bool IsInvented(absl::string_view ssa_name) {
  absl::ConsumePrefix(&ssa_name, "arg");
  for (const char c : ssa_name) {
    if (!absl::ascii_isdigit(c)) return false;
  }
  return true;
}

class Reader {
 public:
  explicit Reader(absl::string_view text) : text_(text), tokens_(text, Tokenizer::Language::kMlir) {}

  absl::StatusOr<MlirFacts> Read() {
    bool module_seen = false;
    while (tokens_.current().kind != Token::Kind::kEnd) {
      const Token token = tokens_.current();
      if (token.kind == Token::Kind::kWord) {
        if (token.text == "tt.func") {
          tokens_.Next();
          TRUN_RETURN_IF_ERROR(ReadFunction(token));
          continue;
        }
        if (token.text == "module" && !module_seen) {
          module_seen = true;
          tokens_.Next();
          ReadModuleAttributes();
          continue;
        }
        NoteDialect(token.text);
      }
      tokens_.Next();
    }
    return std::move(facts_);
  }

 private:
  void NoteDialect(absl::string_view word) {
    const char first = word[0];
    if (first == '#' || first == '!') word.remove_prefix(1);
    if (!absl::StartsWith(word, "t")) return;
    if (ConsumeGpuDialect(&word)) {
      facts_.has_gpu_dialect = true;
      if (word == "warp_specialize") facts_.warp_specialized = true;
    }
  }

  // module [@name] [attributes {name = value [: type], ...}]
  void ReadModuleAttributes() {
    if (tokens_.current().kind == Token::Kind::kWord && tokens_.current().text[0] == '@') tokens_.Next();
    if (!tokens_.current().IsWord("attributes")) return;
    if (!tokens_.Next().Is('{')) return;
    tokens_.Next();
    while (tokens_.current().kind != Token::Kind::kEnd && !tokens_.current().Is('}')) {
      absl::string_view name = tokens_.current().text;
      const bool gpu = ConsumeGpuDialect(&name);
      facts_.has_gpu_dialect = facts_.has_gpu_dialect || gpu;
      if (tokens_.Next().Is('=')) {
        const Token value = tokens_.Next();
        int64_t number = 0;
        if (gpu && value.kind == Token::Kind::kWord && absl::SimpleAtoi(value.text, &number)) {
          facts_.integers[std::string(name)] = number;
        } else if (gpu && value.kind == Token::Kind::kString && name == "target") {
          facts_.target = std::string(value.text);
        }
      }
      while (tokens_.current().kind != Token::Kind::kEnd && !tokens_.current().Is(',') &&
             !tokens_.current().Is('}')) {
        StepOver();
      }
      if (tokens_.current().Is(',')) tokens_.Next();
    }
    if (tokens_.current().Is('}')) tokens_.Next();
  }

  // One token, or one bracketed group.
  void StepOver() {
    const Token& token = tokens_.current();
    if (token.Is('(') || token.Is('[') || token.Is('{') || token.Is('<')) {
      tokens_.SkipGroup();
    } else {
      tokens_.Next();
    }
  }

  // [public | private | nested] @name ( arguments )
  absl::Status ReadFunction(const Token& line) {
    MlirFunction function;
    function.line = line.line;
    if (tokens_.current().IsWord("private") || tokens_.current().IsWord("nested")) {
      function.is_public = false;
      tokens_.Next();
    } else if (tokens_.current().IsWord("public")) {
      tokens_.Next();
    }
    const Token symbol = tokens_.current();
    if (symbol.kind != Token::Kind::kWord || symbol.text[0] != '@') {
      return MalformedAt(symbol, "tt.func has no @name");
    }
    if (symbol.text.size() > 1) {
      function.name = std::string(symbol.text.substr(1));
    } else {
      const Token quoted = tokens_.Next();
      if (quoted.kind != Token::Kind::kString || quoted.text.empty()) {
        return MalformedAt(quoted, "tt.func has no @name");
      }
      function.name = std::string(quoted.text);
    }
    if (!tokens_.Next().Is('(')) {
      return MalformedAt(tokens_.current(), absl::StrCat("no argument list after tt.func @", function.name));
    }
    tokens_.Next();
    while (!tokens_.current().Is(')')) {
      if (function.arguments.size() >= kMaxKernelParameters) {
        return MalformedAt(tokens_.current(), absl::StrCat("@", function.name, " has more than ",
                                                           kMaxKernelParameters, " arguments"));
      }
      TRUN_RETURN_IF_ERROR(ReadArgument(function));
      if (tokens_.current().Is(',')) {
        tokens_.Next();
      } else if (!tokens_.current().Is(')')) {
        return MalformedAt(tokens_.current(),
                           absl::StrCat("the argument list of @", function.name, " is not closed"));
      }
    }
    tokens_.Next();
    facts_.functions.push_back(std::move(function));
    return absl::OkStatus();
  }

  // %name : type [{attributes}] [loc(...)]; a declaration has the type alone.
  absl::Status ReadArgument(MlirFunction& function) {
    MlirArgument argument;
    const Token start = tokens_.current();
    argument.line = start.line;
    if (tokens_.current().kind == Token::Kind::kWord && tokens_.current().text[0] == '%') {
      const absl::string_view name = tokens_.current().text.substr(1);
      if (!IsInvented(name)) argument.name = std::string(name);
      if (!tokens_.Next().Is(':')) return MalformedAt(start, "an argument of tt.func has no type");
      tokens_.Next();
    }
    const size_t begin = tokens_.current().begin;
    size_t end = begin;
    while (tokens_.current().kind != Token::Kind::kEnd && !tokens_.current().Is(',') &&
           !tokens_.current().Is(')') && !tokens_.current().Is('{') && !tokens_.current().IsWord("loc")) {
      StepOver();
      end = tokens_.current().begin;
    }
    argument.type = std::string(absl::StripAsciiWhitespace(text_.substr(begin, end - begin)));
    if (argument.type.empty()) return MalformedAt(start, "an argument of tt.func has no type");
    if (tokens_.current().Is('{')) ReadArgumentAttributes(argument);
    if (tokens_.current().IsWord("loc")) ReadLocation(argument);
    function.arguments.push_back(std::move(argument));
    return absl::OkStatus();
  }

  void ReadArgumentAttributes(MlirArgument& argument) {
    tokens_.Next();
    while (tokens_.current().kind != Token::Kind::kEnd && !tokens_.current().Is('}')) {
      const bool divisibility = tokens_.current().text == "tt.divisibility";
      bool taken = false;
      while (tokens_.current().kind != Token::Kind::kEnd && !tokens_.current().Is(',') &&
             !tokens_.current().Is('}')) {
        int64_t number = 0;
        // The value is "16 : i32", or "dense<16> : tensor<1xi32>": the first number either way.
        if (divisibility && !taken && tokens_.current().Is('<')) {
          tokens_.Next();
          continue;
        }
        if (divisibility && !taken && tokens_.current().kind == Token::Kind::kWord &&
            absl::SimpleAtoi(tokens_.current().text, &number)) {
          taken = true;
          if (number >= 1 && number <= (1 << 30)) argument.divisibility = static_cast<int>(number);
          tokens_.Next();
          if (tokens_.current().Is('>')) tokens_.Next();
          continue;
        }
        StepOver();
      }
      if (tokens_.current().Is(',')) tokens_.Next();
    }
    if (tokens_.current().Is('}')) tokens_.Next();
  }

  // loc("x_ptr"(#loc)) names the argument, loc("file.py":5:0) and loc(#loc7) do not.
  void ReadLocation(MlirArgument& argument) {
    if (!tokens_.Next().Is('(')) return;
    const Token first = tokens_.Next();
    if (first.kind == Token::Kind::kString) {
      if (tokens_.Next().Is('(') && !first.text.empty()) argument.name = std::string(first.text);
    }
    size_t depth = 1;
    while (depth > 0 && tokens_.current().kind != Token::Kind::kEnd) {
      if (tokens_.current().Is('(')) ++depth;
      if (tokens_.current().Is(')')) --depth;
      tokens_.Next();
    }
  }

  absl::string_view text_;
  Tokenizer tokens_;
  MlirFacts facts_;
};

}  // namespace

std::optional<int64_t> MlirFacts::integer(const std::string& name) const {
  const auto found = integers.find(name);
  if (found == integers.end()) return std::nullopt;
  return found->second;
}

absl::StatusOr<MlirFacts> ReadMlirFacts(absl::string_view text) { return Reader(text).Read(); }

}  // namespace trun
