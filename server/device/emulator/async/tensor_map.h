// The 128-byte tensor map, in a form of the emulator's own (NVIDIA's is opaque; PTX fixes only its size, its
// alignment of 64 bytes, and the fields that tensormap.replace writes). All zero is a valid start: every
// default is 0.
//
//   offset  size  field
//        0     8  global address, aligned 16
//        8    32  strides of dimensions 1 … 4 in bytes, each a multiple of 16
//       40    20  sizes of dimensions 0 … 4 in elements
//       60    20  box sizes in elements (im2col: 60 channels a pixel, 64 pixels a column)
//       80    20  element strides; 0 counts as 1
//      100     1  rank - 1
//      101     1  element type, the number of tensormap.replace.elemtype
//      102     1  interleave: 0 none
//      103     1  swizzle: 0 none, 1 32 B, 2 64 B, 3 128 B
//      104     1  fill of elements out of bounds: 0 zero, 1 NaN
//      105     1  mode: 0 tiled, 1 im2col
//      106     6  im2col: lower corner of dimensions 1, 2, 3 of the box, signed 16 bits
//      112     6  im2col: upper corner
//      118    10  zero
//
// Little-endian. Pure functions, thread-safe. A host that launches a kernel with tensor maps as parameters
// makes them with Encode.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_TENSOR_MAP_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_TENSOR_MAP_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/device/device.h"
#include "server/device/emulator/numerics/types.h"
#include "server/device/emulator/numerics/wgmma.h"

namespace trun::device {

inline constexpr size_t kTensorMapBytes = 128;
inline constexpr size_t kTensorMapAlign = 64;
inline constexpr int kMaxTensorRank = 5;

// The numbers of tensormap.replace.tile.elemtype (PTX ISA, "tensormap.replace").
enum class TensorElement : uint8_t {
  kU8,
  kU16,
  kU32,
  kS32,
  kU64,
  kS64,
  kF16,
  kF32,
  kF32Ftz,
  kF64,
  kBf16,
  kTf32,
  kTf32Ftz,
  kB4x16,
  kB4x16P64,
  kB6x16P32,
};
// 0 for the packed types of 4 and 6 bits, which sm_90 does not have.
uint32_t BytesOf(TensorElement element);
// Integers and floats as tensor reductions see them.
numerics::Type ElementTypeOf(TensorElement element);

struct TensorMap {
  uint64_t global_address = 0;
  std::array<uint64_t, 4> global_stride = {};  // [i]: of dimension i + 1
  std::array<uint32_t, 5> global_dim = {};
  std::array<uint32_t, 5> box_dim = {};
  std::array<uint32_t, 5> element_stride = {1, 1, 1, 1, 1};
  uint32_t rank = 1;
  TensorElement element = TensorElement::kU8;
  uint8_t interleave = 0;
  numerics::Swizzle swizzle = numerics::Swizzle::kNone;
  bool nan_fill = false;
  bool im2col = false;
  std::array<int16_t, 3> lower_corner = {}, upper_corner = {};

  void Encode(uint8_t* bytes) const;
  // Any 128 bytes decode to something; Check says whether it can be used.
  static TensorMap Decode(const uint8_t* bytes);

  // INVALID_ARGUMENT kArgument that names the field which breaks a rule of the CUDA driver API's
  // cuTensorMapEncodeTiled: rank, alignment, strides, box sizes (1 … 256), swizzle against the inner box
  // size.
  absl::Status Check() const;

  // Elements along dimension i that a box brings.
  uint32_t BoxElements(uint32_t i) const { return (box_dim[i] + element_stride[i] - 1) / element_stride[i]; }
  uint64_t BoxBytes() const;
};

// The map with these fields. INVALID_ARGUMENT kArgument: CheckTensorMap's, or 2^32 elements in a dimension.
absl::StatusOr<TensorMap> TensorMapOf(const TensorMapFields& fields);

// Fields of tensormap.replace. `index` is the dimension where the field has one.
enum class TensorMapField : uint8_t {
  kGlobalAddress,
  kRank,
  kBoxDim,
  kGlobalDim,
  kGlobalStride,
  kElementStride,
  kElemtype,
  kInterleave,
  kSwizzle,
  kFill,
};
// Writes one field into the 128 bytes. False when index or value is out of the field's range.
bool ReplaceTensorMapField(uint8_t* bytes, TensorMapField field, uint32_t index, uint64_t value);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_TENSOR_MAP_H_
