#include "server/executor/protocol/messages.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <gtest/gtest.h>

#include "common/base/digest.h"
#include "common/base/status.h"

namespace trun {
namespace {

TEST(MessagesTest, AStatusCodeThatIsNoneIsAProtocolError) {
  internal::v1::Status in;
  absl::Status out;
  for (int code : {-1, 17, 1 << 30}) {
    in.set_code(code);
    EXPECT_EQ(GetReason(DecodeStatus(in, &out)), Reason::kProtocol) << code;
  }
}

TEST(MessagesTest, AStatusComesBackWithReasonAndDetails) {
  const absl::Status status = InvalidArgument(Reason::kInvalidIr, "line 3", {{"line", "3"}});
  internal::v1::Status wire;
  EncodeStatus(status, &wire);
  absl::Status back;
  ASSERT_TRUE(DecodeStatus(wire, &back).ok());
  EXPECT_EQ(back.code(), status.code());
  EXPECT_EQ(back.message(), "line 3");
  EXPECT_EQ(GetReason(back), Reason::kInvalidIr);
  EXPECT_EQ(GetDetails(back).at("line"), "3");
}

TEST(MessagesTest, TextOfAFileThatIsNotUtf8Arrives) {
  const std::string odd =
      "gr\xf6\xdf"
      "e \xed\xa0\x80";
  device::FaultReport fault;
  fault.source_file = fault.instruction = fault.message = odd;
  fault.other.role = "earlier write";
  fault.other.source_file = odd;
  internal::v1::ExecutorReply reply, read;
  EncodeStatus(InvalidArgument(Reason::kInvalidIr, odd, {{"instruction", odd}}), reply.mutable_status());
  reply.mutable_launch()->set_printed(odd);
  reply.mutable_launch()->set_trace(odd);
  EncodeFault(fault, reply.mutable_launch()->mutable_fault());
  ASSERT_TRUE(read.ParseFromString(reply.SerializeAsString()));
  absl::Status back;
  ASSERT_TRUE(DecodeStatus(read.status(), &back).ok());
  EXPECT_EQ(back.message(), odd);
  EXPECT_EQ(GetDetails(back).at("instruction"), odd);
  EXPECT_EQ(read.launch().printed(), odd);
  EXPECT_EQ(DecodeFault(read.launch().fault())->other.source_file, odd);
  device::KernelAttributes attributes;
  attributes.name = odd;
  internal::v1::ExecutorReply loaded;
  EncodeKernelAttributes(attributes, loaded.mutable_load_kernel());
  ASSERT_TRUE(read.ParseFromString(loaded.SerializeAsString()));
}

TEST(MessagesTest, TheProtocolDoesNotChangeWithoutItsVersion) {
  google::protobuf::FileDescriptorProto shape;
  internal::v1::ExecutorRequest::descriptor()->file()->CopyTo(&shape);
  // A version that was released once says what this says of it: a change here goes with a new version.
  EXPECT_EQ(kExecutorProtocolVersion, 5u);
  EXPECT_EQ(Digest::Of(shape.SerializeAsString()).ToHex().substr(0, 16), "dff5fbb17e6f9316");
}

TEST(MessagesTest, ParametersThatOverlapOrLieOutsideAreAProtocolError) {
  device::KernelAttributes attributes;
  attributes.parameters = {{0, 8, 8}, {4, 8, 8}};
  attributes.parameter_bytes = 16;
  internal::v1::LoadKernelReply wire;
  EncodeKernelAttributes(attributes, &wire);
  EXPECT_EQ(GetReason(DecodeKernelAttributes(wire).status()), Reason::kProtocol);
  wire.mutable_parameters(1)->set_offset(12);
  EXPECT_EQ(GetReason(DecodeKernelAttributes(wire).status()), Reason::kProtocol);
  wire.mutable_parameters(1)->set_offset(0xffffffff);
  EXPECT_EQ(GetReason(DecodeKernelAttributes(wire).status()), Reason::kProtocol);
  wire.mutable_parameters(1)->set_offset(8);
  EXPECT_TRUE(DecodeKernelAttributes(wire).ok());
}

TEST(MessagesTest, ADeviceOfAnotherProtocolVersionOrTargetIsRefused) {
  device::DeviceInfo info;
  info.target.arch = 80;
  internal::v1::HelloReply wire;
  EncodeDeviceInfo(info, &wire);
  EXPECT_TRUE(DecodeDeviceInfo(wire).ok());
  wire.set_target("rubbish");
  EXPECT_EQ(GetReason(DecodeDeviceInfo(wire).status()), Reason::kProtocol);
  wire.set_target("cuda:80:32");
  for (const uint32_t other : {kExecutorProtocolVersion + 1, kExecutorProtocolVersion - 1}) {
    wire.set_protocol_version(other);
    const absl::Status refused = DecodeDeviceInfo(wire).status();
    EXPECT_EQ(GetReason(refused), Reason::kProtocol);
    EXPECT_THAT(std::string(refused.message()), testing::HasSubstr("another release; --executor names"));
  }
}

TEST(MessagesTest, AFaultComesBackAsItWasAndWithoutItsTriplesIsRefused) {
  device::FaultReport fault;
  fault.instruction = "st.global.b32";
  fault.program = {1, 2, 3};
  fault.thread = {4, 5, 6};
  fault.nearest_allocation_offset = -4;
  internal::v1::Fault wire;
  EncodeFault(fault, &wire);
  absl::StatusOr<device::FaultReport> back = DecodeFault(wire);
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->instruction, "st.global.b32");
  EXPECT_EQ(back->program, fault.program);
  EXPECT_EQ(back->nearest_allocation_offset, -4);
  wire.clear_thread();
  EXPECT_EQ(GetReason(DecodeFault(wire).status()), Reason::kProtocol);
}

TEST(MessagesTest, ATensorMapComesBackAsItWas) {
  device::TensorMapFields fields;
  fields.address = 0x2000'0000'0010;
  fields.element = 6;
  fields.swizzle = 3;
  fields.nan_fill = true;
  fields.extents = {64, 9, 14, 2};
  fields.strides = {128, 1152, 16128};
  fields.box = {64, 128};
  internal::v1::TensorMap tiled;
  EncodeTensorMap(fields, &tiled);
  EXPECT_FALSE(DecodeTensorMap(tiled).im2col.has_value());
  fields.im2col = device::Im2colBox{{-1, -2}, {3, -4}, {1, 2, 1, 1}};
  internal::v1::TensorMap wire;
  EncodeTensorMap(fields, &wire);
  const device::TensorMapFields back = DecodeTensorMap(wire);
  EXPECT_EQ(back.address, fields.address);
  EXPECT_EQ(back.element, 6);
  EXPECT_EQ(back.swizzle, 3);
  EXPECT_TRUE(back.nan_fill);
  EXPECT_EQ(back.extents, fields.extents);
  EXPECT_EQ(back.strides, fields.strides);
  EXPECT_EQ(back.box, fields.box);
  ASSERT_TRUE(back.im2col.has_value());
  EXPECT_EQ(back.im2col->lower_corner, fields.im2col->lower_corner);
  EXPECT_EQ(back.im2col->upper_corner, fields.im2col->upper_corner);
  EXPECT_EQ(back.im2col->element_strides, fields.im2col->element_strides);
}

}  // namespace
}  // namespace trun
