// The variants give the same bits, and min, max, abs, neg and the special cases are PTX's.
#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/numerics/float_ops.h"
#include "server/device/emulator/numerics/mma.h"

namespace trun::device::numerics {
namespace {

uint32_t Bits(float f) { return std::bit_cast<uint32_t>(f); }

uint32_t Compute(const FloatOp& op, uint32_t a, uint32_t b = 0, uint32_t c = 0) {
  alignas(64) uint32_t x[kLanes], y[kLanes], z[kLanes], d[kLanes];
  std::fill(x, x + kLanes, a);
  std::fill(y, y + kLanes, b);
  std::fill(z, z + kLanes, c);
  SelectFloatOp(op)(op, x, y, z, d);
  return d[13];
}

class VariantsTest : public testing::Test {
  void TearDown() override { ForceNumericsVariant(nullptr); }
};

TEST_F(VariantsTest, AgreeOnEveryBitOfMatrixProducts) {
  std::vector<MmaShape> shapes;
  for (int k : {8, 16}) {
    for (Type d : {Type::kF16, Type::kF32}) shapes.push_back({.k = k, .c = d, .d = d});
    shapes.push_back({.k = k, .a = Type::kBf16, .b = Type::kBf16});
  }
  for (int k : {4, 8}) shapes.push_back({.k = k, .a = Type::kTf32, .b = Type::kTf32});
  for (Type a : {Type::kE4m3, Type::kE5m2, Type::kE2m1, Type::kE2m3, Type::kE3m2}) {
    shapes.push_back({.k = 32, .a = a, .b = Type::kE4m3});
    shapes.push_back({.k = 32, .a = a, .b = Type::kE5m2, .c = Type::kF16, .d = Type::kF16});
  }
  for (bool saturate : {false, true}) {
    for (Type a : {Type::kS8, Type::kU8}) {
      for (auto [m, k] : {std::pair{8, 16}, {16, 16}, {16, 32}}) {
        shapes.push_back({m, 8, k, a, Type::kS8, Type::kS32, Type::kS32, saturate, false});
      }
    }
    for (Type a : {Type::kS4, Type::kU4}) {
      for (auto [m, k] : {std::pair{8, 32}, {16, 32}, {16, 64}}) {
        shapes.push_back({m, 8, k, a, Type::kU4, Type::kS32, Type::kS32, saturate, false});
      }
    }
  }
  for (auto [m, k] : {std::pair{8, 128}, {16, 128}, {16, 256}}) {
    shapes.push_back({m, 8, k, Type::kB1, Type::kB1, Type::kS32, Type::kS32, false, k == 256});
  }
  for (auto [m, k] : {std::pair{8, 4}, {16, 4}, {16, 8}, {16, 16}}) {
    shapes.push_back({m, 8, k, Type::kF64, Type::kF64, Type::kF64, Type::kF64, false, false});
  }
  std::mt19937_64 random(17);
  for (const MmaShape& shape : shapes) {
    const MmaCounts counts = CountsOf(shape);
    ASSERT_GT(counts.a, 0) << shape.m << "x" << shape.k;
    std::vector<uint64_t> in(24 * kLanes);
    for (auto& v : in) {
      v = random();
      if (shape.a == Type::kF64)
        v = std::bit_cast<uint64_t>(static_cast<double>(static_cast<int64_t>(v)) * 0x1p-60);
    }
    std::vector<uint64_t> results[3];
    const char* const names[3] = {"baseline", "avx2", "avx512"};
    for (int variant = 0; variant < 3; ++variant) {
      if (!ForceNumericsVariant(names[variant])) continue;
      std::vector<uint64_t> out(8 * kLanes);
      MmaRegisters r;
      for (int i = 0; i < 8; ++i)
        r.a[i] = &in[i * kLanes], r.c[i] = &in[(16 + i) * kLanes], r.d[i] = &out[i * kLanes];
      for (int i = 0; i < 4; ++i) r.b[i] = &in[(8 + i) * kLanes];
      SelectMma(shape)(shape, r);
      results[variant] = out;
      EXPECT_EQ(out, results[0]) << names[variant] << " type " << static_cast<int>(shape.a) << " m" << shape.m
                                 << "k" << shape.k;
    }
  }
}

TEST_F(VariantsTest, AgreeOnEveryBitOfApproximations) {
  std::mt19937 random(19);
  for (FloatOpcode opcode :
       {FloatOpcode::kEx2Approx, FloatOpcode::kLg2Approx, FloatOpcode::kSinApprox, FloatOpcode::kCosApprox,
        FloatOpcode::kTanhApprox, FloatOpcode::kRcpApprox, FloatOpcode::kRsqrtApprox,
        FloatOpcode::kSqrtApprox, FloatOpcode::kDivApprox, FloatOpcode::kDivFull}) {
    for (int round = 0; round < 200; ++round) {
      const FloatOp op{.opcode = opcode, .ftz = round % 2 != 0};
      uint32_t a[kLanes], b[kLanes], d[2][kLanes];
      for (int i = 0; i < kLanes; ++i)
        a[i] = static_cast<uint32_t>(random()), b[i] = static_cast<uint32_t>(random());
      ForceNumericsVariant("baseline");
      SelectFloatOp(op)(op, a, b, nullptr, d[0]);
      ForceNumericsVariant(nullptr);
      SelectFloatOp(op)(op, a, b, nullptr, d[1]);
      for (int i = 0; i < kLanes; ++i)
        EXPECT_EQ(d[0][i], d[1][i]) << static_cast<int>(opcode) << " " << std::hex << a[i];
    }
  }
}

TEST(MinMaxTest, NanGivesTheOtherOperandUnlessNanIsAskedFor) {
  const uint32_t nan = 0x7fc00001;
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMax}, nan, Bits(2.0f)), Bits(2.0f));
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMin}, Bits(2.0f), nan), Bits(2.0f));
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMin}, nan, nan), kNanF32);
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMax, .nan = true}, Bits(2.0f), nan), kNanF32);
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMax, .type = Type::kF16, .nan = true}, 0x3c00, 0xfe00), kNanF16);
}

TEST(MinMaxTest, NegativeZeroIsLessThanZero) {
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMin}, Bits(0.0f), Bits(-0.0f)), Bits(-0.0f));
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMax}, Bits(-0.0f), Bits(0.0f)), Bits(0.0f));
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMax, .ftz = true}, 1, 0x80000001), 0u);
}

TEST(MinMaxTest, XorsignComparesMagnitudesAndMultipliesSigns) {
  const FloatOp op{.opcode = FloatOpcode::kMin, .xorsign_abs = true};
  EXPECT_EQ(Compute(op, Bits(-2.0f), Bits(3.0f)), Bits(-2.0f));
  EXPECT_EQ(Compute(op, Bits(-2.0f), Bits(-3.0f)), Bits(2.0f));
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kMin, .type = Type::kBf16, .xorsign_abs = true}, 0xc000, 0x3f80),
            0xbf80u);
}

TEST(SpecialCasesTest, DivApproxFlushesTheReciprocalOfAHugeDivisor) {
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kDivApprox}, Bits(1.0f), Bits(0x1.8p127f)), 0u);
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kDivApprox}, Bits(INFINITY), Bits(0x1.8p127f)), kNanF32);
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kDivFull}, Bits(0x1p127f), Bits(0x1.8p127f)),
            Bits(0x1p127f / 0x1.8p127f));
}

TEST(SpecialCasesTest, Fp16ExponentialAndTangentAreRoundedFromSinglePrecision) {
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kEx2Approx, .type = Type::kF16}, 0x3c00), 0x4000u);
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kTanhApprox, .type = Type::kBf16}, 0x4120), 0x3f80u);
  EXPECT_EQ(Compute({.opcode = FloatOpcode::kEx2Approx, .type = Type::kBf16, .packed = true}, 0x3f80bf80),
            0x40003f00u);
}

TEST(SpecialCasesTest, DoubleReciprocalKeepsTheUpperHalfOnly) {
  uint64_t a[kLanes], d[kLanes];
  std::fill(a, a + kLanes, std::bit_cast<uint64_t>(3.0));
  const FloatOp op{.opcode = FloatOpcode::kRcpApprox, .type = Type::kF64, .ftz = true};
  SelectFloatOp(op)(op, a, nullptr, nullptr, d);
  EXPECT_EQ(d[0] & 0xffffffff, 0u);
  EXPECT_NEAR(std::bit_cast<double>(d[0]), 1.0 / 3, 0x1p-20 / 3);
}

}  // namespace
}  // namespace trun::device::numerics
