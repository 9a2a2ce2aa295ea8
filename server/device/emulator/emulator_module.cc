#include "server/device/emulator/emulator_module.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/ir/target.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/program/kernel_decoder.h"
#include "server/device/emulator/ptx/parser.h"

namespace trun::device {
namespace {

// All variables of a module together.
constexpr uint64_t kMaxModuleBytes = uint64_t{256} << 20;
constexpr uint64_t kRegionAlign = uint64_t{1} << 21;

uint64_t NextRegion(uint64_t bytes) {
  static std::atomic<uint64_t> next{kModuleBase};
  return next.fetch_add((bytes / kRegionAlign + 2) * kRegionAlign);
}

absl::Status ErrorAt(ptx::Position at, absl::string_view what) {
  return InvalidArgument(Reason::kInvalidIr, absl::StrCat("PTX line ", at.line, ": ", what),
                         {{"line", absl::StrCat(at.line)}, {"column", absl::StrCat(at.column)}});
}

class EmulatorModule final : public Module {
 public:
  ~EmulatorModule() override {
    for (uint64_t range : ranges) memory->RemoveModuleRange(range);
    if (mapped != 0) memory->RemoveMapping(mapped);
  }

  absl::StatusOr<const Kernel*> GetKernel(absl::string_view name) const override {
    std::vector<std::string> names;
    for (const auto& kernel : kernels) {
      if (kernel->attributes().name == name || (name.empty() && kernels.size() == 1)) return kernel.get();
      names.push_back(kernel->attributes().name);
    }
    const std::string list = absl::StrJoin(names, ", ");
    if (name.empty()) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("the module has ", names.size(), " entries, name one of: ", list));
    }
    return NotFound(Reason::kArgument, absl::StrCat("the module has no entry '", name, "', it has: ", list));
  }

  std::shared_ptr<const std::string> text;
  std::vector<std::unique_ptr<EmulatorKernel>> kernels;
  std::shared_ptr<AllocationTable> memory;
  std::vector<uint64_t> ranges;
  uint64_t mapped = 0;
};

absl::Status PlaceVariables(const ptx::Module& ast, ModuleContext* context, EmulatorModule* module) {
  struct Placed {
    const ptx::Variable* variable;
    uint64_t offset;
    uint64_t bytes;
  };
  std::vector<Placed> placed;
  uint64_t at = 0;
  for (const ptx::Variable& v : ast.variables) {
    if (v.space != "global" && v.space != "const") continue;
    const uint32_t bits = BitsOf(TypeFromName(v.type));
    if (bits < 8) return ErrorAt(v.position, absl::StrCat("a variable of type '", v.type.substr(0, 40), "'"));
    uint64_t bytes = 0;
    const uint64_t count = v.is_array && v.elements == 0 ? v.initializers.size() : v.elements;
    if (__builtin_mul_overflow(count, uint64_t{bits / 8} * v.vector, &bytes)) bytes = ~uint64_t{0} / 2;
    const uint64_t align = std::max<uint64_t>(v.align, std::min<uint64_t>(bits / 8 * v.vector, 16));
    // A gap between variables, so that running over the end of one is seen.
    at = (at + align - 1) / align * align;
    if (bytes > kMaxModuleBytes || at + bytes > kMaxModuleBytes) {
      return ResourceExhausted(Reason::kTooLarge,
                               absl::StrCat("the module's variables pass ", kMaxModuleBytes, " bytes"),
                               {{"limit", absl::StrCat(kMaxModuleBytes)}});
    }
    placed.push_back({&v, at, bytes});
    at += bytes + 16;
  }
  if (placed.empty()) return absl::OkStatus();
  const uint64_t total = (at + 4095) / 4096 * 4096;
  void* host = mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (host == MAP_FAILED)
    return ResourceExhausted(Reason::kOutOfMemory, "no memory for the module's variables");
  const uint64_t base = NextRegion(total);
  auto mapping = std::make_shared<HostMapping>(base, total, static_cast<uint8_t*>(host), true);
  TRUN_RETURN_IF_ERROR(module->memory->AddMapping(mapping));
  module->mapped = base;
  for (const Placed& p : placed) {
    context->variables[p.variable->name] = {Space::kGlobal, base + p.offset, p.bytes};
  }
  for (const Placed& p : placed) {
    const ptx::Variable& v = *p.variable;
    const uint32_t element = BitsOf(TypeFromName(v.type)) / 8;
    uint8_t* to = mapping->host + p.offset;
    if (v.initializers.size() * element > p.bytes)
      return ErrorAt(v.position, "an initialiser is longer than its variable");
    for (const ptx::Initializer& init : v.initializers) {
      uint64_t value = init.value.value;
      if (init.value.kind == ptx::OperandKind::kName) {
        auto it = context->variables.find(init.value.name);
        if (it == context->variables.end())
          return ErrorAt(init.value.position, "an initialiser that is not declared");
        value = it->second.address + static_cast<uint64_t>(init.value.offset);
      } else if (init.value.kind == ptx::OperandKind::kFloat && element == 4) {
        double number = 0;
        memcpy(&number, &value, sizeof number);
        const float single = static_cast<float>(number);
        value = 0;
        memcpy(&value, &single, sizeof single);
      }
      memcpy(to, &value, std::min<size_t>(element, 8));
      to += element;
    }
    if (p.bytes == 0) continue;
    module->memory->AddModuleRange(base + p.offset, p.bytes, v.space == "const");
    module->ranges.push_back(base + p.offset);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Module>> LoadEmulatorModule(absl::string_view image, int arch,
                                                           std::shared_ptr<AllocationTable> memory) {
  if (image.substr(0, 4) ==
      "\x7f"
      "ELF") {
    return FailedPrecondition(
        Reason::kUnsupportedLevel,
        "the emulator runs PTX; a cubin needs a GPU (give the kernel at any level up to PTX)");
  }
  auto module = std::make_unique<EmulatorModule>();
  module->memory = std::move(memory);
  module->text = std::make_shared<const std::string>(image);
  TRUN_ASSIGN_OR_RETURN(const ptx::Module ast, ptx::Parse(*module->text));
  ModuleContext context;
  context.module = &ast;
  context.arch = arch;
  if (!ast.target.empty()) {
    std::string name(ast.target);
    while (!name.empty() && (name.back() == 'a' || name.back() == 'f')) name.pop_back();
    const absl::StatusOr<Target> target = Target::Parse(name);
    if (!target.ok() || target->arch > arch) {
      return FailedPrecondition(Reason::kUnsupportedTarget,
                                absl::StrCat("the module is for ", ast.target, ", the emulator is sm_", arch,
                                             "; start it as that, or compile for it"));
    }
  }
  for (const ptx::Function& f : ast.functions) {
    auto [it, inserted] = context.functions.emplace(f.name, &f);
    if (!inserted && f.has_body) it->second = &f;
  }
  TRUN_RETURN_IF_ERROR(PlaceVariables(ast, &context, module.get()));
  for (const ptx::Function& f : ast.functions) {
    if (!f.is_entry || !f.has_body) continue;
    TRUN_ASSIGN_OR_RETURN(std::shared_ptr<const Program> program, DecodeKernel(context, f));
    module->kernels.push_back(std::make_unique<EmulatorKernel>(std::move(program), module->text));
  }
  return std::unique_ptr<Module>(std::move(module));
}

}  // namespace trun::device
