// Bits of a Python number as a kernel's parameter of a floating-point type.
#ifndef TRUN_CLIENT_PYTHON_NATIVE_SCALAR_BITS_H_
#define TRUN_CLIENT_PYTHON_NATIVE_SCALAR_BITS_H_

#include <cmath>
#include <cstdint>
#include <cstring>

namespace trun::python {

// Rounded to nearest even. False: a finite value larger than every half.
inline bool HalfBits(double value, uint16_t* bits) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  if (std::isnan(value)) {
    *bits = sign | 0x7e00;
  } else if (std::isinf(value)) {
    *bits = sign | 0x7c00;
  } else if (size >= 65520) {
    return false;
  } else if (size < 0x1p-14) {
    *bits = sign | static_cast<uint16_t>(std::nearbyint(size * 0x1p24));
  } else {
    int exponent = 0;
    std::frexp(size, &exponent);  // size = [0.5, 1) * 2^exponent
    const double mantissa =
        std::nearbyint(std::ldexp(size, 11 - exponent));  // 1024 to 2048, whose last carries
    *bits = sign | static_cast<uint16_t>(((exponent + 14) << 10) + static_cast<int>(mantissa) - 1024);
  }
  return true;
}

inline uint32_t FloatBits(double value) {
  const auto narrow = static_cast<float>(value);
  uint32_t bits = 0;
  std::memcpy(&bits, &narrow, sizeof(bits));
  return bits;
}

// Cut off, as Triton's own launcher does: the same call has the same result under both.
inline uint16_t BfloatBits(double value) { return static_cast<uint16_t>(FloatBits(value) >> 16); }

}  // namespace trun::python

#endif  // TRUN_CLIENT_PYTHON_NATIVE_SCALAR_BITS_H_
