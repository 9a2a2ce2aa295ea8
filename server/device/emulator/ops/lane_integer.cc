// Integer arithmetic, logic and selection on lanes (PTX ISA, "Integer Arithmetic Instructions", "Logic and
// Shift Instructions").
#include "server/device/emulator/ops/lane_integer.h"

#include "server/device/emulator/ops/lane_types.h"
#include "server/device/emulator/ops/lanes.h"

namespace trun::device::TRUN_OPS {
namespace {

template <typename T, LaneOpcode kOp>
inline T Two(T a, T b) {
  using U = Unsigned<T>;
  if constexpr (kOp == LaneOpcode::kAdd) return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  if constexpr (kOp == LaneOpcode::kSub) return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
  if constexpr (kOp == LaneOpcode::kMulLo) {
    return static_cast<T>(
        static_cast<U>(static_cast<uint64_t>(static_cast<U>(a)) * static_cast<uint64_t>(static_cast<U>(b))));
  }
  if constexpr (kOp == LaneOpcode::kMulHi)
    return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> kBits<T>);
  if constexpr (kOp == LaneOpcode::kDiv) {
    if (b == 0) return static_cast<T>(~U{0});
    if constexpr (kIsSigned<T>) {
      if (b == static_cast<T>(-1)) return static_cast<T>(U{0} - static_cast<U>(a));
    }
    return static_cast<T>(a / b);
  }
  if constexpr (kOp == LaneOpcode::kRem) {
    if (b == 0) return a;
    if constexpr (kIsSigned<T>) {
      if (b == static_cast<T>(-1)) return 0;
    }
    return static_cast<T>(a % b);
  }
  if constexpr (kOp == LaneOpcode::kMin) return a < b ? a : b;
  if constexpr (kOp == LaneOpcode::kMax) return a > b ? a : b;
  if constexpr (kOp == LaneOpcode::kMinRelu) {
    const T least = a < b ? a : b;
    return least > 0 ? least : T{0};
  }
  if constexpr (kOp == LaneOpcode::kMaxRelu) {
    const T most = a > b ? a : b;
    return most > 0 ? most : T{0};
  }
  if constexpr (kOp == LaneOpcode::kAnd) return a & b;
  if constexpr (kOp == LaneOpcode::kOr) return a | b;
  if constexpr (kOp == LaneOpcode::kXor) return a ^ b;
  if constexpr (kOp == LaneOpcode::kAddSat || kOp == LaneOpcode::kSubSat) {
    const int64_t wide =
        kOp == LaneOpcode::kAddSat ? static_cast<int64_t>(a) + b : static_cast<int64_t>(a) - b;
    return wide > kMaxOf<T> ? kMaxOf<T> : wide < kMinOf<T> ? kMinOf<T> : static_cast<T>(wide);
  }
  if constexpr (kOp == LaneOpcode::kMul24Lo || kOp == LaneOpcode::kMul24Hi) {
    const int64_t x = kIsSigned<T>
                          ? static_cast<int64_t>(static_cast<int32_t>(static_cast<uint32_t>(a) << 8) >> 8)
                          : static_cast<int64_t>(static_cast<uint32_t>(a) & 0xffffff);
    const int64_t y = kIsSigned<T>
                          ? static_cast<int64_t>(static_cast<int32_t>(static_cast<uint32_t>(b) << 8) >> 8)
                          : static_cast<int64_t>(static_cast<uint32_t>(b) & 0xffffff);
    return static_cast<T>((x * y) >> (kOp == LaneOpcode::kMul24Hi ? 16 : 0));
  }
  if constexpr (kOp == LaneOpcode::kBmskClamp || kOp == LaneOpcode::kBmskWrap) {
    uint32_t at = static_cast<uint32_t>(a);
    uint32_t width = static_cast<uint32_t>(b);
    if constexpr (kOp == LaneOpcode::kBmskWrap) {
      at &= 31;
      width &= 31;
    }
    const uint64_t ones = width >= 32 ? 0xffffffffull : (1ull << width) - 1;
    return static_cast<T>(at >= 32 ? 0 : static_cast<uint32_t>(ones << at));
  }
}

template <typename T, LaneOpcode kOp>
Step Binary(Warp& warp, const Instruction& in, uint32_t mask) {
  Lane<T>* d = LanesAt<T>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  ForLanes(d, mask, [=](int i) { return Out<T>(Two<T, kOp>(static_cast<T>(a[i]), static_cast<T>(b[i]))); });
  return Step::kNext;
}

// Pairs of 16-bit elements.
template <typename T, LaneOpcode kOp>
Step BinaryPair(Warp& warp, const Instruction& in, uint32_t mask) {
  uint32_t* d = warp.U32(in.operand[0]);
  const uint32_t* a = warp.U32(in.operand[1]);
  const uint32_t* b = warp.U32(in.operand[2]);
  ForLanes(d, mask, [=](int i) {
    const uint32_t low = static_cast<uint16_t>(Two<T, kOp>(static_cast<T>(a[i]), static_cast<T>(b[i])));
    const uint32_t high =
        static_cast<uint16_t>(Two<T, kOp>(static_cast<T>(a[i] >> 16), static_cast<T>(b[i] >> 16)));
    return low | high << 16;
  });
  return Step::kNext;
}

// The amount is a 32-bit register; amounts over the width clamp.
template <typename T, LaneOpcode kOp>
Step Shift(Warp& warp, const Instruction& in, uint32_t mask) {
  Lane<T>* d = LanesAt<T>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const uint32_t* b = warp.U32(in.operand[2]);
  ForLanes(d, mask, [=](int i) -> Lane<T> {
    const T value = static_cast<T>(a[i]);
    if constexpr (kOp == LaneOpcode::kShl) {
      const Lane<T> shifted = static_cast<Lane<T>>(a[i]) << (b[i] & (sizeof(Lane<T>) * 8 - 1));
      return b[i] < static_cast<uint32_t>(kBits<T>) ? Out<T>(static_cast<T>(shifted)) : Lane<T>{0};
    } else if constexpr (kIsSigned<T>) {
      const uint32_t amount =
          b[i] < static_cast<uint32_t>(kBits<T>) ? b[i] : static_cast<uint32_t>(kBits<T> - 1);
      return Out<T>(static_cast<T>(value >> amount));
    } else {
      const Lane<T> shifted = static_cast<Lane<T>>(value) >> (b[i] & (sizeof(Lane<T>) * 8 - 1));
      return b[i] < static_cast<uint32_t>(kBits<T>) ? shifted : Lane<T>{0};
    }
  });
  return Step::kNext;
}

template <typename T>
Step MulWide(Warp& warp, const Instruction& in, uint32_t mask) {
  using W = Wide<T>;
  Lane<W>* d = LanesAt<W>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  ForLanes(d, mask, [=](int i) {
    return static_cast<Lane<W>>(static_cast<W>(static_cast<T>(a[i])) * static_cast<W>(static_cast<T>(b[i])));
  });
  return Step::kNext;
}

template <typename T>
Step MadWide(Warp& warp, const Instruction& in, uint32_t mask) {
  using W = Wide<T>;
  Lane<W>* d = LanesAt<W>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  const Lane<W>* c = LanesAt<W>(warp, in.operand[3]);
  ForLanes(d, mask, [=](int i) {
    return static_cast<Lane<W>>(static_cast<W>(static_cast<T>(a[i])) * static_cast<W>(static_cast<T>(b[i]))) +
           c[i];
  });
  return Step::kNext;
}

template <typename T, LaneOpcode kOp>
inline T One(T a) {
  using U = Unsigned<T>;
  if constexpr (kOp == LaneOpcode::kMov) return a;
  if constexpr (kOp == LaneOpcode::kNot) return static_cast<T>(~a);
  if constexpr (kOp == LaneOpcode::kCnot) return a == 0 ? T{1} : T{0};
  if constexpr (kOp == LaneOpcode::kNeg) return static_cast<T>(U{0} - static_cast<U>(a));
  if constexpr (kOp == LaneOpcode::kAbs) return a < 0 ? static_cast<T>(U{0} - static_cast<U>(a)) : a;
  if constexpr (kOp == LaneOpcode::kBrev) {
    U value = static_cast<U>(a);
    U reversed = 0;
    for (int bit = 0; bit < kBits<T>; ++bit)
      reversed = static_cast<U>(reversed | (value >> bit & 1) << (kBits<T> - 1 - bit));
    return static_cast<T>(reversed);
  }
}

template <typename T, LaneOpcode kOp>
Step Unary(Warp& warp, const Instruction& in, uint32_t mask) {
  Lane<T>* d = LanesAt<T>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  ForLanes(d, mask, [=](int i) { return Out<T>(One<T, kOp>(static_cast<T>(a[i]))); });
  return Step::kNext;
}

// clz, popc and bfind give 32 bits whatever the source has.
template <typename T, LaneOpcode kOp>
Step Count(Warp& warp, const Instruction& in, uint32_t mask) {
  uint32_t* d = warp.U32(in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  uint32_t results[32];
  for (int i = 0; i < 32; ++i) {
    uint64_t value = static_cast<uint64_t>(static_cast<Unsigned<T>>(a[i]));
    if constexpr (kOp == LaneOpcode::kPopc) {
      results[i] = static_cast<uint32_t>(__builtin_popcountll(value));
    } else if constexpr (kOp == LaneOpcode::kClz) {
      results[i] = value == 0 ? static_cast<uint32_t>(kBits<T>)
                              : static_cast<uint32_t>(__builtin_clzll(value) - (64 - kBits<T>));
    } else {
      if (kIsSigned<T> && static_cast<T>(a[i]) < 0)
        value = static_cast<uint64_t>(static_cast<Unsigned<T>>(~a[i]));
      const uint32_t top = value == 0 ? 0xffffffff : static_cast<uint32_t>(63 - __builtin_clzll(value));
      results[i] =
          kOp == LaneOpcode::kBfindShift && value != 0 ? static_cast<uint32_t>(kBits<T> - 1) - top : top;
    }
  }
  ForLanes(d, mask, [&](int i) { return results[i]; });
  return Step::kNext;
}

template <typename T, LaneOpcode kOp>
inline T Three(T a, T b, T c) {
  using U = Unsigned<T>;
  if constexpr (kOp == LaneOpcode::kMadLo)
    return Two<T, LaneOpcode::kAdd>(Two<T, LaneOpcode::kMulLo>(a, b), c);
  if constexpr (kOp == LaneOpcode::kMadHi)
    return Two<T, LaneOpcode::kAdd>(Two<T, LaneOpcode::kMulHi>(a, b), c);
  if constexpr (kOp == LaneOpcode::kMadHiSat)
    return Two<T, LaneOpcode::kAddSat>(Two<T, LaneOpcode::kMulHi>(a, b), c);
  if constexpr (kOp == LaneOpcode::kMad24Lo)
    return Two<T, LaneOpcode::kAdd>(Two<T, LaneOpcode::kMul24Lo>(a, b), c);
  if constexpr (kOp == LaneOpcode::kMad24Hi)
    return Two<T, LaneOpcode::kAdd>(Two<T, LaneOpcode::kMul24Hi>(a, b), c);
  if constexpr (kOp == LaneOpcode::kMad24HiSat)
    return Two<T, LaneOpcode::kAddSat>(Two<T, LaneOpcode::kMul24Hi>(a, b), c);
  if constexpr (kOp == LaneOpcode::kSad) {
    const U distance = a > b ? static_cast<U>(static_cast<U>(a) - static_cast<U>(b))
                             : static_cast<U>(static_cast<U>(b) - static_cast<U>(a));
    return static_cast<T>(static_cast<U>(static_cast<U>(c) + distance));
  }
}

template <typename T, LaneOpcode kOp>
Step Ternary(Warp& warp, const Instruction& in, uint32_t mask) {
  Lane<T>* d = LanesAt<T>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  const Lane<T>* c = LanesAt<T>(warp, in.operand[3]);
  ForLanes(d, mask, [=](int i) {
    return Out<T>(Three<T, kOp>(static_cast<T>(a[i]), static_cast<T>(b[i]), static_cast<T>(c[i])));
  });
  return Step::kNext;
}

// Position or length of a bit field: the low byte; of 64-bit forms all of it, as an H200 takes it.
template <typename T>
inline uint32_t FieldNumber(uint32_t value) {
  if constexpr (kBits<T> == 64) return value < 255 ? value : 255;
  return value & 0xff;
}

template <typename T>
Step Bfe(Warp& warp, const Instruction& in, uint32_t mask) {
  using U = Unsigned<T>;
  Lane<T>* d = LanesAt<T>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const uint32_t* b = warp.U32(in.operand[2]);
  const uint32_t* c = warp.U32(in.operand[3]);
  ForLanes(d, mask, [=](int i) -> Lane<T> {
    const uint32_t position = FieldNumber<T>(b[i]);
    const uint32_t length = FieldNumber<T>(c[i]);
    const uint32_t bits = kBits<T>;
    const U value = static_cast<U>(a[i]);
    const U shifted = position < bits ? static_cast<U>(value >> (position & (bits - 1))) : U{0};
    const U keep =
        length >= bits ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << (length & (bits - 1))) - 1);
    U field = static_cast<U>(shifted & keep);
    if constexpr (kIsSigned<T>) {
      // The sign is the field's top bit, or the value's where the field reaches beyond it.
      const uint32_t end = position + length - 1;
      const uint32_t sign_at = end < bits ? end : bits - 1;
      const bool negative = length != 0 && (value >> (sign_at & (bits - 1)) & 1) != 0;
      if (negative) field = static_cast<U>(field | static_cast<U>(~keep));
      if (negative && position + length > bits) {
        const U filled = position < bits ? static_cast<U>(~(static_cast<U>(~U{0}) >> (position & (bits - 1))))
                                         : static_cast<U>(~U{0});
        field = static_cast<U>(field | filled);
      }
    }
    return static_cast<Lane<T>>(field);
  });
  return Step::kNext;
}

// d = f inserted: operand 1 the field, 2 the base, 3 the position, 4 the length.
template <typename T>
Step Bfi(Warp& warp, const Instruction& in, uint32_t mask) {
  Lane<T>* d = LanesAt<T>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  const uint32_t* c = warp.U32(in.operand[3]);
  const uint32_t* e = warp.U32(in.operand[4]);
  ForLanes(d, mask, [=](int i) -> Lane<T> {
    const uint32_t position = FieldNumber<T>(c[i]);
    const uint32_t length = FieldNumber<T>(e[i]);
    const uint32_t bits = kBits<T>;
    if (position >= bits || length == 0) return b[i];
    const T keep = static_cast<T>(
        (length >= bits ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << (length & (bits - 1))) - 1))
        << position);
    return static_cast<Lane<T>>((b[i] & ~keep) | ((a[i] << position) & keep));
  });
  return Step::kNext;
}

template <LaneOpcode kOp>
Step Funnel(Warp& warp, const Instruction& in, uint32_t mask) {
  uint32_t* d = warp.U32(in.operand[0]);
  const uint32_t* a = warp.U32(in.operand[1]);
  const uint32_t* b = warp.U32(in.operand[2]);
  const uint32_t* c = warp.U32(in.operand[3]);
  ForLanes(d, mask, [=](int i) {
    const bool wrap = kOp == LaneOpcode::kShfLWrap || kOp == LaneOpcode::kShfRWrap;
    const uint32_t n = wrap ? c[i] & 31 : (c[i] < 32 ? c[i] : 32);
    const uint64_t both = static_cast<uint64_t>(b[i]) << 32 | a[i];
    if (kOp == LaneOpcode::kShfLWrap || kOp == LaneOpcode::kShfLClamp) {
      return static_cast<uint32_t>((both << n) >> 32);
    }
    return static_cast<uint32_t>(both >> n);
  });
  return Step::kNext;
}

template <LaneOpcode kOp>
inline uint32_t PrmtSelector(uint32_t selector) {
  const uint32_t n = selector & 3;
  if constexpr (kOp == LaneOpcode::kPrmtF4e) return (n + 3) << 12 | (n + 2) << 8 | (n + 1) << 4 | n;
  if constexpr (kOp == LaneOpcode::kPrmtB4e) {
    return ((n + 5) & 7) << 12 | ((n + 6) & 7) << 8 | ((n + 7) & 7) << 4 | n;
  }
  if constexpr (kOp == LaneOpcode::kPrmtRc8) return n * 0x1111;
  if constexpr (kOp == LaneOpcode::kPrmtEcl) {
    return 3u << 12 | (n > 2 ? n : 2) << 8 | (n > 1 ? n : 1) << 4 | n;
  }
  if constexpr (kOp == LaneOpcode::kPrmtEcr) {
    return n << 12 | (n < 2 ? n : 2) << 8 | (n < 1 ? n : 1) << 4;
  }
  if constexpr (kOp == LaneOpcode::kPrmtRc16) return (n & 1) != 0 ? 0x3232 : 0x1010;
  return selector;
}

template <LaneOpcode kOp>
Step Prmt(Warp& warp, const Instruction& in, uint32_t mask) {
  uint32_t* d = warp.U32(in.operand[0]);
  const uint32_t* a = warp.U32(in.operand[1]);
  const uint32_t* b = warp.U32(in.operand[2]);
  const uint32_t* c = warp.U32(in.operand[3]);
  ForLanes(d, mask, [=](int i) {
    const uint64_t both = static_cast<uint64_t>(b[i]) << 32 | a[i];
    const uint32_t selector = PrmtSelector<kOp>(c[i]);
    uint32_t result = 0;
    for (int k = 0; k < 4; ++k) {
      const uint32_t s = selector >> (4 * k) & 0xf;
      uint32_t byte = static_cast<uint32_t>(both >> ((s & 7) * 8)) & 0xff;
      if ((s & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
      result |= byte << (8 * k);
    }
    return result;
  });
  return Step::kNext;
}

Step Lop3(Warp& warp, const Instruction& in, uint32_t mask) {
  uint32_t* d = warp.U32(in.operand[0]);
  const uint32_t* a = warp.U32(in.operand[1]);
  const uint32_t* b = warp.U32(in.operand[2]);
  const uint32_t* c = warp.U32(in.operand[3]);
  uint32_t term[8];
  for (int k = 0; k < 8; ++k) term[k] = (in.immediate >> k & 1) != 0 ? 0xffffffff : 0;
  ForLanes(d, mask, [&, a, b, c](int i) {
    const uint32_t x = a[i], y = b[i], z = c[i];
    return (term[0] & ~x & ~y & ~z) | (term[1] & ~x & ~y & z) | (term[2] & ~x & y & ~z) |
           (term[3] & ~x & y & z) | (term[4] & x & ~y & ~z) | (term[5] & x & ~y & z) |
           (term[6] & x & y & ~z) | (term[7] & x & y & z);
  });
  return Step::kNext;
}

template <typename T>
Step Selp(Warp& warp, const Instruction& in, uint32_t mask) {
  Lane<T>* d = LanesAt<T>(warp, in.operand[0]);
  const Lane<T>* a = LanesAt<T>(warp, in.operand[1]);
  const Lane<T>* b = LanesAt<T>(warp, in.operand[2]);
  const uint32_t p = in.immediate != 0 ? ~warp.Predicate(in.operand[3]) : warp.Predicate(in.operand[3]);
  ForLanes(d, mask, [=](int i) { return (p >> i & 1) != 0 ? a[i] : b[i]; });
  return Step::kNext;
}

template <typename T, LaneOpcode kOp>
Step Carry(Warp& warp, const Instruction& in, uint32_t mask) {
  const bool mad = kOp == LaneOpcode::kMadLoCarry || kOp == LaneOpcode::kMadHiCarry;
  T* d = LanesAt<T>(warp, in.operand[0]);
  const T* a = LanesAt<T>(warp, in.operand[1]);
  const T* b = LanesAt<T>(warp, in.operand[2]);
  const T* c = mad ? LanesAt<T>(warp, in.operand[3]) : nullptr;
  const uint32_t carry = (in.immediate & 1) != 0 ? warp.carry : 0;
  uint32_t out = 0;
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1) == 0) continue;
    const T in_bit = static_cast<T>(carry >> i & 1);
    T x = a[i], y = b[i];
    if (mad) {
      const Wide<T> product = static_cast<Wide<T>>(x) * y;
      x = static_cast<T>(kOp == LaneOpcode::kMadHiCarry ? product >> kBits<T> : product);
      y = c[i];
    }
    T result = 0;
    bool bit = false;
    if (kOp == LaneOpcode::kSubCarry) {
      const bool first = __builtin_sub_overflow(x, y, &result);
      bit = __builtin_sub_overflow(result, in_bit, &result) || first;
    } else {
      const bool first = __builtin_add_overflow(x, y, &result);
      bit = __builtin_add_overflow(result, in_bit, &result) || first;
    }
    d[i] = result;
    out |= static_cast<uint32_t>(bit) << i;
  }
  if ((in.immediate & 2) != 0) warp.carry = (warp.carry & ~mask) | out;
  return Step::kNext;
}

template <template <typename, LaneOpcode> class F, LaneOpcode kOp>
Operation ByType(Type type) {
  switch (IntegerOf(type)) {
    case Type::kU16:
      return &F<uint16_t, kOp>::Run;
    case Type::kS16:
      return &F<int16_t, kOp>::Run;
    case Type::kU32:
      return &F<uint32_t, kOp>::Run;
    case Type::kS32:
      return &F<int32_t, kOp>::Run;
    case Type::kU64:
      return &F<uint64_t, kOp>::Run;
    case Type::kS64:
      return &F<int64_t, kOp>::Run;
    default:
      return nullptr;
  }
}

template <typename T, LaneOpcode kOp>
struct BinaryOf {
  static Step Run(Warp& w, const Instruction& in, uint32_t mask) { return Binary<T, kOp>(w, in, mask); }
};
template <typename T, LaneOpcode kOp>
struct ShiftOf {
  static Step Run(Warp& w, const Instruction& in, uint32_t mask) { return Shift<T, kOp>(w, in, mask); }
};
template <typename T, LaneOpcode kOp>
struct UnaryOf {
  static Step Run(Warp& w, const Instruction& in, uint32_t mask) { return Unary<T, kOp>(w, in, mask); }
};
template <typename T, LaneOpcode kOp>
struct CountOf {
  static Step Run(Warp& w, const Instruction& in, uint32_t mask) { return Count<T, kOp>(w, in, mask); }
};
template <typename T, LaneOpcode kOp>
struct TernaryOf {
  static Step Run(Warp& w, const Instruction& in, uint32_t mask) { return Ternary<T, kOp>(w, in, mask); }
};

template <LaneOpcode kOp>
Operation PairOr(Type type) {
  if (type == Type::kU16x2) return &BinaryPair<uint16_t, kOp>;
  if (type == Type::kS16x2) return &BinaryPair<int16_t, kOp>;
  return ByType<BinaryOf, kOp>(type);
}

template <LaneOpcode kOp>
Operation Relu(Type type) {
  if (type == Type::kS16x2) return &BinaryPair<int16_t, kOp>;
  return type == Type::kS32 ? &Binary<int32_t, kOp> : nullptr;
}

template <LaneOpcode kOp>
Operation CarryOf(Type type) {
  const Type t = IntegerOf(type);
  if (t == Type::kU32 || t == Type::kS32) return &Carry<uint32_t, kOp>;
  return t == Type::kU64 || t == Type::kS64 ? &Carry<uint64_t, kOp> : nullptr;
}

template <LaneOpcode kOp>
Operation Only32(Type type) {
  if (type == Type::kS32) return &Binary<int32_t, kOp>;
  return IntegerOf(type) == Type::kU32 ? &Binary<uint32_t, kOp> : nullptr;
}

}  // namespace

Operation SelectInteger(LaneOpcode opcode, Type type) {
  using L = LaneOpcode;
  const Type t = IntegerOf(type);
  switch (opcode) {
    case L::kAdd:
      return PairOr<L::kAdd>(type);
    case L::kSub:
      return PairOr<L::kSub>(type);
    case L::kMin:
      return PairOr<L::kMin>(type);
    case L::kMax:
      return PairOr<L::kMax>(type);
    case L::kMinRelu:
      return Relu<L::kMinRelu>(type);
    case L::kMaxRelu:
      return Relu<L::kMaxRelu>(type);
    case L::kMulLo:
      return ByType<BinaryOf, L::kMulLo>(type);
    case L::kMulHi:
      return ByType<BinaryOf, L::kMulHi>(type);
    case L::kDiv:
      return ByType<BinaryOf, L::kDiv>(type);
    case L::kRem:
      return ByType<BinaryOf, L::kRem>(type);
    case L::kAnd:
      return ByType<BinaryOf, L::kAnd>(type);
    case L::kOr:
      return ByType<BinaryOf, L::kOr>(type);
    case L::kXor:
      return ByType<BinaryOf, L::kXor>(type);
    case L::kShl:
      return ByType<ShiftOf, L::kShl>(type);
    case L::kShr:
      return ByType<ShiftOf, L::kShr>(type);
    case L::kAddSat:
      return type == Type::kS32 ? &Binary<int32_t, L::kAddSat> : nullptr;
    case L::kSubSat:
      return type == Type::kS32 ? &Binary<int32_t, L::kSubSat> : nullptr;
    case L::kMul24Lo:
      return Only32<L::kMul24Lo>(type);
    case L::kMul24Hi:
      return Only32<L::kMul24Hi>(type);
    case L::kBmskClamp:
      return Only32<L::kBmskClamp>(type);
    case L::kBmskWrap:
      return Only32<L::kBmskWrap>(type);
    case L::kMulWide:
      if (t == Type::kU16) return &MulWide<uint16_t>;
      if (t == Type::kS16) return &MulWide<int16_t>;
      if (t == Type::kU32) return &MulWide<uint32_t>;
      return t == Type::kS32 ? &MulWide<int32_t> : nullptr;
    case L::kMadWide:
      if (t == Type::kU16) return &MadWide<uint16_t>;
      if (t == Type::kS16) return &MadWide<int16_t>;
      if (t == Type::kU32) return &MadWide<uint32_t>;
      return t == Type::kS32 ? &MadWide<int32_t> : nullptr;
    case L::kMov:
      return ByType<UnaryOf, L::kMov>(type);
    case L::kNot:
      return ByType<UnaryOf, L::kNot>(type);
    case L::kCnot:
      return ByType<UnaryOf, L::kCnot>(type);
    case L::kNeg:
      return ByType<UnaryOf, L::kNeg>(type);
    case L::kAbs:
      return ByType<UnaryOf, L::kAbs>(type);
    case L::kBrev:
      return ByType<UnaryOf, L::kBrev>(type);
    case L::kClz:
      return ByType<CountOf, L::kClz>(type);
    case L::kPopc:
      return ByType<CountOf, L::kPopc>(type);
    case L::kBfind:
      return ByType<CountOf, L::kBfind>(type);
    case L::kBfindShift:
      return ByType<CountOf, L::kBfindShift>(type);
    case L::kMadLo:
      return ByType<TernaryOf, L::kMadLo>(type);
    case L::kMadHi:
      return ByType<TernaryOf, L::kMadHi>(type);
    case L::kMadHiSat:
      return type == Type::kS32 ? &Ternary<int32_t, L::kMadHiSat> : nullptr;
    case L::kMad24Lo:
      return t == Type::kS32   ? &Ternary<int32_t, L::kMad24Lo>
             : t == Type::kU32 ? &Ternary<uint32_t, L::kMad24Lo>
                               : nullptr;
    case L::kMad24HiSat:
      return t == Type::kS32 ? &Ternary<int32_t, L::kMad24HiSat> : nullptr;
    case L::kMad24Hi:
      return t == Type::kS32   ? &Ternary<int32_t, L::kMad24Hi>
             : t == Type::kU32 ? &Ternary<uint32_t, L::kMad24Hi>
                               : nullptr;
    case L::kSad:
      return ByType<TernaryOf, L::kSad>(type);
    case L::kBfe:
      if (t == Type::kU32) return &Bfe<uint32_t>;
      if (t == Type::kS32) return &Bfe<int32_t>;
      if (t == Type::kU64) return &Bfe<uint64_t>;
      return t == Type::kS64 ? &Bfe<int64_t> : nullptr;
    case L::kBfi:
      return t == Type::kU32 ? &Bfi<uint32_t> : t == Type::kU64 ? &Bfi<uint64_t> : nullptr;
    case L::kShfLWrap:
      return &Funnel<L::kShfLWrap>;
    case L::kShfLClamp:
      return &Funnel<L::kShfLClamp>;
    case L::kShfRWrap:
      return &Funnel<L::kShfRWrap>;
    case L::kShfRClamp:
      return &Funnel<L::kShfRClamp>;
    case L::kPrmt:
      return &Prmt<L::kPrmt>;
    case L::kPrmtF4e:
      return &Prmt<L::kPrmtF4e>;
    case L::kPrmtB4e:
      return &Prmt<L::kPrmtB4e>;
    case L::kPrmtRc8:
      return &Prmt<L::kPrmtRc8>;
    case L::kPrmtEcl:
      return &Prmt<L::kPrmtEcl>;
    case L::kPrmtEcr:
      return &Prmt<L::kPrmtEcr>;
    case L::kPrmtRc16:
      return &Prmt<L::kPrmtRc16>;
    case L::kLop3:
      return &Lop3;
    case L::kSelp:
      if (t == Type::kU64 || t == Type::kS64) return &Selp<uint64_t>;
      return &Selp<uint32_t>;
    case L::kAddCarry:
      return CarryOf<L::kAddCarry>(type);
    case L::kSubCarry:
      return CarryOf<L::kSubCarry>(type);
    case L::kMadLoCarry:
      return CarryOf<L::kMadLoCarry>(type);
    case L::kMadHiCarry:
      return CarryOf<L::kMadHiCarry>(type);
  }
  return nullptr;
}

}  // namespace trun::device::TRUN_OPS
