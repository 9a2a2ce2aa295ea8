// Kernels that Triton compiled, run on the emulator and checked against the same computation in C++.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

constexpr uint64_t kNull = 0;  // the scratch pointers of Triton 3.9

std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(generator);
  return values;
}

uint16_t ToHalf(float value, numerics::Type type = numerics::Type::kF16) {
  numerics::Conversion conversion;
  conversion.to = type;
  conversion.from = numerics::Type::kF32;
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return static_cast<uint16_t>(numerics::Convert(conversion, bits));
}

float FromHalf(uint16_t bits, numerics::Type type = numerics::Type::kF16) {
  return static_cast<float>(numerics::ToDouble(type, bits));
}

struct Metadata {
  uint32_t shared = 0;
  uint32_t warps = 4;
};

// {"name": …, "shared": N, "num_warps": N}
Metadata MetadataOf(const std::string& name) {
  const std::string text = ReadTestData("ptx/" + name + ".json");
  Metadata metadata;
  metadata.shared = static_cast<uint32_t>(std::stoul(text.substr(text.find("\"shared\": ") + 10)));
  metadata.warps = static_cast<uint32_t>(std::stoul(text.substr(text.find("\"num_warps\": ") + 13)));
  return metadata;
}

class TritonKernelTest : public ::testing::TestWithParam<int> {
 protected:
  TritonKernelTest() : launcher_(GetParam()) {}

  LaunchOutcome Run(const std::string& kernel, std::array<uint32_t, 3> grid, TestParameters parameters,
                    absl::Duration deadline = absl::Seconds(60)) {
    const std::string name = kernel + ".sm" + std::to_string(GetParam());
    auto loaded = launcher_.Load(ReadTestData("ptx/" + name + ".ptx"));
    if (!loaded.ok()) {
      LaunchOutcome outcome;
      outcome.status = loaded.status();
      return outcome;
    }
    const Metadata metadata = MetadataOf(name);
    LaunchDimensions dimensions;
    dimensions.grid = grid;
    dimensions.block = {32 * metadata.warps, 1, 1};
    dimensions.dynamic_shared_bytes = metadata.shared;
    parameters.Add(kNull).Add(kNull);
    return launcher_.Launch(*loaded, dimensions, parameters, deadline);
  }

  // Runs a kernel of tiles of 64 x 64 on random matrices and holds the product to one in double precision.
  void ExpectMatmul(const std::string& kernel, const std::string& kind, int m, int n, int k);

  TestLauncher launcher_;
};

TEST_P(TritonKernelTest, VectorAddEndsInsideAMaskedBlock) {
  const int n = 5000;
  const auto x = Random(n, 1), y = Random(n, 2);
  const TestTensor tx = launcher_.Upload(x), ty = launcher_.Upload(y), out = launcher_.Allocate(n * 4);
  const LaunchOutcome outcome =
      Run("vector_add", {5, 1, 1}, TestParameters().Add(tx).Add(ty).Add(out).Add(n));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<float>(out);
  for (int i = 0; i < n; ++i) ASSERT_EQ(result[i], x[i] + y[i]) << i;
}

TEST_P(TritonKernelTest, SoftmaxOfRowsThatAreNotAPowerOfTwo) {
  const int rows = 17, columns = 1000;
  const auto x = Random(rows * columns, 3);
  const TestTensor tx = launcher_.Upload(x), out = launcher_.Allocate(rows * columns * 4);
  const LaunchOutcome outcome = Run("row_softmax", {rows, 1, 1},
                                    TestParameters().Add(out).Add(tx).Add(columns).Add(columns).Add(columns));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<float>(out);
  for (int r = 0; r < rows; ++r) {
    double peak = -1e30, total = 0;
    for (int c = 0; c < columns; ++c) peak = std::max(peak, double{x[r * columns + c]});
    for (int c = 0; c < columns; ++c) total += std::exp(x[r * columns + c] - peak);
    for (int c = 0; c < columns; ++c) {
      const double expected = std::exp(x[r * columns + c] - peak) / total;
      ASSERT_NEAR(result[r * columns + c], expected, 1e-6 + 1e-5 * expected) << r << " " << c;
    }
  }
}

TEST_P(TritonKernelTest, LayerNormLoopsOverColumns) {
  const int rows = 5, columns = 1111;
  const auto x = Random(rows * columns, 4), weight = Random(columns, 5), bias = Random(columns, 6);
  std::vector<uint16_t> half(x.size());
  for (size_t i = 0; i < x.size(); ++i) half[i] = ToHalf(x[i]);
  const TestTensor tx = launcher_.Upload(half), tw = launcher_.Upload(weight), tb = launcher_.Upload(bias);
  const TestTensor out = launcher_.Allocate(half.size() * 2);
  const LaunchOutcome outcome =
      Run("layer_norm", {rows, 1, 1},
          TestParameters().Add(tx).Add(out).Add(tw).Add(tb).Add(columns).Add(columns).Add(1e-5f));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<uint16_t>(out);
  for (int r = 0; r < rows; ++r) {
    double mean = 0, variance = 0;
    for (int c = 0; c < columns; ++c) mean += FromHalf(half[r * columns + c]);
    mean /= columns;
    for (int c = 0; c < columns; ++c) variance += std::pow(FromHalf(half[r * columns + c]) - mean, 2);
    variance /= columns;
    for (int c = 0; c < columns; ++c) {
      const double expected =
          (FromHalf(half[r * columns + c]) - mean) / std::sqrt(variance + 1e-5) * weight[c] + bias[c];
      ASSERT_NEAR(FromHalf(result[r * columns + c]), expected, 2e-3 * (1 + std::fabs(expected)))
          << r << " " << c;
    }
  }
}

void ExpectProduct(const std::vector<float>& a, const std::vector<float>& b, const std::vector<float>& c,
                   int m, int n, int k, double tolerance) {
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      double sum = 0, magnitude = 0;
      for (int l = 0; l < k; ++l) {
        sum += double{a[i * k + l]} * b[l * n + j];
        magnitude += std::fabs(double{a[i * k + l]} * b[l * n + j]);
      }
      ASSERT_NEAR(c[i * n + j], sum, tolerance * magnitude) << i << " " << j;
    }
  }
}

TEST_P(TritonKernelTest, MatmulByFmaWithOddSizes) {
  const int m = 70, n = 45, k = 33;
  const auto a = Random(m * k, 7), b = Random(k * n, 8);
  const TestTensor ta = launcher_.Upload(a), tb = launcher_.Upload(b), tc = launcher_.Allocate(m * n * 4);
  const LaunchOutcome outcome =
      Run("matmul_fma", {3, 2, 1},
          TestParameters().Add(ta).Add(tb).Add(tc).Add(m).Add(n).Add(k).Add(k).Add(n).Add(n));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ExpectProduct(a, b, launcher_.Download<float>(tc), m, n, k, 1e-6);
}

void TritonKernelTest::ExpectMatmul(const std::string& kernel, const std::string& kind, int m, int n, int k) {
  auto a = Random(m * k, 9), b = Random(k * n, 10);
  const numerics::Type type = kind == "fp16" ? numerics::Type::kF16 : numerics::Type::kBf16;
  TestTensor ta, tb;
  if (kind == "tf32") {
    ta = launcher_.Upload(a);
    tb = launcher_.Upload(b);
  } else {
    std::vector<uint16_t> ha, hb;
    for (float& value : a) {
      ha.push_back(ToHalf(value, type));
      value = FromHalf(ha.back(), type);
    }
    for (float& value : b) {
      hb.push_back(ToHalf(value, type));
      value = FromHalf(hb.back(), type);
    }
    ta = launcher_.Upload(ha);
    tb = launcher_.Upload(hb);
  }
  const TestTensor tc = launcher_.Allocate(m * n * 4);
  const auto tiles = [](int size) { return static_cast<uint32_t>((size + 63) / 64); };
  const LaunchOutcome outcome =
      Run(kernel, {tiles(m), tiles(n), 1},
          TestParameters().Add(ta).Add(tb).Add(tc).Add(m).Add(n).Add(k).Add(k).Add(n).Add(n));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ExpectProduct(a, b, launcher_.Download<float>(tc), m, n, k, kind == "tf32" ? 2e-3 : 1e-5);
}

TEST_P(TritonKernelTest, MatmulByTensorCoresWithOddSizes) {
  for (const std::string kind : {"fp16", "bf16", "tf32"}) {
    ExpectMatmul("matmul_" + kind, kind, 150, 100, 201);
    if (HasFatalFailure()) FAIL() << kind;
  }
}

TEST_P(TritonKernelTest, MatmulByTensorCoresWithPipelinedCopies) {
  for (const auto& [name, kind] : std::vector<std::pair<std::string, std::string>>{
           {"matmul_fp16_pipelined", "fp16"}, {"matmul_bf16_pipelined", "bf16"}, {"matmul_tf32", "tf32"}}) {
    const std::string ptx = ReadTestData("ptx/" + name + ".sm" + std::to_string(GetParam()) + ".ptx");
    EXPECT_NE(ptx.find("mma.sync.aligned"), std::string::npos) << name;
    // Three stages: a tile's two copies may be under way while the one before it is waited for (of two:
    // none).
    EXPECT_NE(ptx.find("cp.async.commit_group"), std::string::npos) << name;
    EXPECT_NE(ptx.find("cp.async.wait_group \t2;"), std::string::npos) << name;
    ExpectMatmul(name, kind, 150, 112, 208);
    if (HasFatalFailure()) FAIL() << name;
  }
}

TEST_P(TritonKernelTest, MatmulOfBytesIsExact) {
  const int m = 64, n = 128, k = 96;
  std::mt19937 generator(11);
  std::vector<int8_t> a(m * k), b(k * n);
  for (auto& value : a) value = static_cast<int8_t>(generator());
  for (auto& value : b) value = static_cast<int8_t>(generator());
  const TestTensor ta = launcher_.Upload(a), tb = launcher_.Upload(b), tc = launcher_.Allocate(m * n * 4);
  const LaunchOutcome outcome =
      Run("matmul_s8", {1, 2, 1}, TestParameters().Add(ta).Add(tb).Add(tc).Add(m).Add(n).Add(k));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto c = launcher_.Download<int32_t>(tc);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      int32_t sum = 0;
      for (int l = 0; l < k; ++l) sum += a[i * k + l] * b[l * n + j];
      ASSERT_EQ(c[i * n + j], sum) << i << " " << j;
    }
  }
}

TEST_P(TritonKernelTest, AtomicsAddUp) {
  const int n = 3000;
  std::vector<float> x(n);
  std::iota(x.begin(), x.end(), 0.0f);
  std::vector<int32_t> values(n);
  for (int i = 0; i < n; ++i) values[i] = i % 7;
  const TestTensor tx = launcher_.Upload(x), sum = launcher_.Allocate(4);
  const TestTensor tv = launcher_.Upload(values), counts = launcher_.Allocate(7 * 4);
  LaunchOutcome outcome = Run("atomic_sum", {12, 1, 1}, TestParameters().Add(tx).Add(sum).Add(n));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(launcher_.Download<float>(sum)[0], 2999.0f * 3000 / 2);
  outcome = Run("histogram", {12, 1, 1}, TestParameters().Add(tv).Add(counts).Add(n));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<int32_t>(counts);
  for (int i = 0; i < 7; ++i) EXPECT_EQ(result[i], (n - i + 6) / 7) << i;
}

TEST_P(TritonKernelTest, TransposeOfOddSizes) {
  const int m = 45, n = 70;
  const auto x = Random(m * n, 12);
  const TestTensor tx = launcher_.Upload(x), out = launcher_.Allocate(m * n * 4);
  const LaunchOutcome outcome = Run("transpose", {2, 3, 1}, TestParameters().Add(tx).Add(out).Add(m).Add(n));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<float>(out);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) ASSERT_EQ(result[j * m + i], x[i * n + j]);
  }
}

TEST_P(TritonKernelTest, AttentionOfOneHead) {
  const int n = 128, d = 64;
  const auto fq = Random(n * d, 13), fk = Random(n * d, 14), fv = Random(n * d, 15);
  std::vector<uint16_t> q, k, v;
  for (int i = 0; i < n * d; ++i) {
    q.push_back(ToHalf(fq[i]));
    k.push_back(ToHalf(fk[i]));
    v.push_back(ToHalf(fv[i]));
  }
  const TestTensor tq = launcher_.Upload(q), tk = launcher_.Upload(k), tv = launcher_.Upload(v);
  const TestTensor out = launcher_.Allocate(n * d * 2);
  const float scale = 0.125f;
  const LaunchOutcome outcome =
      Run("attention", {2, 1, 1}, TestParameters().Add(tq).Add(tk).Add(tv).Add(out).Add(scale).Add(n));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<uint16_t>(out);
  for (int i = 0; i < n; ++i) {
    std::vector<double> scores(n);
    double total = 0;
    for (int j = 0; j < n; ++j) {
      double dot = 0;
      for (int l = 0; l < d; ++l) dot += FromHalf(q[i * d + l]) * FromHalf(k[j * d + l]);
      scores[j] = std::exp(dot * scale);
      total += scores[j];
    }
    for (int l = 0; l < d; ++l) {
      double expected = 0;
      for (int j = 0; j < n; ++j) expected += scores[j] / total * FromHalf(v[j * d + l]);
      ASSERT_NEAR(FromHalf(result[i * d + l]), expected, 4e-3) << i << " " << l;
    }
  }
}

TEST_P(TritonKernelTest, ProgramsThatTakeALockWaitForEachOther) {
  const TestTensor lock = launcher_.Upload(std::vector<int32_t>{0});
  const TestTensor counter = launcher_.Upload(std::vector<int32_t>{0});
  const LaunchOutcome outcome =
      Run("spin_lock", {20, 1, 1}, TestParameters().Add(lock).Add(counter).Add(int32_t{10}));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(launcher_.Download<int32_t>(counter)[0], 200);
}

TEST_P(TritonKernelTest, AGridBarrierHasAllProgramsResident) {
  const int programs = 64;
  const TestTensor arrived = launcher_.Upload(std::vector<int32_t>{0});
  const TestTensor out = launcher_.Allocate(2 * programs * 4);
  const LaunchOutcome outcome =
      Run("grid_barrier", {programs, 1, 1}, TestParameters().Add(arrived).Add(out).Add(programs));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<int32_t>(out);
  for (int i = 0; i < programs; ++i) EXPECT_EQ(result[programs + i], (i + 1) % programs + 1);
}

TEST_P(TritonKernelTest, AFailedDeviceAssertIsReportedWithItsMessage) {
  const int n = 128;
  std::vector<int32_t> index(n, 3);
  index[77] = 500;
  const TestTensor x = launcher_.Upload(Random(n, 16)), ti = launcher_.Upload(index),
                   out = launcher_.Allocate(n * 4);
  const LaunchOutcome outcome =
      Run("checked_gather", {1, 1, 1}, TestParameters().Add(x).Add(ti).Add(out).Add(n));
  EXPECT_EQ(GetReason(outcome.status), Reason::kDeviceAssert) << outcome.status;
  EXPECT_NE(outcome.fault.message.find("index is out of range"), std::string::npos) << outcome.fault.message;
  EXPECT_EQ(outcome.fault.thread[0], 77u);
}

TEST_P(TritonKernelTest, PrintfComesOutInProgramOrder) {
  const TestTensor x = launcher_.Upload(std::vector<int32_t>{5, 6, -7});
  const LaunchOutcome outcome = Run("printing", {3, 1, 1}, TestParameters().Add(x));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const size_t first = outcome.printed.find("pid (0, 0, 0) idx () value: 5\n");
  const size_t last = outcome.printed.find("pid (2, 0, 0) idx () value: -7\n");
  EXPECT_NE(first, std::string::npos) << outcome.printed;
  EXPECT_NE(last, std::string::npos) << outcome.printed;
  EXPECT_LT(first, last);
}

TEST_P(TritonKernelTest, ScanAndSort) {
  const int n = 256;
  std::mt19937 generator(17);
  std::vector<int32_t> x(n);
  for (auto& value : x) value = static_cast<int32_t>(generator() % 2001) - 1000;
  const TestTensor tx = launcher_.Upload(x), out = launcher_.Allocate(2 * n * 4);
  const LaunchOutcome outcome = Run("scan_sort", {1, 1, 1}, TestParameters().Add(tx).Add(out));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<int32_t>(out);
  std::vector<int32_t> sums(n), sorted = x;
  std::partial_sum(x.begin(), x.end(), sums.begin());
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(std::vector<int32_t>(result.begin(), result.begin() + n), sums);
  EXPECT_EQ(std::vector<int32_t>(result.begin() + n, result.end()), sorted);
}

template <typename T>
void ExpectIntegers(const std::vector<T>& a, const std::vector<T>& b, const std::vector<T>& result) {
  using U = std::make_unsigned_t<T>;
  const size_t n = a.size();
  for (size_t i = 0; i < n; ++i) {
    ASSERT_EQ(result[i], a[i] / b[i]) << i;
    ASSERT_EQ(result[n + i], a[i] % b[i]) << i;
    ASSERT_EQ(result[2 * n + i], static_cast<T>((static_cast<U>(a[i]) << 3) ^ static_cast<U>(b[i] >> 2)))
        << i;
    ASSERT_EQ(result[3 * n + i], static_cast<T>(static_cast<U>(a[i]) * static_cast<U>(b[i]) +
                                                static_cast<U>(std::min(a[i], b[i]))))
        << i;
  }
}

TEST_P(TritonKernelTest, IntegerArithmetic) {
  const int n = 128;
  std::mt19937_64 generator(18);
  std::vector<int32_t> a(n), b(n);
  std::vector<int64_t> la(n), lb(n);
  for (int i = 0; i < n; ++i) {
    a[i] = static_cast<int32_t>(generator());
    b[i] = static_cast<int32_t>(generator() % 1000) - 500;
    la[i] = static_cast<int64_t>(generator());
    lb[i] = static_cast<int64_t>(generator() % 100000) - 50000;
    if (b[i] == 0) b[i] = 1;
    if (lb[i] == 0) lb[i] = 1;
  }
  const TestTensor ta = launcher_.Upload(a), tb = launcher_.Upload(b), out = launcher_.Allocate(4 * n * 4);
  LaunchOutcome outcome = Run("integers_s32", {1, 1, 1}, TestParameters().Add(ta).Add(tb).Add(out));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ExpectIntegers(a, b, launcher_.Download<int32_t>(out));
  const TestTensor tla = launcher_.Upload(la), tlb = launcher_.Upload(lb),
                   lout = launcher_.Allocate(4 * n * 8);
  outcome = Run("integers_s64", {1, 1, 1}, TestParameters().Add(tla).Add(tlb).Add(lout));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ExpectIntegers(la, lb, launcher_.Download<int64_t>(lout));
}

INSTANTIATE_TEST_SUITE_P(Sm80, TritonKernelTest, ::testing::Values(80));

}  // namespace
}  // namespace trun::device
