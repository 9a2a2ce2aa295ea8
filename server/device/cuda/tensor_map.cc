#include "server/device/cuda/tensor_map.h"

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "server/device/cuda/result.h"
#include "server/device/tensor_map_check.h"

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

// What was asked for, in the error of a driver that refuses it.
std::string Described(const TensorMapFields& fields) {
  std::string text = absl::StrCat("a tensor map of (", absl::StrJoin(fields.extents, ", "),
                                  ") elements, strides (", absl::StrJoin(fields.strides, ", "),
                                  ") bytes and box (", absl::StrJoin(fields.box, ", "), ")");
  if (fields.im2col.has_value()) {
    absl::StrAppend(&text, ", im2col from (", absl::StrJoin(fields.im2col->lower_corner, ", "), ") to (",
                    absl::StrJoin(fields.im2col->upper_corner, ", "), ") by (",
                    absl::StrJoin(fields.im2col->element_strides, ", "), ")");
  }
  return absl::StrCat(text, ", innermost first");
}

}  // namespace

absl::StatusOr<TensorMapBytes> EncodeCudaTensorMap(const Driver& driver, const TensorMapFields& fields) {
  if (driver.cuTensorMapEncodeTiled == nullptr || driver.cuTensorMapEncodeIm2col == nullptr) {
    return MakeError(absl::StatusCode::kUnimplemented, Reason::kUnsupportedTarget,
                     "this driver makes no tensor maps: update it to CUDA 12.0 or later");
  }
  TRUN_RETURN_IF_ERROR(CheckTensorMap(fields));
  static_assert(sizeof(CUtensorMap) == sizeof(TensorMapBytes));
  CUtensorMap map;
  const auto rank = static_cast<cuuint32_t>(fields.extents.size());
  void* const address = reinterpret_cast<void*>(fields.address);
  const CUtensorMapDataType element = kElements[fields.element];
  const CUtensorMapSwizzle swizzle = kSwizzles[fields.swizzle];
  const CUtensorMapFloatOOBfill fill =
      fields.nan_fill ? CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA : CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  const std::vector<cuuint64_t> extents(fields.extents.begin(), fields.extents.end());
  std::vector<cuuint64_t> strides(fields.strides.begin(), fields.strides.end());
  strides.push_back(0);  // never read; the pointer may not be null
  CUresult result;
  if (fields.im2col.has_value()) {
    const Im2colBox& box = *fields.im2col;
    result = driver.cuTensorMapEncodeIm2col(
        &map, element, rank, address, extents.data(), strides.data(), box.lower_corner.data(),
        box.upper_corner.data(), fields.box[0], fields.box[1], box.element_strides.data(),
        CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, fill);
  } else {
    const std::array<cuuint32_t, kMaxRank> element_strides = {1, 1, 1, 1, 1};
    result = driver.cuTensorMapEncodeTiled(&map, element, rank, address, extents.data(), strides.data(),
                                           fields.box.data(), element_strides.data(),
                                           CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                           CU_TENSOR_MAP_L2_PROMOTION_L2_128B, fill);
  }
  TRUN_RETURN_IF_ERROR(ToStatus(driver, result, Described(fields)));
  TensorMapBytes bytes;
  std::memcpy(bytes.data(), &map, sizeof(map));
  return bytes;
}

}  // namespace trun::device
