// Tensor maps of the fake driver: what was asked for goes to its log; the map has the address, the rank, and
// the innermost dimension's elements in the tensor and in the box.
#include <cuda.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "server/device/cuda/fake_driver/fake_calls.h"

namespace {

template <typename T>
std::string List(const T* values, size_t count) {
  return absl::StrJoin(absl::MakeConstSpan(values, count), ",");
}

struct Common {
  CUtensorMapDataType element;
  cuuint32_t rank;
  const void* address;
  const cuuint64_t* extents;
  const cuuint64_t* strides;
  const cuuint32_t* element_strides;
  CUtensorMapInterleave interleave;
  CUtensorMapSwizzle swizzle;
  CUtensorMapL2promotion promotion;
  CUtensorMapFloatOOBfill fill;
};

CUresult Make(CUtensorMap* map, const char* mode, cuuint32_t least_rank, const Common& common, uint64_t inner,
              const std::string& box) {
  const auto address = reinterpret_cast<uintptr_t>(common.address);
  if (common.rank < least_rank || common.rank > 5 || address % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
  const std::string text = absl::StrCat(
      mode, " element ", static_cast<int>(common.element), " address 0x", absl::Hex(address), " extents ",
      List(common.extents, common.rank), " strides ", List(common.strides, common.rank - 1), " steps ",
      List(common.element_strides, common.rank), " interleave ", static_cast<int>(common.interleave),
      " swizzle ", static_cast<int>(common.swizzle), " promotion ", static_cast<int>(common.promotion),
      " fill ", static_cast<int>(common.fill), " ", box);
  trun::fake_cuda::Log(text);
  std::memset(map, 0, sizeof(*map));
  const uint64_t words[4] = {address, common.rank, common.extents[0], inner};
  std::memcpy(map, words, sizeof(words));
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" {

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType element, cuuint32_t rank, void* address,
                                const cuuint64_t* extents, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill) {
  ENTER();
  return Make(
      map, "tiled", 1,
      {element, rank, address, extents, strides, element_strides, interleave, swizzle, promotion, fill},
      box[0], absl::StrCat("box ", List(box, rank)));
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap* map, CUtensorMapDataType element, cuuint32_t rank,
                                 void* address, const cuuint64_t* extents, const cuuint64_t* strides,
                                 const int* lower, const int* upper, cuuint32_t channels, cuuint32_t pixels,
                                 const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                                 CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                 CUtensorMapFloatOOBfill fill) {
  ENTER();
  const size_t spatial = rank < 2 ? 0 : rank - 2;
  return Make(
      map, "im2col", 3,
      {element, rank, address, extents, strides, element_strides, interleave, swizzle, promotion, fill},
      channels,
      absl::StrCat("lower ", List(lower, spatial), " upper ", List(upper, spatial), " channels ", channels,
                   " pixels ", pixels));
}

}  // extern "C"
