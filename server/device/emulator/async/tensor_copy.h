// Boxes of tensors between global and shared memory: what cp.async.bulk.tensor and
// cp.reduce.async.bulk.tensor move.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_ASYNC_TENSOR_COPY_H_
#define TRUN_SERVER_DEVICE_EMULATOR_ASYNC_TENSOR_COPY_H_

#include <array>
#include <cstdint>
#include <functional>

#include "server/device/emulator/async/tensor_map.h"

namespace trun::device {

// One row of a box: elements next to each other along dimension 0.
struct TensorRow {
  uint64_t address = 0;  // in global memory, of element `first`
  uint32_t first = 0;    // the elements of the row that lie within the tensor: [first, last)
  uint32_t last = 0;
  uint32_t shared_offset = 0;  // of element 0, from the start of the box, before the swizzle
};

// Calls visit(row) for each row of the box whose first element is at `coordinates`; rows out of bounds have
// first == last. Stops and returns false when visit does. The map has passed Check. With `gather`, the box
// has one row for each of four indices of dimension 1: coordinates are (x, row 0 … row 3).
bool ForEachTensorRow(const TensorMap& map, const std::array<int32_t, 5>& coordinates, bool gather,
                      const std::function<bool(const TensorRow& row)>& visit);

// The same for a map in im2col mode: pixels from `coordinates` on, moved by the filter offsets.
bool ForEachIm2colRow(const TensorMap& map, const std::array<int32_t, 5>& coordinates,
                      const std::array<uint16_t, 3>& offsets,
                      const std::function<bool(const TensorRow& row)>& visit);

// A row of a box between host memories. `bytes` is the row's length in the box, all of it.
struct RowPlace {
  uint8_t* global = nullptr;  // of element `first`; null where the row has none within the tensor
  uint32_t first = 0;
  uint32_t last = 0;
  uint32_t shared_offset = 0;
};
// The row as a load brings it: filled out of bounds, elements rounded where their type says so.
void ReadGlobalRow(const TensorMap& map, const RowPlace& row, uint8_t* to, uint32_t bytes);
// The row at its swizzled place; `window` is the CTA's shared memory, `box` the box's offset in it.
void WriteSharedRow(const TensorMap& map, const RowPlace& row, uint8_t* window, uint64_t box,
                    const uint8_t* from, uint32_t bytes);
void ReadSharedRow(const TensorMap& map, const RowPlace& row, const uint8_t* window, uint64_t box,
                   uint8_t* to, uint32_t bytes);

enum class ReduceOp : uint8_t { kNone, kAdd, kMin, kMax, kInc, kDec, kAnd, kOr, kXor };

// target[i] = op(target[i], source[i]) for `count` elements of the type; floats round to nearest even once.
// False when the type does not have the operation. Type in the words of numerics.
bool ReduceElements(ReduceOp op, numerics::Type type, const uint8_t* source, uint8_t* target, uint32_t count);

// Stores or reduces the row's elements within the tensor. False: the element type does not have the
// reduction.
bool WriteGlobalRow(const TensorMap& map, const RowPlace& row, ReduceOp reduce, const uint8_t* from);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_ASYNC_TENSOR_COPY_H_
