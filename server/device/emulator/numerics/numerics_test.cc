#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/float_ops.h"
#include "server/device/emulator/numerics/mma.h"

namespace trun::device::numerics {
namespace {

uint32_t Bits(float f) { return std::bit_cast<uint32_t>(f); }

TEST(ConvertTest, RoundsHalvesToEvenAndOverflowsToInfinity) {
  EXPECT_EQ(Convert({.to = Type::kF16, .from = Type::kF32}, Bits(1.0f)), 0x3c00u);
  EXPECT_EQ(Convert({.to = Type::kF16, .from = Type::kF32}, Bits(65520.0f)), 0x7c00u);
  EXPECT_EQ(Convert({.to = Type::kF16, .from = Type::kF32}, Bits(65519.0f)), 0x7bffu);
  EXPECT_EQ(Convert({.to = Type::kF16, .from = Type::kF32, .rounding = Rounding::kTowardZero}, Bits(1e9f)),
            0x7bffu);
  EXPECT_EQ(Convert({.to = Type::kF16, .from = Type::kF32}, Bits(0x1p-25f)), 0u);
  EXPECT_EQ(Convert({.to = Type::kF16, .from = Type::kF32}, Bits(0x1.8p-25f)), 1u);
  EXPECT_EQ(Convert({.to = Type::kS8, .from = Type::kF32, .rounding = Rounding::kTowardZero}, Bits(-300.f)),
            0xffffff80u);
}

TEST(MmaTest, ProductOfSmallIntegersIsExactInEveryFloatShape) {
  std::mt19937 random(7);
  for (const auto& [type, k] : {std::pair{Type::kF16, 8},
                                {Type::kF16, 16},
                                {Type::kBf16, 16},
                                {Type::kTf32, 4},
                                {Type::kTf32, 8},
                                {Type::kE4m3, 32},
                                {Type::kE5m2, 32}}) {
    const MmaShape shape{.m = 16, .n = 8, .k = k, .a = type, .b = type, .c = Type::kF32, .d = Type::kF32};
    const MmaCounts counts = CountsOf(shape);
    ASSERT_GT(counts.a, 0);
    float a[16][32], b[32][8], c[16][8];
    uint32_t ra[8][32] = {}, rb[4][32] = {}, rc[4][32] = {}, rd[4][32];
    const int bits = BitsOf(type), per = 32 / bits;
    auto put = [&](uint32_t* lane, int element, float v) {
      uint64_t code = Convert({.to = type, .from = Type::kF32, .satfinite = bits == 8}, Bits(v));
      *lane |= static_cast<uint32_t>(code) << (bits * element % 32);
    };
    for (int i = 0; i < 16; ++i) {
      for (int x = 0; x < k; ++x) {
        a[i][x] = static_cast<float>(static_cast<int>(random() % 7) - 3);
        const int block = x / (4 * per), in = x % (4 * per);
        put(&ra[2 * block + i / 8][4 * (i % 8) + in / per], in % per, a[i][x]);
      }
    }
    for (int x = 0; x < k; ++x) {
      for (int j = 0; j < 8; ++j) {
        b[x][j] = static_cast<float>(static_cast<int>(random() % 7) - 3);
        const int block = x / (4 * per), in = x % (4 * per);
        put(&rb[block][4 * j + in / per], in % per, b[x][j]);
      }
    }
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 8; ++j) {
        c[i][j] = static_cast<float>(random() % 100);
        rc[2 * (i / 8) + j % 2][4 * (i % 8) + j / 2] = Bits(c[i][j]);
      }
    }
    MmaRegisters r;
    for (int i = 0; i < counts.a; ++i) r.a[i] = ra[i];
    for (int i = 0; i < counts.b; ++i) r.b[i] = rb[i];
    for (int i = 0; i < 4; ++i) r.c[i] = rc[i], r.d[i] = rd[i];
    SelectMma(shape)(shape, r);
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 8; ++j) {
        float want = c[i][j];
        for (int x = 0; x < k; ++x) want += a[i][x] * b[x][j];
        EXPECT_EQ(std::bit_cast<float>(rd[2 * (i / 8) + j % 2][4 * (i % 8) + j / 2]), want)
            << "type " << static_cast<int>(type) << " k " << k << " at " << i << "," << j;
      }
    }
  }
}

float Run1(FloatOpcode op, float x, bool ftz = false) {
  uint32_t a[32], d[32];
  for (auto& v : a) v = Bits(x);
  const FloatOp o{.opcode = op, .ftz = ftz};
  SelectFloatOp(o)(o, a, nullptr, nullptr, d);
  return std::bit_cast<float>(d[17]);
}

TEST(FloatOpsTest, ApproximationsStayWithinTheirBounds) {
  std::mt19937 random(3);
  for (int i = 0; i < 20000; ++i) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(random()));
    if (!std::isfinite(x)) continue;
    const double d = x;
    if (std::abs(x) < 120) {
      EXPECT_NEAR(Run1(FloatOpcode::kEx2Approx, x) / std::exp2(d), 1, 0x1p-23) << x;
    }
    EXPECT_NEAR(Run1(FloatOpcode::kTanhApprox, x), std::tanh(d), std::abs(std::tanh(d)) * 0x1p-23) << x;
    if (x > 0) {
      EXPECT_NEAR(Run1(FloatOpcode::kLg2Approx, x), std::log2(d), std::abs(std::log2(d)) * 0x1p-23) << x;
    }
    if (std::abs(x) < 1000) {
      EXPECT_NEAR(Run1(FloatOpcode::kSinApprox, x), std::sin(d), 0x1p-23) << x;
      EXPECT_NEAR(Run1(FloatOpcode::kCosApprox, x), std::cos(d), 0x1p-23) << x;
    }
  }
  EXPECT_TRUE(std::isinf(Run1(FloatOpcode::kEx2Approx, 128.0f)));
  EXPECT_EQ(Run1(FloatOpcode::kEx2Approx, -INFINITY), 0.0f);
  EXPECT_EQ(Run1(FloatOpcode::kLg2Approx, 0.0f), -INFINITY);
  EXPECT_EQ(Bits(Run1(FloatOpcode::kLg2Approx, -1.0f)), kNanF32);
  EXPECT_EQ(Run1(FloatOpcode::kRsqrtApprox, -0.0f), -INFINITY);
}

}  // namespace
}  // namespace trun::device::numerics
