#include "server/executor/runtime/parameter_packing.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/executor/protocol/messages.h"

namespace trun {
namespace {

constexpr int kMaxHidden = 2;

absl::Status WrongSize(int position, size_t given, size_t wanted) {
  return InvalidArgument(
      Reason::kArgument,
      absl::StrCat("argument ", position, " is ", given, " bytes; the kernel's parameter has ", wanted),
      {{"argument", absl::StrCat(position)}});
}

}  // namespace

absl::StatusOr<int> HiddenParameters(const device::KernelAttributes& attributes, int arguments) {
  const int hidden = static_cast<int>(attributes.parameters.size()) - arguments;
  if (hidden < 0 || hidden > kMaxHidden) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat("kernel '", attributes.name, "' has ", attributes.parameters.size(),
                     " parameters, at most two of them hidden; ", arguments, " arguments were given"));
  }
  for (size_t i = static_cast<size_t>(arguments); i < attributes.parameters.size(); ++i) {
    if (attributes.parameters[i].bytes != sizeof(uint64_t)) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("parameter ", i, " of kernel '", attributes.name,
                                          "' has no argument and is not a scratch pointer"));
    }
  }
  return hidden;
}

absl::StatusOr<std::vector<std::byte>> PackParameters(
    const device::Device& device, const device::KernelAttributes& attributes,
    const google::protobuf::RepeatedPtrField<internal::v1::Argument>& arguments, uint64_t global_scratch,
    uint64_t profile_scratch) {
  TRUN_ASSIGN_OR_RETURN(const int hidden, HiddenParameters(attributes, arguments.size()));
  std::vector<std::byte> buffer(attributes.parameter_bytes);
  for (int i = 0; i < arguments.size(); ++i) {
    const device::ParameterLayout& layout = attributes.parameters[static_cast<size_t>(i)];
    const internal::v1::Argument& argument = arguments[i];
    const uint64_t address = argument.address();
    const void* bytes = &address;
    size_t size = sizeof(address);
    device::TensorMapBytes map;
    if (argument.value_case() == internal::v1::Argument::kScalar) {
      bytes = argument.scalar().data();
      size = argument.scalar().size();
    } else if (argument.value_case() == internal::v1::Argument::kTensorMap) {
      const auto encoded = device.EncodeTensorMap(DecodeTensorMap(argument.tensor_map()));
      if (!encoded.ok()) {
        return WithDetails(Annotate(encoded.status(), absl::StrCat("argument ", i)),
                           {{"argument", absl::StrCat(i)}});
      }
      map = *encoded;
      bytes = map.data();
      size = map.size();
    } else if (argument.value_case() != internal::v1::Argument::kAddress) {
      size = 0;
    }
    if (size == 0 || size != layout.bytes || uint64_t{layout.offset} + size > buffer.size()) {
      return WrongSize(i, size, layout.bytes);
    }
    std::memcpy(buffer.data() + layout.offset, bytes, size);
  }
  const uint64_t scratch[kMaxHidden] = {global_scratch, profile_scratch};
  for (int i = 0; i < hidden; ++i) {
    const int at = arguments.size() + i;
    const device::ParameterLayout& layout = attributes.parameters[static_cast<size_t>(at)];
    if (uint64_t{layout.offset} + sizeof(uint64_t) > buffer.size()) return WrongSize(at, 8, 0);
    std::memcpy(buffer.data() + layout.offset, &scratch[i], sizeof(uint64_t));
  }
  return buffer;
}

}  // namespace trun
