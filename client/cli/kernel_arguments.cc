#include "client/cli/kernel_arguments.h"

#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cli/element.h"
#include "client/cli/npy.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

struct TensorContent {
  TensorSpec spec;
  std::string bytes;  // empty: zeros, which fresh memory is
};

absl::Status Bad(const ArgSpec& spec, absl::string_view what) {
  return InvalidArgument(Reason::kArgument, absl::StrCat("'", spec.text, "': ", what),
                         {{"argument", spec.key}});
}

absl::StatusOr<TensorContent> ReadContent(const ArgSpec& spec, const FileTensor& file,
                                          const ArgumentInfo& argument) {
  TRUN_ASSIGN_OR_RETURN(NpyArray array, ReadNpy(file.path));
  TensorContent content;
  // Raw elements have no type of their own: the command line's, else what the kernel points to.
  ScalarType dtype = file.dtype != ScalarType::kUnspecified ? file.dtype : array.dtype;
  if (dtype == ScalarType::kUnspecified) dtype = argument.dtype;
  if (dtype == ScalarType::kUnspecified || ScalarTypeBytes(dtype) != array.element_bytes) {
    return Bad(spec, absl::StrCat("the file's elements have ", array.element_bytes, " bytes and ",
                                  dtype == ScalarType::kUnspecified
                                      ? "no type of their own: give one, as in bf16@x.npy"
                                      : absl::StrCat("those of ", ScalarTypeName(dtype), " have ",
                                                     ScalarTypeBytes(dtype))));
  }
  content.spec = {dtype, std::move(array.shape)};
  content.bytes = std::move(array.data);
  return content;
}

absl::StatusOr<TensorContent> GenerateContent(const ArgSpec& spec, const GeneratedTensor& tensor,
                                              const Variables& variables) {
  TensorContent content;
  content.spec.dtype = tensor.dtype;
  for (const std::string& dimension : tensor.dimensions) {
    absl::StatusOr<int64_t> size = Evaluate(dimension, variables);
    if (!size.ok()) return Bad(spec, size.status().message());
    if (*size <= 0)
      return Bad(spec, absl::StrCat("the dimension '", dimension, "' is ", *size, "; it must be at least 1"));
    content.spec.shape.push_back(static_cast<uint64_t>(*size));
  }
  TRUN_RETURN_IF_ERROR(ElementCount(content.spec.shape).status());
  if (tensor.generator.kind == Generator::Kind::kZeros) return content;
  absl::StatusOr<std::string> bytes = Generate(tensor.generator, tensor.dtype, content.spec.shape);
  if (!bytes.ok()) return Bad(spec, bytes.status().message());
  content.bytes = *std::move(bytes);
  return content;
}

absl::StatusOr<Argument> ScalarArgument(const ArgSpec& spec, const ArgumentInfo& argument,
                                        const Variables& variables) {
  if (const FloatScalar* number = std::get_if<FloatScalar>(&spec.value)) {
    if (argument.dtype != ScalarType::kUnspecified && !IsFloat(argument.dtype)) {
      return Bad(spec,
                 absl::StrCat("the argument is ", ScalarTypeName(argument.dtype), ": give a whole number"));
    }
    return Argument(number->value);
  }
  const IntegerScalar& scalar = std::get<IntegerScalar>(spec.value);
  uint64_t large;
  if (argument.dtype == ScalarType::kU64 && absl::SimpleAtoi(scalar.expression, &large))
    return Argument(large);
  absl::StatusOr<int64_t> value = Evaluate(scalar.expression, variables);
  if (!value.ok()) return Bad(spec, value.status().message());
  if (IsFloat(argument.dtype)) return Argument(static_cast<double>(*value));
  return Argument(*value);
}

// A descriptor's declared type: "fp16[64, 32]", "fp16[64, 32], input_rank=4" of im2col mode, "[?, ?]" where
// the file tells no more than the rank.
struct DescriptorType {
  size_t rank = 0;              // of the tensor
  std::vector<uint32_t> block;  // empty: not known
};

DescriptorType ParseDescriptorType(absl::string_view text) {
  DescriptorType type;
  const size_t open = text.find('['), close = text.find(']');
  if (open == absl::string_view::npos || close == absl::string_view::npos || close < open) return type;
  const std::vector<absl::string_view> sizes =
      absl::StrSplit(text.substr(open + 1, close - open - 1), absl::ByAnyChar(", "), absl::SkipEmpty());
  type.rank = sizes.size();
  for (const absl::string_view size : sizes) {
    if (absl::SimpleAtoi(size, &type.block.emplace_back())) continue;
    type.block.clear();
    break;
  }
  absl::string_view behind = text.substr(close + 1);
  if (absl::ConsumePrefix(&behind, ", input_rank=") && !absl::SimpleAtoi(behind, &type.rank)) type.rank = 0;
  return type;
}

absl::StatusOr<Argument> DescriptorArgument(const ArgSpec& spec, const ArgumentInfo& argument,
                                            const Tensor& tensor) {
  TensorDescriptor descriptor;
  descriptor.base = {tensor.handle(), 0};
  descriptor.shape = tensor.shape();
  const DescriptorType type = ParseDescriptorType(argument.descriptor_type);
  descriptor.block_shape = type.block;
  descriptor.im2col = spec.im2col;
  if (type.rank != descriptor.shape.size()) {
    return Bad(spec,
               absl::StrCat("the tensor has ", descriptor.shape.size(), " dimensions and the descriptor ",
                            argument.descriptor_type, " has ", type.rank));
  }
  descriptor.strides.assign(descriptor.shape.size(), 1);
  for (size_t i = descriptor.shape.size() - 1; i > 0; --i) {
    descriptor.strides[i - 1] = descriptor.strides[i] * static_cast<int64_t>(descriptor.shape[i]);
  }
  return Argument(std::move(descriptor));
}

}  // namespace

const TensorArgument* KernelArguments::At(size_t position) const {
  for (const TensorArgument& tensor : tensors) {
    if (tensor.position == position) return &tensor;
  }
  return nullptr;
}

absl::StatusOr<KernelArguments> MakeArguments(const std::vector<ArgSpec>& specs, const KernelInfo& kernel,
                                              const Variables& given, Session& session) {
  KernelArguments result;
  TRUN_ASSIGN_OR_RETURN(const std::vector<size_t> bound, BindArguments(specs, kernel.arguments));
  TRUN_ASSIGN_OR_RETURN(result.variables, ResolveVariables(specs, bound, kernel.arguments, given));

  std::vector<TensorSpec> wanted;
  std::vector<std::string> contents;
  for (size_t i = 0; i < bound.size(); ++i) {
    const ArgSpec& spec = specs[bound[i]];
    if (!spec.IsTensor()) continue;
    absl::StatusOr<TensorContent> content =
        std::holds_alternative<FileTensor>(spec.value)
            ? ReadContent(spec, std::get<FileTensor>(spec.value), kernel.arguments[i])
            : GenerateContent(spec, std::get<GeneratedTensor>(spec.value), result.variables);
    TRUN_RETURN_IF_ERROR(content.status());
    TensorArgument argument;
    argument.position = i;
    argument.name = kernel.arguments[i].name.empty() ? absl::StrCat(i) : kernel.arguments[i].name;
    argument.output = spec.output;
    const auto* made = std::get_if<GeneratedTensor>(&spec.value);
    argument.unwritten = spec.output && made != nullptr && !made->generated;
    argument.spec = content->spec;
    result.tensors.push_back(std::move(argument));
    wanted.push_back(content->spec);
    contents.push_back(std::move(content->bytes));
  }
  if (!wanted.empty()) {
    TRUN_ASSIGN_OR_RETURN(std::vector<Tensor> tensors, session.Allocate(wanted));
    for (size_t i = 0; i < tensors.size(); ++i) {
      result.tensors[i].tensor = std::move(tensors[i]);
      if (contents[i].empty()) continue;
      TRUN_RETURN_IF_ERROR(result.tensors[i].tensor.Write(contents[i]));
      result.uploaded_bytes += contents[i].size();
    }
  }

  for (size_t i = 0; i < bound.size(); ++i) {
    const ArgSpec& spec = specs[bound[i]];
    const ArgumentInfo& argument = kernel.arguments[i];
    if (spec.im2col.has_value() && argument.kind != ArgumentInfo::Kind::kTensorDescriptor) {
      return Bad(spec, "--im2col is for a tensor descriptor, which this argument is not");
    }
    if (std::holds_alternative<NullPointer>(spec.value)) {
      result.launch.emplace_back(nullptr);
    } else if (!spec.IsTensor()) {
      TRUN_ASSIGN_OR_RETURN(Argument scalar, ScalarArgument(spec, argument, result.variables));
      result.launch.push_back(std::move(scalar));
    } else if (argument.kind == ArgumentInfo::Kind::kTensorDescriptor) {
      TRUN_ASSIGN_OR_RETURN(Argument descriptor, DescriptorArgument(spec, argument, result.At(i)->tensor));
      result.launch.push_back(std::move(descriptor));
    } else {
      result.launch.emplace_back(result.At(i)->tensor);
    }
  }
  return result;
}

absl::StatusOr<Grid> ResolveGrid(const std::string& text, const Variables& variables) {
  const std::vector<std::string> parts = SplitExpressions(text);
  if (parts.empty() || parts.size() > 3) {
    return InvalidArgument(Reason::kLaunchShape, absl::StrCat("--grid '", text, "' has ", parts.size(),
                                                              " dimensions; one to three are possible"));
  }
  uint32_t sizes[3] = {1, 1, 1};
  for (size_t i = 0; i < parts.size(); ++i) {
    absl::StatusOr<int64_t> size = Evaluate(parts[i], variables);
    if (!size.ok()) {
      return InvalidArgument(Reason::kLaunchShape, absl::StrCat("--grid: ", size.status().message()));
    }
    if (*size < 1 || *size > INT32_MAX) {
      return InvalidArgument(Reason::kLaunchShape, absl::StrCat("--grid: '", parts[i], "' is ", *size,
                                                                "; a dimension is between 1 and 2147483647"));
    }
    sizes[i] = static_cast<uint32_t>(*size);
  }
  return Grid{sizes[0], sizes[1], sizes[2]};
}

}  // namespace trun::cli
