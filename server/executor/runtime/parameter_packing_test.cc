#include "server/executor/runtime/parameter_packing.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/base/status.h"
#include "server/device/fake_device.h"

namespace trun {
namespace {

using Arguments = google::protobuf::RepeatedPtrField<internal::v1::Argument>;

const device::Device* Device() {
  static const device::Device* const device = device::CreateFakeDevice().release();
  return device;
}

device::KernelAttributes Kernel(const std::vector<uint32_t>& sizes) {
  device::KernelAttributes attributes;
  attributes.name = "k";
  for (const uint32_t bytes : sizes) {
    const uint32_t offset = (attributes.parameter_bytes + bytes - 1) / bytes * bytes;
    attributes.parameters.push_back({offset, bytes, bytes});
    attributes.parameter_bytes = offset + bytes;
  }
  return attributes;
}

Arguments Given(const std::vector<std::variant<uint64_t, std::string>>& values) {
  Arguments arguments;
  for (const auto& value : values) {
    if (const uint64_t* address = std::get_if<uint64_t>(&value)) {
      arguments.Add()->set_address(*address);
    } else {
      arguments.Add()->set_scalar(std::get<std::string>(value));
    }
  }
  return arguments;
}

TEST(ParameterPackingTest, MoreArgumentsThanParametersAreRefused) {
  EXPECT_EQ(GetReason(HiddenParameters(Kernel({8}), 2).status()), Reason::kArgument);
}

TEST(ParameterPackingTest, ThreeParametersWithoutAnArgumentAreRefused) {
  EXPECT_EQ(GetReason(HiddenParameters(Kernel({8, 8, 8}), 0).status()), Reason::kArgument);
}

TEST(ParameterPackingTest, AHiddenParameterThatIsNoPointerIsRefused) {
  EXPECT_EQ(GetReason(HiddenParameters(Kernel({8, 4}), 1).status()), Reason::kArgument);
}

TEST(ParameterPackingTest, AnArgumentOfAnotherSizeIsRefusedByItsPosition) {
  const auto packed =
      PackParameters(*Device(), Kernel({8, 4}), Given({uint64_t{1}, std::string(8, 'x')}), 0, 0);
  EXPECT_EQ(GetReason(packed.status()), Reason::kArgument);
  EXPECT_EQ(GetDetails(packed.status()).at("argument"), "1");
  Arguments empty;
  empty.Add();
  EXPECT_EQ(GetReason(PackParameters(*Device(), Kernel({8}), empty, 0, 0).status()), Reason::kArgument);
}

TEST(ParameterPackingTest, ArgumentsLieAtTheirOffsetsAndScratchFollows) {
  const auto packed =
      PackParameters(*Device(), Kernel({4, 8, 8, 8}),
                     Given({std::string("\1\2\3\4", 4), uint64_t{0x1122334455667788}}), 0xaa, 0xbb);
  ASSERT_TRUE(packed.ok()) << packed.status();
  ASSERT_EQ(packed->size(), 32u);
  const uint64_t words[3] = {0x1122334455667788, 0xaa, 0xbb};
  EXPECT_EQ(std::memcmp(packed->data(), "\1\2\3\4\0\0\0\0", 8), 0);
  EXPECT_EQ(std::memcmp(packed->data() + 8, words, 24), 0);
}

TEST(ParameterPackingTest, ATensorMapTakes128BytesAndItsAddressIsTheDevicesToEncode) {
  Arguments arguments;
  arguments.Add()->mutable_tensor_map()->set_address(0x1122334455667788);
  const auto packed = PackParameters(*Device(), Kernel({128, 8}), arguments, 0xaa, 0);
  ASSERT_TRUE(packed.ok()) << packed.status();
  ASSERT_EQ(packed->size(), 136u);
  const uint64_t address = 0x1122334455667788;
  EXPECT_EQ(std::memcmp(packed->data(), &address, 8), 0);
  EXPECT_EQ(GetReason(PackParameters(*Device(), Kernel({64}), arguments, 0, 0).status()), Reason::kArgument);
}

}  // namespace
}  // namespace trun
