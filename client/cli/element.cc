#include "client/cli/element.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

// A floating-point format of at most 16 bits. Sources: IEEE 754 (f16), OCP 8-bit floating point (e4m3, e5m2),
// the "fnuz" variants and e4m3b15 as LLVM's APFloat and Triton define them.
struct SmallFloat {
  int exponent_bits;
  int mantissa_bits;
  int bias;
  enum Special {
    kIeee,      // the largest exponent is infinity and NaN
    kNanOnly,   // no infinity; NaN is all ones (e4m3fn)
    kZeroNan,   // no infinity, no -0; NaN is the bits of -0 (fnuz)
    kNoSpecial  // neither (e4m3b15)
  } special;
};

bool SmallFloatOf(ScalarType type, SmallFloat* format) {
  switch (type) {
    case ScalarType::kF16:
      *format = {5, 10, 15, SmallFloat::kIeee};
      return true;
    case ScalarType::kBf16:
      *format = {8, 7, 127, SmallFloat::kIeee};
      return true;
    case ScalarType::kF8E4M3:
      *format = {4, 3, 7, SmallFloat::kNanOnly};
      return true;
    case ScalarType::kF8E5M2:
      *format = {5, 2, 15, SmallFloat::kIeee};
      return true;
    case ScalarType::kF8E4M3B15:
      *format = {4, 3, 15, SmallFloat::kNoSpecial};
      return true;
    case ScalarType::kF8E4M3Fnuz:
      *format = {4, 3, 8, SmallFloat::kZeroNan};
      return true;
    case ScalarType::kF8E5M2Fnuz:
      *format = {5, 2, 16, SmallFloat::kZeroNan};
      return true;
    default:
      return false;
  }
}

uint32_t EncodeSmall(const SmallFloat& format, double value) {
  const uint32_t sign = std::signbit(value) ? 1u << (format.exponent_bits + format.mantissa_bits) : 0;
  const uint32_t magnitude_mask = (1u << (format.exponent_bits + format.mantissa_bits)) - 1;
  const uint32_t largest_exponent = (1u << format.exponent_bits) - 1;
  uint32_t nan = 0, infinity = 0, largest = 0;
  switch (format.special) {
    case SmallFloat::kIeee:
      infinity = largest_exponent << format.mantissa_bits;
      nan = infinity | 1u << (format.mantissa_bits - 1);
      largest = infinity - 1;
      break;
    case SmallFloat::kNanOnly:
      nan = infinity = magnitude_mask;
      largest = magnitude_mask - 1;
      break;
    case SmallFloat::kZeroNan:
      nan = infinity = 1u << (format.exponent_bits + format.mantissa_bits);
      largest = magnitude_mask;
      break;
    case SmallFloat::kNoSpecial:
      nan = infinity = largest = magnitude_mask;
      break;
  }
  if (std::isnan(value)) return format.special == SmallFloat::kZeroNan ? nan : sign | nan;
  const double magnitude = std::fabs(value);
  if (std::isinf(magnitude)) return format.special == SmallFloat::kZeroNan ? nan : sign | infinity;
  if (magnitude == 0) return format.special == SmallFloat::kZeroNan ? 0 : sign;
  const int smallest_exponent = 1 - format.bias;
  const int exponent = std::max(std::ilogb(magnitude), smallest_exponent);
  // Exact: a power of two. rint rounds to nearest even in the default rounding mode.
  const double units = std::rint(std::ldexp(magnitude, format.mantissa_bits - exponent));
  // A subnormal has no implicit bit: its field of the exponent is 0, and units < 2^mantissa_bits. A carry out
  // of the mantissa falls into the exponent, as it must.
  const double field =
      static_cast<double>(exponent - smallest_exponent) * std::ldexp(1.0, format.mantissa_bits) + units;
  if (field > largest) return format.special == SmallFloat::kZeroNan ? nan : sign | infinity;
  const uint32_t bits = static_cast<uint32_t>(field);
  return bits == 0 && format.special == SmallFloat::kZeroNan ? 0 : sign | bits;
}

double DecodeSmall(const SmallFloat& format, uint32_t bits) {
  const uint32_t sign_bit = 1u << (format.exponent_bits + format.mantissa_bits);
  const uint32_t magnitude = bits & (sign_bit - 1);
  const double sign = (bits & sign_bit) != 0 ? -1.0 : 1.0;
  const uint32_t largest_exponent = (1u << format.exponent_bits) - 1;
  const uint32_t mantissa = magnitude & ((1u << format.mantissa_bits) - 1);
  const uint32_t exponent = magnitude >> format.mantissa_bits;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  if (format.special == SmallFloat::kIeee && exponent == largest_exponent) {
    return mantissa == 0 ? sign * std::numeric_limits<double>::infinity() : nan;
  }
  if (format.special == SmallFloat::kNanOnly && magnitude == sign_bit - 1) return nan;
  if (format.special == SmallFloat::kZeroNan && bits == sign_bit) return nan;
  if (exponent == 0) {
    return sign * std::ldexp(static_cast<double>(mantissa), 1 - format.bias - format.mantissa_bits);
  }
  return sign * std::ldexp(static_cast<double>(mantissa | 1u << format.mantissa_bits),
                           static_cast<int>(exponent) - format.bias - format.mantissa_bits);
}

template <typename T>
void AppendRaw(T value, std::string* out) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));  // every host of trun is little-endian
  out->append(bytes, sizeof(T));
}

template <typename T>
T RawAt(absl::string_view bytes, size_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
void AppendClamped(double value, std::string* out) {
  if (std::isnan(value)) return AppendRaw<T>(0, out);
  // The limits as doubles may round up: compare with >= so that the cast stays defined.
  if (value >= static_cast<double>(std::numeric_limits<T>::max()))
    return AppendRaw(std::numeric_limits<T>::max(), out);
  if (value <= static_cast<double>(std::numeric_limits<T>::min()))
    return AppendRaw(std::numeric_limits<T>::min(), out);
  AppendRaw(static_cast<T>(value), out);
}

template <typename T>
void AppendClampedInteger(int64_t value, std::string* out) {
  if constexpr (sizeof(T) == 8 && std::is_signed_v<T>) {
    AppendRaw(value, out);
  } else if constexpr (sizeof(T) == 8) {
    AppendRaw(static_cast<uint64_t>(std::max<int64_t>(value, 0)), out);
  } else {
    AppendRaw(static_cast<T>(
                  std::clamp<int64_t>(value, std::numeric_limits<T>::min(), std::numeric_limits<T>::max())),
              out);
  }
}

}  // namespace

bool IsFloat(ScalarType type) { return type >= ScalarType::kF16; }
bool IsSignedInteger(ScalarType type) { return type >= ScalarType::kI8 && type <= ScalarType::kI64; }

void AppendElement(ScalarType type, double value, std::string* out) {
  SmallFloat format;
  if (SmallFloatOf(type, &format)) {
    const uint32_t bits = EncodeSmall(format, value);
    if (ScalarTypeBytes(type) == 1) return AppendRaw(static_cast<uint8_t>(bits), out);
    return AppendRaw(static_cast<uint16_t>(bits), out);
  }
  switch (type) {
    case ScalarType::kI1:
      return AppendRaw<uint8_t>(value != 0 ? 1 : 0, out);
    case ScalarType::kI8:
      return AppendClamped<int8_t>(value, out);
    case ScalarType::kI16:
      return AppendClamped<int16_t>(value, out);
    case ScalarType::kI32:
      return AppendClamped<int32_t>(value, out);
    case ScalarType::kI64:
      return AppendClamped<int64_t>(value, out);
    case ScalarType::kU8:
      return AppendClamped<uint8_t>(value, out);
    case ScalarType::kU16:
      return AppendClamped<uint16_t>(value, out);
    case ScalarType::kU32:
      return AppendClamped<uint32_t>(value, out);
    case ScalarType::kU64:
      return AppendClamped<uint64_t>(value, out);
    case ScalarType::kF32:
      return AppendRaw(static_cast<float>(value), out);
    default:
      return AppendRaw(value, out);
  }
}

void AppendInteger(ScalarType type, int64_t value, std::string* out) {
  switch (type) {
    case ScalarType::kI8:
      return AppendClampedInteger<int8_t>(value, out);
    case ScalarType::kI16:
      return AppendClampedInteger<int16_t>(value, out);
    case ScalarType::kI32:
      return AppendClampedInteger<int32_t>(value, out);
    case ScalarType::kI64:
      return AppendClampedInteger<int64_t>(value, out);
    case ScalarType::kU8:
      return AppendClampedInteger<uint8_t>(value, out);
    case ScalarType::kU16:
      return AppendClampedInteger<uint16_t>(value, out);
    case ScalarType::kU32:
      return AppendClampedInteger<uint32_t>(value, out);
    case ScalarType::kU64:
      return AppendClampedInteger<uint64_t>(value, out);
    default:
      return AppendElement(type, static_cast<double>(value), out);
  }
}

double ElementAt(ScalarType type, absl::string_view bytes, size_t index) {
  SmallFloat format;
  if (SmallFloatOf(type, &format)) {
    return DecodeSmall(
        format, ScalarTypeBytes(type) == 1 ? RawAt<uint8_t>(bytes, index) : RawAt<uint16_t>(bytes, index));
  }
  switch (type) {
    case ScalarType::kI1:
      return RawAt<uint8_t>(bytes, index) != 0 ? 1 : 0;
    case ScalarType::kI8:
      return RawAt<int8_t>(bytes, index);
    case ScalarType::kI16:
      return RawAt<int16_t>(bytes, index);
    case ScalarType::kI32:
      return RawAt<int32_t>(bytes, index);
    case ScalarType::kI64:
      return static_cast<double>(RawAt<int64_t>(bytes, index));
    case ScalarType::kU8:
      return RawAt<uint8_t>(bytes, index);
    case ScalarType::kU16:
      return RawAt<uint16_t>(bytes, index);
    case ScalarType::kU32:
      return RawAt<uint32_t>(bytes, index);
    case ScalarType::kU64:
      return static_cast<double>(RawAt<uint64_t>(bytes, index));
    case ScalarType::kF32:
      return RawAt<float>(bytes, index);
    default:
      return RawAt<double>(bytes, index);
  }
}

absl::StatusOr<uint64_t> ElementCount(const std::vector<uint64_t>& shape) {
  constexpr uint64_t kMost = uint64_t{1} << 37;  // × 8 bytes
  uint64_t count = 1;
  for (const uint64_t dimension : shape) {
    if (dimension != 0 && count > kMost / dimension) {
      return ResourceExhausted(
          Reason::kTooLarge,
          absl::StrCat("a tensor of shape [", absl::StrJoin(shape, ", "), "] is larger than 1 TiB"));
    }
    count *= dimension;
  }
  return count;
}

std::string FormatIndex(uint64_t index, const std::vector<uint64_t>& shape) {
  std::vector<uint64_t> at(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    at[i] = shape[i] == 0 ? 0 : index % shape[i];
    index = shape[i] == 0 ? 0 : index / shape[i];
  }
  return absl::StrCat("[", absl::StrJoin(at, ", "), "]");
}

}  // namespace trun::cli
