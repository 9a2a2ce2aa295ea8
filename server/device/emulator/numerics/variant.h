// The lane kernels compiled for one instruction set, and the choice between them. Internal to numerics.
//
// Each variant is the same source (lanes_*.inc) compiled with other flags, in a namespace of its own, so that
// no inline function of an AVX variant can be linked into a baseline one.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_VARIANT_H_
#define TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_VARIANT_H_

#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/float_ops.h"
#include "server/device/emulator/numerics/mma.h"

namespace trun::device::numerics {

// The product of a tile kept by row: c[i][j] += Σ a[i][k] · b[k][j] in the order and rounding of mma.h, for i
// < rows, j < columns; row strides in elements. REQUIRES: rows and columns divisible by 8.
using TileProduct = void (*)(int rows, int columns, int depth, const float* a, int a_stride, const float* b,
                             int b_stride, float* c, int c_stride);

// `count` packed elements (f16, bf16, tf32, fp8) at `source` to floats.
using WidenRow = void (*)(Type type, const void* source, int count, float* destination);
// `count` floats to f16 (nearest even, canonical NaN) or f32 (canonical NaN).
using NarrowRow = void (*)(Type type, const float* source, int count, void* destination);

// `in` has `rows` rows of `columns` floats; out[c][r] = in[r][c]. REQUIRES: both divisible by 8.
using TransposeTile = void (*)(const float* in, int rows, int columns, float* out);

struct Variant {
  const char* name;
  FloatLanes (*select_float)(const FloatOp& op);
  ConvertLanes (*select_convert)(const Conversion& conversion);  // null: no fast path
  MmaFunction (*select_mma)(const MmaShape& shape);              // REQUIRES: a shape with nonzero CountsOf
  TileProduct tile_product;
  WidenRow widen_row;
  NarrowRow narrow_row;
  TransposeTile transpose;
};

extern const Variant kBaselineVariant;
#if defined(__x86_64__)
extern const Variant kAvx2Variant;
extern const Variant kAvx512Variant;
#endif

const Variant& CurrentVariant();

// Values of the 256 codes of e4m3 and e5m2, and of the byte containers of e2m3, e3m2, e2m1 (upper bits
// ignored).
const float* ByteFloatTable(Type type);

}  // namespace trun::device::numerics

#endif  // TRUN_SERVER_DEVICE_EMULATOR_NUMERICS_VARIANT_H_
