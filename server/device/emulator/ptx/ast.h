// A PTX module as written: names unresolved, nothing checked beyond the grammar (PTX ISA 9.0, "Syntax" and
// "Directives"). All string_views point into the module's text, which must outlive the tree.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PTX_AST_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PTX_AST_H_

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace trun::device::ptx {

// 1-based.
struct Position {
  uint32_t line = 0;
  uint32_t column = 0;
};

enum class OperandKind : uint8_t {
  kName,     // a register, a variable, a label, a function; with `offset` when written name+number
  kInteger,  // bits in `value`
  kFloat,    // a decimal literal or 0d…: the bits of a double in `value`
  kSingle,   // 0f…: the bits of a float in `value`
  kAddress,  // [base+offset], [number], or [base, {…}] with the rest in `elements`
  kVector,   // {a, b, …}
  kList,     // (a, b, …) of a call
  kPair,     // a|b
  kSink,     // _
};

struct Operand {
  OperandKind kind = OperandKind::kSink;
  bool negated = false;    // !p, or -name
  absl::string_view name;  // kName; the base of kAddress, empty when that is a number
  int64_t offset = 0;      // kName, kAddress
  uint64_t value = 0;
  std::vector<Operand> elements;
  Position position;
};

struct Instruction {
  absl::string_view opcode;                  // "ld"
  std::vector<absl::string_view> modifiers;  // "global", "v4", "b32"; "shared::cta" is one
  absl::string_view guard;                   // empty: none
  bool guard_negated = false;
  std::vector<Operand> operands;
  absl::string_view text;  // without guard and operands: "ld.global.v4.b32"
  Position position;
  uint32_t loc_file = 0;  // of the last .loc before it; 0: none
  uint32_t loc_line = 0;
};

// .reg .b32 %r<39>; or .reg .pred p, q;
struct RegisterDeclaration {
  absl::string_view type;  // "b32", with "v2"/"v4" in `vector`
  uint32_t vector = 1;
  absl::string_view name;
  uint32_t count = 0;  // 0: a single register called `name`; else name0 … name(count-1)
  Position position;
};

// One element of an initialiser: a number, or the address of a variable.
struct Initializer {
  Operand value;
  bool generic = false;  // generic(name)
};

struct Variable {
  absl::string_view space;  // "global", "shared", "const", "local", "param", "reg"
  absl::string_view type;
  uint32_t vector = 1;
  absl::string_view name;
  uint64_t elements = 1;  // product of the array's dimensions; 0 for name[]
  bool is_array = false;
  uint32_t align = 0;  // 0: natural
  bool is_extern = false;
  std::vector<Initializer> initializers;
  Position position;
};

enum class StatementKind : uint8_t {
  kInstruction,
  kLabel,
  kScopeBegin,
  kScopeEnd,
  kRegister,
  kVariable,
  kTargets
};

struct Statement {
  StatementKind kind;
  uint32_t index = 0;      // in the function's vector of that kind
  absl::string_view name;  // of a label
};

struct Scope {
  std::vector<absl::string_view> labels;  // declared directly in it
};

// name: .branchtargets a, b;
struct BranchTargets {
  absl::string_view name;
  std::vector<absl::string_view> labels;
};

struct Function {
  absl::string_view name;
  bool is_entry = false;
  bool has_body = false;
  std::vector<Variable> results;
  std::vector<Variable> parameters;
  std::array<uint32_t, 3> required_block = {0, 0, 0};
  std::array<uint32_t, 3> max_block = {0, 0, 0};
  std::array<uint32_t, 3> required_cluster = {0, 0, 0};
  std::vector<Statement> statements;
  std::vector<Instruction> instructions;
  std::vector<RegisterDeclaration> registers;
  std::vector<Variable> variables;
  std::vector<Scope> scopes;  // 0 is the body; kScopeBegin's index names the others
  std::vector<BranchTargets> targets;
  Position position;
};

struct Module {
  int version_major = 0;
  int version_minor = 0;
  absl::string_view target;  // "sm_80"
  uint32_t address_size = 64;
  std::vector<Variable> variables;
  std::vector<Function> functions;
  std::map<uint32_t, std::string> files;  // of .file
};

}  // namespace trun::device::ptx

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PTX_AST_H_
