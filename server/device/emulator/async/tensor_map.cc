#include "server/device/emulator/async/tensor_map.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/tensor_map_check.h"

namespace trun::device {
namespace {

constexpr size_t kAddressAt = 0, kStrideAt = 8, kDimAt = 40, kBoxAt = 60, kElementStrideAt = 80,
                 kRankAt = 100, kElementAt = 101, kInterleaveAt = 102, kSwizzleAt = 103, kFillAt = 104,
                 kModeAt = 105, kLowerAt = 106, kUpperAt = 112;

template <typename T>
void Put(uint8_t* bytes, size_t at, const T& value) {
  std::memcpy(bytes + at, &value, sizeof value);
}
template <typename T>
void Get(const uint8_t* bytes, size_t at, T* value) {
  std::memcpy(value, bytes + at, sizeof *value);
}

absl::Status Wrong(const std::string& what) {
  return InvalidArgument(Reason::kArgument, absl::StrCat("the tensor map is not valid: ", what));
}

}  // namespace

uint32_t BytesOf(TensorElement element) {
  switch (element) {
    case TensorElement::kU8:
      return 1;
    case TensorElement::kU16:
    case TensorElement::kF16:
    case TensorElement::kBf16:
      return 2;
    case TensorElement::kU32:
    case TensorElement::kS32:
    case TensorElement::kF32:
    case TensorElement::kF32Ftz:
    case TensorElement::kTf32:
    case TensorElement::kTf32Ftz:
      return 4;
    case TensorElement::kU64:
    case TensorElement::kS64:
    case TensorElement::kF64:
      return 8;
    default:
      return 0;
  }
}

numerics::Type ElementTypeOf(TensorElement element) {
  switch (element) {
    case TensorElement::kU8:
      return numerics::Type::kU8;
    case TensorElement::kU16:
      return numerics::Type::kU16;
    case TensorElement::kU32:
      return numerics::Type::kU32;
    case TensorElement::kS32:
      return numerics::Type::kS32;
    case TensorElement::kU64:
      return numerics::Type::kU64;
    case TensorElement::kS64:
      return numerics::Type::kS64;
    case TensorElement::kF16:
      return numerics::Type::kF16;
    case TensorElement::kBf16:
      return numerics::Type::kBf16;
    case TensorElement::kF64:
      return numerics::Type::kF64;
    default:
      return numerics::Type::kF32;
  }
}

void TensorMap::Encode(uint8_t* bytes) const {
  std::memset(bytes, 0, kTensorMapBytes);
  Put(bytes, kAddressAt, global_address);
  Put(bytes, kStrideAt, global_stride);
  Put(bytes, kDimAt, global_dim);
  Put(bytes, kBoxAt, box_dim);
  Put(bytes, kElementStrideAt, element_stride);
  bytes[kRankAt] = static_cast<uint8_t>(rank - 1);
  bytes[kElementAt] = static_cast<uint8_t>(element);
  bytes[kInterleaveAt] = interleave;
  bytes[kSwizzleAt] = static_cast<uint8_t>(swizzle);
  bytes[kFillAt] = nan_fill ? 1 : 0;
  bytes[kModeAt] = im2col ? 1 : 0;
  Put(bytes, kLowerAt, lower_corner);
  Put(bytes, kUpperAt, upper_corner);
}

TensorMap TensorMap::Decode(const uint8_t* bytes) {
  TensorMap map;
  Get(bytes, kAddressAt, &map.global_address);
  Get(bytes, kStrideAt, &map.global_stride);
  Get(bytes, kDimAt, &map.global_dim);
  Get(bytes, kBoxAt, &map.box_dim);
  Get(bytes, kElementStrideAt, &map.element_stride);
  for (uint32_t& stride : map.element_stride) stride = std::max(stride, 1u);
  map.rank = bytes[kRankAt] + 1u;
  map.element = static_cast<TensorElement>(bytes[kElementAt]);
  map.interleave = bytes[kInterleaveAt];
  map.swizzle = static_cast<numerics::Swizzle>(bytes[kSwizzleAt]);
  map.nan_fill = bytes[kFillAt] != 0;
  map.im2col = bytes[kModeAt] != 0;
  Get(bytes, kLowerAt, &map.lower_corner);
  Get(bytes, kUpperAt, &map.upper_corner);
  return map;
}

uint64_t TensorMap::BoxBytes() const {
  uint64_t bytes = BytesOf(element);
  for (uint32_t i = 0; i < rank; ++i) bytes *= BoxElements(i);
  return bytes;
}

absl::Status TensorMap::Check() const {
  if (rank < 1 || rank > kMaxTensorRank) return Wrong(absl::StrCat("rank ", rank, " is not between 1 and 5"));
  const uint32_t element_bytes = BytesOf(element);
  if (element_bytes == 0)
    return Wrong(absl::StrCat("element type ", static_cast<int>(element), " is not supported"));
  if (interleave != 0) return Wrong("interleaved layouts are not supported");
  if (static_cast<int>(swizzle) > 3) return Wrong(absl::StrCat("swizzle mode ", static_cast<int>(swizzle)));
  if (im2col && rank < 3) return Wrong("im2col needs a rank of 3 or more");
  if (global_address % 16 != 0)
    return Wrong(absl::StrCat("address ", global_address, " is not aligned to 16 bytes"));
  uint64_t box_bytes = element_bytes;
  for (uint32_t i = 0; i < rank; ++i) {
    if (global_dim[i] == 0) return Wrong(absl::StrCat("dimension ", i, " has size 0"));
    if (element_stride[i] > 8) return Wrong(absl::StrCat("element stride ", element_stride[i], " is over 8"));
    if (i > 0 && global_stride[i - 1] % 16 != 0) {
      return Wrong(
          absl::StrCat("stride ", global_stride[i - 1], " of dimension ", i, " is no multiple of 16 bytes"));
    }
    if (i > 0 && global_stride[i - 1] >= uint64_t{1} << 40) return Wrong("a stride of 2^40 bytes or more");
    if (im2col) continue;
    if (box_dim[i] == 0 || box_dim[i] > 256) {
      return Wrong(absl::StrCat("box size ", box_dim[i], " of dimension ", i, " is not between 1 and 256"));
    }
    box_bytes *= BoxElements(i);
  }
  if (im2col && (box_dim[0] == 0 || box_dim[0] > 256 || box_dim[1] == 0 || box_dim[1] > 1024)) {
    return Wrong("im2col needs 1 to 256 channels a pixel and 1 to 1024 pixels a column");
  }
  const uint32_t inner = BoxElements(0) * element_bytes;
  if (inner % 16 != 0)
    return Wrong(absl::StrCat("a box is ", inner, " bytes wide, which is no multiple of 16"));
  const uint32_t limit = swizzle == numerics::Swizzle::kNone ? ~0u : 16u << static_cast<int>(swizzle);
  if (inner > limit)
    return Wrong(absl::StrCat("a box is ", inner, " bytes wide, over the swizzle's ", limit));
  return absl::OkStatus();
}

absl::StatusOr<TensorMap> TensorMapOf(const TensorMapFields& fields) {
  TRUN_RETURN_IF_ERROR(CheckTensorMap(fields));
  TensorMap map;
  map.global_address = fields.address;
  map.rank = static_cast<uint32_t>(fields.extents.size());
  map.element = static_cast<TensorElement>(fields.element);
  map.swizzle = static_cast<numerics::Swizzle>(fields.swizzle);
  map.nan_fill = fields.nan_fill;
  for (size_t i = 0; i < fields.extents.size(); ++i) {
    if (fields.extents[i] > std::numeric_limits<uint32_t>::max())
      return Wrong("a dimension of 2^32 elements");
    map.global_dim[i] = static_cast<uint32_t>(fields.extents[i]);
    if (i > 0) map.global_stride[i - 1] = fields.strides[i - 1];
  }
  std::copy(fields.box.begin(), fields.box.end(), map.box_dim.begin());
  if (fields.im2col.has_value()) {
    const Im2colBox& box = *fields.im2col;
    map.im2col = true;
    std::copy(box.element_strides.begin(), box.element_strides.end(), map.element_stride.begin());
    for (size_t i = 0; i < box.lower_corner.size(); ++i) {
      map.lower_corner[i] = static_cast<int16_t>(box.lower_corner[i]);
      map.upper_corner[i] = static_cast<int16_t>(box.upper_corner[i]);
    }
  }
  return map;
}

bool ReplaceTensorMapField(uint8_t* bytes, TensorMapField field, uint32_t index, uint64_t value) {
  const auto dimension = [&](size_t at) {
    if (index >= kMaxTensorRank) return false;
    Put(bytes, at + 4 * index, static_cast<uint32_t>(value));
    return true;
  };
  const auto byte = [&](size_t at, uint64_t limit) {
    if (value > limit) return false;
    bytes[at] = static_cast<uint8_t>(value);
    return true;
  };
  switch (field) {
    case TensorMapField::kGlobalAddress:
      Put(bytes, kAddressAt, value);
      return true;
    case TensorMapField::kGlobalStride:
      if (index >= 4) return false;
      Put(bytes, kStrideAt + 8 * index, value);
      return true;
    case TensorMapField::kBoxDim:
      return dimension(kBoxAt);
    case TensorMapField::kGlobalDim:
      return dimension(kDimAt);
    case TensorMapField::kElementStride:
      return dimension(kElementStrideAt);
    case TensorMapField::kRank:
      return byte(kRankAt, kMaxTensorRank - 1);
    case TensorMapField::kElemtype:
      return byte(kElementAt, static_cast<uint64_t>(TensorElement::kB6x16P32));
    case TensorMapField::kInterleave:
      return byte(kInterleaveAt, 2);
    case TensorMapField::kSwizzle:
      return byte(kSwizzleAt, 4);
    case TensorMapField::kFill:
      return byte(kFillAt, 1);
  }
  return false;
}

}  // namespace trun::device
