// Form over a parsed instruction and the state of the kernel that is being decoded.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_FORM_DECODER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_FORM_DECODER_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/base/status.h"
#include "server/device/emulator/program/decode_state.h"
#include "server/device/emulator/program/form.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {

// Thread-compatible. Decodes one instruction, then is thrown away.
class FormDecoder final : public Form {
 public:
  FormDecoder(DecodeState* state, const ptx::Instruction& in);

  // Decodes and appends to the program's code.
  absl::Status Decode();
  // Appends what the caller has put together through the Form interface, as an instruction that runs `run`.
  absl::Status Append(Operation run);

  bool Take(const char* modifier) override;
  absl::string_view Peek() override;
  absl::string_view TakeNext() override;
  absl::string_view LastModifier() const override {
    return in_.modifiers.empty() ? absl::string_view() : in_.modifiers.back();
  }
  Type TakeType() override;
  Type OptionalType() override;
  void TakeCacheHints() override;
  Space TakeSpace() override;
  int arch() const override { return state_->context.arch; }

  uint64_t ParameterBytes() const override { return state_->program->attributes.parameter_bytes; }

  int operands() const override { return static_cast<int>(in_.operands.size()); }
  const ptx::Operand& operand(int i) const override { return in_.operands[static_cast<size_t>(i)]; }
  bool IsRegister(const ptx::Operand& operand) const override;
  bool IsVector(int i) const override;
  bool IsSink(int i) const override;
  Width RegisterWidth(const ptx::Operand& operand) override;
  uint64_t Integer(int i) override;
  bool IsLiteral(int i) const override;

  using Form::Address;
  using Form::Destination;
  using Form::PredicateSource;
  using Form::Source;
  using Form::WideDestination;
  using Form::WideSource;
  void Source(int slot, const ptx::Operand& operand, Type type) override;
  void Destination(int slot, const ptx::Operand& operand, Type type) override;
  Width WideSource(int slot, const ptx::Operand& operand, Type type) override;
  Width WideDestination(int slot, const ptx::Operand& operand, Type type) override;
  void PredicateSource(int slot, const ptx::Operand& operand, bool* negated) override;
  AddressForm Address(int slot, const ptx::Operand& operand) override;
  void Constant(int slot, uint64_t value, Width width) override;
  void Scratch(int slot, Width width) override;
  const ptx::Operand& Checked(int i) override;
  int Elements(int i) override;
  const ptx::Operand& Element(int i, int k) override;

  Instruction& instruction() override { return decoded_; }
  void EarlyDestinations() override { early_ = true; }
  void CrossCta() override { state_->program->ordered = true; }
  Operation Unsupported(const char* why) override;
  Operation Malformed(const char* why) override;
  bool failed() const override { return !status_.ok() || !state_->error.ok(); }

 protected:
  void Own(std::shared_ptr<const void> data) override { state_->program->owned.push_back(std::move(data)); }

 private:
  void Use(int slot, uint32_t value, bool definition);
  // The value of a source, whatever its width; kNever and an error where there is none.
  uint32_t SourceValue(const ptx::Operand& operand, Type type, bool wide);
  uint32_t LiteralValue(const ptx::Operand& operand, Type type);
  Width WidthOfValue(uint32_t value) const { return state_->allocation.values[value].width; }
  void Guard();
  absl::Status Location(absl::StatusCode code, Reason reason, const std::string& what) const;

  DecodeState* const state_;
  const ptx::Instruction& in_;
  Instruction decoded_;
  std::vector<OperandUse> uses_;
  std::vector<bool> taken_;
  uint32_t list_size_ = 0;
  int destinations_ = 0;
  bool early_ = false;
  absl::Status status_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PROGRAM_FORM_DECODER_H_
