// Time of one instruction of a warp: matrix products, float operations, conversions, wgmma.
#include <vector>

#include "benchmark/benchmark.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/float_ops.h"
#include "server/device/emulator/numerics/mma.h"
#include "server/device/emulator/numerics/wgmma.h"

namespace trun::device::numerics {
namespace {

void BM_Mma(benchmark::State& state, MmaShape shape) {
  alignas(64) static uint64_t lanes[24][kLanes];
  MmaRegisters r;
  for (int i = 0; i < 8; ++i) r.a[i] = lanes[i], r.c[i] = lanes[12 + i], r.d[i] = lanes[12 + i];
  for (int i = 0; i < 4; ++i) r.b[i] = lanes[8 + i];
  const MmaFunction run = SelectMma(shape);
  for (auto _ : state) run(shape, r);
}
BENCHMARK_CAPTURE(BM_Mma, m16n8k16_f32_f16, MmaShape{});
BENCHMARK_CAPTURE(BM_Mma, m16n8k16_f16_f16, MmaShape{.c = Type::kF16, .d = Type::kF16});
BENCHMARK_CAPTURE(BM_Mma, m16n8k16_f32_bf16, MmaShape{.a = Type::kBf16, .b = Type::kBf16});
BENCHMARK_CAPTURE(BM_Mma, m16n8k8_f32_tf32, MmaShape{.k = 8, .a = Type::kTf32, .b = Type::kTf32});
BENCHMARK_CAPTURE(BM_Mma, m16n8k32_f32_e4m3, MmaShape{.k = 32, .a = Type::kE4m3, .b = Type::kE4m3});
BENCHMARK_CAPTURE(BM_Mma, m16n8k32_s32_s8,
                  (MmaShape{16, 8, 32, Type::kS8, Type::kS8, Type::kS32, Type::kS32}));
BENCHMARK_CAPTURE(BM_Mma, m8n8k4_f64, (MmaShape{8, 8, 4, Type::kF64, Type::kF64, Type::kF64, Type::kF64}));

void BM_Float(benchmark::State& state, FloatOp op) {
  alignas(64) static uint64_t lanes[4][kLanes];
  const FloatLanes run = SelectFloatOp(op);
  for (auto _ : state) run(op, lanes[0], lanes[1], lanes[2], lanes[3]);
}
BENCHMARK_CAPTURE(BM_Float, fma_f32, FloatOp{.opcode = FloatOpcode::kFma});
BENCHMARK_CAPTURE(BM_Float, fma_f16, (FloatOp{.opcode = FloatOpcode::kFma, .type = Type::kF16}));
BENCHMARK_CAPTURE(BM_Float, fma_bf16x2,
                  (FloatOp{.opcode = FloatOpcode::kFma, .type = Type::kBf16, .packed = true}));
BENCHMARK_CAPTURE(BM_Float, max_f32, FloatOp{.opcode = FloatOpcode::kMax});
BENCHMARK_CAPTURE(BM_Float, ex2, FloatOp{.opcode = FloatOpcode::kEx2Approx});
BENCHMARK_CAPTURE(BM_Float, div_full, FloatOp{.opcode = FloatOpcode::kDivFull});

void BM_Convert(benchmark::State& state, Conversion c) {
  alignas(64) static uint64_t lanes[2][kLanes];
  const ConvertLanes run = SelectConvert(c);
  for (auto _ : state) run(c, lanes[0], lanes[1]);
}
BENCHMARK_CAPTURE(BM_Convert, f16_f32, Conversion{.to = Type::kF16});
BENCHMARK_CAPTURE(BM_Convert, bf16_f32, Conversion{.to = Type::kBf16});
BENCHMARK_CAPTURE(BM_Convert, e4m3_f32_generic, (Conversion{.to = Type::kE4m3, .satfinite = true}));

void BM_Wgmma(benchmark::State& state) {
  static std::vector<uint8_t> shared(100000);
  static std::vector<uint32_t> lanes(4 * 128 * kLanes);
  const WgmmaShape shape{.n = static_cast<int>(state.range(0))};
  WgmmaOperands operands;
  operands.a_descriptor = uint64_t{1} << 62 | uint64_t{64} << 32;
  operands.b_descriptor = uint64_t{1} << 62 | uint64_t{64} << 32 | 1024;
  for (int w = 0; w < 4; ++w) {
    for (int r = 0; r < 128; ++r) operands.d[w][r] = &lanes[static_cast<size_t>((w * 128 + r) * kLanes)];
  }
  for (auto _ : state) Wgmma(shape, operands, shared);
}
BENCHMARK(BM_Wgmma)->Arg(64)->Arg(128)->Arg(256);

}  // namespace
}  // namespace trun::device::numerics
