#include "server/session/argument_encoder.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

using Kind = KernelArgument::Kind;

KernelArgument Scalar(ScalarType type, int divisibility = 1) {
  return {"n", Kind::kScalar, type, static_cast<uint32_t>(ScalarTypeBytes(type)), divisibility, ""};
}
KernelArgument Pointer(ScalarType type, int divisibility = 1) {
  return {"x_ptr", Kind::kPointer, type, 8, divisibility, ""};
}

absl::StatusOr<ResolvedTensor> Resolve(absl::string_view handle) {
  if (handle == "t-f32") return ResolvedTensor{0x1000, 256, ScalarType::kF32};
  if (handle == "t-u8") return ResolvedTensor{0x2000, 256, ScalarType::kU8};
  return NotFound(Reason::kHandle, "no such tensor");
}

absl::StatusOr<std::vector<ExecutorArgument>> Encode(const KernelArgument& wanted,
                                                     const LaunchArgument& given,
                                                     DescriptorPassing passing = {}) {
  std::vector<ExecutorArgument> out;
  const absl::Status status = EncodeArguments({"k", {wanted}}, passing, {given}, Resolve, &out);
  if (!status.ok()) return status;
  return out;
}

std::string Bytes(const absl::StatusOr<std::vector<ExecutorArgument>>& encoded) {
  return encoded.ok() ? std::get<std::string>(encoded->at(0)) : std::string(encoded.status().message());
}

void ExpectBad(const KernelArgument& wanted, const LaunchArgument& given, absl::string_view says) {
  const absl::Status status = Encode(wanted, given).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << says;
  EXPECT_EQ(GetReason(status), Reason::kArgument) << says;
  EXPECT_EQ(GetDetails(status)["argument"], "0");
  EXPECT_EQ(GetDetails(status)["name"], wanted.name);
  EXPECT_NE(status.message().find(says), absl::string_view::npos) << status;
  EXPECT_NE(status.message().find(wanted.name), absl::string_view::npos) << status;
}

TEST(ArgumentEncoderTest, AWrongCountListsWhatTheKernelTakes) {
  std::vector<ExecutorArgument> out;
  const absl::Status status = EncodeArguments({"k", {Pointer(ScalarType::kF16), Scalar(ScalarType::kI32)}},
                                              {}, {LaunchArgument(int64_t{1})}, Resolve, &out);
  EXPECT_EQ(GetReason(status), Reason::kArgument);
  EXPECT_NE(status.message().find("x_ptr: *f16, n: i32"), absl::string_view::npos) << status;
}

TEST(ArgumentEncoderTest, AnArgumentOfTheWrongKindIsNamed) {
  ExpectBad(Pointer(ScalarType::kF32), int64_t{4096}, "an integer was given");
  ExpectBad(Pointer(ScalarType::kF32), LaunchArgument(), "nothing was given");
  ExpectBad(Scalar(ScalarType::kI32), TensorReference{"t-f32", 0}, "a tensor was given");
  ExpectBad(Scalar(ScalarType::kI32), NullPointer{}, "a null pointer was given");
  ExpectBad(Scalar(ScalarType::kI32), 1.0, "a float was given");
  ExpectBad(Scalar(ScalarType::kF32), int64_t{1}, "an integer was given");
}

TEST(ArgumentEncoderTest, AFreedOrForeignTensorIsNotFoundAndNamesTheArgument) {
  const absl::Status status = Encode(Pointer(ScalarType::kF32), TensorReference{"t-gone", 0}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(status), Reason::kHandle);
  EXPECT_EQ(GetDetails(status)["argument"], "0");
}

TEST(ArgumentEncoderTest, ATensorOfAnotherTypeIsRefused) {
  ExpectBad(Pointer(ScalarType::kF16), TensorReference{"t-f32", 0}, "points to f16; the tensor is of f32");
  ExpectBad(Pointer(ScalarType::kI32), TensorReference{"t-f32", 0}, "points to i32");
  ExpectBad(Pointer(ScalarType::kF8E4M3), TensorReference{"t-u8", 0}, "points to f8e4m3");
}

TEST(ArgumentEncoderTest, IntegersOfOneWidthAndBoolsPointToTheSame) {
  EXPECT_TRUE(Encode(Pointer(ScalarType::kI8), TensorReference{"t-u8", 0}).ok());
  EXPECT_TRUE(Encode(Pointer(ScalarType::kI1), TensorReference{"t-u8", 0}).ok());
  EXPECT_TRUE(Encode(Pointer(ScalarType::kUnspecified), TensorReference{"t-u8", 0}).ok());
}

TEST(ArgumentEncoderTest, AnOffsetPastTheEndOrAgainstTheAlignmentIsRefused) {
  ExpectBad(Pointer(ScalarType::kF32), TensorReference{"t-f32", 257}, "begins at byte 257");
  ExpectBad(Pointer(ScalarType::kF32, 16), TensorReference{"t-f32", 4}, "aligned to 16");
  const auto address = Encode(Pointer(ScalarType::kF32, 16), TensorReference{"t-f32", 32});
  ASSERT_TRUE(address.ok());
  EXPECT_EQ(std::get<uint64_t>(address->at(0)), 0x1020u);
  EXPECT_TRUE(Encode(Pointer(ScalarType::kF32, 16), NullPointer{}).ok());
}

TEST(ArgumentEncoderTest, IntegersOutsideTheirTypeAreRefused) {
  ExpectBad(Scalar(ScalarType::kI32), int64_t{1} << 31, "from -2147483648 to 2147483647");
  ExpectBad(Scalar(ScalarType::kI32), -(int64_t{1} << 31) - 1, "from -2147483648");
  ExpectBad(Scalar(ScalarType::kU32), int64_t{-1}, "from 0 to 4294967295");
  ExpectBad(Scalar(ScalarType::kU32), int64_t{1} << 32, "from 0 to 4294967295");
  ExpectBad(Scalar(ScalarType::kI1), int64_t{2}, "from 0 to 1");
  ExpectBad(Scalar(ScalarType::kI8), int64_t{128}, "from -128 to 127");
  ExpectBad(Scalar(ScalarType::kI64), LaunchArgument(std::in_place_type<double>, 1e30), "a float was given");
}

TEST(ArgumentEncoderTest, TheEndsOfEachIntegerTypePass) {
  EXPECT_EQ(Bytes(Encode(Scalar(ScalarType::kI32), -(int64_t{1} << 31))), std::string("\0\0\0\x80", 4));
  EXPECT_EQ(Bytes(Encode(Scalar(ScalarType::kI32), (int64_t{1} << 31) - 1)), "\xff\xff\xff\x7f");
  EXPECT_EQ(Bytes(Encode(Scalar(ScalarType::kU8), int64_t{255})), "\xff");
  EXPECT_EQ(Bytes(Encode(Scalar(ScalarType::kI1), int64_t{1})), "\x01");
  EXPECT_EQ(Bytes(Encode(Scalar(ScalarType::kI64), std::numeric_limits<int64_t>::min())),
            std::string("\0\0\0\0\0\0\0\x80", 8));
  EXPECT_EQ(Bytes(Encode(Scalar(ScalarType::kU64), ~uint64_t{0})), std::string(8, '\xff'));
  // As a bit pattern: MLIR's i32 has no sign.
  EXPECT_EQ(Bytes(Encode(Scalar(ScalarType::kI32), uint64_t{0xffffffff})), "\xff\xff\xff\xff");
}

TEST(ArgumentEncoderTest, AnIntegerThatBreaksTheDivisibilityIsRefused) {
  ExpectBad(Scalar(ScalarType::kI32, 16), int64_t{17}, "multiple of 16");
  EXPECT_TRUE(Encode(Scalar(ScalarType::kI32, 16), int64_t{-32}).ok());
  EXPECT_TRUE(Encode(Scalar(ScalarType::kI32, 16), int64_t{0}).ok());
}

TEST(ArgumentEncoderTest, AScalarOfUnknownTypeIsTakenByItsSize) {
  KernelArgument unknown = Scalar(ScalarType::kUnspecified);
  unknown.bytes = 4;
  EXPECT_EQ(Bytes(Encode(unknown, int64_t{-1})), "\xff\xff\xff\xff");
  EXPECT_EQ(Bytes(Encode(unknown, int64_t{0xffffffff})), "\xff\xff\xff\xff");
  EXPECT_EQ(Bytes(Encode(unknown, 1.0)), std::string("\0\0\x80\x3f", 4));
  ExpectBad(unknown, int64_t{1} << 32, "a scalar of 4 bytes");
  unknown.bytes = 2;
  ExpectBad(unknown, 1.0, "a float was given");
  unknown.bytes = 3;
  EXPECT_EQ(GetReason(Encode(unknown, int64_t{1}).status()), Reason::kMetadata);
}

TEST(ArgumentEncoderTest, FloatsAreRoundedOnceToNearestEven) {
  const auto f16 = [](double value) {
    const std::string bytes = EncodeFloat(value, ScalarType::kF16);
    return static_cast<uint8_t>(bytes[0]) | static_cast<uint8_t>(bytes[1]) << 8;
  };
  const auto bf16 = [](double value) {
    const std::string bytes = EncodeFloat(value, ScalarType::kBf16);
    return static_cast<uint8_t>(bytes[0]) | static_cast<uint8_t>(bytes[1]) << 8;
  };
  EXPECT_EQ(f16(1.0), 0x3c00);
  EXPECT_EQ(f16(-2.5), 0xc100);
  EXPECT_EQ(f16(65504.0), 0x7bff);
  EXPECT_EQ(f16(65519.9), 0x7bff);
  EXPECT_EQ(f16(65520.0), 0x7c00);
  EXPECT_EQ(f16(1e300), 0x7c00);
  EXPECT_EQ(f16(-HUGE_VAL), 0xfc00);
  EXPECT_EQ(f16(std::ldexp(1.0, -24)), 0x0001);
  EXPECT_EQ(f16(std::ldexp(1.0, -25)), 0x0000) << "a half goes to even";
  EXPECT_EQ(f16(std::ldexp(1.5, -24)), 0x0002);
  EXPECT_EQ(f16(std::ldexp(1023.75, -24)), 0x0400) << "the largest subnormal rounds up to a normal";
  EXPECT_EQ(f16(1.0 + std::ldexp(1.0, -11)), 0x3c00);
  EXPECT_EQ(f16(1.0 + std::ldexp(3.0, -11)), 0x3c02);
  // Through a float this would round twice, to 0x3c02.
  EXPECT_EQ(f16(1.0 + std::ldexp(3.0, -11) - std::ldexp(1.0, -40)), 0x3c01);
  EXPECT_EQ(f16(-0.0), 0x8000);
  EXPECT_EQ(f16(std::nan("")) & 0x7fff, 0x7e00);
  EXPECT_EQ(bf16(1.0), 0x3f80);
  EXPECT_EQ(bf16(3.3895313892515355e38), 0x7f7f);
  EXPECT_EQ(bf16(1e39), 0x7f80);
  EXPECT_EQ(bf16(1.0 + std::ldexp(1.0, -8)), 0x3f80);
}

TEST(ArgumentEncoderTest, ADescriptorBecomesItsFields) {
  const KernelArgument wanted = {"desc", Kind::kTensorDescriptor, ScalarType::kF32, 0, 1, "fp32[16, 16]"};
  const TensorDescriptor given = {{"t-f32", 0}, {8, 8}, {8, 1}, {16, 16}, false};
  DescriptorPassing padded;
  padded.with_padding = true;
  const auto with_padding = Encode(wanted, given, padded);
  ASSERT_TRUE(with_padding.ok()) << with_padding.status();
  EXPECT_EQ(with_padding->size(), 10u);
  EXPECT_EQ(std::get<std::string>(with_padding->at(5)).size(), 1u);
  EXPECT_EQ(Encode(wanted, given)->size(), 9u);
  TensorDescriptor flat = given;
  flat.shape = {64};
  ExpectBad(wanted, flat, "rank 2");
  ExpectBad(wanted, int64_t{1}, "is a tensor descriptor");
}

TEST(ArgumentEncoderTest, ADescriptorWithMetadataBecomesATensorMapInnermostDimensionFirst) {
  const KernelArgument wanted = {"desc", Kind::kTensorDescriptor, ScalarType::kF32, 0, 1, "fp32[16, 32]"};
  const TensorDescriptor given = {{"t-f32", 16}, {5, 64}, {96, 1}, {16, 32}, true};
  DescriptorPassing passing;
  passing.by_value = {TensorMapMetadata{7, 3, 4, {16, 32}, false}};
  const auto encoded = Encode(wanted, given, passing);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  ASSERT_EQ(encoded->size(), 5u) << "a map, two extents, two strides";
  const auto& map = std::get<device::TensorMapFields>(encoded->at(0));
  EXPECT_EQ(map.address, 0x1010u);
  EXPECT_EQ(map.element, 7);
  EXPECT_EQ(map.swizzle, 3);
  EXPECT_TRUE(map.nan_fill);
  EXPECT_EQ(map.extents, std::vector<uint64_t>({64, 5}));
  EXPECT_EQ(map.strides, std::vector<uint64_t>({96 * 4}));
  EXPECT_EQ(map.box, std::vector<uint32_t>({32, 16}));
  EXPECT_EQ(std::get<std::string>(encoded->at(1)), std::string("\5\0\0\0", 4));
  EXPECT_EQ(std::get<std::string>(encoded->at(3)), std::string("\x60\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(*ParameterSizes({"k", {wanted}}, 0, passing), std::vector<uint32_t>({128, 4, 4, 8, 8}));
  TensorDescriptor backwards = given;
  backwards.strides[0] = -96;
  EXPECT_EQ(GetReason(Encode(wanted, backwards, passing).status()), Reason::kArgument);
  passing.by_value[0]->box.push_back(1);
  EXPECT_EQ(GetReason(Encode(wanted, given, passing).status()), Reason::kMetadata);
}

// Two images of 3 × 5 pixels with 4 channels, columns of 8 pixels.
class Im2colEncoderTest : public ::testing::Test {
 protected:
  Im2colEncoderTest() {
    TensorMapMetadata meta{7, 0, 4, {8, 4}, false};
    meta.im2col = true;
    passing_.by_value = {meta};
    given_.base = {"t-f32", 16};
    given_.shape = {1, 3, 5, 4};
    given_.strides = {60, 20, 4, 1};
    given_.block_shape = {8, 4};
    given_.im2col = Im2colDescriptor{{-2, -1}, {1, 0}, {1, 2, 3, 1}};
  }
  void ExpectBad(const TensorDescriptor& given, absl::string_view says) {
    const absl::Status status = Encode(kWanted, given, passing_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << says;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << says;
    EXPECT_EQ(GetDetails(status)["argument"], "0");
    EXPECT_NE(status.message().find(says), absl::string_view::npos) << status;
    EXPECT_NE(status.message().find("'desc'"), absl::string_view::npos) << status;
  }

  const KernelArgument kWanted = {"desc", Kind::kTensorDescriptor,   ScalarType::kF32, 0,
                                  1,      "fp32[8, 4], input_rank=4"};
  DescriptorPassing passing_;
  TensorDescriptor given_;
};

TEST_F(Im2colEncoderTest, TheModeIsTheKernels) {
  TensorDescriptor tiled = given_;
  tiled.im2col.reset();
  ExpectBad(tiled, "is a descriptor of im2col mode: give the corners of its box too");
  passing_.by_value[0]->im2col = false;
  ExpectBad(given_, "is a descriptor of tiled mode; im2col corners were given");
  passing_.by_value.clear();
  ExpectBad(given_, "is a descriptor of tiled mode");
}

TEST_F(Im2colEncoderTest, FieldsOutOfRangeAreRefusedBeforeAnythingIsLaunched) {
  TensorDescriptor bad = given_;
  bad.shape.pop_back();
  bad.strides = {20, 4, 1};
  ExpectBad(bad, "is a descriptor of rank 4; one with 3 extents and 3 strides was given");
  bad = given_;
  bad.im2col->lower_corner = {-1};
  ExpectBad(bad, "an im2col lower corner of 1 offsets over a tensor of 4 dimensions: it has 2");
  bad = given_;
  bad.im2col->upper_corner = {0, 128};
  ExpectBad(bad, "an im2col upper corner of 128 in dimension 1");
  bad = given_;
  bad.im2col->element_strides = {1, 0, 1, 1};
  ExpectBad(bad, "an element stride of 0 in dimension 2");
  bad = given_;
  bad.im2col->element_strides = {1, 1, 1};
  ExpectBad(bad, "3 element strides over a tensor of 4 dimensions");
  passing_.by_value[0]->box = {1025, 4};
  ExpectBad(given_, "1025 pixels a column");
  passing_.by_value[0]->box = {8, 260};
  ExpectBad(given_, "260 channels a pixel");
  passing_.by_value[0]->box = {8};
  EXPECT_EQ(GetReason(Encode(kWanted, given_, passing_).status()), Reason::kMetadata);
}

TEST_F(Im2colEncoderTest, FieldsBecomeAMapInnermostDimensionFirst) {
  const auto encoded = Encode(kWanted, given_, passing_);
  ASSERT_TRUE(encoded.ok()) << encoded.status();
  ASSERT_EQ(encoded->size(), 9u) << "a map, four extents, four strides";
  const auto& map = std::get<device::TensorMapFields>(encoded->at(0));
  EXPECT_EQ(map.address, 0x1010u);
  EXPECT_EQ(map.extents, std::vector<uint64_t>({4, 5, 3, 1}));
  EXPECT_EQ(map.strides, std::vector<uint64_t>({16, 80, 240}));
  EXPECT_EQ(map.box, std::vector<uint32_t>({4, 8})) << "channels a pixel, pixels a column";
  ASSERT_TRUE(map.im2col.has_value());
  EXPECT_EQ(map.im2col->lower_corner, std::vector<int32_t>({-1, -2}));
  EXPECT_EQ(map.im2col->upper_corner, std::vector<int32_t>({0, 1}));
  EXPECT_EQ(map.im2col->element_strides, std::vector<uint32_t>({1, 3, 2, 1}));
  EXPECT_EQ(*ParameterSizes({"k", {kWanted}}, 0, passing_),
            std::vector<uint32_t>({128, 4, 4, 4, 4, 8, 8, 8, 8}));
  given_.im2col->element_strides.clear();
  const auto plain = Encode(kWanted, given_, passing_);
  EXPECT_EQ(std::get<device::TensorMapFields>(plain->at(0)).im2col->element_strides,
            std::vector<uint32_t>({1, 1, 1, 1}));
}

TEST_F(Im2colEncoderTest, OnlyElementsOfF32AreRoundedToTf32) {
  given_.round_f32_to_tf32 = true;
  const auto encoded = Encode(kWanted, given_, passing_);
  EXPECT_EQ(std::get<device::TensorMapFields>(encoded->at(0)).element, 11);
  passing_.by_value[0]->element = 2;
  ExpectBad(given_, "rounds to tf32, which only elements of f32 can be");
}

TEST(ArgumentEncoderTest, EachDescriptorIsPassedAsItsOwnEntrySays) {
  const KernelArgument wanted = {"desc", Kind::kTensorDescriptor, ScalarType::kF32, 0, 1, "fp32[16]"};
  const KernelSignature signature = {"k", {wanted, Scalar(ScalarType::kI32), wanted}};
  DescriptorPassing passing;
  passing.by_value = {std::nullopt, TensorMapMetadata{7, 0, 4, {16}, false}};
  EXPECT_EQ(ParameterSizes(signature, 0, passing)->front(), 8u);
  EXPECT_EQ(ParameterSizes(signature, 2, passing)->front(), 128u);
}

TEST(ArgumentEncoderTest, HowDescriptorsArePassedIsInTheMetadata) {
  KernelMetadata metadata;
  metadata.triton_version = "3.4.0";
  EXPECT_FALSE(DescriptorPassingOf(metadata)->with_padding);
  metadata.triton_version = "3.9.0";
  metadata.raw_json = R"({"tensordesc_meta": [null, {"swizzle": 3, "elem_size": 2, "elem_type": 6,
                          "block_size": [64, 32], "fp4_padded": false}]})";
  const auto passing = DescriptorPassingOf(metadata);
  ASSERT_TRUE(passing.ok()) << passing.status();
  EXPECT_TRUE(passing->with_padding);
  ASSERT_EQ(passing->by_value.size(), 2u);
  EXPECT_FALSE(passing->by_value[0].has_value());
  EXPECT_EQ(passing->by_value[1]->box, std::vector<uint32_t>({64, 32}));
  EXPECT_EQ(passing->by_value[1]->element, 6);
  for (const char* bad : {R"([3])", R"([{"swizzle": 3}])",
                          R"([{"swizzle": 3, "elem_size": 2, "elem_type": 6, "block_size": [-1]}])"}) {
    metadata.raw_json = absl::StrCat("{\"tensordesc_meta\": ", bad, "}");
    EXPECT_EQ(GetReason(DescriptorPassingOf(metadata).status()), Reason::kMetadata) << bad;
  }
  metadata.raw_json = R"({"tensordesc_meta": [{"is_im2col": true}]})";
  EXPECT_EQ(GetReason(DescriptorPassingOf(metadata).status()), Reason::kMetadata);
  metadata.raw_json =
      R"({"tensordesc_meta": [{"swizzle": 3, "elem_size": 2, "elem_type": 6, "is_im2col": true,
                          "block_size": [64, 32], "fp4_padded": false}]})";
  EXPECT_TRUE(DescriptorPassingOf(metadata)->by_value[0]->im2col);
  metadata.raw_json = "nonsense";
  EXPECT_EQ(GetReason(DescriptorPassingOf(metadata).status()), Reason::kMetadata);
}

}  // namespace
}  // namespace trun
