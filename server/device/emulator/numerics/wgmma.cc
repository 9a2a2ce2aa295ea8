#include "server/device/emulator/numerics/wgmma.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "server/device/emulator/numerics/sparse.h"
#include "server/device/emulator/numerics/variant.h"

namespace trun::device::numerics {
namespace {

constexpr int kRows = 64;
constexpr int kMaxColumns = 256;
constexpr int kDepthBytes = 32;

// Tiles as bytes: K-major operands line by line (32 bytes each), MN-major ones k by k.
struct Scratch {
  alignas(64) uint8_t a[kRows * kDepthBytes];
  alignas(64) uint8_t b[kMaxColumns * 2 * kDepthBytes];
  alignas(64) float af[kRows * 32];
  alignas(64) float bf[64 * kMaxColumns];
  alignas(64) float line[kMaxColumns * 64];
  alignas(64) uint32_t c[kRows * kMaxColumns];  // accumulators as bits
  alignas(64) float cf[kRows * kMaxColumns];    // and as floats
};

Scratch& ThreadScratch() {
  thread_local const std::unique_ptr<Scratch> scratch = std::make_unique<Scratch>();
  return *scratch;
}

// Copies an operand of `lines` rows (K-major) or columns' worth of units (MN-major) out of shared memory;
// `units` of 16 bytes are `depth` elements.
absl::optional<uint32_t> Gather(const MatrixDescriptor& descriptor, bool transposed, int lines, int depth,
                                uint32_t units, absl::Span<const uint8_t> shared, uint8_t* out) {
  const uint32_t line_count = transposed ? static_cast<uint32_t>(depth) : static_cast<uint32_t>(lines);
  const uint32_t unit_count = transposed ? static_cast<uint32_t>(lines) / 8 : units;
  for (uint32_t line = 0; line < line_count; ++line) {
    for (uint32_t unit = 0; unit < unit_count; ++unit) {
      const uint32_t address = MatrixUnitAddress(descriptor, transposed, line, unit);
      if (address + 16 > shared.size()) return address;
      std::memcpy(out, shared.data() + address, 16);
      out += 16;
    }
  }
  return absl::nullopt;
}

// A's fragments of the four warps, as the rows that a K-major gather would give.
void GatherRegisters(const WgmmaOperands& operands, uint8_t* out) {
  for (int warp = 0; warp < 4; ++warp) {
    for (int r = 0; r < 4; ++r) {
      for (int g = 0; g < 8; ++g) {
        uint8_t* row = out + (16 * warp + 8 * (r % 2) + g) * kDepthBytes + 16 * (r / 2);
        std::memcpy(row, operands.a[warp][r] + 4 * g, 16);
      }
    }
  }
}

absl::optional<uint32_t> GatherOperands(const WgmmaShape& shape, const WgmmaOperands& operands,
                                        absl::Span<const uint8_t> shared, Scratch& s) {
  const int depth = WgmmaDepth(shape.a);
  if (shape.a_in_registers) {
    GatherRegisters(operands, s.a);
  } else if (auto bad = Gather(DecodeMatrixDescriptor(operands.a_descriptor), shape.transpose_a, kRows, depth,
                               2, shared, s.a)) {
    return bad;
  }
  const int more = shape.sparse ? 2 : 1;
  return Gather(DecodeMatrixDescriptor(operands.b_descriptor), shape.transpose_b, shape.n, depth * more,
                static_cast<uint32_t>(2 * more), shared, s.b);
}

// Lane 4g + t of register 4j + i holds row g + 8 (i / 2), column 8j + 2t + i % 2 of the warp's 16 rows:
// registers 4j + 2h and 4j + 2h + 1, interleaved, are a row-major tile of 8 x 8. With f16, register 2j + h is
// such a tile by itself.
template <typename Visit>
void ForEachTile(const WgmmaShape& shape, Visit visit) {
  for (int warp = 0; warp < 4; ++warp) {
    for (int j = 0; j < shape.n / 8; ++j) {
      for (int half = 0; half < 2; ++half)
        visit(warp, 2 * j + half, (16 * warp + 8 * half) * shape.n + 8 * j);
    }
  }
}

// A row of eight words from four lanes of two registers, interleaved; and back.
void JoinLanes(const uint32_t* x, const uint32_t* y, uint32_t* row) {
#if defined(__SSE2__)
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(y));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row), _mm_unpacklo_epi32(a, b));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row + 4), _mm_unpackhi_epi32(a, b));
#else
  for (int t = 0; t < 4; ++t) {
    row[2 * t] = x[t];
    row[2 * t + 1] = y[t];
  }
#endif
}
void SplitLanes(const uint32_t* row, uint32_t* x, uint32_t* y) {
#if defined(__SSE2__)
  const __m128 a = _mm_loadu_ps(reinterpret_cast<const float*>(row));
  const __m128 b = _mm_loadu_ps(reinterpret_cast<const float*>(row + 4));
  _mm_storeu_ps(reinterpret_cast<float*>(x), _mm_shuffle_ps(a, b, 0x88));
  _mm_storeu_ps(reinterpret_cast<float*>(y), _mm_shuffle_ps(a, b, 0xdd));
#else
  for (int t = 0; t < 4; ++t) {
    x[t] = row[2 * t];
    y[t] = row[2 * t + 1];
  }
#endif
}

void LoadAccumulators(const WgmmaShape& shape, const WgmmaOperands& operands, uint32_t* c) {
  if (!operands.scale_d) {
    std::memset(c, 0, sizeof(uint32_t) * static_cast<size_t>(kRows * shape.n));
    return;
  }
  if (shape.d != Type::kF16) {
    ForEachTile(shape, [&](int warp, int tile, int at) {
      const uint32_t *x = operands.d[warp][2 * tile], *y = operands.d[warp][2 * tile + 1];
      for (int g = 0; g < 8; ++g) JoinLanes(x + 4 * g, y + 4 * g, c + at + g * shape.n);
    });
    return;
  }
  const WidenRow widen = CurrentVariant().widen_row;
  ForEachTile(shape, [&](int warp, int tile, int at) {
    float values[64];
    widen(Type::kF16, operands.d[warp][tile], 64, values);
    for (int g = 0; g < 8; ++g) std::memcpy(c + at + g * shape.n, values + 8 * g, 32);
  });
}

void StoreWords(const WgmmaShape& shape, const WgmmaOperands& operands, const uint32_t* c) {
  ForEachTile(shape, [&](int warp, int tile, int at) {
    uint32_t *x = operands.d[warp][2 * tile], *y = operands.d[warp][2 * tile + 1];
    for (int g = 0; g < 8; ++g) SplitLanes(c + at + g * shape.n, x + 4 * g, y + 4 * g);
  });
}

void StoreFloats(const WgmmaShape& shape, const WgmmaOperands& operands, const float* c,
                 uint32_t* canonical) {
  const NarrowRow narrow = CurrentVariant().narrow_row;
  if (shape.d == Type::kF32) {
    narrow(Type::kF32, c, kRows * shape.n, canonical);
    StoreWords(shape, operands, canonical);
    return;
  }
  ForEachTile(shape, [&](int warp, int tile, int at) {
    float values[64];
    for (int g = 0; g < 8; ++g) std::memcpy(values + 8 * g, c + at + g * shape.n, 32);
    narrow(Type::kF16, values, 64, operands.d[warp][tile]);
  });
}

// Bytes of an operand to a row-major float tile of A: [row][k].
void WidenA(const WgmmaShape& shape, bool transposed, int depth, Scratch& s) {
  const WidenRow widen = CurrentVariant().widen_row;
  if (!transposed) {
    widen(shape.a, s.a, kRows * depth, s.af);
  } else {
    widen(shape.a, s.a, kRows * depth, s.line);
    for (int k = 0; k < depth; ++k) {
      for (int i = 0; i < kRows; ++i) s.af[i * depth + k] = s.line[k * kRows + i];
    }
  }
  if (shape.negate_a) {
    for (int i = 0; i < kRows * depth; ++i) s.af[i] = -s.af[i];
  }
}

// And of B: [k][column].
void WidenB(const WgmmaShape& shape, int depth, Scratch& s) {
  const Variant& variant = CurrentVariant();
  if (shape.transpose_b) {
    variant.widen_row(shape.b, s.b, shape.n * depth, s.bf);
  } else {
    variant.widen_row(shape.b, s.b, shape.n * depth, s.line);
    variant.transpose(s.line, shape.n, depth, s.bf);
  }
  if (shape.negate_b) {
    for (int i = 0; i < shape.n * depth; ++i) s.bf[i] = -s.bf[i];
  }
}

int Byte(Type type, uint8_t code) { return type == Type::kS8 ? static_cast<int8_t>(code) : code; }

int32_t DotBytes(Type a_type, const uint8_t* a, Type b_type, const uint8_t* b) {
  int32_t sum = 0;
  for (int k = 0; k < kDepthBytes; ++k) {
    sum += Byte(a_type, a[k]) * Byte(b_type, b[k]);
  }
  return sum;
}

int32_t DotBits(const uint8_t* a, const uint8_t* b) {
  int32_t sum = 0;
  for (int k = 0; k < kDepthBytes; k += 8) {
    uint64_t x, y;
    std::memcpy(&x, a + k, 8);
    std::memcpy(&y, b + k, 8);
    sum += __builtin_popcountll(x & y);
  }
  return sum;
}

// Row by row over the elements of A that are there.
void RunSparse(const WgmmaShape& shape, const WgmmaOperands& operands, Scratch& s) {
  const int depth = WgmmaDepth(shape.a), n = shape.n;
  const SparseLayout layout = {BitsOf(shape.a), 2 * depth, shape.selector};
  const bool integers = shape.d == Type::kS32;
  if (!integers) {
    WidenA(shape, shape.transpose_a && !shape.a_in_registers, depth, s);
    WidenB(shape, 2 * depth, s);
  }
  LoadAccumulators(shape, operands, s.c);
  if (!integers) std::memcpy(s.cf, s.c, sizeof(float) * static_cast<size_t>(kRows * n));
  for (int i = 0; i < kRows; ++i) {
    int64_t sums[kMaxColumns] = {};
    ForEachSparseElement(layout, operands.metadata[i / 16], i % 16, [&](int k, int e) {
      if (integers) {
        const int x = Byte(shape.a, s.a[i * kDepthBytes + e]);
        for (int j = 0; j < n; ++j) sums[j] += x * Byte(shape.b, s.b[j * 2 * kDepthBytes + k]);
        return;
      }
      const float x = s.af[i * depth + e];
      for (int j = 0; j < n; ++j) s.cf[i * n + j] = std::fma(x, s.bf[k * n + j], s.cf[i * n + j]);
    });
    for (int j = 0; integers && j < n; ++j) {
      const int64_t sum = static_cast<int32_t>(s.c[i * n + j]) + sums[j];
      s.c[i * n + j] =
          static_cast<uint32_t>(shape.satfinite ? std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX) : sum);
    }
  }
  if (integers) {
    StoreWords(shape, operands, s.c);
  } else {
    StoreFloats(shape, operands, s.cf, s.c);
  }
}

void RunIntegers(const WgmmaShape& shape, const WgmmaOperands& operands, Scratch& s) {
  LoadAccumulators(shape, operands, s.c);
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < shape.n; ++j) {
      const uint8_t *x = s.a + i * kDepthBytes, *y = s.b + j * kDepthBytes;
      const int32_t sum = shape.a == Type::kB1 ? DotBits(x, y) : DotBytes(shape.a, x, shape.b, y);
      uint32_t& c = s.c[i * shape.n + j];
      int32_t wrapped;
      const bool overflow = __builtin_add_overflow(static_cast<int32_t>(c), sum, &wrapped);
      c = overflow && shape.satfinite ? (sum < 0 ? 0x80000000u : 0x7fffffffu)
                                      : static_cast<uint32_t>(wrapped);
    }
  }
  StoreWords(shape, operands, s.c);
}

}  // namespace

MatrixDescriptor DecodeMatrixDescriptor(uint64_t bits) {
  MatrixDescriptor d;
  d.start = static_cast<uint32_t>(bits & 0x3fff) << 4;
  d.leading_offset = static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4;
  d.stride_offset = static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4;
  d.base_offset = static_cast<uint32_t>(bits >> 49 & 7);
  constexpr Swizzle kModes[4] = {Swizzle::kNone, Swizzle::k128, Swizzle::k64, Swizzle::k32};
  d.swizzle = kModes[bits >> 62];
  return d;
}

uint32_t MatrixUnitAddress(const MatrixDescriptor& d, bool transposed, uint32_t line, uint32_t unit) {
  const uint32_t width =
      d.swizzle == Swizzle::k32 ? 2 : (d.swizzle == Swizzle::k64 ? 4 : 8);  // 16-byte units
  uint32_t offset;
  if (!transposed) {
    offset = d.swizzle == Swizzle::kNone
                 ? line % 8 * 16 + line / 8 * d.stride_offset + unit * d.leading_offset
                 : line % 8 * width * 16 + line / 8 * d.stride_offset + unit % width * 16 +
                       unit / width * d.leading_offset;
  } else {
    offset = d.swizzle == Swizzle::kNone
                 ? line % 8 * 16 + line / 8 * d.leading_offset + unit * d.stride_offset
                 : line % 8 * width * 16 + line / 8 * d.stride_offset + unit % width * 16 +
                       unit / width * d.leading_offset;
  }
  return SwizzleAddress(d.swizzle, d.start + offset, d.base_offset);
}

bool IsValidWgmma(const WgmmaShape& s) {
  if (s.sparse && (s.a == Type::kB1 || s.selector < 0 ||
                   s.selector > SparseLayout{BitsOf(s.a), 2 * WgmmaDepth(s.a), 0}.max_selector())) {
    return false;
  }
  if (s.n < 8 || s.n > kMaxColumns || s.n % 8 != 0) return false;
  const bool half = s.a == Type::kF16 || s.a == Type::kBf16;
  if ((s.transpose_a && (!half || s.a_in_registers)) || (s.transpose_b && !half)) return false;
  const auto byte_float = [](Type t) { return t == Type::kE4m3 || t == Type::kE5m2; };
  const auto byte_integer = [](Type t) { return t == Type::kS8 || t == Type::kU8; };
  switch (s.a) {
    case Type::kF16:
      return s.b == s.a && (s.d == Type::kF32 || s.d == Type::kF16);
    case Type::kBf16:
    case Type::kTf32:
      return s.b == s.a && s.d == Type::kF32;
    case Type::kE4m3:
    case Type::kE5m2:
      return byte_float(s.b) && (s.d == Type::kF32 || s.d == Type::kF16);
    case Type::kS8:
    case Type::kU8:
      return byte_integer(s.b) && s.d == Type::kS32 && !s.negate_a && !s.negate_b;
    case Type::kB1:
      return s.b == s.a && s.d == Type::kS32 && !s.negate_a && !s.negate_b;
    default:
      return false;
  }
}

absl::optional<uint32_t> CheckWgmmaOperands(const WgmmaShape& shape, const WgmmaOperands& operands,
                                            absl::Span<const uint8_t> shared) {
  return GatherOperands(shape, operands, shared, ThreadScratch());
}

absl::optional<uint32_t> Wgmma(const WgmmaShape& shape, const WgmmaOperands& operands,
                               absl::Span<const uint8_t> shared) {
  Scratch& s = ThreadScratch();
  if (const auto bad = GatherOperands(shape, operands, shared, s)) return bad;
  if (shape.sparse) {
    RunSparse(shape, operands, s);
    return absl::nullopt;
  }
  if (shape.d == Type::kS32) {
    RunIntegers(shape, operands, s);
    return absl::nullopt;
  }
  const int depth = WgmmaDepth(shape.a);
  WidenA(shape, shape.transpose_a && !shape.a_in_registers, depth, s);
  WidenB(shape, depth, s);
  LoadAccumulators(shape, operands, s.c);
  std::memcpy(s.cf, s.c, sizeof(float) * static_cast<size_t>(kRows * shape.n));
  CurrentVariant().tile_product(kRows, shape.n, depth, s.af, depth, s.bf, shape.n, s.cf, shape.n);
  StoreFloats(shape, operands, s.cf, s.c);
  return absl::nullopt;
}

}  // namespace trun::device::numerics
