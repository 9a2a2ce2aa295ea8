// The emulator's second launch of the kernels that its speed is judged by, timed inside the launch. Run it
// from server/device/emulator (it reads testdata/).
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

constexpr uint64_t kNull = 0;

void Run(benchmark::State& state, TestLauncher& launcher, const std::string& name,
         std::array<uint32_t, 3> grid, uint32_t shared, TestParameters parameters) {
  auto kernel = launcher.Load(ReadTestData("ptx/" + name + ".sm80.ptx"));
  if (!kernel.ok()) {
    state.SkipWithError(std::string(kernel.status().message()).c_str());
    return;
  }
  LaunchDimensions dimensions;
  dimensions.grid = grid;
  dimensions.block = {128, 1, 1};
  dimensions.dynamic_shared_bytes = shared;
  parameters.Add(kNull).Add(kNull);
  uint64_t instructions = 0;
  launcher.Launch(*kernel, dimensions, parameters);
  for (auto _ : state) {
    const LaunchOutcome outcome = launcher.Launch(*kernel, dimensions, parameters);
    if (!outcome.status.ok()) {
      state.SkipWithError(outcome.fault.message.c_str());
      return;
    }
    state.SetIterationTime(absl::ToDoubleSeconds(outcome.statistics.device_time));
    instructions += outcome.statistics.warp_instructions;
  }
  state.counters["warp_instructions"] =
      benchmark::Counter(static_cast<double>(instructions), benchmark::Counter::kAvgIterations);
  state.counters["ns_per_instruction"] = benchmark::Counter(
      static_cast<double>(instructions) * 1e-9, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void BM_VectorAdd1M(benchmark::State& state) {
  TestLauncher launcher(80, static_cast<int>(state.range(0)));
  const int n = 1 << 20;
  const TestTensor x = launcher.Upload(std::vector<float>(n, 1.0f)),
                   y = launcher.Upload(std::vector<float>(n, 2.0f));
  const TestTensor out = launcher.Allocate(n * 4);
  Run(state, launcher, "vector_add", {1024, 1, 1}, 0, TestParameters().Add(x).Add(y).Add(out).Add(n));
}

void BM_Softmax1024x1000(benchmark::State& state) {
  TestLauncher launcher(80, static_cast<int>(state.range(0)));
  const int rows = 1024, columns = 1000;
  const TestTensor x = launcher.Upload(std::vector<float>(rows * columns, 0.5f)),
                   out = launcher.Allocate(rows * columns * 4);
  Run(state, launcher, "row_softmax", {rows, 1, 1}, 16,
      TestParameters().Add(out).Add(x).Add(columns).Add(columns).Add(columns));
}

void BM_MatmulFp16Of512(benchmark::State& state) {
  TestLauncher launcher(80, static_cast<int>(state.range(0)));
  const int n = 512;
  const TestTensor a = launcher.Upload(std::vector<uint16_t>(n * n, 0x3c00)),
                   b = launcher.Upload(std::vector<uint16_t>(n * n, 0x3c00));
  const TestTensor c = launcher.Allocate(n * n * 4);
  Run(state, launcher, "matmul_fp16", {8, 8, 1}, 49152,
      TestParameters().Add(a).Add(b).Add(c).Add(n).Add(n).Add(n).Add(n).Add(n).Add(n));
}

void BM_MatmulFmaOf256(benchmark::State& state) {
  TestLauncher launcher(80, static_cast<int>(state.range(0)));
  const int n = 256;
  const TestTensor a = launcher.Upload(std::vector<float>(n * n, 1.0f)),
                   b = launcher.Upload(std::vector<float>(n * n, 1.0f));
  const TestTensor c = launcher.Allocate(n * n * 4);
  Run(state, launcher, "matmul_fma", {8, 8, 1}, 49152,
      TestParameters().Add(a).Add(b).Add(c).Add(n).Add(n).Add(n).Add(n).Add(n).Add(n));
}

// 1 × 4 × 512 × 64.
void BM_Attention(benchmark::State& state) {
  TestLauncher launcher(80, static_cast<int>(state.range(0)));
  const int n = 512, d = 64, heads = 4;
  const std::vector<uint16_t> ones(heads * n * d, 0x3400);
  const TestTensor q = launcher.Upload(ones), k = launcher.Upload(ones), v = launcher.Upload(ones);
  const TestTensor out = launcher.Allocate(ones.size() * 2);
  Run(state, launcher, "attention", {8, 4, 1}, 49152,
      TestParameters().Add(q).Add(k).Add(v).Add(out).Add(0.125f).Add(n));
}

BENCHMARK(BM_VectorAdd1M)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Softmax1024x1000)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_MatmulFp16Of512)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_MatmulFmaOf256)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Attention)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace trun::device
