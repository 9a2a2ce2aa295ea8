// One written instruction on its way to a decoded one: what a family sees when it decodes.
//
// A family reads modifiers and operands through a Form and gives back the operation. The first thing that
// does not fit is remembered; decoding then fails with the instruction's line, whatever the family does
// afterwards. A modifier that no one took is an error too, so a form is accepted only when every word of it
// was understood.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_FORM_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_FORM_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/strings/string_view.h"
#include "server/device/emulator/program/instruction.h"
#include "server/device/emulator/program/type.h"

namespace trun::device {

namespace ptx {
struct Instruction;
struct Operand;
}  // namespace ptx

// How an operand is held in the register file.
enum class Width : uint8_t { kPredicate, k32, k64, k128 };

Width WidthOf(Type type);

enum class Space : uint8_t { kGeneric, kGlobal, kShared, kSharedCluster, kLocal, kParam, kConst };

// How an address operand was written.
struct AddressForm {
  Width width = Width::k64;  // of the base register
  bool is_parameter =
      false;  // [a kernel's parameter + offset]; immediate is the offset in the parameter buffer
  Space variable_space = Space::kGeneric;  // of the variable it names; kGeneric: it names none
};

// Thread-compatible.
class Form {
 public:
  virtual ~Form() = default;

  // --- modifiers
  // ------------------------------------------------------------------------------------------------- True,
  // and the modifier is consumed, when it is there and not consumed yet.
  virtual bool Take(const char* modifier) = 0;
  // The next modifier not consumed, in writing order; empty: none. TakeNext consumes it.
  virtual absl::string_view Peek() = 0;
  virtual absl::string_view TakeNext() = 0;
  // The last modifier as written, consumed or not; empty: there is none.
  virtual absl::string_view LastModifier() const = 0;
  // The next modifier that is a type; kNone (and an error) where there is none. OptionalType gives no error.
  virtual Type TakeType() = 0;
  virtual Type OptionalType() = 0;
  // Consumes cache hints that change nothing here: .ca .cg .cs .L1::… .L2::… .level::….
  virtual void TakeCacheHints() = 0;
  // .global, .shared, .shared::cta, … ; kGeneric where none is written.
  virtual Space TakeSpace() = 0;
  virtual int arch() const = 0;
  // Of the entry's parameter buffer.
  virtual uint64_t ParameterBytes() const = 0;

  // --- operands
  // --------------------------------------------------------------------------------------------------
  virtual int operands() const = 0;
  virtual const ptx::Operand& operand(int i) const = 0;
  virtual bool IsRegister(const ptx::Operand& operand) const = 0;
  virtual bool IsVector(int i) const = 0;
  virtual bool IsSink(int i) const = 0;
  // Of a register operand.
  virtual Width RegisterWidth(const ptx::Operand& operand) = 0;
  // The value of an integer literal; an error when the operand is none.
  virtual uint64_t Integer(int i) = 0;
  virtual bool IsLiteral(int i) const = 0;

  // Puts an operand into slot `slot` of the instruction; slots of 7 and above are in its list (slot - 7).
  // Sources may be registers, literals (converted to `type`), special registers, and variables (their
  // address). The register has to be of the width of `type`.
  virtual void Source(int slot, const ptx::Operand& operand, Type type) = 0;
  virtual void Destination(int slot, const ptx::Operand& operand, Type type) = 0;
  // Registers of any width at least as wide as `type` (ld, st, cvt); returns the width.
  virtual Width WideSource(int slot, const ptx::Operand& operand, Type type) = 0;
  virtual Width WideDestination(int slot, const ptx::Operand& operand, Type type) = 0;
  // A predicate source; `negated` tells whether it was written with !.
  virtual void PredicateSource(int slot, const ptx::Operand& operand, bool* negated) = 0;
  // [base + offset]: the base in `slot`, the offset in immediate.
  virtual AddressForm Address(int slot, const ptx::Operand& operand) = 0;
  // A constant in `slot`; a scratch register that is nobody else's during this instruction.
  virtual void Constant(int slot, uint64_t value, Width width) = 0;
  virtual void Scratch(int slot, Width width) = 0;

  void Source(int slot, int i, Type type) { Source(slot, Checked(i), type); }
  void Destination(int slot, int i, Type type) { Destination(slot, Checked(i), type); }
  Width WideSource(int slot, int i, Type type) { return WideSource(slot, Checked(i), type); }
  Width WideDestination(int slot, int i, Type type) { return WideDestination(slot, Checked(i), type); }
  void PredicateSource(int slot, int i, bool* negated) { PredicateSource(slot, Checked(i), negated); }
  AddressForm Address(int slot, int i) { return Address(slot, Checked(i)); }

  // operand(i), or a sink and an error when there are not that many.
  virtual const ptx::Operand& Checked(int i) = 0;
  // The elements of a vector operand; a plain operand is a vector of one.
  virtual int Elements(int i) = 0;
  virtual const ptx::Operand& Element(int i, int k) = 0;

  // --- the decoded instruction
  // -----------------------------------------------------------------------------------
  virtual Instruction& instruction() = 0;
  template <typename T>
  T* Data(T value) {
    auto owned = std::make_shared<T>(std::move(value));
    T* raw = owned.get();
    Own(owned);
    instruction().data = raw;
    return raw;
  }
  // Destinations must not share registers with sources (the operation writes some before it has read all, or
  // reads other lanes). Implied when there is more than one destination.
  virtual void EarlyDestinations() = 0;
  // The operation lets CTAs see each other: the kernel runs in a fixed order.
  virtual void CrossCta() = 0;

  // This form is not one that the emulator has. Returns null, for `return form.Unsupported(…)`.
  virtual Operation Unsupported(const char* why) = 0;
  // The instruction is written wrongly.
  virtual Operation Malformed(const char* why) = 0;
  virtual bool failed() const = 0;

 protected:
  virtual void Own(std::shared_ptr<const void> data) = 0;
};

// Decodes the instructions of one opcode: null after Unsupported or Malformed.
using Family = Operation (*)(Form& form);

// Opcode → family. Filled once, at the first load, by the Register… functions of ops/; a second entry for an
// opcode is a programming error and ends the process.
class FamilyTable {
 public:
  virtual ~FamilyTable() = default;
  virtual void Add(const char* opcode, Family family) = 0;
};

// The table with the operations that suit this host. Thread-safe.
Family FindFamily(absl::string_view opcode);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_FORM_H_
