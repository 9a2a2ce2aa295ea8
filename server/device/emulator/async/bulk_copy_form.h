// Decoded bulk copies: what Instruction::data points to, and where a tensor copy's box lies.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_BULK_COPY_FORM_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_BULK_COPY_FORM_H_

#include <array>
#include <cstdint>
#include <functional>

#include "server/device/emulator/async/operand_address.h"
#include "server/device/emulator/async/tensor_copy.h"
#include "server/device/emulator/async/tensor_map.h"
#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/program/form.h"

namespace trun::device {

// A copy resolves its places in this order: of a tensor copy the map; the source; then for each target CTA
// the target, of a tensor load the rows in global memory, and the mbarrier (8 bytes; a copy has at least 16).
struct BulkCopyForm {
  OperandAddress target, source, barrier, map;
  Space target_space = Space::kShared;
  Space source_space = Space::kGlobal;
  bool to_global = false;
  bool has_barrier = false;
  bool multicast = false;
  ReduceOp reduce = ReduceOp::kNone;
  numerics::Type type = numerics::Type::kU8;  // of a reduction that is not of a tensor
  // Tensors.
  uint32_t rank = 0;  // 0: a plain copy
  bool rows = false;  // gather4, scatter4
  bool im2col = false;
  uint32_t coordinates = 0;  // registers in the list, then the im2col offsets
  uint32_t offsets = 0;

  // Slots.
  static constexpr int kTarget = 0, kSource = 1, kBarrier = 2, kSize = 3, kMask = 4, kList = 7;
};

struct BulkWaitForm {
  bool reads_only = false;  // .read
  uint32_t groups = 0;      // that may stay under way
};

// Bytes of a copy's box. REQUIRES: the map has passed Check and is of the form's rank and mode.
inline uint64_t BoxBytesOf(const BulkCopyForm& form, const TensorMap& map) {
  const uint64_t row = uint64_t{map.BoxElements(0)} * BytesOf(map.element);
  return form.im2col ? row * map.box_dim[1] : map.BoxBytes() * (form.rows ? 4 : 1);
}
// What the box takes of shared memory: a swizzle moves bytes within its own span.
inline uint64_t BoxSpanOf(const BulkCopyForm& form, const TensorMap& map) {
  const uint64_t round = uint64_t{16} << static_cast<int>(map.swizzle);
  return (BoxBytesOf(form, map) + round - 1) / round * round;
}

// What a lane's registers say of its box.
struct TensorBox {
  std::array<int32_t, 5> coordinates = {};
  std::array<uint16_t, 3> offsets = {};  // im2col

  static TensorBox Of(const BulkCopyForm& form, Warp& warp, const Instruction& in, uint32_t lane) {
    TensorBox box;
    for (uint32_t i = 0; i < form.coordinates; ++i) {
      box.coordinates[i] = static_cast<int32_t>(warp.U32(in.list[i])[lane]);
    }
    for (uint32_t i = 0; i < form.offsets; ++i) {
      box.offsets[i] = static_cast<uint16_t>(warp.U32(in.list[form.coordinates + i])[lane]);
    }
    return box;
  }

  // As ForEachTensorRow. REQUIRES: the map has passed Check and is of the form's rank and mode.
  bool ForEachRow(const BulkCopyForm& form, const TensorMap& map,
                  const std::function<bool(const TensorRow&)>& visit) const {
    if (form.im2col) return ForEachIm2colRow(map, coordinates, offsets, visit);
    return ForEachTensorRow(map, coordinates, form.rows, visit);
  }
};

Step OpBulkCopy(Warp& warp, const Instruction& in, uint32_t mask);
Step OpTensorCopy(Warp& warp, const Instruction& in, uint32_t mask);
Step OpBulkCommitGroup(Warp& warp, const Instruction& in, uint32_t mask);
Step OpBulkWaitGroup(Warp& warp, const Instruction& in, uint32_t mask);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_BULK_COPY_FORM_H_
