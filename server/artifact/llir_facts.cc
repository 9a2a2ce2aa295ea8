#include "server/artifact/llir_facts.h"

#include <algorithm>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "server/artifact/signature.h"
#include "server/artifact/tokenizer.h"

namespace trun {
namespace {

struct Definition {
  LlirKernel kernel;
  bool is_kernel = false;  // by its calling convention
  bool is_local = false;   // internal or private
  std::string attributes;  // "#0"
};

// What !nvvm.annotations or an attribute group say of a function.
struct Annotations {
  bool is_kernel = false;
  std::array<uint32_t, 3> required_block = {0, 0, 0};
  std::array<uint32_t, 3> max_block = {0, 0, 0};
};

void SetDimension(absl::string_view name, uint32_t value, Annotations& out) {
  if (name.size() < 2) return;
  const size_t axis = static_cast<size_t>(name.back() - 'x');
  const absl::string_view stem = name.substr(0, name.size() - 1);
  if (axis > 2) return;
  std::array<uint32_t, 3>* block = stem == "reqntid"   ? &out.required_block
                                   : stem == "maxntid" ? &out.max_block
                                                       : nullptr;
  if (block == nullptr) return;
  if ((*block)[0] == 0) *block = {1, 1, 1};
  (*block)[axis] = value;
}

// "128" or "128,1,1".
void SetDimensions(absl::string_view text, std::array<uint32_t, 3>& out) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits(',', 3));
  std::array<uint32_t, 3> block = {1, 1, 1};
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 2 || !absl::SimpleAtoi(parts[i], &block[i]) || block[i] == 0) return;
  }
  out = block;
}

class Reader {
 public:
  explicit Reader(absl::string_view text) : tokens_(text, Tokenizer::Language::kLlvm) {}

  absl::StatusOr<LlirFacts> Read() {
    while (tokens_.current().kind != Token::Kind::kEnd) {
      const Token token = tokens_.current();
      tokens_.Next();
      if (token.kind != Token::Kind::kWord) continue;
      if (token.text == "define") {
        TRUN_RETURN_IF_ERROR(ReadDefinition(token));
      } else if (token.text == "attributes") {
        ReadAttributeGroup();
      } else if (token.text == "external" || token.text == "extern_weak") {
        ReadGlobal();
      } else if (token.text[0] == '!' && tokens_.current().Is('=')) {
        ReadMetadataNode();
      }
    }
    return Collect();
  }

 private:
  bool AtEnd() const { return tokens_.current().kind == Token::Kind::kEnd; }

  // Behind "define": linkage, convention, return type, @name, parameters, attributes, body.
  absl::Status ReadDefinition(const Token line) {
    Definition definition;
    definition.kernel.line = line.line;
    bool returns_void = false;
    while (!(tokens_.current().kind == Token::Kind::kWord && tokens_.current().text[0] == '@')) {
      const Token token = tokens_.current();
      if (AtEnd()) return MalformedAt(line, "define has no @name");
      if (token.IsWord("ptx_kernel") || token.IsWord("amdgpu_kernel")) definition.is_kernel = true;
      if (token.IsWord("internal") || token.IsWord("private")) definition.is_local = true;
      if (token.IsWord("void")) returns_void = true;
      StepOver();
    }
    definition.is_local = definition.is_local || !returns_void;
    if (tokens_.current().text.size() > 1) {
      definition.kernel.name = std::string(tokens_.current().text.substr(1));
    } else {
      definition.kernel.name = std::string(tokens_.Next().text);
    }
    if (!tokens_.Next().Is('(')) return MalformedAt(line, "define has no parameter list");
    tokens_.Next();
    while (!tokens_.current().Is(')')) {
      if (definition.kernel.parameters.size() >= kMaxKernelParameters) {
        return MalformedAt(line, absl::StrCat("more than ", kMaxKernelParameters, " parameters"));
      }
      TRUN_RETURN_IF_ERROR(ReadParameter(definition.kernel));
      if (tokens_.current().Is(',')) {
        tokens_.Next();
      } else if (!tokens_.current().Is(')')) {
        return MalformedAt(tokens_.current(), "the parameter list is not closed");
      }
    }
    tokens_.Next();
    while (!AtEnd() && !tokens_.current().Is('{')) {
      if (tokens_.current().kind == Token::Kind::kWord && tokens_.current().text[0] == '#') {
        definition.attributes = std::string(tokens_.current().text);
      }
      tokens_.Next();
    }
    if (AtEnd() || !tokens_.SkipGroup()) return MalformedAt(line, "the body of a function is not closed");
    definitions_.push_back(std::move(definition));
    return absl::OkStatus();
  }

  void StepOver() {
    const Token& token = tokens_.current();
    if (token.Is('(') || token.Is('[') || token.Is('{') || token.Is('<')) {
      tokens_.SkipGroup();
    } else {
      tokens_.Next();
    }
  }

  // type [attributes] [%name]
  absl::Status ReadParameter(LlirKernel& kernel) {
    LlirParameter parameter;
    const Token line = tokens_.current();
    const Token type = tokens_.current();
    if (type.kind == Token::Kind::kWord) {
      parameter.type = std::string(type.text);
      parameter.is_pointer = type.text == "ptr";
      tokens_.Next();
    } else if (type.Is('[') || type.Is('{') || type.Is('<')) {
      parameter.type = "aggregate";
      tokens_.SkipGroup();
    } else {
      return MalformedAt(line, "a parameter has no type");
    }
    while (!AtEnd() && !tokens_.current().Is(',') && !tokens_.current().Is(')')) {
      const Token token = tokens_.current();
      if (token.IsWord("byval")) {
        ReadByValue(parameter);
        continue;
      }
      if (token.IsWord("readnone")) parameter.is_unread = true;
      if (token.kind == Token::Kind::kWord && token.text[0] == '%') {
        const absl::string_view name = token.text.substr(1);
        const bool numbered = std::all_of(name.begin(), name.end(), absl::ascii_isdigit);
        if (!numbered) parameter.name = std::string(name);
      }
      StepOver();
    }
    kernel.parameters.push_back(std::move(parameter));
    return absl::OkStatus();
  }

  // byval([128 x i8])
  void ReadByValue(LlirParameter& parameter) {
    parameter.is_pointer = false;
    parameter.by_value_bytes = 1;
    if (!tokens_.Next().Is('(')) return;
    if (tokens_.Next().Is('[')) {
      uint32_t count = 0;
      if (absl::SimpleAtoi(tokens_.Next().text, &count) && tokens_.Next().IsWord("x") &&
          tokens_.Next().IsWord("i8") && count > 0) {
        parameter.by_value_bytes = count;
      }
    }
    size_t depth = 1;
    while (!AtEnd() && depth > 0) {
      if (tokens_.current().Is('(')) ++depth;
      if (tokens_.current().Is(')')) --depth;
      tokens_.Next();
    }
  }

  // attributes #0 = { "nvvm.reqntid"="128" ... }
  void ReadAttributeGroup() {
    const std::string name = std::string(tokens_.current().text);
    if (!tokens_.Next().Is('=') || !tokens_.Next().Is('{')) return;
    Annotations& out = groups_[name];
    while (!AtEnd() && !tokens_.current().Is('}')) {
      const Token key = tokens_.current();
      tokens_.Next();
      if (key.kind != Token::Kind::kString || !tokens_.current().Is('=')) continue;
      const Token value = tokens_.Next();
      if (key.text == "nvvm.reqntid") SetDimensions(value.text, out.required_block);
      if (key.text == "nvvm.maxntid") SetDimensions(value.text, out.max_block);
    }
  }

  // @global_smem = external [local_unnamed_addr] addrspace(3) global [0 x i8]
  void ReadGlobal() {
    while (!AtEnd() && tokens_.current().kind == Token::Kind::kWord) {
      if (tokens_.current().IsWord("addrspace")) {
        if (tokens_.Next().Is('(') && tokens_.Next().IsWord("3")) facts_.uses_dynamic_shared = true;
        return;
      }
      if (tokens_.current().IsWord("global") || tokens_.current().IsWord("define")) return;
      tokens_.Next();
    }
  }

  // !3 = !{ptr @add_kernel, !"maxntidx", i32 128, ...}; a metadata string is the word "!" before a string.
  void ReadMetadataNode() {
    const Token open = tokens_.Next();
    if (open.IsWord("!")) tokens_.Next();
    if (!tokens_.current().Is('{') || !tokens_.Next().IsWord("ptr")) return;
    const Token symbol = tokens_.Next();
    if (symbol.kind != Token::Kind::kWord || symbol.text[0] != '@') return;
    Annotations& out = annotations_[std::string(symbol.text.substr(1))];
    absl::string_view key;
    while (!AtEnd() && !tokens_.Next().Is('}')) {
      const Token& token = tokens_.current();
      uint32_t value = 0;
      if (token.kind == Token::Kind::kString) {
        key = token.text;
      } else if (!key.empty() && token.kind == Token::Kind::kWord && absl::SimpleAtoi(token.text, &value)) {
        if (key == "kernel" && value == 1) out.is_kernel = true;
        SetDimension(key, value, out);
        key = {};
      }
    }
  }

  LlirFacts Collect() {
    bool any_annotated = false;
    for (const Definition& definition : definitions_) {
      facts_.has_kernel_convention = facts_.has_kernel_convention || definition.is_kernel;
      const auto found = annotations_.find(definition.kernel.name);
      any_annotated = any_annotated || (found != annotations_.end() && found->second.is_kernel);
    }
    for (Definition& definition : definitions_) {
      const auto annotation = annotations_.find(definition.kernel.name);
      const bool annotated = annotation != annotations_.end() && annotation->second.is_kernel;
      const bool is_kernel = facts_.has_kernel_convention ? definition.is_kernel
                             : any_annotated              ? annotated
                                                          : !definition.is_local;
      if (!is_kernel) continue;
      if (annotation != annotations_.end()) {
        definition.kernel.required_block = annotation->second.required_block;
        definition.kernel.max_block = annotation->second.max_block;
        definition.kernel.block_is_annotated =
            annotation->second.required_block[0] != 0 || annotation->second.max_block[0] != 0;
      }
      const auto group = groups_.find(definition.attributes);
      if (group != groups_.end()) {
        if (group->second.required_block[0] != 0)
          definition.kernel.required_block = group->second.required_block;
        if (group->second.max_block[0] != 0) definition.kernel.max_block = group->second.max_block;
      }
      facts_.kernels.push_back(std::move(definition.kernel));
    }
    return std::move(facts_);
  }

  Tokenizer tokens_;
  LlirFacts facts_;
  std::vector<Definition> definitions_;
  absl::flat_hash_map<std::string, Annotations> groups_;
  absl::flat_hash_map<std::string, Annotations> annotations_;
};

}  // namespace

absl::StatusOr<LlirFacts> ReadLlirFacts(absl::string_view text) { return Reader(text).Read(); }

}  // namespace trun
