#include "server/device/tensor_map_check.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun::device {
namespace {

constexpr size_t kMaxRank = 5;
constexpr uint64_t kMaxExtent = uint64_t{1} << 32;
constexpr uint64_t kStrideLimit = uint64_t{1} << 40;
constexpr uint32_t kMaxBox = 256, kMaxChannels = 256, kMaxPixels = 1024, kMaxElementStride = 8;
constexpr uint32_t kUnit = 16;  // bytes: what a copy moves at a time
// By the numbers of tensormap.replace's elemtype; from kFirstFloat on they are floats.
constexpr std::array<uint8_t, 13> kElementBytes = {1, 2, 4, 4, 8, 8, 2, 4, 4, 8, 2, 4, 4};
constexpr uint8_t kFirstFloat = 6;
constexpr uint8_t kSwizzles = 4;

template <typename... T>
absl::Status Wrong(const T&... what) {
  return InvalidArgument(Reason::kArgument, absl::StrCat("no tensor map has ", what...));
}

std::string Dimension(size_t i) { return absl::StrCat("dimension ", i, " (0 is the innermost)"); }

absl::Status CheckTensor(const TensorMapFields& fields) {
  if (fields.address % kUnit != 0) return Wrong("the address ", fields.address, ": it is a multiple of 16");
  for (size_t i = 0; i < fields.extents.size(); ++i) {
    if (fields.extents[i] == 0 || fields.extents[i] > kMaxExtent) {
      return Wrong(fields.extents[i], " elements in ", Dimension(i), ": there are 1 to 2^32");
    }
  }
  for (size_t i = 0; i < fields.strides.size(); ++i) {
    if (fields.strides[i] % kUnit != 0 || fields.strides[i] >= kStrideLimit) {
      return Wrong("a stride of ", fields.strides[i], " bytes in ", Dimension(i + 1),
                   ": it is a multiple of 16 below 2^40");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTiledBox(const TensorMapFields& fields) {
  if (fields.box.size() != fields.extents.size()) {
    return Wrong("a box of ", fields.box.size(), " dimensions over a tensor of ", fields.extents.size());
  }
  for (size_t i = 0; i < fields.box.size(); ++i) {
    if (fields.box[i] == 0 || fields.box[i] > kMaxBox) {
      return Wrong("a box of ", fields.box[i], " elements in ", Dimension(i), ": it has 1 to 256");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckIm2colBox(const TensorMapFields& fields, const Im2colBox& box) {
  const size_t rank = fields.extents.size();
  if (rank < 3) {
    return Wrong("im2col mode over a tensor of ", rank,
                 " dimensions: it has 3 to 5, channels, one to three spatial ones, and images");
  }
  const size_t spatial = rank - 2;
  if (fields.box.size() != 2) {
    return Wrong("an im2col block of ", fields.box.size(),
                 " sizes: they are pixels a column, channels a pixel");
  }
  if (fields.box[0] == 0 || fields.box[0] > kMaxChannels) {
    return Wrong(fields.box[0], " channels a pixel: there are 1 to 256");
  }
  if (fields.box[1] == 0 || fields.box[1] > kMaxPixels) {
    return Wrong(fields.box[1], " pixels a column: there are 1 to 1024");
  }
  // Offsets share 16 bits: all of them for one spatial dimension, 8 for two, 5 for three.
  const int32_t limit = spatial == 1 ? 32768 : spatial == 2 ? 128 : 16;
  for (const auto* corner : {&box.lower_corner, &box.upper_corner}) {
    const char* const which = corner == &box.lower_corner ? "lower" : "upper";
    if (corner->size() != spatial) {
      return Wrong("an im2col ", which, " corner of ", corner->size(), " offsets over a tensor of ", rank,
                   " dimensions: it has ", spatial);
    }
    for (size_t i = 0; i < spatial; ++i) {
      if ((*corner)[i] < -limit || (*corner)[i] >= limit) {
        return Wrong("an im2col ", which, " corner of ", (*corner)[i], " in ", Dimension(i + 1), ": with ",
                     rank, " dimensions it is ", -limit, " to ", limit - 1);
      }
    }
  }
  for (size_t i = 0; i < spatial; ++i) {
    const int64_t end = static_cast<int64_t>(fields.extents[i + 1]) + box.upper_corner[i];
    if (end <= box.lower_corner[i]) {
      return Wrong("an im2col box without a pixel: in ", Dimension(i + 1), " it begins at ",
                   box.lower_corner[i], " and ends before ", end);
    }
  }
  if (box.element_strides.size() != rank) {
    return Wrong(box.element_strides.size(), " element strides over a tensor of ", rank, " dimensions");
  }
  for (size_t i = 0; i < rank; ++i) {
    const uint32_t stride = box.element_strides[i];
    if (stride == 0 || stride > kMaxElementStride) {
      return Wrong("an element stride of ", stride, " in ", Dimension(i), ": it is 1 to 8");
    }
  }
  if (box.element_strides[0] != 1) {
    return Wrong("an element stride of ", box.element_strides[0], " between channels: it is 1");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckTensorMap(const TensorMapFields& fields) {
  const size_t rank = fields.extents.size();
  if (rank < 1 || rank > kMaxRank) return Wrong(rank, " dimensions: there are 1 to 5");
  if (fields.strides.size() + 1 != rank) {
    return Wrong(fields.strides.size(), " strides for ", rank, " dimensions: there is one less");
  }
  if (fields.element >= kElementBytes.size()) return Wrong("element type ", static_cast<int>(fields.element));
  if (fields.swizzle >= kSwizzles)
    return Wrong("swizzle ", static_cast<int>(fields.swizzle), ": it is 0 to 3");
  if (fields.nan_fill && fields.element < kFirstFloat) {
    return Wrong("NaN out of bounds of a tensor of integers: the padding is zero");
  }
  TRUN_RETURN_IF_ERROR(CheckTensor(fields));
  TRUN_RETURN_IF_ERROR(fields.im2col.has_value() ? CheckIm2colBox(fields, *fields.im2col)
                                                 : CheckTiledBox(fields));
  const uint32_t width = fields.box[0] * kElementBytes[fields.element];
  if (width % kUnit != 0) return Wrong("a box ", width, " bytes wide: that is a multiple of 16");
  const uint32_t swizzled = kUnit << fields.swizzle;
  if (fields.swizzle != 0 && width > swizzled) {
    return Wrong("a box ", width, " bytes wide with a swizzle of ", swizzled, ": it is no wider than that");
  }
  return absl::OkStatus();
}

}  // namespace trun::device
