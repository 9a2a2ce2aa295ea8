// Triton's own sm_90 code (testdata/generate_ptx.py) on the emulator: wgmma in all its forms, tensor copies
// of one to five dimensions, reductions, gather and scatter, against results computed here.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/async/emulator_fixture.h"
#include "server/device/emulator/numerics/convert.h"

namespace trun::device {
namespace {

using numerics::Type;

// Small integers: every product and sum is exact in every type here.
std::vector<int> SmallIntegers(size_t count, uint32_t seed, int limit) {
  std::mt19937 random(seed);
  std::vector<int> out(count);
  for (int& v : out) v = static_cast<int>(random() % static_cast<uint32_t>(2 * limit + 1)) - limit;
  return out;
}

size_t BytesOf(Type type) { return static_cast<size_t>(numerics::BitsOf(type)) / 8; }

void Put(uint8_t* memory, Type type, size_t i, double value) {
  const uint64_t bits = numerics::Convert({.to = type, .from = Type::kF64, .satfinite = BytesOf(type) == 1},
                                          std::bit_cast<uint64_t>(value));
  std::memcpy(memory + i * BytesOf(type), &bits, BytesOf(type));
}

double Get(const uint8_t* memory, Type type, size_t i) {
  uint64_t bits = 0;
  std::memcpy(&bits, memory + i * BytesOf(type), BytesOf(type));
  return numerics::ToDouble(type == Type::kTf32 ? Type::kF32 : type, bits);
}

class HopperTest : public EmulatorFixture {
 protected:
  HopperTest() : EmulatorFixture(90) {}

  uint64_t Fill(Type type, const std::vector<int>& values) {
    const uint64_t address = Allocate(values.size() * BytesOf(type));
    for (size_t i = 0; i < values.size(); ++i) {
      if (numerics::IsInteger(type)) {
        std::memcpy(Host(address) + i * BytesOf(type), &values[i], BytesOf(type));
      } else {
        Put(Host(address), type, i, values[i]);
      }
    }
    return address;
  }

  double At(uint64_t address, Type type, size_t i) {
    if (!numerics::IsInteger(type)) return Get(Host(address), type, i);
    int64_t v = 0;
    std::memcpy(&v, Host(address) + i * BytesOf(type), BytesOf(type));
    return type == Type::kS32 ? static_cast<int32_t>(v) : static_cast<double>(v);
  }
};

struct MatmulCase {
  const char* name;
  Type a, b, c;
  int bm, bn, warps;
  bool a_rows, b_rows;  // which of the two has unit stride along its rows
};

class WgmmaKernelTest : public HopperTest, public testing::WithParamInterface<MatmulCase> {};

TEST_P(WgmmaKernelTest, MultipliesMatricesOfOddSizesExactly) {
  const MatmulCase& p = GetParam();
  const int m = p.bm + 37, n = p.bn + 21, k = 150;
  const int lead_a = p.a_rows ? 160 : 512, lead_b = p.b_rows ? 512 : 160;
  const std::vector<int> a = SmallIntegers(static_cast<size_t>(lead_a * (p.a_rows ? m : k)), 1, 3);
  const std::vector<int> b = SmallIntegers(static_cast<size_t>(lead_b * (p.b_rows ? k : n)), 2, 3);
  const uint64_t pa = Fill(p.a, a), pb = Fill(p.b, b),
                 pc = Allocate(static_cast<size_t>(m * n) * BytesOf(p.c));
  const auto u = [](int v) { return static_cast<uint64_t>(v); };
  const LaunchOutcome outcome =
      Run(std::string("testdata/") + p.name, {u((m + p.bm - 1) / p.bm), u((n + p.bn - 1) / p.bn), 1},
          {pa, pb, pc, u(m), u(n), u(k), u(lead_a), u(lead_b)});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      int want = 0;
      for (int x = 0; x < k; ++x) {
        want += a[static_cast<size_t>(p.a_rows ? i * lead_a + x : x * lead_a + i)] *
                b[static_cast<size_t>(p.b_rows ? x * lead_b + j : j * lead_b + x)];
      }
      ASSERT_EQ(At(pc, p.c, static_cast<size_t>(i * n + j)), want) << i << ", " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Triton, WgmmaKernelTest,
    testing::Values(
        MatmulCase{"wgmma_fp16", Type::kF16, Type::kF16, Type::kF32, 64, 64, 4, true, true},
        MatmulCase{"wgmma_fp16_wide", Type::kF16, Type::kF16, Type::kF32, 128, 256, 8, true, true},
        MatmulCase{"wgmma_fp16_columns", Type::kF16, Type::kF16, Type::kF32, 64, 64, 4, false, false},
        MatmulCase{"wgmma_fp16_narrow", Type::kF16, Type::kF16, Type::kF32, 64, 16, 4, true, true},
        MatmulCase{"wgmma_fp16_half", Type::kF16, Type::kF16, Type::kF16, 64, 128, 4, true, true},
        MatmulCase{"wgmma_bf16", Type::kBf16, Type::kBf16, Type::kF32, 64, 128, 4, true, true},
        MatmulCase{"wgmma_bf16_registers", Type::kE5m2, Type::kF16, Type::kF32, 64, 64, 4, true, true},
        MatmulCase{"wgmma_tf32", Type::kF32, Type::kF32, Type::kF32, 64, 64, 4, true, false},
        MatmulCase{"wgmma_e4m3", Type::kE4m3, Type::kE4m3, Type::kF32, 64, 64, 4, true, false},
        MatmulCase{"wgmma_e5m2", Type::kE5m2, Type::kE5m2, Type::kF32, 64, 32, 4, true, false},
        MatmulCase{"wgmma_s8", Type::kS8, Type::kS8, Type::kS32, 64, 64, 4, true, false}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(HopperTest, AProductThatNothingWaitedForIsReported) {
  std::ifstream file("testdata/wgmma_fp16.ptx");
  std::stringstream text;
  text << file.rdbuf();
  const std::string ptx = text.str();
  ASSERT_NE(ptx.find("wgmma.wait_group"), std::string::npos);
  CheckOptions checks;
  checks.late_async = true;
  ASSERT_TRUE(device().SetChecks(checks).ok());
  const std::vector<int> ones(512 * 512, 1);
  const uint64_t a = Fill(Type::kF16, ones), b = Fill(Type::kF16, ones), c = Allocate(64 * 64 * 4);
  LaunchDimensions dimensions;
  dimensions.block = {128, 1, 1};
  dimensions.dynamic_shared_bytes = 65536;
  const std::vector<uint64_t> arguments = {a, b, c, 64, 64, 150, 160, 160, 0, 0};
  LaunchOutcome outcome = RunText(ptx, dimensions, arguments);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  outcome =
      RunText(absl::StrReplaceAll(ptx, {{"wgmma.wait_group", "// wgmma.wait_group"}}), dimensions, arguments);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
}

struct TmaMatmulCase {
  const char* name;
  Type type, c;
  int bm, bn;
  bool transposed;
};

class TmaMatmulTest : public HopperTest, public testing::WithParamInterface<TmaMatmulCase> {};

TEST_P(TmaMatmulTest, LoadsAndStoresTilesThatHangOverTheEdges) {
  const TmaMatmulCase& p = GetParam();
  const int m = p.bm + 30, n = p.bn + 24, k = 104;
  const std::vector<int> a = SmallIntegers(static_cast<size_t>(m * k), 1, 2);
  const std::vector<int> b = SmallIntegers(static_cast<size_t>(n * k), 2, 1);
  const uint64_t pa = Fill(p.type, a), pb = Fill(p.type, b),
                 pc = Allocate(static_cast<size_t>(m * n) * BytesOf(p.c));
  const auto u = [](int v) { return static_cast<uint64_t>(v); };
  const LaunchOutcome outcome =
      Run(std::string("testdata/") + p.name, {u((m + p.bm - 1) / p.bm), u((n + p.bn - 1) / p.bn), 1},
          {pa, pb, pc, u(m), u(n), u(k)});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      int want = 0;
      for (int x = 0; x < k; ++x) {
        want +=
            a[static_cast<size_t>(i * k + x)] * b[static_cast<size_t>(p.transposed ? j * k + x : x * n + j)];
      }
      ASSERT_EQ(At(pc, p.c, static_cast<size_t>(i * n + j)), want) << i << ", " << j;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Triton, TmaMatmulTest,
    testing::Values(TmaMatmulCase{"tma_matmul_fp16", Type::kF16, Type::kF16, 64, 128, false},
                    TmaMatmulCase{"tma_matmul_bf16_transposed", Type::kBf16, Type::kBf16, 128, 64, true},
                    TmaMatmulCase{"tma_matmul_cluster", Type::kF16, Type::kF16, 128, 128, false},
                    TmaMatmulCase{"specialised_matmul", Type::kF16, Type::kF16, 128, 128, false},
                    TmaMatmulCase{"tma_matmul_fp16_narrow", Type::kF16, Type::kF32, 64, 16, true}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(HopperTest, CopiesOneDimensionWithZerosBeyondItsEnds) {
  const int n = 600;
  for (int shift : {0, -8, 100}) {
    const std::vector<int> x = SmallIntegers(n, 3, 100);
    const uint64_t px = Fill(Type::kF32, x), out = Allocate(n * 4);
    const LaunchOutcome outcome =
        Run("testdata/tma_copy_1d_fp32", {3, 1, 1}, {px, out, n, static_cast<uint32_t>(shift)});
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    for (int i = 0; i < n; ++i) {
      const bool inside = i + shift >= 0 && i + shift < n;
      ASSERT_EQ(At(out, Type::kF32, static_cast<size_t>(i)), inside ? x[static_cast<size_t>(i + shift)] : 0)
          << i;
    }
  }
}

struct CopyCase {
  const char* name;
  Type type;
  int bm, bn;
};

TEST_F(HopperTest, CopiesTwoDimensionsInEverySwizzle) {
  for (const CopyCase& p :
       {CopyCase{"tma_copy_2d_fp16", Type::kF16, 16, 64}, CopyCase{"tma_copy_2d_fp32", Type::kF32, 8, 16},
        CopyCase{"tma_copy_2d_u8", Type::kU8, 8, 32}}) {
    const int m = p.bm * 2 + 3, n = p.bn + 16, down = -2,
              right = 16;  // bytes at least: copies begin at 16 bytes
    std::vector<int> x = SmallIntegers(static_cast<size_t>(m * n), 4, 60);
    for (int& v : x) v = std::abs(v);
    const uint64_t px = Fill(p.type, x), out = Allocate(x.size() * BytesOf(p.type));
    const LaunchOutcome outcome = Run(std::string("testdata/") + p.name, {3, 2, 1},
                                      {px, out, static_cast<uint64_t>(m), static_cast<uint64_t>(n),
                                       static_cast<uint32_t>(down), static_cast<uint32_t>(right)});
    ASSERT_TRUE(outcome.status.ok()) << p.name << outcome.status;
    for (int i = 0; i < m; ++i) {
      for (int j = 0; j < n; ++j) {
        const int y = i + down, z = j + right;
        const bool inside = y >= 0 && y < m && z >= 0 && z < n;
        ASSERT_EQ(At(out, p.type, static_cast<size_t>(i * n + j)),
                  inside ? x[static_cast<size_t>(y * n + z)] : 0)
            << p.name << " at " << i << ", " << j;
      }
    }
  }
}

TEST_F(HopperTest, CopiesThreeAndFiveDimensions) {
  const int a = 5, b = 20, c = 40;
  const std::vector<int> x = SmallIntegers(static_cast<size_t>(a * b * c), 5, 60);
  const uint64_t px = Fill(Type::kF16, x), out = Allocate(x.size() * 2);
  LaunchOutcome outcome =
      Run("testdata/tma_copy_3d_fp16", {3, 3, 2},
          {px, out, static_cast<uint64_t>(a), static_cast<uint64_t>(b), static_cast<uint64_t>(c), 1});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t from = i + static_cast<size_t>(b * c);
    ASSERT_EQ(At(out, Type::kF16, i), from < x.size() ? x[from] : 0) << i;
  }
  const std::vector<uint64_t> dims = {3, 5, 3, 3, 16};
  const std::vector<int> y = SmallIntegers(3 * 5 * 3 * 3 * 16, 6, 60);
  const uint64_t py = Fill(Type::kBf16, y), result = Allocate(y.size() * 2);
  std::vector<uint64_t> arguments = {py, result};
  arguments.insert(arguments.end(), dims.begin(), dims.end());
  outcome = Run("testdata/tma_copy_5d_bf16", {3, 1, 1}, arguments);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(At(result, Type::kBf16, i), y[i]) << i;
}

TEST_F(HopperTest, CopiesFourDimensions) {
  const std::vector<int> x = SmallIntegers(4 * 4 * 6 * 32, 11, 60);
  const uint64_t px = Fill(Type::kF16, x), out = Allocate(x.size() * 2);
  const LaunchOutcome outcome = Run("testdata/tma_copy_4d_fp16", {2, 1, 1}, {px, out, 4, 4, 6, 32});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(At(out, Type::kF16, i), x[i]) << i;
}

TEST_F(HopperTest, FillsElementsOutOfBoundsWithNan) {
  const std::vector<int> x = SmallIntegers(24 * 40, 12, 60);
  const uint64_t px = Fill(Type::kF16, x), out = Allocate(16 * 32 * 2);
  const LaunchOutcome outcome = Run("testdata/tma_fill_nan_fp16", {1, 1, 1}, {px, out, 24, 40});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 32; ++j) {
      const double v = At(out, Type::kF16, i * 32 + j);
      if (i < 8 && j < 16) {
        EXPECT_EQ(v, x[(16 + i) * 40 + 24 + j]) << i << ", " << j;
      } else {
        EXPECT_TRUE(std::isnan(v)) << i << ", " << j;
      }
    }
  }
}

TEST_F(HopperTest, AttentionKeepsTheProbabilitiesInRegistersForTheSecondProduct) {
  const size_t n = 256, d = 64;
  const std::vector<int> q = SmallIntegers(n * d, 13, 2), k = SmallIntegers(n * d, 14, 2),
                         v = SmallIntegers(n * d, 15, 3);
  const uint64_t pq = Fill(Type::kF16, q), pk = Fill(Type::kF16, k), pv = Fill(Type::kF16, v),
                 out = Allocate(n * d * 4);
  const float scale = 0.125f;
  const LaunchOutcome outcome =
      Run("testdata/attention", {n / 64, 1, 1}, {pq, pk, pv, out, std::bit_cast<uint32_t>(scale), n});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (size_t i = 0; i < n; i += 17) {
    std::vector<double> p(n), want(d);
    double total = 0;
    for (size_t j = 0; j < n; ++j) {
      int sum = 0;
      for (size_t x = 0; x < d; ++x) sum += q[i * d + x] * k[j * d + x];
      total += p[j] = std::exp2(sum * static_cast<double>(scale));
    }
    for (size_t x = 0; x < d; ++x) {
      for (size_t j = 0; j < n; ++j) want[x] += p[j] / total * v[j * d + x];
      ASSERT_NEAR(At(out, Type::kF32, i * d + x), want[x], 4e-3) << i << ", " << x;
    }
  }
}

TEST_F(HopperTest, ReducesTilesIntoMemory) {
  struct Case {
    const char* name;
    Type type;
    std::function<int64_t(int64_t, int64_t)> combine;
  };
  const Case cases[] = {
      {"tma_reduce_add_fp32", Type::kF32, [](int64_t x, int64_t y) { return x + y; }},
      {"tma_reduce_add_fp16", Type::kF16, [](int64_t x, int64_t y) { return x + y; }},
      {"tma_reduce_min_s32", Type::kS32, [](int64_t x, int64_t y) { return std::min(x, y); }},
      {"tma_reduce_max_u32", Type::kU32,
       [](int64_t x, int64_t y) {
         return static_cast<int64_t>(std::max<uint32_t>(static_cast<uint32_t>(x), static_cast<uint32_t>(y)));
       }},
      {"tma_reduce_xor_u32", Type::kU32, [](int64_t x, int64_t y) {
         return static_cast<int64_t>(static_cast<uint32_t>(x) ^ static_cast<uint32_t>(y));
       }}};
  for (const Case& c : cases) {
    const int m = 40, n = 32, bm = 16;
    const std::vector<int> x = SmallIntegers(static_cast<size_t>(bm * n), 7, 50),
                           old = SmallIntegers(static_cast<size_t>(m * n), 8, 50);
    const uint64_t px = Fill(c.type, x), out = Fill(c.type, old);
    const LaunchOutcome outcome = Run(std::string("testdata/") + c.name, {3, 1, 1}, {px, out, m, n});
    ASSERT_TRUE(outcome.status.ok()) << c.name << outcome.status;
    for (int i = 0; i < m; ++i) {
      for (int j = 0; j < n; ++j) {
        const size_t at = static_cast<size_t>(i * n + j);
        const double before = c.type == Type::kU32 ? static_cast<double>(static_cast<uint32_t>(old[at]))
                                                   : static_cast<double>(old[at]);
        // Program p covers rows 16p + 8 … 16p + 23; the last one ends outside.
        const bool touched = i >= 8;
        const double want =
            touched ? static_cast<double>(c.combine(old[at], x[static_cast<size_t>((i - 8) % 16 * n + j)]))
                    : before;
        ASSERT_EQ(At(out, c.type, at), want) << c.name << " at " << i << ", " << j;
      }
    }
  }
}

TEST_F(HopperTest, GathersAndScattersRows) {
  const int m = 50, n = 64;
  const std::vector<int> x = SmallIntegers(static_cast<size_t>(m * n), 9, 60);
  std::vector<int> index = {49, 0, 3, 3, 7, 50, -1, 20, 21, 22, 23, 24, 48, 1, 2, 40};
  const uint64_t px = Fill(Type::kF16, x), pi = Fill(Type::kS32, index), out = Allocate(16 * 64 * 2);
  LaunchOutcome outcome = Run("testdata/tma_gather_fp16", {1, 1, 1}, {px, pi, out, m, n});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (size_t i = 0; i < 16; ++i) {
    for (size_t j = 0; j < 64; ++j) {
      const bool inside = index[i] >= 0 && index[i] < m;
      ASSERT_EQ(At(out, Type::kF16, i * 64 + j), inside ? x[static_cast<size_t>(index[i]) * 64 + j] : 0)
          << i << ", " << j;
    }
  }
  const std::vector<int> rows = SmallIntegers(8 * 32, 10, 60), zeros(20 * 32, 0);
  index = {19, 20, 0, -3, 5, 6, 7, 11};
  const uint64_t pr = Fill(Type::kF32, rows), pj = Fill(Type::kS32, index), target = Fill(Type::kF32, zeros);
  outcome = Run("testdata/tma_scatter_fp32", {1, 1, 1}, {pr, pj, target, 20, 32});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (int i = 0; i < 20; ++i) {
    const auto found = std::find(index.begin(), index.end(), i);
    for (size_t j = 0; j < 32; ++j) {
      const double want =
          found == index.end() ? 0 : rows[static_cast<size_t>(found - index.begin()) * 32 + j];
      ASSERT_EQ(At(target, Type::kF32, static_cast<size_t>(i) * 32 + j), want) << i << ", " << j;
    }
  }
}

TEST_F(HopperTest, ReportsATensorMapThatReachesOutOfItsAllocation) {
  const uint64_t px = Fill(Type::kF32, SmallIntegers(600, 1, 3)), out = Allocate(600 * 4);
  const LaunchOutcome outcome = Run("testdata/tma_copy_1d_fp32", {3, 1, 1}, {px, out, 768, 0});
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_THAT(outcome.fault.instruction, testing::HasSubstr("cp.async.bulk.tensor.1d"));
  EXPECT_GT(outcome.fault.ptx_line, 0u);
}

}  // namespace
}  // namespace trun::device
