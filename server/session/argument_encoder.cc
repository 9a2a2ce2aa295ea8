#include "server/session/argument_encoder.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "server/artifact/argument_types.h"
#include "server/device/tensor_map_check.h"

namespace trun {
namespace {

enum class Class { kUnknown, kSigned, kUnsigned, kBool, kFloat, kFloat8 };

Class ClassOf(ScalarType type) {
  switch (type) {
    case ScalarType::kUnspecified:
      return Class::kUnknown;
    case ScalarType::kI1:
      return Class::kBool;
    case ScalarType::kI8:
    case ScalarType::kI16:
    case ScalarType::kI32:
    case ScalarType::kI64:
      return Class::kSigned;
    case ScalarType::kU8:
    case ScalarType::kU16:
    case ScalarType::kU32:
    case ScalarType::kU64:
      return Class::kUnsigned;
    case ScalarType::kF16:
    case ScalarType::kBf16:
    case ScalarType::kF32:
    case ScalarType::kF64:
      return Class::kFloat;
    default:
      return Class::kFloat8;
  }
}

// Numbers of tensormap.replace's elemtype.
constexpr uint8_t kElementF32 = 7, kElementTf32 = 11;

bool IsInteger(Class c) { return c == Class::kSigned || c == Class::kUnsigned || c == Class::kBool; }

absl::string_view KindOf(const LaunchArgument& argument) {
  switch (argument.index()) {
    case 1:
      return "a tensor";
    case 2:
    case 3:
      return "an integer";
    case 4:
      return "a float";
    case 5:
      return "a tensor descriptor";
    case 6:
      return "a null pointer";
    default:
      return "nothing";
  }
}

std::string LittleEndian(uint64_t bits, size_t bytes) {
  std::string out(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>(bits >> (8 * i));
  return out;
}

// `value` with `exponent_bits` and `mantissa_bits`, rounded once to nearest even.
uint64_t RoundToFloat(double value, int exponent_bits, int mantissa_bits) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  const uint64_t sign = (bits >> 63) << (exponent_bits + mantissa_bits);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint64_t infinity = ((uint64_t{1} << exponent_bits) - 1) << mantissa_bits;
  if (std::isnan(value)) return sign | infinity | (uint64_t{1} << (mantissa_bits - 1));
  if (std::isinf(value)) return sign | infinity;
  if (value == 0) return sign;
  int exponent = 0;
  const double magnitude = std::frexp(std::fabs(value), &exponent);  // in [0.5, 1)
  // The weight of the last mantissa bit; subnormals have that of the smallest exponent.
  const int last = std::max(exponent - 1, 1 - bias) - mantissa_bits;
  // nearbyint rounds halves to even in the default mode; the scaled value is exact (at most 53 significant
  // bits).
  const double units = std::nearbyint(std::ldexp(magnitude, exponent - last));
  // A carry into the exponent, also from the subnormals, comes out right because the fields are adjacent.
  const uint64_t biased = static_cast<uint64_t>(last + mantissa_bits + bias - 1) << mantissa_bits;
  const uint64_t encoded = static_cast<uint64_t>(units) + biased;
  return sign | std::min(encoded, infinity);
}

absl::StatusOr<size_t> RankOf(const KernelArgument& argument) {
  const int rank = DescriptorRank(argument.descriptor_type);
  if (rank > 0) return static_cast<size_t>(rank);
  return InvalidArgument(Reason::kMetadata,
                         absl::StrCat("'", argument.descriptor_type, "' is no descriptor type"));
}

// Null where the descriptor at this position is passed as its fields.
const TensorMapMetadata* ByValue(const KernelSignature& signature, size_t position,
                                 const DescriptorPassing& passing) {
  size_t ordinal = 0;
  for (size_t i = 0; i < position; ++i) {
    ordinal += signature.arguments[i].kind == KernelArgument::Kind::kTensorDescriptor ? 1 : 0;
  }
  if (ordinal >= passing.by_value.size() || !passing.by_value[ordinal].has_value()) return nullptr;
  return &*passing.by_value[ordinal];
}

absl::Status BadDescriptorMetadata(absl::string_view what) {
  return InvalidArgument(Reason::kMetadata, absl::StrCat("the metadata's tensordesc_meta ", what),
                         {{"key", "tensordesc_meta"}});
}

absl::StatusOr<TensorMapMetadata> ReadTensorMapMetadata(const nlohmann::json& entry) {
  if (!entry.is_object()) return BadDescriptorMetadata("has an entry that is no object");
  const auto number = [&entry](const char* key, uint64_t most) -> std::optional<uint64_t> {
    const auto it = entry.find(key);
    if (it == entry.end() || !it->is_number_unsigned() || it->get<uint64_t>() > most) return std::nullopt;
    return it->get<uint64_t>();
  };
  const auto flag = [&entry](const char* key) {
    const auto it = entry.find(key);
    return it != entry.end() && it->is_boolean() && it->get<bool>();
  };
  const auto element = number("elem_type", 255), swizzle = number("swizzle", 255),
             bytes = number("elem_size", 16);
  const auto box = entry.find("block_size");
  if (!element.has_value() || !swizzle.has_value() || bytes.value_or(0) == 0 || box == entry.end() ||
      !box->is_array() || box->empty() || box->size() > 5) {
    return BadDescriptorMetadata("lacks elem_type, elem_size, swizzle or block_size");
  }
  TensorMapMetadata metadata;
  metadata.element = static_cast<uint8_t>(*element);
  metadata.swizzle = static_cast<uint8_t>(*swizzle);
  metadata.element_bytes = static_cast<uint32_t>(*bytes);
  metadata.fp4_padded = flag("fp4_padded");
  metadata.im2col = flag("is_im2col");
  for (const nlohmann::json& extent : *box) {
    if (!extent.is_number_unsigned() || extent.get<uint64_t>() > std::numeric_limits<uint32_t>::max()) {
      return BadDescriptorMetadata("has a block_size that is no list of sizes");
    }
    metadata.box.push_back(extent.get<uint32_t>());
  }
  return metadata;
}

class ArgumentChecker {
 public:
  ArgumentChecker(const KernelSignature& signature, size_t position, const DescriptorPassing& passing,
                  const LaunchArgument& given, TensorResolver resolve, std::vector<ExecutorArgument>* out)
      : signature_(signature),
        wanted_(signature.arguments[position]),
        position_(position),
        passing_(passing),
        given_(given),
        resolve_(resolve),
        out_(out) {}

  absl::Status Encode() {
    switch (wanted_.kind) {
      case KernelArgument::Kind::kPointer:
        return EncodePointer();
      case KernelArgument::Kind::kScalar:
        return EncodeScalar();
      case KernelArgument::Kind::kTensorDescriptor:
        return EncodeDescriptor();
    }
    return Error("has a kind that is none");
  }

 private:
  absl::Status Error(absl::string_view what, Reason reason = Reason::kArgument) const {
    const std::string name = wanted_.name.empty() ? "" : absl::StrCat(" ('", wanted_.name, "')");
    return InvalidArgument(
        reason, absl::StrCat("argument ", position_, name, " of kernel '", signature_.name, "' ", what),
        {{"argument", absl::StrCat(position_)}, {"name", wanted_.name}});
  }

  absl::StatusOr<uint64_t> Address(const TensorReference& reference) const {
    absl::StatusOr<ResolvedTensor> tensor = resolve_(reference.tensor);
    if (!tensor.ok()) {
      return WithDetails(Annotate(tensor.status(), absl::StrCat("argument ", position_)),
                         {{"argument", absl::StrCat(position_)}, {"name", wanted_.name}});
    }
    if (reference.offset > tensor->bytes) {
      return Error(absl::StrCat("begins at byte ", reference.offset, " of a tensor of ", tensor->bytes));
    }
    const Class wanted = ClassOf(wanted_.type);
    const Class given = ClassOf(tensor->dtype);
    // MLIR's integers have no sign, and a bool is a byte in memory.
    // Memory without an element type is any pointer's.
    const bool same = wanted == Class::kUnknown || given == Class::kUnknown ||
                      wanted_.type == tensor->dtype ||
                      (IsInteger(wanted) && IsInteger(given) &&
                       ScalarTypeBytes(wanted_.type) == ScalarTypeBytes(tensor->dtype));
    if (!same) {
      return Error(absl::StrCat("points to ", ScalarTypeName(wanted_.type), "; the tensor is of ",
                                ScalarTypeName(tensor->dtype)));
    }
    return tensor->address + reference.offset;
  }

  absl::Status EncodePointer() const {
    uint64_t address = 0;
    if (const auto* reference = std::get_if<TensorReference>(&given_)) {
      TRUN_ASSIGN_OR_RETURN(address, Address(*reference));
    } else if (!std::holds_alternative<NullPointer>(given_)) {
      return Error(
          absl::StrCat("is a pointer; ", KindOf(given_), " was given: pass a tensor or a null pointer"));
    }
    if (wanted_.divisibility > 1 && address % static_cast<uint64_t>(wanted_.divisibility) != 0) {
      return Error(absl::StrCat("must be aligned to ", wanted_.divisibility,
                                " bytes, which is compiled into the kernel; its address ends in ",
                                absl::Hex(address % 256, absl::kZeroPad2),
                                ": pass an aligned tensor, or compile without tt.divisibility"));
    }
    out_->push_back(address);
    return absl::OkStatus();
  }

  absl::Status EncodeScalar() const {
    const Class wanted = ClassOf(wanted_.type);
    const size_t bytes = wanted_.bytes;
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) {
      return Error(absl::StrCat("is a scalar of ", bytes, " bytes, which no launch can pass"),
                   Reason::kMetadata);
    }
    if (const double* value = std::get_if<double>(&given_)) {
      ScalarType type = wanted_.type;
      if (wanted == Class::kUnknown && bytes >= 4) type = bytes == 4 ? ScalarType::kF32 : ScalarType::kF64;
      if (ClassOf(type) != Class::kFloat) {
        return Error(absl::StrCat("is ",
                                  wanted == Class::kUnknown ? absl::StrCat("a scalar of ", bytes, " bytes")
                                                            : std::string(ScalarTypeName(wanted_.type)),
                                  "; a float was given"));
      }
      if (ScalarTypeBytes(type) != bytes)
        return Error("has a type of another size than its parameter", Reason::kMetadata);
      out_->emplace_back(EncodeFloat(*value, type));
      return absl::OkStatus();
    }
    const int64_t* const given = std::get_if<int64_t>(&given_);
    const uint64_t* const given_unsigned = std::get_if<uint64_t>(&given_);
    if (given == nullptr && given_unsigned == nullptr) {
      return Error(absl::StrCat("is ", wanted == Class::kUnknown ? "a scalar" : ScalarTypeName(wanted_.type),
                                "; ", KindOf(given_), " was given"));
    }
    if (wanted == Class::kFloat || wanted == Class::kFloat8) {
      return Error(
          absl::StrCat("is ", ScalarTypeName(wanted_.type), "; an integer was given: write it as a float"));
    }
    const bool negative = given != nullptr && *given < 0;
    const uint64_t bits = given != nullptr ? static_cast<uint64_t>(*given) : *given_unsigned;
    const int width = wanted == Class::kBool ? 1 : static_cast<int>(8 * bytes);
    const uint64_t unsigned_max = width == 64 ? ~uint64_t{0} : (uint64_t{1} << width) - 1;
    const uint64_t signed_max = unsigned_max >> 1;
    // A signed type takes an int64 in its range; given as uint64 it is a bit pattern (MLIR's integers have no
    // sign).
    const bool is_signed = wanted == Class::kSigned && given != nullptr;
    const bool fits = negative ? (wanted == Class::kSigned || wanted == Class::kUnknown) &&
                                     *given >= -static_cast<int64_t>(signed_max) - 1
                               : bits <= (is_signed ? signed_max : unsigned_max);
    if (!fits) {
      const std::string low = is_signed || wanted == Class::kUnknown
                                  ? absl::StrCat(-static_cast<int64_t>(signed_max) - 1)
                                  : std::string("0");
      return Error(absl::StrCat("is ",
                                wanted == Class::kUnknown ? absl::StrCat("a scalar of ", bytes, " bytes")
                                                          : std::string(ScalarTypeName(wanted_.type)),
                                ", from ", low, " to ", is_signed ? signed_max : unsigned_max, "; ",
                                given != nullptr ? absl::StrCat(*given) : absl::StrCat(bits), " was given"));
    }
    if (wanted_.divisibility > 1 && bits % static_cast<uint64_t>(wanted_.divisibility) != 0) {
      return Error(absl::StrCat("must be a multiple of ", wanted_.divisibility,
                                ", which is compiled into the kernel; ",
                                given != nullptr ? absl::StrCat(*given) : absl::StrCat(bits),
                                " was given: compile it for this value"));
    }
    out_->push_back(LittleEndian(bits, bytes));
    return absl::OkStatus();
  }

  absl::Status EncodeDescriptor() const {
    const auto* const descriptor = std::get_if<TensorDescriptor>(&given_);
    if (descriptor == nullptr) {
      return Error(absl::StrCat("is a tensor descriptor (", wanted_.descriptor_type, "); ", KindOf(given_),
                                " was given"));
    }
    TRUN_ASSIGN_OR_RETURN(const size_t rank, RankOf(wanted_));
    if (descriptor->shape.size() != rank || descriptor->strides.size() != rank) {
      return Error(absl::StrCat("is a descriptor of rank ", rank, "; one with ", descriptor->shape.size(),
                                " extents and ", descriptor->strides.size(), " strides was given"));
    }
    if (descriptor->strides.back() != 1) return Error("needs a last stride of 1");
    TRUN_ASSIGN_OR_RETURN(const uint64_t address, Address(descriptor->base));
    if (address % 16 != 0) return Error("needs a base aligned to 16 bytes");
    std::vector<uint64_t> extents = descriptor->shape;
    for (const uint64_t extent : extents) {
      if (extent > std::numeric_limits<int32_t>::max()) return Error("has an extent over 2147483647");
    }
    const TensorMapMetadata* const by_value = ByValue(signature_, position_, passing_);
    TRUN_RETURN_IF_ERROR(CheckMode(*descriptor, by_value));
    if (by_value != nullptr) {
      TRUN_RETURN_IF_ERROR(EncodeByValue(*descriptor, address, *by_value));
      if (by_value->fp4_padded && passing_.passes_fp4_extent) extents.back() *= 2;
    } else {
      out_->push_back(address);
      for (const uint64_t extent : extents) out_->push_back(LittleEndian(extent, 8));
      for (const int64_t stride : descriptor->strides)
        out_->push_back(LittleEndian(static_cast<uint64_t>(stride), 8));
      if (passing_.with_padding) out_->push_back(LittleEndian(descriptor->padding_nan ? 1 : 0, 1));
    }
    for (const uint64_t extent : extents) out_->push_back(LittleEndian(extent, 4));
    for (const int64_t stride : descriptor->strides)
      out_->push_back(LittleEndian(static_cast<uint64_t>(stride), 8));
    return absl::OkStatus();
  }

  absl::Status CheckMode(const TensorDescriptor& descriptor, const TensorMapMetadata* metadata) const {
    const bool is_im2col = metadata != nullptr && metadata->im2col;
    if (descriptor.im2col.has_value() && !is_im2col) {
      return Error("is a descriptor of tiled mode; im2col corners were given: leave them out");
    }
    if (!descriptor.im2col.has_value() && is_im2col) {
      return Error("is a descriptor of im2col mode: give the corners of its box too");
    }
    if (descriptor.round_f32_to_tf32 && (metadata == nullptr || metadata->element != kElementF32)) {
      return Error(metadata == nullptr
                       ? "is passed as its fields, without a tensor map that could round to tf32"
                       : "rounds to tf32, which only elements of f32 can be");
    }
    return absl::OkStatus();
  }

  // The fields of the map, innermost dimension first; the device checks what it can do.
  absl::Status EncodeByValue(const TensorDescriptor& descriptor, uint64_t address,
                             const TensorMapMetadata& metadata) const {
    const size_t rank = descriptor.shape.size();
    const size_t box_rank = metadata.im2col ? 2 : rank;
    if (metadata.box.size() != box_rank) {
      return Error(absl::StrCat("is a descriptor of ", metadata.im2col ? "im2col mode, of " : "", "rank ",
                                rank, "; the metadata's block_size has ", metadata.box.size(),
                                " dimensions, not ", box_rank),
                   Reason::kMetadata);
    }
    device::TensorMapFields fields;
    fields.address = address;
    fields.element = descriptor.round_f32_to_tf32 ? kElementTf32 : metadata.element;
    fields.swizzle = metadata.swizzle;
    fields.nan_fill = descriptor.padding_nan;
    fields.extents.assign(descriptor.shape.rbegin(), descriptor.shape.rend());
    if (metadata.fp4_padded) fields.extents.front() *= 2;
    fields.box.assign(metadata.box.rbegin(), metadata.box.rend());
    for (size_t i = rank - 1; i > 0; --i) {
      const int64_t stride = descriptor.strides[i - 1];
      if (stride < 0 || stride > std::numeric_limits<int64_t>::max() / 64) {
        return Error(absl::StrCat("has a stride of ", stride, " elements, which no tensor map takes"));
      }
      fields.strides.push_back(static_cast<uint64_t>(stride) * metadata.element_bytes);
    }
    if (descriptor.im2col.has_value()) {
      const Im2colDescriptor& given = *descriptor.im2col;
      device::Im2colBox& box = fields.im2col.emplace();
      box.lower_corner.assign(given.lower_corner.rbegin(), given.lower_corner.rend());
      box.upper_corner.assign(given.upper_corner.rbegin(), given.upper_corner.rend());
      box.element_strides.assign(given.element_strides.rbegin(), given.element_strides.rend());
      if (given.element_strides.empty()) box.element_strides.assign(rank, 1);
    }
    const absl::Status checked = device::CheckTensorMap(fields);
    if (!checked.ok()) return Error(absl::StrCat("cannot be described so: ", checked.message()));
    out_->push_back(std::move(fields));
    return absl::OkStatus();
  }

  const KernelSignature& signature_;
  const KernelArgument& wanted_;
  const size_t position_;
  const DescriptorPassing& passing_;
  const LaunchArgument& given_;
  TensorResolver resolve_;
  std::vector<ExecutorArgument>* const out_;
};

}  // namespace

std::string EncodeFloat(double value, ScalarType type) {
  switch (type) {
    case ScalarType::kF16:
      return LittleEndian(RoundToFloat(value, 5, 10), 2);
    case ScalarType::kBf16:
      return LittleEndian(RoundToFloat(value, 8, 7), 2);
    case ScalarType::kF32:
      return LittleEndian(std::bit_cast<uint32_t>(static_cast<float>(value)), 4);
    default:
      return LittleEndian(std::bit_cast<uint64_t>(value), 8);
  }
}

absl::StatusOr<DescriptorPassing> DescriptorPassingOf(const KernelMetadata& metadata) {
  const nlohmann::json json = nlohmann::json::parse(metadata.raw_json, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) {
    return InvalidArgument(Reason::kMetadata, "the kernel's metadata is no JSON object", {{"key", ""}});
  }
  DescriptorPassing passing;
  const auto meta = json.find("tensordesc_meta");
  if (meta != json.end() && meta->is_array()) {
    for (const nlohmann::json& entry : *meta) {
      passing.by_value.emplace_back();
      if (entry.is_null()) continue;
      TRUN_ASSIGN_OR_RETURN(passing.by_value.back(), ReadTensorMapMetadata(entry));
    }
  }
  int minor = 0;
  const std::vector<std::string> parts = absl::StrSplit(metadata.triton_version, '.');
  const bool known = parts.size() >= 2 && absl::SimpleAtoi(parts[1], &minor);
  passing.with_padding = !known || minor >= 5;
  passing.passes_fp4_extent = known && (minor == 5 || minor == 6);
  return passing;
}

absl::StatusOr<std::vector<uint32_t>> ParameterSizes(const KernelSignature& signature, size_t position,
                                                     const DescriptorPassing& passing) {
  const KernelArgument& argument = signature.arguments[position];
  if (argument.kind != KernelArgument::Kind::kTensorDescriptor) return std::vector<uint32_t>{argument.bytes};
  TRUN_ASSIGN_OR_RETURN(const size_t rank, RankOf(argument));
  std::vector<uint32_t> sizes;
  if (ByValue(signature, position, passing) != nullptr) {
    sizes = {sizeof(device::TensorMapBytes)};
  } else {
    sizes = {8};
    sizes.insert(sizes.end(), 2 * rank, 8);
    if (passing.with_padding) sizes.push_back(1);
  }
  sizes.insert(sizes.end(), rank, 4);
  sizes.insert(sizes.end(), rank, 8);
  return sizes;
}

absl::Status EncodeArguments(const KernelSignature& signature, const DescriptorPassing& passing,
                             absl::Span<const LaunchArgument> arguments, TensorResolver resolve,
                             std::vector<ExecutorArgument>* out) {
  if (arguments.size() != signature.arguments.size()) {
    std::string list;
    for (size_t i = 0; i < signature.arguments.size(); ++i) {
      const KernelArgument& argument = signature.arguments[i];
      absl::StrAppend(&list, i == 0 ? "" : ", ", argument.name.empty() ? absl::StrCat(i) : argument.name,
                      ": ", argument.kind == KernelArgument::Kind::kPointer ? "*" : "",
                      argument.kind == KernelArgument::Kind::kTensorDescriptor
                          ? absl::string_view(argument.descriptor_type)
                          : ScalarTypeName(argument.type));
    }
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("kernel '", signature.name, "' takes ", signature.arguments.size(),
                                        " arguments (", list, "); ", arguments.size(),
                                        " were given (constexprs, and ints that were 1 when "
                                        "it was compiled, are not passed)"));
  }
  out->reserve(out->size() + arguments.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    TRUN_RETURN_IF_ERROR(ArgumentChecker(signature, i, passing, arguments[i], resolve, out).Encode());
  }
  return absl::OkStatus();
}

}  // namespace trun
