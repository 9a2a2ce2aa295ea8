#include "server/device/emulator/program/kernel_decoder.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/program/decode_state.h"
#include "server/device/emulator/program/form_decoder.h"

namespace trun::device {
namespace {

constexpr uint32_t kUnset = 0xffffffff;

class KernelDecoder {
 public:
  KernelDecoder(const ModuleContext& context, const ptx::Function& entry)
      : context_(context),
        entry_(entry),
        program_(std::make_shared<Program>()),
        state_(context, program_.get()) {}

  absl::StatusOr<std::shared_ptr<const Program>> Run() {
    program_->files = context_.module->files;
    program_->attributes.name = std::string(entry_.name);
    program_->attributes.required_block = entry_.required_block;
    program_->attributes.max_block = entry_.max_block;
    program_->required_cluster = entry_.required_cluster;
    state_.scopes.emplace_back();
    TRUN_RETURN_IF_ERROR(LayOutShared());
    TRUN_RETURN_IF_ERROR(LayOutParameters());
    TRUN_RETURN_IF_ERROR(Body(entry_, kUnset));
    // Running off the end is a return.
    ptx::Instruction end;
    end.opcode = "ret";
    end.text = "ret";
    end.position = entry_.position;
    TRUN_RETURN_IF_ERROR(ControlOp(end, &OpExit, {{}, false}));
    TRUN_RETURN_IF_ERROR(PatchLabels());
    TRUN_RETURN_IF_ERROR(AllocateRegisters(state_.allocation, program_.get()));
    program_->local_bytes = static_cast<uint32_t>(state_.local_bytes);
    program_->attributes.local_bytes = program_->local_bytes;
    return std::shared_ptr<const Program>(program_);
  }

 private:
  absl::Status Error(ptx::Position at, absl::string_view what) const {
    return InvalidArgument(Reason::kInvalidIr, absl::StrCat("PTX line ", at.line, ": ", what),
                           {{"line", absl::StrCat(at.line)}, {"column", absl::StrCat(at.column)}});
  }

  absl::StatusOr<uint64_t> BytesOfVariable(const ptx::Variable& v) const {
    const uint32_t bits = BitsOf(TypeFromName(v.type));
    if (bits < 8) return Error(v.position, absl::StrCat("a variable of type '", v.type.substr(0, 40), "'"));
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(v.elements, uint64_t{bits / 8} * v.vector, &bytes)) {
      return Error(v.position, "a variable that is too large");
    }
    return bytes;
  }

  uint64_t AlignOf(const ptx::Variable& v) const {
    const uint64_t natural = uint64_t{std::max(8u, BitsOf(TypeFromName(v.type)))} / 8 * v.vector;
    return std::max<uint64_t>(v.align, v.align == 0 ? std::min<uint64_t>(natural, 16) : 1);
  }

  absl::Status PlaceShared(const ptx::Variable& v, uint64_t* at, SymbolScope* scope) {
    TRUN_ASSIGN_OR_RETURN(const uint64_t bytes, BytesOfVariable(v));
    const uint64_t align = AlignOf(v);
    *at = (*at + align - 1) / align * align;
    if (bytes > kMaxSharedBytes || *at + bytes > kMaxSharedBytes) {
      return ResourceExhausted(
          Reason::kTooLarge,
          absl::StrCat("PTX line ", v.position.line, ": the kernel has more than ", kMaxSharedBytes,
                       " bytes of shared memory"),
          {{"limit", absl::StrCat(kMaxSharedBytes)}, {"line", absl::StrCat(v.position.line)}});
    }
    const VariablePlace place = {Space::kShared, *at, bytes};
    if (scope != nullptr) scope->variables[v.name] = place;
    shared_places_[&v] = place;
    *at += bytes;
    return absl::OkStatus();
  }

  absl::Status LayOutShared() {
    uint64_t at = 0;
    uint64_t dynamic_align = 1;
    const auto is_dynamic = [](const ptx::Variable& v) {
      return v.is_extern || (v.is_array && v.elements == 0);
    };
    for (const ptx::Variable& v : context_.module->variables) {
      if (v.space != "shared") continue;
      if (is_dynamic(v)) {
        dynamic_align = std::max(dynamic_align, AlignOf(v));
      } else {
        TRUN_RETURN_IF_ERROR(PlaceShared(v, &at, &state_.scopes[0]));
      }
    }
    for (const ptx::Function& f : context_.module->functions) {
      if (f.is_entry && &f != &entry_) continue;
      for (const ptx::Variable& v : f.variables) {
        if (v.space == "shared") TRUN_RETURN_IF_ERROR(PlaceShared(v, &at, nullptr));
      }
    }
    if (dynamic_align > 1) at = (at + dynamic_align - 1) / dynamic_align * dynamic_align;
    for (const ptx::Variable& v : context_.module->variables) {
      if (v.space == "shared" && is_dynamic(v)) state_.scopes[0].variables[v.name] = {Space::kShared, at, 0};
    }
    program_->static_shared_bytes = static_cast<uint32_t>(at);
    program_->attributes.static_shared_bytes = program_->static_shared_bytes;
    return absl::OkStatus();
  }

  absl::Status LayOutParameters() {
    uint64_t at = 0;
    if (entry_.parameters.size() > 4096)
      return Error(entry_.position, "an entry with more than 4096 parameters");
    for (const ptx::Variable& v : entry_.parameters) {
      TRUN_ASSIGN_OR_RETURN(const uint64_t bytes, BytesOfVariable(v));
      const uint64_t align = AlignOf(v);
      at = (at + align - 1) / align * align;
      if (bytes > 32764 || at + bytes > 32764)
        return Error(v.position, "an entry with more than 32764 bytes of parameters");
      program_->attributes.parameters.push_back(
          {static_cast<uint32_t>(at), static_cast<uint32_t>(bytes), static_cast<uint32_t>(align)});
      state_.scopes[0].variables[v.name] = {Space::kParam, at, bytes};
      at += bytes;
    }
    program_->attributes.parameter_bytes = static_cast<uint32_t>(at);
    return absl::OkStatus();
  }

  // Statements of `f` in the scope that the caller has pushed; `return_label` is where ret goes, kUnset: ends
  // threads.
  absl::Status Body(const ptx::Function& f, uint32_t return_label) {
    OpenScope(f, 0);
    const size_t floor = state_.scopes.size();
    for (const ptx::Statement& statement : f.statements) {
      switch (statement.kind) {
        case ptx::StatementKind::kScopeBegin:
          state_.scopes.emplace_back();
          OpenScope(f, statement.index);
          break;
        case ptx::StatementKind::kScopeEnd:
          if (state_.scopes.size() > floor) state_.scopes.pop_back();
          break;
        case ptx::StatementKind::kLabel:
          if (auto label = state_.FindLabel(statement.name))
            labels_[*label] = static_cast<uint32_t>(program_->code.size());
          break;
        case ptx::StatementKind::kRegister:
          TRUN_RETURN_IF_ERROR(DeclareRegisters(f.registers[statement.index]));
          break;
        case ptx::StatementKind::kVariable:
          TRUN_RETURN_IF_ERROR(DeclareVariable(f.variables[statement.index]));
          break;
        case ptx::StatementKind::kTargets:
          state_.scopes.back().targets[statement.name] = &f.targets[statement.index];
          break;
        case ptx::StatementKind::kInstruction:
          TRUN_RETURN_IF_ERROR(DecodeInstruction(f.instructions[statement.index], return_label));
          break;
      }
    }
    return state_.error;
  }

  void OpenScope(const ptx::Function& f, uint32_t index) {
    for (absl::string_view label : f.scopes[index].labels) {
      state_.scopes.back().labels[label] = static_cast<uint32_t>(labels_.size());
      labels_.push_back(kUnset);
    }
  }

  absl::Status DeclareRegisters(const ptx::RegisterDeclaration& r) {
    const std::optional<Width> width = RegisterWidthOf(r.type);
    if (!width || r.vector != 1) {
      return Error(r.position,
                   absl::StrCat("registers of type '", r.type.substr(0, 40), "' are not supported"));
    }
    SymbolScope& scope = state_.scopes.back();
    if (r.count > 0) {
      scope.ranges[r.name] = {r.count, *width, TypeFromName(r.type)};
    } else {
      scope.registers[r.name] = state_.NewRegister(*width, r.name);
    }
    return state_.error;
  }

  absl::Status DeclareVariable(const ptx::Variable& v) {
    SymbolScope& scope = state_.scopes.back();
    if (v.space == "shared") {
      scope.variables[v.name] = shared_places_[&v];
      return absl::OkStatus();
    }
    if (v.space == "local" || v.space == "param") {
      TRUN_ASSIGN_OR_RETURN(const uint64_t bytes, BytesOfVariable(v));
      scope.variables[v.name] = {Space::kLocal, state_.AllocateLocal(v.name, bytes, AlignOf(v)), bytes};
      return state_.error;
    }
    return Error(v.position, "a global variable inside a function is not supported");
  }

  absl::Status ControlOp(const ptx::Instruction& in, Operation op, FlowEdge edge, uint32_t label = kUnset) {
    FormDecoder form(&state_, in);
    return ControlOp(&form, op, std::move(edge), label);
  }

  // Appends `form` and notes where control goes; edge.targets are label numbers until PatchLabels.
  absl::Status ControlOp(FormDecoder* form, Operation op, FlowEdge edge, uint32_t label = kUnset) {
    const uint32_t index = static_cast<uint32_t>(program_->code.size());
    if (label != kUnset) edge.targets = {label};
    TRUN_RETURN_IF_ERROR(form->Append(op));
    if (program_->code.back().guard >= 0) edge.falls_through = true;
    state_.allocation.branches.push_back({index, std::move(edge)});
    return absl::OkStatus();
  }

  absl::Status DecodeInstruction(const ptx::Instruction& in, uint32_t return_label) {
    if (in.opcode == "bra") return DecodeBranch(in);
    if (in.opcode == "brx") return DecodeIndexedBranch(in);
    if (in.opcode == "call") return DecodeCall(in);
    if (in.opcode == "trap") return ControlOp(in, &OpTrap, {{}, true});
    if (in.opcode == "exit" || (in.opcode == "ret" && return_label == kUnset)) {
      return ControlOp(in, &OpExit, {{}, false});
    }
    if (in.opcode == "ret") return ControlOp(in, &OpBranch, {{}, false}, return_label);
    FormDecoder form(&state_, in);
    return form.Decode();
  }

  absl::Status DecodeBranch(const ptx::Instruction& in) {
    const bool known = in.modifiers.empty() || (in.modifiers.size() == 1 && in.modifiers[0] == "uni");
    if (!known || in.operands.size() != 1 || in.operands[0].kind != ptx::OperandKind::kName) {
      return Error(in.position, "a branch has to name one label");
    }
    const std::optional<uint32_t> label = state_.FindLabel(in.operands[0].name);
    if (!label)
      return Error(in.position, absl::StrCat("there is no label '", in.operands[0].name.substr(0, 100), "'"));
    return ControlOp(in, &OpBranch, {{}, false}, *label);
  }

  absl::Status DecodeIndexedBranch(const ptx::Instruction& in) {
    if (in.operands.size() != 2 || in.operands[1].kind != ptx::OperandKind::kName) {
      return Error(in.position, "brx.idx has an index and a list of targets");
    }
    const ptx::BranchTargets* targets = state_.FindTargets(in.operands[1].name);
    if (targets == nullptr)
      return Error(in.position, "the list of targets is not declared before the branch");
    FlowEdge edge{{}, false};
    for (absl::string_view name : targets->labels) {
      const std::optional<uint32_t> label = state_.FindLabel(name);
      if (!label) return Error(in.position, absl::StrCat("there is no label '", name.substr(0, 100), "'"));
      edge.targets.push_back(*label);
    }
    FormDecoder form(&state_, in);
    form.Source(0, 0, Type::kU32);
    tables_.push_back({static_cast<uint32_t>(program_->code.size()), form.Data(BranchTable{})});
    return ControlOp(&form, &OpBranchIndexed, std::move(edge));
  }

  // The places of the .param variables in a call's list.
  absl::StatusOr<std::vector<VariablePlace>> CallList(const ptx::Instruction& in, const ptx::Operand& list) {
    std::vector<VariablePlace> places;
    for (const ptx::Operand& element : list.elements) {
      const VariablePlace* place =
          element.kind == ptx::OperandKind::kName ? state_.FindVariable(element.name) : nullptr;
      if (place == nullptr || place->space != Space::kLocal) {
        return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedInstruction,
                         absl::StrCat("PTX line ", in.position.line,
                                      ": a call whose arguments are not .param variables is not supported"),
                         {{"line", absl::StrCat(in.position.line)}, {"instruction", std::string(in.text)}});
      }
      places.push_back(*place);
    }
    return places;
  }

  absl::Status DecodeCall(const ptx::Instruction& in) {
    size_t at = 0;
    static const ptx::Operand kNone;
    const ptx::Operand* results = &kNone;
    const ptx::Operand* arguments = &kNone;
    if (at < in.operands.size() && in.operands[at].kind == ptx::OperandKind::kList)
      results = &in.operands[at++];
    if (at >= in.operands.size() || in.operands[at].kind != ptx::OperandKind::kName) {
      return Error(in.position, "a call without a function");
    }
    const absl::string_view name = in.operands[at++].name;
    if (at < in.operands.size() && in.operands[at].kind == ptx::OperandKind::kList)
      arguments = &in.operands[at++];
    TRUN_ASSIGN_OR_RETURN(const std::vector<VariablePlace> inputs, CallList(in, *arguments));
    TRUN_ASSIGN_OR_RETURN(const std::vector<VariablePlace> outputs, CallList(in, *results));
    const bool is_printf = name == "vprintf";
    if (is_printf || name == "__assertfail") {
      if (inputs.size() < (is_printf ? 2u : 4u)) return Error(in.position, "a call with too few arguments");
      // Pointers, but for __assertfail's third argument, a line; the result is a number.
      for (size_t i = 0; i < inputs.size(); ++i) {
        if (inputs[i].bytes < (i == 2 ? 4 : 8) && i < (is_printf ? 2 : 4))
          return Error(in.position, "an argument of a call that is too small");
      }
      for (const VariablePlace& place : outputs) {
        if (place.bytes < 4) return Error(in.position, "a result of a call that is too small");
      }
      FormDecoder form(&state_, in);
      CallArguments data;
      for (const VariablePlace& place : inputs)
        data.arguments.push_back(static_cast<uint32_t>(place.address));
      for (const VariablePlace& place : outputs) data.results.push_back(static_cast<uint32_t>(place.address));
      form.Data(std::move(data));
      return form.Append(is_printf ? &OpPrintf : &OpAssertFail);
    }
    auto function = context_.functions.find(name);
    if (function == context_.functions.end() || !function->second->has_body) {
      return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedInstruction,
                       absl::StrCat("PTX line ", in.position.line, ": the function '", name.substr(0, 200),
                                    "' is not in the module and the emulator does not have it"),
                       {{"line", absl::StrCat(in.position.line)}, {"instruction", std::string(in.text)}});
    }
    return Inline(in, *function->second, inputs, outputs);
  }

  absl::Status Inline(const ptx::Instruction& in, const ptx::Function& f,
                      const std::vector<VariablePlace>& inputs, const std::vector<VariablePlace>& outputs) {
    const bool recursive = std::find(calls_.begin(), calls_.end(), &f) != calls_.end();
    if (recursive || calls_.size() >= kMaxCallDepth || !in.guard.empty()) {
      return MakeError(
          absl::StatusCode::kUnimplemented, Reason::kUnsupportedInstruction,
          absl::StrCat("PTX line ", in.position.line, ": ",
                       in.guard.empty() ? "recursive calls" : "calls with a guard", " are not supported"),
          {{"line", absl::StrCat(in.position.line)}, {"instruction", std::string(in.text)}});
    }
    if (inputs.size() != f.parameters.size() || outputs.size() != f.results.size()) {
      return Error(in.position, absl::StrCat("the call does not fit '", f.name.substr(0, 200), "'"));
    }
    SymbolScope scope;
    for (size_t i = 0; i < inputs.size(); ++i) scope.variables[f.parameters[i].name] = inputs[i];
    for (size_t i = 0; i < outputs.size(); ++i) scope.variables[f.results[i].name] = outputs[i];
    const uint32_t label = static_cast<uint32_t>(labels_.size());
    labels_.push_back(kUnset);
    const size_t floor = state_.scope_floor;
    state_.scope_floor = state_.scopes.size();
    state_.scopes.push_back(std::move(scope));
    calls_.push_back(&f);
    TRUN_RETURN_IF_ERROR(Body(f, label));
    calls_.pop_back();
    state_.scopes.resize(state_.scope_floor);
    state_.scope_floor = floor;
    labels_[label] = static_cast<uint32_t>(program_->code.size());
    return absl::OkStatus();
  }

  absl::Status PatchLabels() {
    for (auto& [index, edge] : state_.allocation.branches) {
      for (uint32_t& target : edge.targets) {
        target = labels_[target];
        if (target == kUnset) return Error(entry_.position, "a label that is never placed");
      }
      if (edge.targets.size() == 1) program_->code[index].immediate = edge.targets[0];
    }
    for (const auto& [index, table] : tables_) {
      for (const auto& [at, edge] : state_.allocation.branches) {
        if (at == index) table->targets = edge.targets;
      }
    }
    return absl::OkStatus();
  }

  const ModuleContext& context_;
  const ptx::Function& entry_;
  std::shared_ptr<Program> program_;
  DecodeState state_;
  std::vector<uint32_t> labels_;  // label number → instruction
  std::vector<const ptx::Function*> calls_;
  std::vector<std::pair<uint32_t, BranchTable*>> tables_;
  absl::flat_hash_map<const ptx::Variable*, VariablePlace> shared_places_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<const Program>> DecodeKernel(const ModuleContext& context,
                                                            const ptx::Function& entry) {
  return KernelDecoder(context, entry).Run();
}

}  // namespace trun::device
