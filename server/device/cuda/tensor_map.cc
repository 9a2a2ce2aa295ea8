#include "server/device/cuda/tensor_map.h"

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "server/device/cuda/result.h"

namespace trun::device {
namespace {

// By the numbers of tensormap.replace's elemtype.
constexpr std::array<CUtensorMapDataType, 13> kElements = {
    CU_TENSOR_MAP_DATA_TYPE_UINT8,       CU_TENSOR_MAP_DATA_TYPE_UINT16,
    CU_TENSOR_MAP_DATA_TYPE_UINT32,      CU_TENSOR_MAP_DATA_TYPE_INT32,
    CU_TENSOR_MAP_DATA_TYPE_UINT64,      CU_TENSOR_MAP_DATA_TYPE_INT64,
    CU_TENSOR_MAP_DATA_TYPE_FLOAT16,     CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
    CU_TENSOR_MAP_DATA_TYPE_FLOAT32_FTZ, CU_TENSOR_MAP_DATA_TYPE_FLOAT64,
    CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,    CU_TENSOR_MAP_DATA_TYPE_TFLOAT32,
    CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ};
constexpr std::array<CUtensorMapSwizzle, 4> kSwizzles = {CU_TENSOR_MAP_SWIZZLE_NONE,
                                                         CU_TENSOR_MAP_SWIZZLE_32B, CU_TENSOR_MAP_SWIZZLE_64B,
                                                         CU_TENSOR_MAP_SWIZZLE_128B};
constexpr size_t kMaxRank = 5;

}  // namespace

absl::StatusOr<TensorMapBytes> EncodeCudaTensorMap(const Driver& driver, const TensorMapFields& fields) {
  if (driver.cuTensorMapEncodeTiled == nullptr) {
    return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedTarget,
                     "this driver makes no tensor maps: update it to CUDA 12.0 or later");
  }
  const size_t rank = fields.extents.size();
  if (rank < 1 || rank > kMaxRank || fields.strides.size() + 1 != rank || fields.box.size() != rank ||
      fields.element >= kElements.size() || fields.swizzle >= kSwizzles.size()) {
    return InvalidArgument(Reason::kArgument,
                           "a tensor map of this rank, element type or swizzle cannot be made");
  }
  static_assert(sizeof(CUtensorMap) == sizeof(TensorMapBytes));
  CUtensorMap map;
  const std::array<cuuint32_t, kMaxRank> element_strides = {1, 1, 1, 1, 1};
  const std::vector<cuuint64_t> extents(fields.extents.begin(), fields.extents.end());
  std::vector<cuuint64_t> strides(fields.strides.begin(), fields.strides.end());
  strides.push_back(0);  // never read; the pointer may not be null
  const std::vector<cuuint32_t> box(fields.box.begin(), fields.box.end());
  const CUresult result = driver.cuTensorMapEncodeTiled(
      &map, kElements[fields.element], static_cast<cuuint32_t>(rank), reinterpret_cast<void*>(fields.address),
      extents.data(), strides.data(), box.data(), element_strides.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
      kSwizzles[fields.swizzle], CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
      fields.nan_fill ? CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA
                      : CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  TRUN_RETURN_IF_ERROR(ToStatus(
      driver, result,
      absl::StrCat(
          "a tensor map of (", absl::StrJoin(fields.extents, ", "), ") elements, strides (",
          absl::StrJoin(fields.strides, ", "), ") bytes and box (", absl::StrJoin(fields.box, ", "),
          "), innermost first: strides are multiples of 16 bytes, a box has at most 256 elements a dimension "
          "and is no wider than its swizzle")));
  TensorMapBytes bytes;
  std::memcpy(bytes.data(), &map, sizeof(map));
  return bytes;
}

}  // namespace trun::device
