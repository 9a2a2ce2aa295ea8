#include "server/device/emulator/ptx/parser.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/ptx/lexer.h"

namespace trun::device::ptx {
namespace {

class Parser {
 public:
  explicit Parser(absl::string_view text) : lexer_(text) {
    Advance();
    Advance();
  }

  absl::StatusOr<Module> Run() {
    while (ok() && token_.kind != TokenKind::kEnd) TopLevel();
    if (!status_.ok()) return status_;
    if (module_.version_major == 0)
      return InvalidArgument(Reason::kInvalidIr, "the text has no .version directive",
                             {{"line", "1"}, {"column", "1"}});
    return std::move(module_);
  }

 private:
  bool ok() const { return status_.ok(); }

  void Fail(Position at, absl::string_view what) {
    if (!status_.ok()) return;
    status_ = InvalidArgument(Reason::kInvalidIr,
                              absl::StrCat("PTX line ", at.line, ", column ", at.column, ": ", what),
                              {{"line", absl::StrCat(at.line)}, {"column", absl::StrCat(at.column)}});
    token_.kind = TokenKind::kEnd;
    next_.kind = TokenKind::kEnd;
  }
  void Fail(absl::string_view what) { Fail(token_.position, what); }

  void Advance() {
    token_ = next_;
    if (!status_.ok()) return;
    next_ = lexer_.Next();
    if (token_.kind == TokenKind::kError) Fail(token_.text);
  }

  bool IsSymbol(char c) const { return token_.kind == TokenKind::kSymbol && token_.text[0] == c; }
  bool IsDotted(absl::string_view name) const {
    return token_.kind == TokenKind::kDotted && token_.text == name;
  }
  bool TakeSymbol(char c) {
    if (!IsSymbol(c)) return false;
    Advance();
    return true;
  }
  void Expect(char c) {
    if (!TakeSymbol(c)) Fail(absl::StrCat("expected '", std::string(1, c), "'", Found()));
  }
  std::string Found() const {
    if (token_.kind == TokenKind::kEnd) return ", found the end of the text";
    return absl::StrCat(", found '", token_.text.substr(0, 40), "'");
  }
  absl::string_view TakeName() {
    if (token_.kind != TokenKind::kName) {
      Fail(absl::StrCat("expected a name", Found()));
      return {};
    }
    const absl::string_view name = token_.text;
    Advance();
    return name;
  }
  uint64_t TakeInteger() {
    if (token_.kind != TokenKind::kInteger) {
      Fail(absl::StrCat("expected an integer", Found()));
      return 0;
    }
    const uint64_t value = token_.value;
    Advance();
    return value;
  }
  int64_t TakeSigned() {
    const bool minus = TakeSymbol('-');
    const uint64_t value = TakeInteger();
    return static_cast<int64_t>(minus ? 0 - value : value);
  }

  void TopLevel() {
    if (token_.kind != TokenKind::kDotted) {
      Fail(absl::StrCat("expected a directive", Found()));
      return;
    }
    const absl::string_view name = token_.text;
    if (name == "version") return Version();
    if (name == "target") return Target();
    if (name == "address_size") {
      Advance();
      module_.address_size = static_cast<uint32_t>(TakeInteger());
      if (ok() && module_.address_size != 64) Fail("only .address_size 64 is supported");
      return;
    }
    if (name == "file") return File();
    if (name == "section") return Section();
    if (name == "pragma") return Pragma();
    if (name == "loc") return Loc();
    bool is_extern = false;
    while (IsDotted("visible") || IsDotted("extern") || IsDotted("weak") || IsDotted("common")) {
      is_extern |= IsDotted("extern");
      Advance();
    }
    if (IsDotted("entry") || IsDotted("func")) return ParseFunction();
    if (IsDotted("global") || IsDotted("const") || IsDotted("shared")) {
      return Variables(is_extern, &module_.variables);
    }
    if (IsDotted("alias")) {
      while (ok() && token_.kind != TokenKind::kEnd && !IsSymbol(';')) Advance();
      return Expect(';');
    }
    Fail(absl::StrCat("a directive that is not known here", Found()));
  }

  void Version() {
    Advance();
    if (token_.kind == TokenKind::kFloat || token_.kind == TokenKind::kInteger) {
      int parts[2] = {0, 0};
      int part = 0;
      for (char c : token_.text) {
        if (c == '.') {
          part = 1;
        } else if (c >= '0' && c <= '9' && parts[part] < 1000) {
          parts[part] = parts[part] * 10 + (c - '0');
        }
      }
      module_.version_major = parts[0];
      module_.version_minor = parts[1];
      if (module_.version_major == 0) return Fail("a .version of zero");
      Advance();
    } else {
      Fail(absl::StrCat("expected a version", Found()));
    }
  }

  void Target() {
    Advance();
    module_.target = TakeName();
    while (ok() && TakeSymbol(',')) TakeName();
  }

  void File() {
    Advance();
    const uint64_t index = TakeInteger();
    if (token_.kind != TokenKind::kString) return Fail("expected the file's name in quotes");
    if (module_.files.size() < 65536) module_.files[static_cast<uint32_t>(index)] = std::string(token_.text);
    Advance();
    while (ok() && TakeSymbol(',')) TakeInteger();
  }

  void Section() {
    Advance();
    if (token_.kind != TokenKind::kDotted && token_.kind != TokenKind::kName)
      return Fail("expected a section's name");
    Advance();
    Expect('{');
    int depth = 1;
    while (ok() && depth > 0) {
      if (token_.kind == TokenKind::kEnd) return Fail("a section is not closed");
      if (IsSymbol('{')) ++depth;
      if (IsSymbol('}')) --depth;
      Advance();
    }
  }

  void Pragma() {
    Advance();
    do {
      if (token_.kind != TokenKind::kString) return Fail("expected a pragma in quotes");
      Advance();
    } while (ok() && TakeSymbol(','));
    Expect(';');
  }

  void Loc() {
    Advance();
    loc_file_ = static_cast<uint32_t>(TakeInteger());
    loc_line_ = static_cast<uint32_t>(TakeInteger());
    TakeInteger();
    while (ok() && IsSymbol(',')) {
      Advance();
      const absl::string_view what = TakeName();
      if (what == "function_name") {
        TakeName();
        if (TakeSymbol('+')) TakeInteger();
      } else if (what == "inlined_at") {
        TakeInteger();
        TakeInteger();
        TakeInteger();
      } else {
        return Fail("an attribute that .loc does not have");
      }
    }
  }

  // .space [.align n] [.ptr [.space] [.align n]] [.vN] .type name[dims] [= init]; `token_` is at the space.
  Variable DeclarationHead(bool is_extern) {
    Variable v;
    v.is_extern = is_extern;
    v.space = token_.text;
    Advance();
    while (ok() && token_.kind == TokenKind::kDotted) {
      const absl::string_view word = token_.text;
      if (word == "align") {
        Advance();
        const uint64_t align = TakeInteger();
        if (ok() && (align == 0 || align > 4096 || (align & (align - 1)) != 0))
          Fail("an alignment that is no power of two");
        v.align = static_cast<uint32_t>(align);
      } else if (word == "ptr") {
        Advance();
        while (ok() && (IsDotted("global") || IsDotted("shared") || IsDotted("const") || IsDotted("local") ||
                        IsDotted("generic") || IsDotted("param"))) {
          Advance();
        }
        if (IsDotted("align")) {
          Advance();
          TakeInteger();
        }
      } else if (word == "attribute") {
        Advance();
        Expect('(');
        while (ok() && token_.kind != TokenKind::kEnd && !IsSymbol(')')) Advance();
        Expect(')');
      } else if (word == "v2" || word == "v4" || word == "v8") {
        v.vector = static_cast<uint32_t>(word[1] - '0');
        Advance();
      } else {
        v.type = word;
        Advance();
      }
    }
    if (ok() && v.type.empty()) Fail("a declaration without a type");
    return v;
  }

  void DeclarationName(Variable* v) {
    v->position = token_.position;
    v->name = TakeName();
    while (ok() && TakeSymbol('[')) {
      v->is_array = true;
      uint64_t count = 0;
      if (token_.kind == TokenKind::kInteger) count = TakeInteger();
      Expect(']');
      if (__builtin_mul_overflow(v->elements, count, &v->elements) || v->elements > kMaxVariableBytes) {
        return Fail(v->position, "a variable is larger than 1 GiB");
      }
    }
  }

  void Initializers(Variable* v, size_t depth) {
    if (depth > kMaxOperandDepth) return Fail("an initialiser is nested too deeply");
    if (TakeSymbol('{')) {
      if (TakeSymbol('}')) return;
      do {
        Initializers(v, depth + 1);
      } while (ok() && TakeSymbol(','));
      return Expect('}');
    }
    Initializer init;
    if (token_.kind == TokenKind::kName && token_.text == "generic") {
      Advance();
      Expect('(');
      init.generic = true;
      init.value = ParseOperand(0);
      Expect(')');
    } else {
      init.value = ParseOperand(0);
    }
    v->initializers.push_back(std::move(init));
  }

  void Variables(bool is_extern, std::vector<Variable>* into) {
    const Variable head = DeclarationHead(is_extern);
    do {
      Variable v = head;
      DeclarationName(&v);
      if (TakeSymbol('=')) Initializers(&v, 0);
      into->push_back(std::move(v));
    } while (ok() && TakeSymbol(','));
    Expect(';');
  }

  std::vector<Variable> Parameters() {
    std::vector<Variable> list;
    Expect('(');
    if (TakeSymbol(')')) return list;
    do {
      if (!IsDotted("param") && !IsDotted("reg")) {
        Fail(absl::StrCat("expected .param", Found()));
        break;
      }
      Variable v = DeclarationHead(false);
      DeclarationName(&v);
      list.push_back(std::move(v));
    } while (ok() && TakeSymbol(','));
    Expect(')');
    return list;
  }

  std::array<uint32_t, 3> Triple() {
    Advance();
    std::array<uint32_t, 3> triple = {1, 1, 1};
    for (size_t i = 0; i < 3; ++i) {
      triple[i] = static_cast<uint32_t>(TakeInteger());
      if (!TakeSymbol(',')) break;
    }
    return triple;
  }

  void ParseFunction() {
    module_.functions.emplace_back();
    function_ = &module_.functions.back();
    function_->is_entry = IsDotted("entry");
    loc_file_ = 0;
    loc_line_ = 0;
    Advance();
    if (!function_->is_entry && IsSymbol('(')) function_->results = Parameters();
    function_->position = token_.position;
    function_->name = TakeName();
    if (IsSymbol('(')) function_->parameters = Parameters();
    while (ok() && token_.kind == TokenKind::kDotted) {
      if (IsDotted("reqntid")) {
        function_->required_block = Triple();
      } else if (IsDotted("maxntid")) {
        function_->max_block = Triple();
      } else if (IsDotted("reqnctapercluster")) {
        function_->required_cluster = Triple();
      } else if (IsDotted("maxnreg") || IsDotted("minnctapersm") || IsDotted("maxnctapersm") ||
                 IsDotted("maxclusterrank")) {
        Advance();
        TakeInteger();
      } else if (IsDotted("noreturn") || IsDotted("explicitcluster") || IsDotted("blocksareclusters")) {
        Advance();
      } else if (IsDotted("pragma")) {
        Pragma();
      } else {
        Fail(absl::StrCat("a directive that is not known on a function", Found()));
      }
    }
    if (TakeSymbol(';')) return;
    Body();
  }

  void Body() {
    Expect('{');
    function_->has_body = true;
    function_->scopes.emplace_back();
    std::vector<uint32_t> open = {0};
    while (ok()) {
      if (token_.kind == TokenKind::kEnd) return Fail("a function's body is not closed");
      if (TakeSymbol('{')) {
        if (open.size() >= kMaxScopeDepth) return Fail("blocks are nested too deeply");
        open.push_back(static_cast<uint32_t>(function_->scopes.size()));
        function_->scopes.emplace_back();
        function_->statements.push_back({StatementKind::kScopeBegin, open.back(), {}});
      } else if (TakeSymbol('}')) {
        open.pop_back();
        if (open.empty()) return;
        function_->statements.push_back({StatementKind::kScopeEnd, 0, {}});
      } else if (TakeSymbol(';')) {
        continue;
      } else if (token_.kind == TokenKind::kDotted) {
        BodyDirective();
      } else if (token_.kind == TokenKind::kName && next_.kind == TokenKind::kSymbol &&
                 next_.text[0] == ':') {
        const absl::string_view name = token_.text;
        Advance();
        Advance();
        if (IsDotted("branchtargets")) {
          ParseBranchTargets(name);
        } else if (IsDotted("callprototype") || IsDotted("calltargets")) {
          Fail("indirect calls are not supported");
        } else {
          function_->scopes[open.back()].labels.push_back(name);
          function_->statements.push_back({StatementKind::kLabel, 0, name});
        }
      } else {
        ParseInstruction();
      }
    }
  }

  void ParseBranchTargets(absl::string_view name) {
    Advance();
    BranchTargets targets;
    targets.name = name;
    do {
      targets.labels.push_back(TakeName());
    } while (ok() && TakeSymbol(','));
    Expect(';');
    function_->statements.push_back(
        {StatementKind::kTargets, static_cast<uint32_t>(function_->targets.size()), name});
    function_->targets.push_back(std::move(targets));
  }

  void BodyDirective() {
    if (IsDotted("loc")) return Loc();
    if (IsDotted("pragma")) return Pragma();
    if (IsDotted("file")) return File();
    if (IsDotted("reg")) return Registers();
    if (IsDotted("local") || IsDotted("shared") || IsDotted("param") || IsDotted("global") ||
        IsDotted("const")) {
      const size_t first = function_->variables.size();
      Variables(false, &function_->variables);
      for (size_t i = first; i < function_->variables.size(); ++i) {
        function_->statements.push_back({StatementKind::kVariable, static_cast<uint32_t>(i), {}});
      }
      return;
    }
    Fail(absl::StrCat("a directive that is not known in a function", Found()));
  }

  void Registers() {
    const Variable head = DeclarationHead(false);
    do {
      RegisterDeclaration r;
      r.type = head.type;
      r.vector = head.vector;
      r.position = token_.position;
      r.name = TakeName();
      if (TakeSymbol('<')) {
        const uint64_t count = TakeInteger();
        if (count == 0 || count > kMaxRegisterRange)
          return Fail("a register range that is empty or too long");
        r.count = static_cast<uint32_t>(count);
        Expect('>');
      }
      function_->statements.push_back(
          {StatementKind::kRegister, static_cast<uint32_t>(function_->registers.size()), {}});
      function_->registers.push_back(r);
    } while (ok() && TakeSymbol(','));
    Expect(';');
  }

  void ParseInstruction() {
    Instruction in;
    in.position = token_.position;
    in.loc_file = loc_file_;
    in.loc_line = loc_line_;
    if (TakeSymbol('@')) {
      in.guard_negated = TakeSymbol('!');
      in.guard = TakeName();
    }
    if (token_.kind != TokenKind::kName) return Fail(absl::StrCat("expected an instruction", Found()));
    const char* begin = token_.text.data();
    const char* end = begin + token_.text.size();
    in.opcode = token_.text;
    in.position = token_.position;
    Advance();
    while (ok() && token_.kind == TokenKind::kDotted) {
      in.modifiers.push_back(token_.text);
      end = token_.text.data() + token_.text.size();
      if (in.modifiers.size() > 24) return Fail("an instruction has too many modifiers");
      Advance();
    }
    in.text = absl::string_view(begin, static_cast<size_t>(end - begin));
    if (!IsSymbol(';')) {
      do {
        in.operands.push_back(ParseOperand(0));
        if (in.operands.size() > 64) return Fail("an instruction has too many operands");
      } while (ok() && TakeSymbol(','));
    }
    Expect(';');
    function_->statements.push_back(
        {StatementKind::kInstruction, static_cast<uint32_t>(function_->instructions.size()), {}});
    function_->instructions.push_back(std::move(in));
  }

  std::vector<Operand> Elements(char close, size_t depth) {
    std::vector<Operand> list;
    if (TakeSymbol(close)) return list;
    do {
      list.push_back(ParseOperand(depth));
      if (list.size() > 1024) Fail("a list has too many elements");
    } while (ok() && TakeSymbol(','));
    Expect(close);
    return list;
  }

  // A name, with the component of a special register or a vector: %tid.x.
  absl::string_view QualifiedName() {
    absl::string_view name = TakeName();
    if (ok() && !name.empty() && name[0] == '%' && token_.kind == TokenKind::kDotted && token_.adjacent &&
        token_.text.size() == 1) {
      name = absl::string_view(name.data(), static_cast<size_t>(token_.text.data() + 1 - name.data()));
      Advance();
    }
    return name;
  }

  Operand ParseOperand(size_t depth) {
    Operand op;
    op.position = token_.position;
    if (depth > kMaxOperandDepth) {
      Fail("operands are nested too deeply");
      return op;
    }
    if (TakeSymbol('[')) {
      op.kind = OperandKind::kAddress;
      if (token_.kind == TokenKind::kName) {
        op.name = QualifiedName();
      } else {
        op.offset = TakeSigned();
      }
      while (ok() && (IsSymbol('+') || IsSymbol('-'))) {
        const bool minus = IsSymbol('-');
        Advance();
        const uint64_t by = static_cast<uint64_t>(TakeSigned());
        op.offset = static_cast<int64_t>(static_cast<uint64_t>(op.offset) + (minus ? 0 - by : by));
      }
      while (ok() && TakeSymbol(',')) op.elements.push_back(ParseOperand(depth + 1));
      Expect(']');
      return op;
    }
    if (TakeSymbol('{')) {
      op.kind = OperandKind::kVector;
      op.elements = Elements('}', depth + 1);
      return op;
    }
    if (TakeSymbol('(')) {
      op.kind = OperandKind::kList;
      op.elements = Elements(')', depth + 1);
      return op;
    }
    op.negated = IsSymbol('!') || IsSymbol('-');
    if (op.negated) Advance();
    if (token_.kind == TokenKind::kInteger || token_.kind == TokenKind::kFloat ||
        token_.kind == TokenKind::kSingle) {
      op.kind = token_.kind == TokenKind::kInteger ? OperandKind::kInteger
                : token_.kind == TokenKind::kFloat ? OperandKind::kFloat
                                                   : OperandKind::kSingle;
      op.value = token_.value;
      if (op.negated) {
        if (op.kind == OperandKind::kInteger) op.value = 0 - op.value;
        if (op.kind == OperandKind::kFloat) op.value ^= uint64_t{1} << 63;
        if (op.kind == OperandKind::kSingle) op.value ^= uint64_t{1} << 31;
        op.negated = false;
      }
      Advance();
      return op;
    }
    if (token_.kind != TokenKind::kName) {
      Fail(absl::StrCat("expected an operand", Found()));
      return op;
    }
    if (token_.text == "_") {
      Advance();
      if (!TakeSymbol('|')) return op;
      Operand pair;
      pair.kind = OperandKind::kPair;
      pair.position = op.position;
      pair.elements.push_back(op);
      pair.elements.push_back(ParseOperand(depth + 1));
      return pair;
    }
    op.kind = OperandKind::kName;
    op.name = QualifiedName();
    if (IsSymbol('+') || IsSymbol('-')) {
      const bool minus = IsSymbol('-');
      Advance();
      const uint64_t by = static_cast<uint64_t>(TakeSigned());
      op.offset = static_cast<int64_t>(minus ? 0 - by : by);
    }
    if (TakeSymbol('|')) {
      Operand pair;
      pair.kind = OperandKind::kPair;
      pair.position = op.position;
      pair.elements.push_back(std::move(op));
      pair.elements.push_back(ParseOperand(depth + 1));
      return pair;
    }
    return op;
  }

  Lexer lexer_;
  Token token_;
  Token next_;
  absl::Status status_;
  Module module_;
  Function* function_ = nullptr;
  uint32_t loc_file_ = 0;
  uint32_t loc_line_ = 0;
};

}  // namespace

absl::StatusOr<Module> Parse(absl::string_view text) {
  if (text.size() > kMaxTextBytes) {
    return ResourceExhausted(
        Reason::kTooLarge, absl::StrCat("the PTX has ", text.size(), " bytes, the limit is ", kMaxTextBytes),
        {{"limit", absl::StrCat(kMaxTextBytes)}});
  }
  return Parser(text).Run();
}

}  // namespace trun::device::ptx
