#include "server/artifact/ptx_facts.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "server/artifact/signature.h"
#include "server/artifact/tokenizer.h"

namespace trun {
namespace {

constexpr uint32_t kMaxParameterBytes = 32764;  // of all parameters together, CUDA 12.1 on; 4,096 before

// 0 for a word that is no type.
uint32_t TypeBytes(absl::string_view type) {
  if (type == "pred") return 1;
  if (type.size() < 2 || !absl::StrContains("busf", type.substr(0, 1))) return 0;
  int bits = 0;
  if (!absl::SimpleAtoi(type.substr(1), &bits)) return 0;
  return bits == 8 || bits == 16 || bits == 32 || bits == 64 || bits == 128 ? static_cast<uint32_t>(bits / 8)
                                                                            : 0;
}

class Reader {
 public:
  explicit Reader(absl::string_view text)
      : tokens_(text, Tokenizer::Language::kPtx), first_(tokens_.current()) {}

  absl::StatusOr<PtxFacts> Read() {
    bool has_version = false;
    while (tokens_.current().kind != Token::Kind::kEnd) {
      const Token token = tokens_.current();
      tokens_.Next();
      if (token.kind != Token::Kind::kWord) {
        if (token.Is('{')) TRUN_RETURN_IF_ERROR(SkipBody(token));
        continue;
      }
      if (token.text == ".version") {
        TRUN_RETURN_IF_ERROR(ReadVersion());
        has_version = true;
      } else if (token.text == ".target") {
        TRUN_RETURN_IF_ERROR(ReadTarget());
      } else if (token.text == ".entry") {
        TRUN_RETURN_IF_ERROR(ReadEntry());
      } else if (token.text == ".extern" && tokens_.current().IsWord(".shared")) {
        facts_.uses_dynamic_shared = true;
      }
    }
    if (!has_version) return MalformedAt(first_, "the PTX has no .version directive");
    if (facts_.target.empty()) return MalformedAt(first_, "the PTX has no .target directive");
    return std::move(facts_);
  }

 private:
  // Behind '{': to behind its '}'. Braces count, nothing recurses.
  absl::Status SkipBody(const Token& line, PtxEntry* entry = nullptr) {
    absl::flat_hash_map<absl::string_view, PtxParameter*> unread;
    if (entry != nullptr) {
      for (PtxParameter& parameter : entry->parameters) unread[parameter.name] = &parameter;
    }
    size_t depth = 1;
    while (tokens_.current().kind != Token::Kind::kEnd) {
      const Token& token = tokens_.current();
      if (token.Is('{')) ++depth;
      if (token.Is('}') && --depth == 0) {
        tokens_.Next();
        return absl::OkStatus();
      }
      if (!unread.empty() && token.kind == Token::Kind::kWord) {
        const auto found = unread.find(token.text);
        if (found != unread.end()) {
          found->second->is_read = true;
          unread.erase(found);
        }
      }
      tokens_.Next();
    }
    return MalformedAt(line, "a '{' that is never closed");
  }

  absl::Status ReadVersion() {
    const Token token = tokens_.current();
    const size_t dot = token.text.find('.');
    if (token.kind != Token::Kind::kWord || dot == absl::string_view::npos ||
        !absl::SimpleAtoi(token.text.substr(0, dot), &facts_.version_major) ||
        !absl::SimpleAtoi(token.text.substr(dot + 1), &facts_.version_minor) || facts_.version_major < 1) {
      return MalformedAt(token, ".version is not followed by a number such as 8.7");
    }
    tokens_.Next();
    return absl::OkStatus();
  }

  absl::Status ReadTarget() {
    const Token token = tokens_.current();
    absl::string_view digits = token.text;
    if (token.kind != Token::Kind::kWord || !absl::ConsumePrefix(&digits, "sm_")) {
      return MalformedAt(token, ".target is not followed by an architecture such as sm_80");
    }
    if (absl::EndsWith(digits, "a") || absl::EndsWith(digits, "f")) digits.remove_suffix(1);
    if (!absl::SimpleAtoi(digits, &facts_.arch) || facts_.arch < 10 || facts_.arch > 999) {
      return MalformedAt(token, absl::StrCat("'", token.text.substr(0, 40), "' is not an architecture"));
    }
    facts_.target = std::string(token.text);
    tokens_.Next();
    return absl::OkStatus();
  }

  absl::Status ReadEntry() {
    PtxEntry entry;
    const Token name = tokens_.current();
    entry.line = name.line;
    if (name.kind != Token::Kind::kWord || name.text[0] == '.')
      return MalformedAt(name, ".entry has no name");
    entry.name = std::string(name.text);
    if (tokens_.Next().Is('(')) {
      tokens_.Next();
      uint64_t bytes = 0;
      while (!tokens_.current().Is(')')) {
        TRUN_RETURN_IF_ERROR(ReadParameter(entry));
        bytes += entry.parameters.back().bytes;
        if (bytes > kMaxParameterBytes || entry.parameters.size() > kMaxKernelParameters) {
          return MalformedAt(tokens_.current(),
                             absl::StrCat("the parameters of ", entry.name, " take more than ",
                                          kMaxParameterBytes, " bytes"));
        }
        if (tokens_.current().Is(',')) {
          tokens_.Next();
        } else if (!tokens_.current().Is(')')) {
          return MalformedAt(tokens_.current(),
                             absl::StrCat("the parameter list of ", entry.name, " is not closed"));
        }
      }
      tokens_.Next();
    }
    while (!tokens_.current().Is('{') && !tokens_.current().Is(';')) {
      const Token token = tokens_.current();
      if (token.kind == Token::Kind::kEnd) return MalformedAt(name, absl::StrCat(entry.name, " has no body"));
      tokens_.Next();
      if (token.IsWord(".reqntid")) {
        TRUN_RETURN_IF_ERROR(ReadDimensions(entry.required_block, &entry.required_block_dimensions));
      } else if (token.IsWord(".maxntid")) {
        TRUN_RETURN_IF_ERROR(ReadDimensions(entry.max_block, nullptr));
      } else if (token.IsWord(".reqnctapercluster")) {
        TRUN_RETURN_IF_ERROR(ReadDimensions(entry.required_cluster, nullptr));
      }
    }
    const bool is_definition = tokens_.current().Is('{');
    const Token line = tokens_.current();
    tokens_.Next();
    if (!is_definition) return absl::OkStatus();  // a prototype; the definition follows
    TRUN_RETURN_IF_ERROR(SkipBody(line, &entry));
    facts_.entries.push_back(std::move(entry));
    return absl::OkStatus();
  }

  // .param [.align n] .type [.ptr [.space] [.align n]] name [ '[' size ']' ]
  absl::Status ReadParameter(PtxEntry& entry) {
    PtxParameter parameter;
    const Token line = tokens_.current();
    if (!tokens_.current().IsWord(".param")) {
      return MalformedAt(line, absl::StrCat("a parameter of ", entry.name, " does not begin with .param"));
    }
    uint32_t element = 0;
    uint32_t align = 0;
    while (tokens_.Next().kind == Token::Kind::kWord && tokens_.current().text[0] == '.') {
      const absl::string_view word = tokens_.current().text.substr(1);
      if (word == "align") {
        uint32_t value = 0;
        if (!absl::SimpleAtoi(tokens_.Next().text, &value) || value == 0 || value > 4096 ||
            (value & (value - 1))) {
          return MalformedAt(line, ".align is not followed by a power of two");
        }
        if (!parameter.is_pointer) align = value;  // behind .ptr it speaks of the pointee
      } else if (word == "ptr") {
        parameter.is_pointer = true;
      } else if (const uint32_t bytes = TypeBytes(word); bytes != 0) {
        parameter.type = std::string(word);
        element = bytes;
      }
    }
    if (tokens_.current().kind != Token::Kind::kWord || element == 0) {
      return MalformedAt(
          line, absl::StrCat("a parameter of ", entry.name, " has no ", element == 0 ? "type" : "name"));
    }
    parameter.name = std::string(tokens_.current().text);
    uint64_t count = 1;
    if (tokens_.Next().Is('[')) {
      parameter.is_array = true;
      if (!absl::SimpleAtoi(tokens_.Next().text, &count) || count == 0 || count > kMaxParameterBytes) {
        return MalformedAt(line,
                           absl::StrCat("parameter ", parameter.name.substr(0, 80), " has no sensible size"));
      }
      if (!tokens_.Next().Is(']')) return MalformedAt(line, "a ']' is missing");
      tokens_.Next();
    }
    parameter.bytes = static_cast<uint32_t>(element * count);
    parameter.align = align != 0 ? align : element;
    if (parameter.is_pointer) facts_.declares_pointers = true;
    entry.parameters.push_back(std::move(parameter));
    return absl::OkStatus();
  }

  // One to three numbers.
  absl::Status ReadDimensions(std::array<uint32_t, 3>& out, int* written) {
    out = {1, 1, 1};
    for (size_t i = 0; i < 3; ++i) {
      uint64_t value = 0;
      const Token token = tokens_.current();
      if (!absl::SimpleAtoi(token.text, &value) || value == 0 || value > 0x7fffffff) {
        return MalformedAt(token, "a performance-tuning directive is not followed by positive numbers");
      }
      out[i] = static_cast<uint32_t>(value);
      if (written != nullptr) *written = static_cast<int>(i) + 1;
      if (!tokens_.Next().Is(',')) return absl::OkStatus();
      tokens_.Next();
    }
    return absl::OkStatus();
  }

  Tokenizer tokens_;
  Token first_;
  PtxFacts facts_;
};

}  // namespace

absl::StatusOr<PtxFacts> ReadPtxFacts(absl::string_view text) { return Reader(text).Read(); }

}  // namespace trun
