#include "server/device/tensor_map_check.h"

#include <functional>
#include <string>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trun::device {
namespace {

using ::testing::HasSubstr;

// 64 × 32 elements of fp16, boxes of 16 × 8.
TensorMapFields Tiled() {
  TensorMapFields fields;
  fields.address = 0x1000;
  fields.element = 6;
  fields.extents = {64, 32};
  fields.strides = {128};
  fields.box = {16, 8};
  return fields;
}

// Two images of 14 × 9 pixels with 64 channels of fp16; a filter of 3 × 3 with a padding of 1.
TensorMapFields Im2col() {
  TensorMapFields fields;
  fields.address = 0x1000;
  fields.element = 6;
  fields.swizzle = 2;
  fields.extents = {64, 9, 14, 2};
  fields.strides = {128, 1152, 16128};
  fields.box = {32, 128};
  fields.im2col = Im2colBox{{-1, -1}, {-1, -1}, {1, 1, 1, 1}};
  return fields;
}

void ExpectRefused(TensorMapFields fields, const std::function<void(TensorMapFields*)>& change,
                   const std::string& why) {
  change(&fields);
  const absl::Status status = CheckTensorMap(fields);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << why;
  EXPECT_EQ(GetReason(status), Reason::kArgument) << why;
  EXPECT_THAT(std::string(status.message()), HasSubstr(why));
}

TEST(TensorMapCheck, FieldsOfATiledMapThatAreOutOfRangeAreNamed) {
  const auto refuse = [](const std::function<void(TensorMapFields*)>& change, const std::string& why) {
    ExpectRefused(Tiled(), change, why);
  };
  refuse([](auto* f) { f->extents.clear(); }, "0 dimensions: there are 1 to 5");
  refuse([](auto* f) { f->extents.assign(6, 1); }, "6 dimensions: there are 1 to 5");
  refuse([](auto* f) { f->strides.clear(); }, "0 strides for 2 dimensions");
  refuse([](auto* f) { f->element = 13; }, "element type 13");
  refuse([](auto* f) { f->swizzle = 4; }, "swizzle 4: it is 0 to 3");
  refuse([](auto* f) { f->address = 8; }, "the address 8: it is a multiple of 16");
  refuse([](auto* f) { f->extents[1] = 0; }, "0 elements in dimension 1");
  refuse([](auto* f) { f->extents[0] = (uint64_t{1} << 32) + 1; }, "4294967297 elements in dimension 0");
  refuse([](auto* f) { f->strides[0] = 120; }, "a stride of 120 bytes in dimension 1");
  refuse([](auto* f) { f->strides[0] = uint64_t{1} << 40; }, "below 2^40");
  refuse([](auto* f) { f->box.pop_back(); }, "a box of 1 dimensions over a tensor of 2");
  refuse([](auto* f) { f->box[1] = 0; }, "a box of 0 elements in dimension 1");
  refuse([](auto* f) { f->box[1] = 257; }, "a box of 257 elements in dimension 1");
  refuse([](auto* f) { f->box[0] = 4; }, "a box 8 bytes wide: that is a multiple of 16");
  refuse([](auto* f) { f->swizzle = 1, f->box[0] = 32; }, "a box 64 bytes wide with a swizzle of 32");
  refuse([](auto* f) { f->element = 1, f->nan_fill = true; }, "NaN out of bounds of a tensor of integers");
  TensorMapFields good = Tiled();
  EXPECT_TRUE(CheckTensorMap(good).ok()) << CheckTensorMap(good);
  good.nan_fill = true;
  good.box = {128, 256};
  EXPECT_TRUE(CheckTensorMap(good).ok()) << "without a swizzle a box may be wide";
}

TEST(TensorMapCheck, FieldsOfAnIm2colMapThatAreOutOfRangeAreNamed) {
  const auto refuse = [](const std::function<void(TensorMapFields*)>& change, const std::string& why) {
    ExpectRefused(Im2col(), change, why);
  };
  refuse([](auto* f) { f->extents.resize(2), f->strides.resize(1); },
         "im2col mode over a tensor of 2 dimensions: it has 3 to 5");
  refuse([](auto* f) { f->box.push_back(1); }, "an im2col block of 3 sizes");
  refuse([](auto* f) { f->box[0] = 0; }, "0 channels a pixel: there are 1 to 256");
  refuse([](auto* f) { f->box[0] = 257; }, "257 channels a pixel: there are 1 to 256");
  refuse([](auto* f) { f->box[1] = 0; }, "0 pixels a column: there are 1 to 1024");
  refuse([](auto* f) { f->box[1] = 1025; }, "1025 pixels a column: there are 1 to 1024");
  refuse([](auto* f) { f->im2col->lower_corner.pop_back(); },
         "an im2col lower corner of 1 offsets over a tensor of 4 dimensions: it has 2");
  refuse([](auto* f) { f->im2col->upper_corner.push_back(0); }, "an im2col upper corner of 3 offsets");
  refuse([](auto* f) { f->im2col->lower_corner[0] = -129; },
         "an im2col lower corner of -129 in dimension 1 (0 is the innermost): with 4 dimensions it is -128 "
         "to 127");
  refuse([](auto* f) { f->im2col->upper_corner[1] = 128; }, "an im2col upper corner of 128 in dimension 2");
  // 9 pixels wide, of which the box has none.
  refuse([](auto* f) { f->im2col->upper_corner[0] = -10; },
         "an im2col box without a pixel: in dimension 1 (0 is the innermost) it begins at -1 and ends before "
         "-1");
  refuse([](auto* f) { f->im2col->element_strides.pop_back(); },
         "3 element strides over a tensor of 4 dimensions");
  refuse([](auto* f) { f->im2col->element_strides[1] = 0; }, "an element stride of 0 in dimension 1");
  refuse([](auto* f) { f->im2col->element_strides[2] = 9; }, "an element stride of 9 in dimension 2");
  refuse([](auto* f) { f->im2col->element_strides[0] = 2; },
         "an element stride of 2 between channels: it is 1");
  refuse([](auto* f) { f->box[0] = 64; }, "a box 128 bytes wide with a swizzle of 64");
  refuse([](auto* f) { f->address = 24; }, "the address 24");
  EXPECT_TRUE(CheckTensorMap(Im2col()).ok()) << CheckTensorMap(Im2col());
}

// PTX ISA, "im2col mode": one offset has 16 bits, two have 8 each, three 5.
TEST(TensorMapCheck, CornersReachAsFarAsTheTensorsRankLetsThem) {
  for (const auto& [rank, limit] : {std::pair<size_t, int32_t>{3, 32768}, {4, 128}, {5, 16}}) {
    TensorMapFields fields = Im2col();
    fields.extents.assign(rank, 40'000);
    fields.strides.assign(rank - 1, 1 << 20);
    Im2colBox box{std::vector<int32_t>(rank - 2, -limit), std::vector<int32_t>(rank - 2, limit - 1),
                  std::vector<uint32_t>(rank, 1)};
    fields.im2col = box;
    EXPECT_TRUE(CheckTensorMap(fields).ok()) << CheckTensorMap(fields);
    fields.im2col->lower_corner.back() = -limit - 1;
    EXPECT_FALSE(CheckTensorMap(fields).ok()) << rank;
    fields.im2col = box;
    fields.im2col->upper_corner.front() = limit;
    EXPECT_FALSE(CheckTensorMap(fields).ok()) << rank;
  }
}

}  // namespace
}  // namespace trun::device
