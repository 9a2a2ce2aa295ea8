#include "server/device/emulator/async/tensor_copy.h"

#include <algorithm>
#include <cstring>

#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/float_ops.h"

namespace trun::device {
namespace {

// The part of a row that lies within dimension 0, with its address; `base` is the address of coordinate 0.
void ClipRow(const TensorMap& map, int64_t x, uint32_t count, uint64_t base, bool inside, TensorRow* row) {
  const int64_t step = map.element_stride[0], size = map.global_dim[0];
  int64_t first = x >= 0 ? 0 : (-x + step - 1) / step;
  int64_t last = x >= size ? 0 : (size - x + step - 1) / step;
  first = std::min<int64_t>(first, count);
  last = std::min<int64_t>(last, count);
  if (!inside || first >= last) first = last = 0;
  row->first = static_cast<uint32_t>(first);
  row->last = static_cast<uint32_t>(last);
  row->address = base + static_cast<uint64_t>((x + first * step) * BytesOf(map.element));
}

// One 16-byte unit at a time: where the swizzle puts byte `offset` of the box.
uint32_t UnitAt(const TensorMap& map, uint64_t box, uint32_t offset) {
  return numerics::SwizzleAddress(map.swizzle, static_cast<uint32_t>(box) + offset);
}

// Element types that a load changes: rounded to tf32, every NaN one. An H100 flushes no subnormals for the
// .ftz types.
void AdjustLoaded(TensorElement element, uint8_t* bytes, size_t count) {
  if (element != TensorElement::kTf32 && element != TensorElement::kTf32Ftz) return;
  for (size_t i = 0; i < count; i += 4) {
    uint32_t v;
    std::memcpy(&v, bytes + i, sizeof v);
    const bool is_nan = (v & 0x7fffffff) > 0x7f800000;
    v = is_nan ? 0x7fffe000
               : static_cast<uint32_t>(numerics::Convert({.to = numerics::Type::kTf32,
                                                          .from = numerics::Type::kF32,
                                                          .rounding = numerics::Rounding::kNearestAway},
                                                         v));
    std::memcpy(bytes + i, &v, sizeof v);
  }
}

void FillRow(const TensorMap& map, uint8_t* row, size_t bytes) {
  std::memset(row, 0, bytes);
  if (!map.nan_fill) return;
  const numerics::Type type = ElementTypeOf(map.element);
  if (type != numerics::Type::kF16 && type != numerics::Type::kBf16 && type != numerics::Type::kF32 &&
      type != numerics::Type::kF64) {
    return;
  }
  // What an H100 writes, whatever the type; it is a NaN in all of them.
  constexpr uint16_t kPattern = 0x7ff7;
  for (size_t i = 0; i < bytes; i += sizeof kPattern) std::memcpy(row + i, &kPattern, sizeof kPattern);
}

template <typename T>
bool ReduceIntegers(ReduceOp op, const uint8_t* source, uint8_t* target, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    T x, y;
    std::memcpy(&x, target + i * sizeof x, sizeof x);
    std::memcpy(&y, source + i * sizeof y, sizeof y);
    switch (op) {
      case ReduceOp::kAdd:
        x = static_cast<T>(static_cast<uint64_t>(x) + static_cast<uint64_t>(y));
        break;
      case ReduceOp::kMin:
        x = std::min(x, y);
        break;
      case ReduceOp::kMax:
        x = std::max(x, y);
        break;
      case ReduceOp::kInc:
        x = x >= y ? T{0} : static_cast<T>(static_cast<uint64_t>(x) + 1);
        break;
      case ReduceOp::kDec:
        x = x == 0 || x > y ? y : static_cast<T>(static_cast<uint64_t>(x) - 1);
        break;
      case ReduceOp::kAnd:
        x &= y;
        break;
      case ReduceOp::kOr:
        x |= y;
        break;
      case ReduceOp::kXor:
        x ^= y;
        break;
      case ReduceOp::kNone:
        return false;
    }
    std::memcpy(target + i * sizeof x, &x, sizeof x);
  }
  return true;
}

bool ReduceFloats(ReduceOp op, numerics::Type type, const uint8_t* source, uint8_t* target, uint32_t count) {
  numerics::FloatOp operation{.type = type};
  switch (op) {
    case ReduceOp::kAdd:
      operation.opcode = numerics::FloatOpcode::kAdd;
      break;
    case ReduceOp::kMin:
      operation.opcode = numerics::FloatOpcode::kMin;
      break;
    case ReduceOp::kMax:
      operation.opcode = numerics::FloatOpcode::kMax;
      break;
    default:
      return false;
  }
  const uint32_t bytes = static_cast<uint32_t>(numerics::BitsOf(type)) / 8;
  const numerics::FloatLanes run = numerics::SelectFloatOp(operation);
  for (uint32_t begin = 0; begin < count; begin += numerics::kLanes) {
    const uint32_t n = std::min<uint32_t>(numerics::kLanes, count - begin);
    alignas(64) uint64_t a[numerics::kLanes] = {}, b[numerics::kLanes] = {};
    const uint32_t lane_bytes = bytes == 8 ? 8 : 4;
    uint8_t *x = reinterpret_cast<uint8_t*>(a), *y = reinterpret_cast<uint8_t*>(b);
    for (uint32_t i = 0; i < n; ++i) {
      std::memcpy(x + i * lane_bytes, target + (begin + i) * bytes, bytes);
      std::memcpy(y + i * lane_bytes, source + (begin + i) * bytes, bytes);
    }
    uint64_t old[numerics::kLanes];
    std::memcpy(old, a, sizeof old);
    run(operation, a, b, nullptr, a);
    for (uint32_t i = 0; i < n; ++i) {
      // NaNs of f64 come back as they are, signalling ones too, as with atom.global.
      for (const uint64_t* operand : {&b[i], &old[i]}) {
        if (bytes == 8 && (*operand & 0x7fffffffffffffff) > 0x7ff0000000000000) a[i] = *operand;
      }
      std::memcpy(target + (begin + i) * bytes, x + i * lane_bytes, bytes);
    }
  }
  return true;
}

}  // namespace

bool ForEachTensorRow(const TensorMap& map, const std::array<int32_t, 5>& coordinates, bool gather,
                      const std::function<bool(const TensorRow& row)>& visit) {
  const uint32_t row_elements = map.BoxElements(0), row_bytes = row_elements * BytesOf(map.element);
  TensorRow row;
  if (gather) {
    for (uint32_t i = 0; i < 4; ++i) {
      const int64_t y = coordinates[i + 1];
      const bool inside = y >= 0 && y < static_cast<int64_t>(map.global_dim[1]);
      ClipRow(map, coordinates[0], row_elements,
              map.global_address + static_cast<uint64_t>(y) * map.global_stride[0], inside, &row);
      row.shared_offset = i * row_bytes;
      if (!visit(row)) return false;
    }
    return true;
  }
  std::array<uint32_t, 5> at = {};
  for (uint32_t offset = 0;; offset += row_bytes) {
    bool inside = true;
    uint64_t base = map.global_address;
    for (uint32_t i = 1; i < map.rank; ++i) {
      const int64_t position = int64_t{coordinates[i]} + int64_t{at[i]} * map.element_stride[i];
      inside &= position >= 0 && position < static_cast<int64_t>(map.global_dim[i]);
      base += static_cast<uint64_t>(position) * map.global_stride[i - 1];
    }
    ClipRow(map, coordinates[0], row_elements, base, inside, &row);
    row.shared_offset = offset;
    if (!visit(row)) return false;
    uint32_t i = 1;
    for (; i < map.rank && ++at[i] == map.BoxElements(i); ++i) at[i] = 0;
    if (i >= map.rank) return true;
  }
}

// Dimension 0 is channels, the last one images; those between are spatial. Pixels are taken in order within
// the bounding box [lower corner, size + upper corner) of the spatial dimensions, then in the next image (PTX
// ISA, "Tensors: im2col mode").
bool ForEachIm2colRow(const TensorMap& map, const std::array<int32_t, 5>& coordinates,
                      const std::array<uint16_t, 3>& offsets,
                      const std::function<bool(const TensorRow& row)>& visit) {
  const uint32_t spatial = map.rank - 2, channels = map.BoxElements(0);
  const uint32_t row_bytes = channels * BytesOf(map.element);
  std::array<int64_t, 5> at = {};
  for (uint32_t i = 0; i < map.rank; ++i) at[i] = coordinates[i];
  TensorRow row;
  for (uint32_t pixel = 0; pixel < map.box_dim[1]; ++pixel) {
    bool inside = true;
    uint64_t base = map.global_address;
    for (uint32_t i = 1; i < map.rank; ++i) {
      const int64_t position = at[i] + (i <= spatial ? offsets[i - 1] : 0);
      inside &= position >= 0 && position < static_cast<int64_t>(map.global_dim[i]);
      base += static_cast<uint64_t>(position) * map.global_stride[i - 1];
    }
    ClipRow(map, coordinates[0], channels, base, inside, &row);
    row.shared_offset = pixel * row_bytes;
    if (!visit(row)) return false;
    uint32_t i = 1;
    for (; i <= spatial; ++i) {
      at[i] += map.element_stride[i];
      if (at[i] < static_cast<int64_t>(map.global_dim[i]) + map.upper_corner[i - 1]) break;
      at[i] = map.lower_corner[i - 1];
    }
    if (i > spatial) ++at[map.rank - 1];
  }
  return true;
}

bool ReduceElements(ReduceOp op, numerics::Type type, const uint8_t* source, uint8_t* target,
                    uint32_t count) {
  switch (type) {
    case numerics::Type::kU32:
      return ReduceIntegers<uint32_t>(op, source, target, count);
    case numerics::Type::kS32:
      return ReduceIntegers<int32_t>(op, source, target, count);
    case numerics::Type::kU64:
      return ReduceIntegers<uint64_t>(op, source, target, count);
    case numerics::Type::kS64:
      return ReduceIntegers<int64_t>(op, source, target, count);
    case numerics::Type::kF16:
    case numerics::Type::kBf16:
    case numerics::Type::kF32:
    case numerics::Type::kF64:
      return ReduceFloats(op, type, source, target, count);
    default:
      return false;
  }
}

void ReadGlobalRow(const TensorMap& map, const RowPlace& row, uint8_t* to, uint32_t bytes) {
  const uint32_t element = BytesOf(map.element), step = map.element_stride[0], count = row.last - row.first;
  if (count != bytes / element) FillRow(map, to, bytes);
  if (count == 0) return;
  uint8_t* const inside = to + row.first * element;
  if (step == 1) {
    std::memcpy(inside, row.global, count * element);
  } else {
    for (uint32_t i = 0; i < count; ++i) {
      std::memcpy(inside + i * element, row.global + uint64_t{i} * step * element, element);
    }
  }
  AdjustLoaded(map.element, inside, count * element);
}

void WriteSharedRow(const TensorMap& map, const RowPlace& row, uint8_t* window, uint64_t box,
                    const uint8_t* from, uint32_t bytes) {
  for (uint32_t at = 0; at < bytes; at += 16) {
    std::memcpy(window + UnitAt(map, box, row.shared_offset + at), from + at, 16);
  }
}

void ReadSharedRow(const TensorMap& map, const RowPlace& row, const uint8_t* window, uint64_t box,
                   uint8_t* to, uint32_t bytes) {
  for (uint32_t at = 0; at < bytes; at += 16) {
    std::memcpy(to + at, window + UnitAt(map, box, row.shared_offset + at), 16);
  }
}

bool WriteGlobalRow(const TensorMap& map, const RowPlace& row, ReduceOp reduce, const uint8_t* from) {
  const uint32_t element = BytesOf(map.element), step = map.element_stride[0], count = row.last - row.first;
  const uint32_t run = step == 1 ? count : 1;
  for (uint32_t i = 0; i < count; i += run) {
    const uint8_t* source = from + (row.first + i) * element;
    uint8_t* target = row.global + uint64_t{i} * step * element;
    if (reduce == ReduceOp::kNone) {
      std::memcpy(target, source, run * element);
    } else if (!ReduceElements(reduce, ElementTypeOf(map.element), source, target, run)) {
      return false;
    }
  }
  return true;
}

}  // namespace trun::device
