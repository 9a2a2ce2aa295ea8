#include "server/device/emulator/program/form_decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "server/device/emulator/numerics/convert.h"

namespace trun::device {
namespace {

constexpr uint32_t kNoValue = 0xffffffff;
const ptx::Operand kSinkOperand;

}  // namespace

FormDecoder::FormDecoder(DecodeState* state, const ptx::Instruction& in)
    : state_(state), in_(in), taken_(in.modifiers.size(), false) {}

absl::Status FormDecoder::Location(absl::StatusCode code, Reason reason, const std::string& what) const {
  return MakeError(code, reason, absl::StrCat("PTX line ", in_.position.line, ": ", what),
                   {{"line", absl::StrCat(in_.position.line)},
                    {"column", absl::StrCat(in_.position.column)},
                    {"instruction", std::string(in_.text.substr(0, 200))}});
}

Operation FormDecoder::Unsupported(const char* why) {
  if (status_.ok()) {
    status_ =
        Location(absl::StatusCode::kUnimplemented, Reason::kUnsupportedInstruction,
                 absl::StrCat("the emulator does not have '", in_.text.substr(0, 200), "' (", why, ")"));
  }
  return nullptr;
}

Operation FormDecoder::Malformed(const char* why) {
  if (status_.ok()) {
    status_ = Location(absl::StatusCode::kInvalidArgument, Reason::kInvalidIr,
                       absl::StrCat("'", in_.text.substr(0, 200), "' is written wrongly: ", why));
  }
  return nullptr;
}

bool FormDecoder::Take(const char* modifier) {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (!taken_[i] && in_.modifiers[i] == modifier) {
      taken_[i] = true;
      return true;
    }
  }
  return false;
}

absl::string_view FormDecoder::Peek() {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (!taken_[i]) return in_.modifiers[i];
  }
  return {};
}

absl::string_view FormDecoder::TakeNext() {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (!taken_[i]) {
      taken_[i] = true;
      return in_.modifiers[i];
    }
  }
  return {};
}

Type FormDecoder::OptionalType() {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i]) continue;
    const Type type = TypeFromName(in_.modifiers[i]);
    if (type == Type::kNone) continue;
    taken_[i] = true;
    return type;
  }
  return Type::kNone;
}

Type FormDecoder::TakeType() {
  const Type type = OptionalType();
  if (type == Type::kNone) Malformed("it has too few types");
  return type;
}

void FormDecoder::TakeCacheHints() {
  static constexpr const char* kHints[] = {"ca", "cg", "cs", "lu", "cv", "wb", "wt", "nc"};
  for (const char* hint : kHints) Take(hint);
  for (size_t i = 0; i < taken_.size(); ++i) {
    const absl::string_view m = in_.modifiers[i];
    // .L2::cache_hint brings an operand: the family takes it.
    if (m != "L2::cache_hint" && (m.substr(0, 4) == "L1::" || m.substr(0, 4) == "L2::")) taken_[i] = true;
  }
}

Space FormDecoder::TakeSpace() {
  if (Take("global")) return Space::kGlobal;
  if (Take("shared") || Take("shared::cta")) return Space::kShared;
  if (Take("shared::cluster")) return Space::kSharedCluster;
  if (Take("local")) return Space::kLocal;
  if (Take("param") || Take("param::entry") || Take("param::func")) return Space::kParam;
  if (Take("const")) return Space::kConst;
  return Space::kGeneric;
}

const ptx::Operand& FormDecoder::Checked(int i) {
  if (i >= 0 && i < operands()) return operand(i);
  Malformed("it has too few operands");
  return kSinkOperand;
}

int FormDecoder::Elements(int i) {
  const ptx::Operand& op = Checked(i);
  return op.kind == ptx::OperandKind::kVector ? static_cast<int>(op.elements.size()) : 1;
}

const ptx::Operand& FormDecoder::Element(int i, int k) {
  const ptx::Operand& op = Checked(i);
  if (op.kind != ptx::OperandKind::kVector) return op;
  if (k < static_cast<int>(op.elements.size())) return op.elements[static_cast<size_t>(k)];
  Malformed("a vector has too few elements");
  return kSinkOperand;
}

bool FormDecoder::IsRegister(const ptx::Operand& operand) const {
  return operand.kind == ptx::OperandKind::kName && operand.offset == 0 &&
         state_->FindRegister(operand.name).has_value();
}

bool FormDecoder::IsVector(int i) const {
  return i < operands() && operand(i).kind == ptx::OperandKind::kVector;
}

bool FormDecoder::IsSink(int i) const { return i < operands() && operand(i).kind == ptx::OperandKind::kSink; }

bool FormDecoder::IsLiteral(int i) const {
  return i < operands() &&
         (operand(i).kind == ptx::OperandKind::kInteger || operand(i).kind == ptx::OperandKind::kFloat ||
          operand(i).kind == ptx::OperandKind::kSingle);
}

uint64_t FormDecoder::Integer(int i) {
  const ptx::Operand& op = Checked(i);
  if (op.kind != ptx::OperandKind::kInteger) {
    Malformed("an operand has to be an integer literal");
    return 0;
  }
  return op.value;
}

Width FormDecoder::RegisterWidth(const ptx::Operand& operand) {
  if (operand.kind == ptx::OperandKind::kName) {
    if (auto value = state_->FindRegister(operand.name)) return WidthOfValue(*value);
    if (auto value = state_->FindSpecial(operand.name)) return WidthOfValue(*value);
  }
  Malformed("an operand has to be a register");
  return Width::k32;
}

void FormDecoder::Use(int slot, uint32_t value, bool definition) {
  if (value == kNoValue) return;
  if (slot >= 7) list_size_ = std::max(list_size_, static_cast<uint32_t>(slot - 6));
  uses_.push_back({0, static_cast<uint32_t>(slot), value, definition, false});
  if (definition) ++destinations_;
}

uint32_t FormDecoder::LiteralValue(const ptx::Operand& operand, Type type) {
  uint64_t bits = operand.value;
  const bool is_double = operand.kind == ptx::OperandKind::kFloat;
  if (is_double || operand.kind == ptx::OperandKind::kSingle) {
    // A float literal of another width than the type's is converted; b types take the bits of their own
    // width.
    const numerics::Type from = is_double ? numerics::Type::kF64 : numerics::Type::kF32;
    numerics::Type to = from;
    if (type == Type::kF32 || type == Type::kB32) to = numerics::Type::kF32;
    if (type == Type::kF64 || type == Type::kB64) to = numerics::Type::kF64;
    if (type == Type::kF16) to = numerics::Type::kF16;
    if (type == Type::kBf16) to = numerics::Type::kBf16;
    if (to != from) {
      numerics::Conversion conversion;
      conversion.to = to;
      conversion.from = from;
      bits = numerics::Convert(conversion, bits);
    }
  }
  const Width width = WidthOf(type);
  const uint32_t size = BitsOf(type);
  if (size < 32 && size > 1) bits &= (uint64_t{1} << size) - 1;
  if (width == Width::k128) {
    Malformed("a literal of 128 bits");
    return kNoValue;
  }
  return state_->ConstantValue(bits, width);
}

uint32_t FormDecoder::SourceValue(const ptx::Operand& operand, Type type, bool wide) {
  switch (operand.kind) {
    case ptx::OperandKind::kInteger:
    case ptx::OperandKind::kFloat:
    case ptx::OperandKind::kSingle:
      return LiteralValue(operand, type);
    case ptx::OperandKind::kVector:
      if (operand.elements.size() == 1) return SourceValue(operand.elements[0], type, wide);
      break;
    case ptx::OperandKind::kName: {
      if (operand.negated) {
        Malformed("a negated operand");
        return kNoValue;
      }
      if (operand.offset == 0) {
        if (auto value = state_->FindRegister(operand.name)) return *value;
        if (auto value = state_->FindSpecial(operand.name)) return *value;
      }
      if (const VariablePlace* place = state_->FindVariable(operand.name)) {
        return state_->ConstantValue(place->address + static_cast<uint64_t>(operand.offset), WidthOf(type));
      }
      break;
    }
    default:
      break;
  }
  if (status_.ok()) {
    status_ = Location(
        absl::StatusCode::kInvalidArgument, Reason::kInvalidIr,
        absl::StrCat("'", operand.name.substr(0, 100), "' is not declared, or not a source operand"));
  }
  return kNoValue;
}

void FormDecoder::Source(int slot, const ptx::Operand& operand, Type type) {
  const uint32_t value = SourceValue(operand, type, false);
  if (value == kNoValue) return;
  if (WidthOfValue(value) != WidthOf(type)) {
    Malformed("a source register is not as wide as the type");
    return;
  }
  Use(slot, value, false);
}

Width FormDecoder::WideSource(int slot, const ptx::Operand& operand, Type type) {
  const uint32_t value = SourceValue(operand, type, true);
  if (value == kNoValue) return Width::k32;
  if (WidthOfValue(value) < WidthOf(type)) Malformed("a source register is narrower than the type");
  Use(slot, value, false);
  return WidthOfValue(value);
}

void FormDecoder::Destination(int slot, const ptx::Operand& operand, Type type) {
  if (operand.kind == ptx::OperandKind::kSink) return Scratch(slot, WidthOf(type));
  if (WideDestination(slot, operand, type) != WidthOf(type)) {
    Malformed("a destination register is not as wide as the type");
  }
}

Width FormDecoder::WideDestination(int slot, const ptx::Operand& operand, Type type) {
  if (operand.kind == ptx::OperandKind::kSink) {
    Scratch(slot, WidthOf(type));
    return WidthOf(type);
  }
  if (operand.kind == ptx::OperandKind::kVector && operand.elements.size() == 1) {
    return WideDestination(slot, operand.elements[0], type);
  }
  std::optional<uint32_t> value;
  if (operand.kind == ptx::OperandKind::kName && operand.offset == 0)
    value = state_->FindRegister(operand.name);
  if (!value) {
    if (status_.ok()) {
      status_ = Location(absl::StatusCode::kInvalidArgument, Reason::kInvalidIr,
                         absl::StrCat("'", operand.name.substr(0, 100), "' is not a register"));
    }
    return WidthOf(type);
  }
  const Width width = WidthOfValue(*value);
  if (width < WidthOf(type) || (width == Width::kPredicate) != (type == Type::kPred)) {
    Malformed("a destination register does not fit the type");
  }
  Use(slot, *value, true);
  return width;
}

void FormDecoder::PredicateSource(int slot, const ptx::Operand& operand, bool* negated) {
  *negated = operand.negated;
  std::optional<uint32_t> value;
  if (operand.kind == ptx::OperandKind::kName) value = state_->FindRegister(operand.name);
  if (operand.kind == ptx::OperandKind::kInteger)
    value = state_->ConstantValue(operand.value, Width::kPredicate);
  if (!value || WidthOfValue(*value) != Width::kPredicate) {
    Malformed("an operand has to be a predicate");
    return;
  }
  Use(slot, *value, false);
}

AddressForm FormDecoder::Address(int slot, const ptx::Operand& operand) {
  AddressForm form;
  if (operand.kind != ptx::OperandKind::kAddress) {
    Malformed("an operand has to be an address in brackets");
    return form;
  }
  decoded_.immediate = operand.offset;
  if (operand.name.empty()) {
    Use(slot, state_->ConstantValue(0, Width::k64), false);
    return form;
  }
  std::optional<uint32_t> value = state_->FindRegister(operand.name);
  if (value) {
    form.width = WidthOfValue(*value);
    if (form.width != Width::k32 && form.width != Width::k64)
      Malformed("an address has to have 32 or 64 bits");
    Use(slot, *value, false);
    return form;
  }
  const VariablePlace* place = state_->FindVariable(operand.name);
  if (place == nullptr) {
    if (status_.ok()) {
      status_ = Location(absl::StatusCode::kInvalidArgument, Reason::kInvalidIr,
                         absl::StrCat("'", operand.name.substr(0, 100), "' is not declared"));
    }
    return form;
  }
  form.variable_space = place->space;
  if (place->space == Space::kParam) {
    form.is_parameter = true;
    decoded_.immediate = static_cast<int64_t>(place->address) + operand.offset;
  }
  Use(slot, state_->ConstantValue(place->space == Space::kParam ? 0 : place->address, Width::k64), false);
  return form;
}

void FormDecoder::Constant(int slot, uint64_t value, Width width) {
  Use(slot, state_->ConstantValue(value, width), false);
}

void FormDecoder::Scratch(int slot, Width width) { Use(slot, state_->NewRegister(width), true); }

void FormDecoder::Guard() {
  if (in_.guard.empty()) return;
  const std::optional<uint32_t> value = state_->FindRegister(in_.guard);
  if (!value || WidthOfValue(*value) != Width::kPredicate) {
    Malformed("its guard is not a predicate");
    return;
  }
  decoded_.guard = in_.guard_negated ? 1 : 0;
  uses_.push_back({0, kGuardSlot, *value, false, false});
}

absl::Status FormDecoder::Append(Operation run) {
  Guard();
  if (!status_.ok()) return status_;
  if (!state_->error.ok()) return state_->error;
  Program& program = *state_->program;
  if (program.code.size() >= kMaxInstructions) {
    return ResourceExhausted(Reason::kTooLarge,
                             absl::StrCat("the kernel has more than ", kMaxInstructions, " instructions"),
                             {{"limit", absl::StrCat(kMaxInstructions)}});
  }
  decoded_.run = run;
  const uint32_t index = static_cast<uint32_t>(program.code.size());
  program.code.push_back(decoded_);
  program.sites.push_back({in_.text, in_.position.line, in_.loc_file, in_.loc_line});
  AllocationInput& allocation = state_->allocation;
  allocation.list_begin.push_back(static_cast<uint32_t>(program.lists.size()));
  program.lists.resize(program.lists.size() + list_size_);
  allocation.guarded.push_back(!in_.guard.empty());
  std::stable_sort(uses_.begin(), uses_.end(), [](const OperandUse& a, const OperandUse& b) {
    return a.is_definition < b.is_definition;
  });
  for (OperandUse use : uses_) {
    use.instruction = index;
    use.early = use.is_definition && (early_ || destinations_ > 1);
    allocation.uses.push_back(use);
  }
  return absl::OkStatus();
}

absl::Status FormDecoder::Decode() {
  const Family family = FindFamily(in_.opcode);
  if (family == nullptr) {
    Unsupported("no such instruction here");
    return status_;
  }
  const Operation run = family(*this);
  if (!status_.ok()) return status_;
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (!taken_[i]) {
      Unsupported(absl::StrCat("'.", in_.modifiers[i].substr(0, 60), "' is not known here").c_str());
      return status_;
    }
  }
  if (run == nullptr) {
    Unsupported("this combination of types and modifiers");
    return status_;
  }
  return Append(run);
}

}  // namespace trun::device
