#include <array>
#include <cstring>
#include <vector>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/async/mbarrier.h"
#include "server/device/emulator/async/tensor_copy.h"
#include "server/device/emulator/async/tensor_map.h"

namespace trun::device {
namespace {

uint64_t Initialised(uint32_t count) { return Mbarrier{count, count, 0, false}.Encode(); }

TEST(MbarrierTest, RefusesAWordThatWasNotInitialised) {
  uint64_t word = 0;
  EXPECT_EQ(MbarrierArrive(&word, 1, false), MbarrierResult::kNotInitialised);
  EXPECT_EQ(MbarrierExpectTransactions(&word, 16), MbarrierResult::kNotInitialised);
}

TEST(MbarrierTest, RefusesMoreArrivalsThanThePhaseExpects) {
  uint64_t word = Initialised(2);
  EXPECT_EQ(MbarrierArrive(&word, 3, false), MbarrierResult::kTooManyArrivals);
  EXPECT_EQ(word, Initialised(2));
}

TEST(MbarrierTest, RefusesATransactionCountOutOfRange) {
  uint64_t word = Initialised(1);
  EXPECT_EQ(MbarrierExpectTransactions(&word, 1 << 20), MbarrierResult::kTransactionRange);
}

TEST(MbarrierTest, PhaseEndsWhenArrivalsAndBytesHaveCome) {
  uint64_t word = Initialised(1);
  EXPECT_TRUE(MbarrierPhaseEnded(word, true)) << "the phase before the first counts as ended";
  EXPECT_EQ(MbarrierExpectTransactions(&word, 4096), MbarrierResult::kOk);
  EXPECT_EQ(MbarrierArrive(&word, 1, false), MbarrierResult::kOk);
  EXPECT_FALSE(MbarrierPhaseEnded(word, false)) << "bytes are missing";
  EXPECT_EQ(MbarrierCompleteTransactions(&word, 4000), MbarrierResult::kOk);
  EXPECT_FALSE(MbarrierPhaseEnded(word, false));
  EXPECT_EQ(MbarrierCompleteTransactions(&word, 96), MbarrierResult::kOk);
  EXPECT_TRUE(MbarrierPhaseEnded(word, false));
  EXPECT_FALSE(MbarrierPhaseEnded(word, true));
}

TEST(MbarrierTest, BytesMayComeBeforeTheyAreExpected) {
  uint64_t word = Initialised(1);
  EXPECT_EQ(MbarrierCompleteTransactions(&word, 512), MbarrierResult::kOk);
  EXPECT_EQ(Mbarrier::Decode(word).transactions, -512);
  EXPECT_EQ(MbarrierExpectTransactions(&word, 512), MbarrierResult::kOk);
  EXPECT_EQ(MbarrierArrive(&word, 1, false), MbarrierResult::kOk);
  EXPECT_TRUE(MbarrierPhaseEnded(word, false));
}

TEST(MbarrierTest, DroppingLowersWhatLaterPhasesExpect) {
  uint64_t word = Initialised(2);
  EXPECT_EQ(MbarrierArrive(&word, 1, true), MbarrierResult::kOk);
  EXPECT_EQ(MbarrierArrive(&word, 1, false), MbarrierResult::kOk);
  EXPECT_EQ(Mbarrier::Decode(word).pending, 1u);
}

TensorMap Map2d(uint32_t columns, uint32_t rows, uint32_t box_columns, uint32_t box_rows) {
  TensorMap map;
  map.rank = 2;
  map.element = TensorElement::kF32;
  map.global_address = 4096;
  map.global_dim = {columns, rows};
  map.global_stride = {uint64_t{columns} * 4};
  map.box_dim = {box_columns, box_rows};
  return map;
}

TEST(TensorMapTest, CheckNamesTheFieldThatIsWrong) {
  const auto message = [](const TensorMap& map) { return std::string(map.Check().message()); };
  TensorMap map = Map2d(64, 8, 16, 4);
  EXPECT_TRUE(map.Check().ok());
  map.global_address = 4100;
  EXPECT_THAT(message(map), testing::HasSubstr("aligned"));
  map = Map2d(63, 8, 16, 4);
  EXPECT_THAT(message(map), testing::HasSubstr("stride"));
  map = Map2d(64, 8, 257, 4);
  EXPECT_THAT(message(map), testing::HasSubstr("box size"));
  map = Map2d(64, 8, 16, 4);
  map.swizzle = numerics::Swizzle::k32;
  EXPECT_THAT(message(map), testing::HasSubstr("swizzle"));
  map = Map2d(64, 8, 3, 4);
  EXPECT_THAT(message(map), testing::HasSubstr("multiple of 16"));
  map = Map2d(0, 8, 16, 4);
  EXPECT_THAT(message(map), testing::HasSubstr("size 0"));
  EXPECT_EQ(GetReason(map.Check()), Reason::kArgument);
}

TEST(TensorMapTest, EncodingAndReplacingFieldsAgree) {
  TensorMap map = Map2d(64, 8, 16, 4);
  map.swizzle = numerics::Swizzle::k64;
  map.nan_fill = true;
  std::array<uint8_t, kTensorMapBytes> encoded, replaced = {};
  map.Encode(encoded.data());
  const auto replace = [&](TensorMapField field, uint32_t index, uint64_t value) {
    return ReplaceTensorMapField(replaced.data(), field, index, value);
  };
  EXPECT_TRUE(replace(TensorMapField::kGlobalAddress, 0, 4096));
  EXPECT_TRUE(replace(TensorMapField::kRank, 0, 1));
  EXPECT_TRUE(replace(TensorMapField::kGlobalDim, 0, 64));
  EXPECT_TRUE(replace(TensorMapField::kGlobalDim, 1, 8));
  EXPECT_TRUE(replace(TensorMapField::kBoxDim, 0, 16));
  EXPECT_TRUE(replace(TensorMapField::kBoxDim, 1, 4));
  EXPECT_TRUE(replace(TensorMapField::kGlobalStride, 0, 256));
  for (uint32_t i = 0; i < 5; ++i) EXPECT_TRUE(replace(TensorMapField::kElementStride, i, 1));
  EXPECT_TRUE(replace(TensorMapField::kElemtype, 0, 7));
  EXPECT_TRUE(replace(TensorMapField::kSwizzle, 0, 2));
  EXPECT_TRUE(replace(TensorMapField::kFill, 0, 1));
  EXPECT_EQ(encoded, replaced);
  EXPECT_FALSE(replace(TensorMapField::kRank, 0, 5));
  EXPECT_FALSE(replace(TensorMapField::kGlobalStride, 4, 16));
}

TEST(TensorCopyTest, RowsAreClippedOnEverySide) {
  const TensorMap map = Map2d(20, 8, 16, 3);
  std::vector<TensorRow> rows;
  const auto collect = [&rows](const TensorRow& row) {
    rows.push_back(row);
    return true;
  };
  ASSERT_TRUE(ForEachTensorRow(map, {-4, 6}, false, collect));
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].first, 4u);
  EXPECT_EQ(rows[0].last, 16u);
  EXPECT_EQ(rows[0].address, 4096u + 6 * 80);
  EXPECT_EQ(rows[1].shared_offset, 64u);
  EXPECT_EQ(rows[2].first, rows[2].last) << "row 8 is out of bounds";
  rows.clear();
  ASSERT_TRUE(ForEachTensorRow(map, {12, 0}, false, collect));
  EXPECT_EQ(rows[0].last, 8u);
}

TEST(TensorCopyTest, GatherTakesRowsByIndex) {
  const TensorMap map = Map2d(16, 8, 16, 1);
  std::vector<uint64_t> addresses;
  ASSERT_TRUE(ForEachTensorRow(map, {0, 7, 0, 3, 9}, true, [&](const TensorRow& row) {
    addresses.push_back(row.first == row.last ? 0 : row.address);
    return true;
  }));
  EXPECT_THAT(addresses, testing::ElementsAre(4096u + 7 * 64, 4096u, 4096u + 3 * 64, 0u));
}

TEST(TensorCopyTest, ElementStridesSkipElements) {
  TensorMap map = Map2d(16, 8, 16, 4);
  map.element_stride = {2, 3, 1, 1, 1};
  EXPECT_EQ(map.BoxBytes(), 8u * 2 * 4);
  std::vector<TensorRow> rows;
  ForEachTensorRow(map, {-1, 0}, false, [&rows](const TensorRow& row) {
    rows.push_back(row);
    return true;
  });
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].first, 1u);
  EXPECT_EQ(rows[0].address, 4096u + 4);
  EXPECT_EQ(rows[1].address, 4096u + 3 * 64 + 4);
}

TEST(TensorCopyTest, ReductionsCombineElements) {
  uint32_t a[3] = {5, 0xffffffff, 7}, b[3] = {6, 1, 7};
  const auto bytes = [](uint32_t* words) { return reinterpret_cast<uint8_t*>(words); };
  EXPECT_TRUE(ReduceElements(ReduceOp::kMin, numerics::Type::kS32, bytes(b), bytes(a), 3));
  EXPECT_THAT(a, testing::ElementsAre(5u, 0xffffffffu, 7u));
  EXPECT_TRUE(ReduceElements(ReduceOp::kInc, numerics::Type::kU32, bytes(b), bytes(a), 3));
  EXPECT_THAT(a, testing::ElementsAre(6u, 0u, 0u));
  uint16_t x[2] = {0x3c00, 0x4000}, y[2] = {0x3c00, 0x3c00};
  EXPECT_TRUE(ReduceElements(ReduceOp::kAdd, numerics::Type::kF16, reinterpret_cast<uint8_t*>(y),
                             reinterpret_cast<uint8_t*>(x), 2));
  EXPECT_THAT(x, testing::ElementsAre(0x4000, 0x4200));
  EXPECT_FALSE(ReduceElements(ReduceOp::kXor, numerics::Type::kF32, bytes(b), bytes(a), 1));
}

}  // namespace
}  // namespace trun::device
