#include "server/device/emulator/numerics/variant.h"

#include <array>
#include <atomic>
#include <cstring>

namespace trun::device::numerics {
namespace {

const Variant* Best() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")) {
    return &kAvx512Variant;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    return &kAvx2Variant;
  }
#endif
  return &kBaselineVariant;
}

std::atomic<const Variant*>& Chosen() {
  static std::atomic<const Variant*> chosen{Best()};
  return chosen;
}

struct ByteTables {
  std::array<std::array<float, 256>, 5> tables;
  ByteTables() {
    const Type types[5] = {Type::kE4m3, Type::kE5m2, Type::kE2m1, Type::kE2m3, Type::kE3m2};
    for (int t = 0; t < 5; ++t) {
      for (int code = 0; code < 256; ++code) {
        const uint32_t bits =
            static_cast<uint32_t>(Convert({.to = Type::kF32, .from = types[t]}, static_cast<uint64_t>(code)));
        std::memcpy(&tables[t][code], &bits, sizeof bits);
      }
    }
  }
};

}  // namespace

const Variant& CurrentVariant() { return *Chosen().load(std::memory_order_relaxed); }

const char* NumericsVariant() { return CurrentVariant().name; }

bool ForceNumericsVariant(const char* name) {
  const Variant* best = Best();
  if (name == nullptr) {
    Chosen() = best;
    return true;
  }
  const Variant* wanted = nullptr;
  if (std::strcmp(name, kBaselineVariant.name) == 0) wanted = &kBaselineVariant;
#if defined(__x86_64__)
  if (std::strcmp(name, kAvx2Variant.name) == 0 && best != &kBaselineVariant) wanted = &kAvx2Variant;
  if (std::strcmp(name, kAvx512Variant.name) == 0 && best == &kAvx512Variant) wanted = &kAvx512Variant;
#endif
  if (wanted == nullptr) return false;
  Chosen() = wanted;
  return true;
}

const float* ByteFloatTable(Type type) {
  static const ByteTables tables;
  switch (type) {
    case Type::kE4m3:
      return tables.tables[0].data();
    case Type::kE5m2:
      return tables.tables[1].data();
    case Type::kE2m1:
      return tables.tables[2].data();
    case Type::kE2m3:
      return tables.tables[3].data();
    default:
      return tables.tables[4].data();
  }
}

FloatLanes SelectFloatOp(const FloatOp& op) { return CurrentVariant().select_float(op); }

MmaCounts CountsOf(const MmaShape& s) {
  const int bits = BitsOf(s.a);
  const bool fp8 = s.a >= Type::kE4m3 && s.a <= Type::kE3m2;
  const int element_bits = fp8 ? 8 : bits;  // fp6 and fp4 come in byte containers
  bool known = s.n == 8;
  switch (s.a) {
    case Type::kF16:
      known &= s.b == s.a && s.m == 16 && (s.k == 8 || s.k == 16) && (s.d == Type::kF32 || s.d == Type::kF16);
      break;
    case Type::kBf16:
      known &= s.b == s.a && s.m == 16 && (s.k == 8 || s.k == 16) && s.d == Type::kF32;
      break;
    case Type::kTf32:
      known &= s.b == s.a && s.m == 16 && (s.k == 4 || s.k == 8) && s.d == Type::kF32;
      break;
    case Type::kF64:
      known &= s.b == s.a && s.d == Type::kF64 &&
               ((s.m == 8 && s.k == 4) || (s.m == 16 && (s.k == 4 || s.k == 8 || s.k == 16)));
      break;
    case Type::kS8:
    case Type::kU8:
      known &= (s.b == Type::kS8 || s.b == Type::kU8) && s.d == Type::kS32 &&
               ((s.m == 8 && s.k == 16) || (s.m == 16 && (s.k == 16 || s.k == 32)));
      break;
    case Type::kS4:
    case Type::kU4:
      known &= (s.b == Type::kS4 || s.b == Type::kU4) && s.d == Type::kS32 &&
               ((s.m == 8 && s.k == 32) || (s.m == 16 && (s.k == 32 || s.k == 64)));
      break;
    case Type::kB1:
      known &= s.b == s.a && s.d == Type::kS32 &&
               ((s.m == 8 && s.k == 128) || (s.m == 16 && (s.k == 128 || s.k == 256)));
      break;
    default:
      known &= fp8 && s.b >= Type::kE4m3 && s.b <= Type::kE3m2 && s.m == 16 && (s.k == 16 || s.k == 32) &&
               (s.d == Type::kF32 || s.d == Type::kF16);
  }
  // C and D may differ for f16 only.
  known &= s.c == s.d || (s.a == Type::kF16 && s.k == 8 && (s.c == Type::kF16 || s.c == Type::kF32));
  if (!known) return {};
  const auto accumulators = [&s](Type t) { return t == Type::kF16 ? s.m / 8 : s.m / 4; };
  const int per_register = element_bits == 64 ? 1 : 32 / element_bits;
  const int blocks = s.k / (4 * per_register);
  return {blocks * s.m / 8, blocks, accumulators(s.c), accumulators(s.d)};
}

MmaFunction SelectMma(const MmaShape& shape) {
  return CountsOf(shape).a == 0 ? nullptr : CurrentVariant().select_mma(shape);
}

}  // namespace trun::device::numerics
