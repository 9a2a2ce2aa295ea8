#include "server/artifact/argument_types.h"

#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace trun {
namespace {

using Kind = KernelArgument::Kind;

constexpr int kMaxDescriptorRank = 5;  // CUtensorMap's

// MLIR's and LLVM's names of element types. Integers are signless there: i32 may hold an unsigned value.
ScalarType TypeOf(absl::string_view name) {
  if (name == "f8E4M3B11FNUZ") return ScalarType::kF8E4M3B15;
  if (name == "bfloat") return ScalarType::kBf16;
  const absl::StatusOr<ScalarType> type = ScalarTypeFromName(name);
  return type.ok() ? *type : ScalarType::kUnspecified;
}

// Triton's own spelling in a descriptor type: "fp16", "i8", "fp8e4nv".
absl::string_view DescriptorElement(ScalarType type) {
  switch (type) {
    case ScalarType::kF16:
      return "fp16";
    case ScalarType::kF32:
      return "fp32";
    case ScalarType::kF64:
      return "fp64";
    case ScalarType::kF8E4M3:
      return "fp8e4nv";
    case ScalarType::kF8E5M2:
      return "fp8e5";
    default:
      return ScalarTypeName(type);
  }
}

KernelArgument Scalar(ScalarType type, uint32_t bytes) {
  KernelArgument argument;
  argument.kind = Kind::kScalar;
  argument.type = type;
  argument.bytes = bytes;
  return argument;
}

KernelArgument Pointer(ScalarType pointee) {
  KernelArgument argument;
  argument.kind = Kind::kPointer;
  argument.type = pointee;
  argument.bytes = 8;
  return argument;
}

KernelArgument Descriptor() {
  KernelArgument argument;
  argument.kind = Kind::kTensorDescriptor;
  argument.bytes = kTensorMapBytes;
  return argument;
}

// Of a descriptor in im2col mode, whose block has two dimensions and whose tensor has 3 to 5.
constexpr absl::string_view kInputRank = ", input_rank=";
constexpr char kUnknown = '?';

// Behind "!tt.tensordesc<": "tensor<64x64xf16, #shared>>" up to Triton 3.8, "64x64xf16, #shared>" from 3.9.
std::optional<KernelArgument> DescriptorOf(absl::string_view inside, bool is_im2col) {
  absl::ConsumePrefix(&inside, "tensor<");
  inside = inside.substr(0, inside.find_first_of(",>"));
  const std::vector<absl::string_view> parts = absl::StrSplit(inside, 'x');
  if (parts.size() < 2 || parts.size() > kMaxDescriptorRank + 1) return std::nullopt;
  KernelArgument argument = Descriptor();
  // Only here do integers of MLIR have a sign: "si32", "ui8".
  absl::string_view element = absl::StripAsciiWhitespace(parts.back());
  if (absl::StartsWith(element, "si") || absl::StartsWith(element, "ui")) {
    argument.type = TypeOf(element[0] == 's' ? element.substr(1) : absl::StrCat("u", element.substr(2)));
  } else {
    argument.type = TypeOf(element);
  }
  if (argument.type == ScalarType::kUnspecified) return std::nullopt;
  std::string shape;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    uint32_t extent = 0;
    if (!absl::SimpleAtoi(parts[i], &extent)) return std::nullopt;
    absl::StrAppend(&shape, i == 0 ? "" : ", ", extent);
  }
  argument.descriptor_type = absl::StrCat(DescriptorElement(argument.type), "[", shape, "]");
  // The type does not tell the tensor's rank: the parameters that follow do.
  if (is_im2col) absl::StrAppend(&argument.descriptor_type, kInputRank, std::string(1, kUnknown));
  return argument;
}

}  // namespace

std::optional<KernelArgument> ArgumentOfMlirType(absl::string_view type) {
  if (absl::ConsumePrefix(&type, "!tt.ptr<")) {
    // "f16>" or "f16, 1>" with an address space; a pointer to a pointer has no element type of ours.
    return Pointer(TypeOf(absl::StripAsciiWhitespace(type.substr(0, type.find_first_of(",>")))));
  }
  if (absl::ConsumePrefix(&type, "!tt.tensordesc<")) return DescriptorOf(type, /*is_im2col=*/false);
  if (absl::ConsumePrefix(&type, "!ttng.tensordesc_im2col<")) return DescriptorOf(type, /*is_im2col=*/true);
  const ScalarType scalar = TypeOf(type);
  if (scalar == ScalarType::kUnspecified) return std::nullopt;
  return Scalar(scalar, static_cast<uint32_t>(ScalarTypeBytes(scalar)));
}

std::optional<KernelArgument> ArgumentOfLlirParameter(const LlirParameter& parameter) {
  if (parameter.by_value_bytes == kTensorMapBytes) return Descriptor();
  if (parameter.by_value_bytes != 0) return std::nullopt;
  if (parameter.is_pointer) return Pointer(ScalarType::kUnspecified);
  const ScalarType scalar = TypeOf(parameter.type);
  if (scalar == ScalarType::kUnspecified) return std::nullopt;
  return Scalar(scalar, static_cast<uint32_t>(ScalarTypeBytes(scalar)));
}

KernelArgument ArgumentOfPtxParameter(const PtxParameter& parameter, bool declares_pointers) {
  if (parameter.bytes == kTensorMapBytes && parameter.is_array) return Descriptor();
  if (parameter.is_pointer) return Pointer(ScalarType::kUnspecified);
  if (parameter.is_array) return Scalar(ScalarType::kUnspecified, parameter.bytes);
  if (parameter.bytes == 8 && parameter.type != "f64" && !declares_pointers) {
    return Pointer(ScalarType::kUnspecified);
  }
  const char kind = parameter.type[0];
  // .u and .s are both LLVM's signless integers; .b is a half, a bfloat or anything else of that size.
  const ScalarType type = kind == 'b'   ? ScalarType::kUnspecified
                          : kind == 'f' ? TypeOf(parameter.type)
                                        : TypeOf(absl::StrCat("i", parameter.bytes * 8));
  return Scalar(type, parameter.bytes);
}

KernelArgument ArgumentOfCubinParameter(const CubinParameter& parameter, bool declares_pointers) {
  if (parameter.bytes == kTensorMapBytes) return Descriptor();
  if (parameter.is_pointer || (parameter.bytes == 8 && !declares_pointers))
    return Pointer(ScalarType::kUnspecified);
  return Scalar(ScalarType::kUnspecified, parameter.bytes);
}

int DescriptorRank(absl::string_view descriptor_type) {
  const size_t open = descriptor_type.find('['), close = descriptor_type.find(']');
  if (open == absl::string_view::npos || close == absl::string_view::npos || close < open) return 0;
  const absl::string_view behind = descriptor_type.substr(close + 1);
  if (absl::StartsWith(behind, kInputRank)) {
    int rank = 0;
    return absl::SimpleAtoi(behind.substr(kInputRank.size()), &rank) ? rank : 0;
  }
  int rank = 1;
  for (const char c : descriptor_type.substr(open, close - open)) rank += c == ',' ? 1 : 0;
  return rank;
}

std::vector<KernelArgument> FoldTensorDescriptors(std::vector<KernelArgument> arguments) {
  const auto run_of = [&](size_t from, uint32_t bytes) {
    size_t count = 0;
    while (from + count < arguments.size() && count <= kMaxDescriptorRank &&
           arguments[from + count].kind == Kind::kScalar && arguments[from + count].bytes == bytes) {
      ++count;
    }
    return count;
  };
  std::vector<KernelArgument> folded;
  for (size_t i = 0; i < arguments.size(); ++i) {
    folded.push_back(std::move(arguments[i]));
    KernelArgument& descriptor = folded.back();
    if (descriptor.kind != Kind::kTensorDescriptor) continue;
    const size_t shape = run_of(i + 1, 4);
    const bool is_im2col = absl::EndsWith(descriptor.descriptor_type, std::string(1, kUnknown));
    const size_t rank = descriptor.descriptor_type.empty() || is_im2col
                            ? shape
                            : static_cast<size_t>(DescriptorRank(descriptor.descriptor_type));
    if (rank == 0 || rank > kMaxDescriptorRank || shape < rank || run_of(i + 1 + rank, 8) < rank) continue;
    if (is_im2col) {
      descriptor.descriptor_type.pop_back();
      absl::StrAppend(&descriptor.descriptor_type, rank);
    } else if (descriptor.descriptor_type.empty()) {
      // The rank is all that this level tells: "[?, ?]".
      descriptor.descriptor_type = "[";
      for (size_t d = 0; d < rank; ++d) absl::StrAppend(&descriptor.descriptor_type, d == 0 ? "?" : ", ?");
      descriptor.descriptor_type += "]";
    }
    i += 2 * rank;
  }
  return folded;
}

}  // namespace trun
