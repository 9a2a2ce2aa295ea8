#include "client/cli/element.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "client/cli/compare.h"
#include "gtest/gtest.h"

namespace trun::cli {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

uint64_t Bits(ScalarType type, double value) {
  std::string bytes;
  AppendElement(type, value, &bytes);
  uint64_t bits = 0;
  std::memcpy(&bits, bytes.data(), bytes.size());
  return bits;
}

TEST(ElementTest, HalfPrecisionRoundsToNearestEvenAndOverflowsToInfinity) {
  EXPECT_EQ(Bits(ScalarType::kF16, 1.0), 0x3c00u);
  EXPECT_EQ(Bits(ScalarType::kF16, -2.5), 0xc100u);
  EXPECT_EQ(Bits(ScalarType::kF16, 65504), 0x7bffu);
  EXPECT_EQ(Bits(ScalarType::kF16, 65519), 0x7bffu);
  EXPECT_EQ(Bits(ScalarType::kF16, 65520), 0x7c00u);
  EXPECT_EQ(Bits(ScalarType::kF16, 1.0 + 1.0 / 2048), 0x3c00u) << "a tie goes to the even one";
  EXPECT_EQ(Bits(ScalarType::kF16, 1.0 + 3.0 / 2048), 0x3c02u);
  EXPECT_EQ(Bits(ScalarType::kF16, 0x1p-24), 0x0001u);
  EXPECT_EQ(Bits(ScalarType::kF16, 0x1p-25), 0x0000u);
  EXPECT_EQ(Bits(ScalarType::kF16, 0x1.8p-25), 0x0001u);
  EXPECT_EQ(Bits(ScalarType::kF16, 0x1.ff8p-15), 0x03ffu) << "the largest subnormal";
  EXPECT_EQ(Bits(ScalarType::kF16, kInf), 0x7c00u);
  EXPECT_EQ(Bits(ScalarType::kF16, kNan), 0x7e00u);
  EXPECT_EQ(Bits(ScalarType::kF16, -0.0), 0x8000u);
}

TEST(ElementTest, BrainFloatsAndEightBitFloatsKeepTheirSpecialValues) {
  EXPECT_EQ(Bits(ScalarType::kBf16, 1.0), 0x3f80u);
  EXPECT_EQ(Bits(ScalarType::kBf16, 3.4e38), 0x7f80u);
  EXPECT_EQ(Bits(ScalarType::kF8E4M3, 448), 0x7eu);
  EXPECT_EQ(Bits(ScalarType::kF8E4M3, 1000), 0x7fu) << "no infinity: NaN";
  EXPECT_EQ(Bits(ScalarType::kF8E5M2, 57344), 0x7bu);
  EXPECT_EQ(Bits(ScalarType::kF8E5M2, kInf), 0x7cu);
  EXPECT_EQ(Bits(ScalarType::kF8E4M3Fnuz, kNan), 0x80u);
  EXPECT_EQ(Bits(ScalarType::kF8E4M3Fnuz, -0.0), 0x00u);
}

TEST(ElementTest, EveryBitPatternOfASmallFloatSurvivesARoundTrip) {
  for (const ScalarType type : {ScalarType::kF16, ScalarType::kBf16, ScalarType::kF8E4M3, ScalarType::kF8E5M2,
                                ScalarType::kF8E4M3B15, ScalarType::kF8E4M3Fnuz, ScalarType::kF8E5M2Fnuz}) {
    const uint32_t patterns = ScalarTypeBytes(type) == 1 ? 256 : 65536;
    for (uint32_t bits = 0; bits < patterns; ++bits) {
      std::string bytes(reinterpret_cast<const char*>(&bits), ScalarTypeBytes(type));
      const double value = ElementAt(type, bytes, 0);
      if (std::isnan(value)) {
        EXPECT_TRUE(std::isnan(kNan));
        continue;
      }
      ASSERT_EQ(Bits(type, value), bits) << ScalarTypeName(type) << " " << bits;
    }
  }
}

TEST(ElementTest, IntegersAreClampedAndNanIsZero) {
  EXPECT_EQ(Bits(ScalarType::kI8, 1000), 0x7fu);
  EXPECT_EQ(Bits(ScalarType::kI8, -1000), 0x80u);
  EXPECT_EQ(Bits(ScalarType::kU8, -3), 0u);
  EXPECT_EQ(Bits(ScalarType::kI64, 1e300), uint64_t{0x7fffffffffffffff});
  EXPECT_EQ(Bits(ScalarType::kU64, 1e300), ~uint64_t{0});
  EXPECT_EQ(Bits(ScalarType::kI32, kNan), 0u);
  EXPECT_EQ(Bits(ScalarType::kI1, -0.5), 1u);
  std::string exact;
  AppendInteger(ScalarType::kI64, 9007199254740993, &exact);
  int64_t back;
  std::memcpy(&back, exact.data(), 8);
  EXPECT_EQ(back, 9007199254740993);
}

TEST(ElementTest, AbsurdShapesAreRefused) {
  EXPECT_EQ(ElementCount({1u << 31, 1u << 31, 1u << 31}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(*ElementCount({}), 1u);
  EXPECT_EQ(*ElementCount({5, 0, 7}), 0u);
  EXPECT_EQ(FormatIndex(13, {3, 5}), "[2, 3]");
  EXPECT_EQ(FormatIndex(0, {}), "[]");
}

TensorView View(ScalarType type, const std::vector<uint64_t>& shape, const std::string& bytes) {
  return {type, shape, bytes};
}

std::string Floats(std::initializer_list<double> values) {
  std::string bytes;
  for (const double value : values) AppendElement(ScalarType::kF32, value, &bytes);
  return bytes;
}

TEST(CompareTest, TheWorstElementIsTheOneFurthestOverItsTolerance) {
  const std::string got = Floats({1, 2.5, 1000.5, 4}), expected = Floats({1, 2, 1000, 4});
  const absl::StatusOr<Comparison> found =
      Compare(View(ScalarType::kF32, {4}, got), View(ScalarType::kF32, {4}, expected), {1e-3, 0});
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->mismatches, 1u);
  EXPECT_EQ(found->worst_index, 1u);
  EXPECT_EQ(found->worst_got, 2.5);
  EXPECT_EQ(found->largest_error, 0.5);
}

TEST(CompareTest, NansAndInfinitiesMatchOnlyThemselves) {
  const auto mismatches = [](double got, double expected, bool equal_nan) {
    const std::string a = Floats({got}), b = Floats({expected});
    return Compare(View(ScalarType::kF32, {1}, a), View(ScalarType::kF32, {1}, b), {1, 1, equal_nan})
        ->mismatches;
  };
  EXPECT_EQ(mismatches(kNan, 1, true), 1u);
  EXPECT_EQ(mismatches(1, kNan, true), 1u);
  EXPECT_EQ(mismatches(kNan, kNan, false), 1u);
  EXPECT_EQ(mismatches(kNan, kNan, true), 0u);
  EXPECT_EQ(mismatches(kInf, kInf, false), 0u);
  EXPECT_EQ(mismatches(kInf, -kInf, false), 1u);
  EXPECT_EQ(mismatches(1e30, kInf, false), 1u);
}

TEST(CompareTest, AnAstrayNanIsTheWorstElementAndTheLargestError) {
  const std::string got = Floats({5, kNan, 900}), expected = Floats({5, 1, 1});
  const absl::StatusOr<Comparison> found =
      Compare(View(ScalarType::kF32, {3}, got), View(ScalarType::kF32, {3}, expected), {0, 0});
  EXPECT_EQ(found->mismatches, 2u);
  EXPECT_EQ(found->worst_index, 1u);
  EXPECT_TRUE(std::isnan(found->largest_error));
}

TEST(CompareTest, OtherShapesAreNoMismatchButAnError) {
  const std::string six = Floats({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(
      Compare(View(ScalarType::kF32, {2, 3}, six), View(ScalarType::kF32, {3, 2}, six), {}).status().code(),
      absl::StatusCode::kInvalidArgument);
}

TEST(CompareTest, ToleranceIsThatOfTheLessExactType) {
  EXPECT_EQ(DefaultTolerance(ScalarType::kF16, ScalarType::kF32).relative, 1e-2);
  EXPECT_EQ(DefaultTolerance(ScalarType::kF64, ScalarType::kF64).relative, 1e-7);
  EXPECT_EQ(DefaultTolerance(ScalarType::kI32, ScalarType::kI32).absolute, 0);
}

TEST(SummaryTest, CountsWhatIsNotFinite) {
  const std::string values = Floats({-1, kInf, 3, kNan});
  const Summary summary = Summarize(View(ScalarType::kF32, {4}, values));
  EXPECT_EQ(summary.min, -1);
  EXPECT_EQ(summary.max, 3);
  EXPECT_EQ(summary.mean, 1);
  EXPECT_EQ(summary.not_finite, 2u);
}

}  // namespace
}  // namespace trun::cli
