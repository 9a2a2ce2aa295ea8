#include "server/artifact/signature.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "server/artifact/argument_types.h"
#include "server/artifact/cubin_facts.h"
#include "server/artifact/entry_choice.h"
#include "server/artifact/llir_facts.h"
#include "server/artifact/mlir_facts.h"
#include "server/artifact/ptx_facts.h"

namespace trun {
namespace {

using Kind = KernelArgument::Kind;

absl::Status NoSignature(Level level) {
  return InvalidArgument(Reason::kUnsupportedLevel,
                         absl::StrCat("a signature cannot be read from ", LevelName(level),
                                      "; it can from TTIR, TTGIR, LLIR, PTX and cubin"));
}

std::vector<MlirFunction> PublicFunctions(const MlirFacts& facts) {
  std::vector<MlirFunction> functions;
  for (const MlirFunction& function : facts.functions) {
    if (function.is_public) functions.push_back(function);
  }
  return functions;
}

template <typename Entry>
std::vector<std::string> NamesOf(const std::vector<Entry>& entries) {
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const Entry& entry : entries) names.push_back(entry.name);
  return names;
}

absl::StatusOr<KernelSignature> MlirSignature(absl::string_view bytes, absl::string_view kernel_name) {
  TRUN_ASSIGN_OR_RETURN(const MlirFacts facts, ReadMlirFacts(bytes));
  const std::vector<MlirFunction> functions = PublicFunctions(facts);
  TRUN_ASSIGN_OR_RETURN(const MlirFunction* function, ChooseEntry(functions, kernel_name));
  KernelSignature signature;
  signature.name = function->name;
  for (const MlirArgument& declared : function->arguments) {
    std::optional<KernelArgument> argument = ArgumentOfMlirType(declared.type);
    if (!argument.has_value()) {
      return InvalidArgument(
          Reason::kInvalidIr,
          absl::StrCat("line ", declared.line, ": argument ", signature.arguments.size(), " of ",
                       function->name, " has type ", declared.type.substr(0, 200),
                       ", which no launch can pass"),
          {{"line", absl::StrCat(declared.line)}, {"argument", absl::StrCat(signature.arguments.size())}});
    }
    argument->name = declared.name;
    argument->divisibility = declared.divisibility;
    signature.arguments.push_back(*std::move(argument));
  }
  signature.arguments = FoldTensorDescriptors(std::move(signature.arguments));
  return signature;
}

// How many trailing parameters that nobody reads may be Triton's own, where no metadata tells. What the
// versions write: .maxntid (3.0, 3.1: none), .reqntid with three numbers (3.2: none, 3.3: one), with one (3.4
// on: up to two).
size_t MostHidden(const PtxEntry& entry) {
  if (entry.required_block_dimensions == 3) return 1;
  if (entry.required_block[0] == 0 && entry.max_block[0] != 0) return 0;
  return 2;
}

size_t MostHidden(const LlirFacts& facts, const LlirKernel& kernel) {
  if (!facts.has_kernel_convention) return 0;  // up to 3.2
  return kernel.block_is_annotated ? 1 : 2;    // 3.3, or 3.4 on
}

template <typename Parameter, typename IsHidden>
size_t TrailingHidden(const std::vector<Parameter>& parameters, size_t most, IsHidden is_hidden) {
  size_t count = 0;
  while (count < most && count < parameters.size() && is_hidden(parameters[parameters.size() - 1 - count]))
    ++count;
  return count;
}

// Drops the hidden ones. INVALID_ARGUMENT kMetadata where there are not as many.
absl::Status DropHidden(KernelSignature& signature, size_t hidden) {
  std::vector<KernelArgument>& arguments = signature.arguments;
  bool fits = arguments.size() >= hidden;
  for (size_t i = 0; fits && i < hidden; ++i) {
    const KernelArgument& argument = arguments[arguments.size() - 1 - i];
    fits = argument.kind == Kind::kPointer;
  }
  if (!fits) {
    return InvalidArgument(
        Reason::kMetadata,
        absl::StrCat("by its metadata ", signature.name, " ends with ", hidden,
                     " scratch pointers, but its file does not declare them: the metadata is of "
                     "another Triton version or of another kernel"),
        {{"key", "triton_version"}});
  }
  arguments.resize(arguments.size() - hidden);
  arguments = FoldTensorDescriptors(std::move(arguments));
  return absl::OkStatus();
}

size_t CountHidden(const LlirFacts& facts, const LlirKernel& kernel) {
  return TrailingHidden(kernel.parameters, MostHidden(facts, kernel),
                        [](const LlirParameter& p) { return p.is_pointer && p.is_unread; });
}

size_t CountHidden(const PtxFacts& facts, const PtxEntry& entry) {
  return TrailingHidden(entry.parameters, MostHidden(entry), [&](const PtxParameter& parameter) {
    return !parameter.is_read && parameter.bytes == 8 && !parameter.is_array &&
           parameter.is_pointer == facts.declares_pointers;
  });
}

absl::StatusOr<KernelSignature> LlirSignature(absl::string_view bytes, absl::string_view kernel_name,
                                              std::optional<int> hidden) {
  TRUN_ASSIGN_OR_RETURN(const LlirFacts facts, ReadLlirFacts(bytes));
  TRUN_ASSIGN_OR_RETURN(const LlirKernel* kernel, ChooseEntry(facts.kernels, kernel_name));
  KernelSignature signature;
  signature.name = kernel->name;
  for (const LlirParameter& parameter : kernel->parameters) {
    std::optional<KernelArgument> argument = ArgumentOfLlirParameter(parameter);
    if (!argument.has_value()) {
      return InvalidArgument(Reason::kInvalidIr,
                             absl::StrCat("line ", kernel->line, ": parameter ", signature.arguments.size(),
                                          " of ", kernel->name, " has type ", parameter.type.substr(0, 80),
                                          ", which no launch can pass"),
                             {{"line", absl::StrCat(kernel->line)}});
    }
    argument->name = parameter.name;
    signature.arguments.push_back(*std::move(argument));
  }
  const size_t count = hidden.has_value() ? static_cast<size_t>(*hidden) : CountHidden(facts, *kernel);
  TRUN_RETURN_IF_ERROR(DropHidden(signature, count));
  return signature;
}

absl::StatusOr<KernelSignature> PtxSignature(absl::string_view bytes, absl::string_view kernel_name,
                                             std::optional<int> hidden) {
  TRUN_ASSIGN_OR_RETURN(const PtxFacts facts, ReadPtxFacts(bytes));
  TRUN_ASSIGN_OR_RETURN(const PtxEntry* entry, ChooseEntry(facts.entries, kernel_name));
  KernelSignature signature;
  signature.name = entry->name;
  for (const PtxParameter& parameter : entry->parameters) {
    signature.arguments.push_back(ArgumentOfPtxParameter(parameter, facts.declares_pointers));
  }
  const size_t count = hidden.has_value() ? static_cast<size_t>(*hidden) : CountHidden(facts, *entry);
  TRUN_RETURN_IF_ERROR(DropHidden(signature, count));
  return signature;
}

bool DeclaresPointers(const CubinEntry& entry) {
  return std::any_of(entry.parameters.begin(), entry.parameters.end(),
                     [](const CubinParameter& parameter) { return parameter.is_pointer; });
}

absl::StatusOr<KernelSignature> CubinSignature(absl::string_view bytes, absl::string_view kernel_name,
                                               std::optional<int> hidden) {
  TRUN_ASSIGN_OR_RETURN(const CubinFacts facts, ReadCubinFacts(bytes));
  TRUN_ASSIGN_OR_RETURN(const CubinEntry* entry, ChooseEntry(facts.entries, kernel_name));
  if (!hidden.has_value()) {
    return InvalidArgument(Reason::kMetadata,
                           absl::StrCat("a cubin does not tell how many scratch pointers ", entry->name,
                                        " takes: give the metadata JSON that Triton wrote beside it, or "
                                        "triton_version in one"),
                           {{"key", "triton_version"}});
  }
  KernelSignature signature;
  signature.name = entry->name;
  for (const CubinParameter& parameter : entry->parameters) {
    signature.arguments.push_back(ArgumentOfCubinParameter(parameter, DeclaresPointers(*entry)));
  }
  TRUN_RETURN_IF_ERROR(DropHidden(signature, static_cast<size_t>(*hidden)));
  return signature;
}

bool IsFloat(ScalarType type) {
  return type == ScalarType::kF16 || type == ScalarType::kBf16 || type == ScalarType::kF32 ||
         type == ScalarType::kF64;
}

// Whether a file that declares `lower` can have been made from one that declares `upper`.
bool CanBecome(const KernelArgument& upper, const KernelArgument& lower) {
  const bool either = lower.kind == Kind::kPointer && lower.type == ScalarType::kUnspecified;
  if (upper.kind == Kind::kScalar && either) return upper.bytes == 8;
  if (upper.kind != lower.kind) return false;
  if (upper.kind == Kind::kTensorDescriptor) {
    return lower.descriptor_type.empty() || upper.descriptor_type.empty() ||
           DescriptorRank(upper.descriptor_type) == DescriptorRank(lower.descriptor_type);
  }
  if (upper.bytes != lower.bytes) return false;
  if (upper.type == ScalarType::kUnspecified || lower.type == ScalarType::kUnspecified) return true;
  if (upper.kind == Kind::kPointer) return upper.type == lower.type;
  // i1 may be declared as .u8; two scalars of one size are one unless one is a float and the other an
  // integer.
  return IsFloat(upper.type) == IsFloat(lower.type);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ReadEntryNames(Level level, absl::string_view bytes) {
  switch (level) {
    case Level::kTtir:
    case Level::kTtgir: {
      TRUN_ASSIGN_OR_RETURN(const MlirFacts facts, ReadMlirFacts(bytes));
      return NamesOf(PublicFunctions(facts));
    }
    case Level::kLlir: {
      TRUN_ASSIGN_OR_RETURN(const LlirFacts facts, ReadLlirFacts(bytes));
      return NamesOf(facts.kernels);
    }
    case Level::kPtx: {
      TRUN_ASSIGN_OR_RETURN(const PtxFacts facts, ReadPtxFacts(bytes));
      return NamesOf(facts.entries);
    }
    case Level::kCubin: {
      TRUN_ASSIGN_OR_RETURN(const CubinFacts facts, ReadCubinFacts(bytes));
      return NamesOf(facts.entries);
    }
    default:
      return NoSignature(level);
  }
}

absl::StatusOr<KernelSignature> ReadSignature(Level level, absl::string_view bytes,
                                              absl::string_view kernel_name,
                                              std::optional<int> hidden_parameters) {
  if (hidden_parameters.has_value()) hidden_parameters = std::clamp(*hidden_parameters, 0, 16);
  switch (level) {
    case Level::kTtir:
    case Level::kTtgir:
      return MlirSignature(bytes, kernel_name);
    case Level::kLlir:
      return LlirSignature(bytes, kernel_name, hidden_parameters);
    case Level::kPtx:
      return PtxSignature(bytes, kernel_name, hidden_parameters);
    case Level::kCubin:
      return CubinSignature(bytes, kernel_name, hidden_parameters);
    default:
      return NoSignature(level);
  }
}

absl::StatusOr<int> CountHiddenParameters(Level level, absl::string_view bytes,
                                          absl::string_view kernel_name) {
  if (level == Level::kLlir) {
    TRUN_ASSIGN_OR_RETURN(const LlirFacts facts, ReadLlirFacts(bytes));
    TRUN_ASSIGN_OR_RETURN(const LlirKernel* kernel, ChooseEntry(facts.kernels, kernel_name));
    return static_cast<int>(CountHidden(facts, *kernel));
  }
  if (level != Level::kPtx) return NoSignature(level);
  TRUN_ASSIGN_OR_RETURN(const PtxFacts facts, ReadPtxFacts(bytes));
  TRUN_ASSIGN_OR_RETURN(const PtxEntry* entry, ChooseEntry(facts.entries, kernel_name));
  return static_cast<int>(CountHidden(facts, *entry));
}

std::optional<int> HiddenParameters(const KernelMetadata& metadata) {
  absl::string_view version = metadata.triton_version;
  const size_t dot = version.find('.');
  if (dot != absl::string_view::npos) {
    const absl::string_view rest = version.substr(dot + 1);
    int minor = 0;
    if (version.substr(0, dot) == "3" &&
        absl::SimpleAtoi(rest.substr(0, rest.find_first_not_of("0123456789")), &minor)) {
      return minor <= 2 ? 0 : minor <= 4 ? 1 : 2;
    }
  }
  const nlohmann::json json = nlohmann::json::parse(metadata.raw_json, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return std::nullopt;
  if (json.contains("profile_scratch_size") || json.contains("instrumentation_mode")) return 2;
  if (json.contains("global_scratch_size")) return 1;
  // A whole file of 3.0 to 3.2 always has these three.
  if (json.contains("cluster_dims") && json.contains("num_stages") && json.contains("shared")) return 0;
  return std::nullopt;
}

absl::StatusOr<KernelSignature> MergeSignatures(const KernelSignature& upper, const KernelSignature& lower) {
  if (!upper.name.empty() && !lower.name.empty() && upper.name != lower.name) {
    return InvalidArgument(
        Reason::kMetadata,
        absl::StrCat("one level is of kernel '", upper.name, "' and the other of '", lower.name, "'"),
        {{"key", "name"}});
  }
  if (upper.arguments.size() != lower.arguments.size()) {
    return InvalidArgument(
        Reason::kMetadata,
        absl::StrCat("'", lower.name, "' takes ", upper.arguments.size(), " arguments at one level and ",
                     lower.arguments.size(), " at the other"),
        {{"key", "signature"}});
  }
  KernelSignature merged = lower;
  if (merged.name.empty()) merged.name = upper.name;
  for (size_t i = 0; i < merged.arguments.size(); ++i) {
    if (!CanBecome(upper.arguments[i], lower.arguments[i])) {
      return InvalidArgument(
          Reason::kMetadata,
          absl::StrCat("argument ", i, " of '", lower.name,
                       "' differs between two levels: ", ScalarTypeName(upper.arguments[i].type), " of ",
                       upper.arguments[i].bytes, " bytes and ", ScalarTypeName(lower.arguments[i].type),
                       " of ", lower.arguments[i].bytes, " bytes"),
          {{"argument", absl::StrCat(i)}, {"key", "signature"}});
    }
    const std::string lower_name = merged.arguments[i].name;
    const ScalarType lower_type = merged.arguments[i].type;
    merged.arguments[i] = upper.arguments[i];
    if (merged.arguments[i].name.empty()) merged.arguments[i].name = lower_name;
    if (merged.arguments[i].type == ScalarType::kUnspecified) merged.arguments[i].type = lower_type;
  }
  return merged;
}

int ParameterCount(const KernelArgument& argument) {
  return argument.kind == Kind::kTensorDescriptor ? 1 + 2 * DescriptorRank(argument.descriptor_type) : 1;
}

absl::StatusOr<std::vector<KernelParameter>> ReadParameters(Level level, absl::string_view bytes,
                                                            absl::string_view kernel_name) {
  std::vector<KernelParameter> parameters;
  if (level == Level::kPtx) {
    TRUN_ASSIGN_OR_RETURN(const PtxFacts facts, ReadPtxFacts(bytes));
    TRUN_ASSIGN_OR_RETURN(const PtxEntry* entry, ChooseEntry(facts.entries, kernel_name));
    uint32_t end = 0;
    for (const PtxParameter& declared : entry->parameters) {
      const uint32_t offset = (end + declared.align - 1) / declared.align * declared.align;
      parameters.push_back({offset, declared.bytes, declared.align, declared.is_pointer});
      end = offset + declared.bytes;
    }
    return parameters;
  }
  if (level == Level::kCubin) {
    TRUN_ASSIGN_OR_RETURN(const CubinFacts facts, ReadCubinFacts(bytes));
    TRUN_ASSIGN_OR_RETURN(const CubinEntry* entry, ChooseEntry(facts.entries, kernel_name));
    // A buffer that begins with a tensor map starts past the bank's own alignment: offsets count from the
    // first.
    const uint32_t first = entry->parameters.empty() ? 0 : entry->parameters[0].offset;
    for (const CubinParameter& declared : entry->parameters) {
      const uint32_t offset = declared.offset - first;
      // Alignment is not recorded; the largest power of two that the offset allows, at most the size.
      uint32_t align = 1;
      while (align < 64 && align * 2 <= declared.bytes && offset % (align * 2) == 0) align *= 2;
      parameters.push_back({offset, declared.bytes, align, declared.is_pointer});
    }
    return parameters;
  }
  return InvalidArgument(Reason::kUnsupportedLevel,
                         absl::StrCat("parameters are laid out in PTX and cubin, not in ", LevelName(level)));
}

}  // namespace trun
