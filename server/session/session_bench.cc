// What a session costs: opening one with a warm executor, a launch to its result, bytes into a tensor.
#include <benchmark/benchmark.h>

#include <cstring>
#include <filesystem>
#include <thread>

#include "server/device/shared_memory.h"
#include "server/executor/control/awaited.h"
#include "server/executor/control/subprocess_executor_factory.h"
#include "server/session/session_registry.h"

namespace trun {
namespace {

constexpr char kNothing[] =
    ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry nothing()\n.reqntid 32, 1, 1\n{\n  "
    "ret;\n}\n";

class Daemon {
 public:
  Daemon() {
    const auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin";
    SubprocessExecutorFactoryOptions options;
    options.devices = {EmulatorExecutorCommand((folder / "trun-executor").string(), 0, 80, 1, 0)};
    factory_ = *SubprocessExecutorFactory::Create(options);
    factory_->Devices();
    registry_ = SessionRegistry::Create({}, factory_.get(), Clock::Real());
  }
  std::shared_ptr<Session> Open() { return *registry_->Open({"bench", "", "", absl::ZeroDuration(), 0}); }
  void Close(const Session& session) { registry_->Close(session.id(), "bench").IgnoreError(); }

 private:
  std::unique_ptr<SubprocessExecutorFactory> factory_;
  std::unique_ptr<SessionRegistry> registry_;
};

void BM_OpenWithAWarmExecutor(benchmark::State& state) {
  Daemon daemon;
  for (auto _ : state) {
    state.PauseTiming();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the next spare starts
    state.ResumeTiming();
    const auto session = daemon.Open();
    state.PauseTiming();
    daemon.Close(*session);
    state.ResumeTiming();
  }
}
BENCHMARK(BM_OpenWithAWarmExecutor)->Iterations(20)->Unit(benchmark::kMillisecond);

void BM_LaunchToResult(benchmark::State& state) {
  Daemon daemon;
  const auto session = daemon.Open();
  auto kernel = std::make_shared<CompiledKernel>();
  kernel->signature.name = "nothing";
  kernel->metadata.num_warps = 1;
  kernel->artifacts[Level::kPtx] = {Level::kPtx, kNothing};
  SessionLaunch launch;
  launch.kernel = *session->AddKernel(kernel);
  launch.grid = {1};
  for (auto _ : state) {
    Awaited<LaunchResult> result;
    if (!session->Launch(launch, result.callback()).ok() || !result.Wait().status.ok())
      state.SkipWithError("failed");
  }
  daemon.Close(*session);
}
BENCHMARK(BM_LaunchToResult)->Unit(benchmark::kMicrosecond);

void BM_WriteIntoAFreshTensor(benchmark::State& state) {
  constexpr uint64_t kBytes = uint64_t{256} << 20;
  Daemon daemon;
  const std::vector<char> data(kBytes, 'x');
  for (auto _ : state) {
    state.PauseTiming();
    const auto session = daemon.Open();
    const TensorInfo tensor = session->Allocate({TensorSpec{ScalarType::kU8, {kBytes}}})->at(0);
    state.ResumeTiming();
    if (!session->Write(tensor.handle, 0, data).ok()) state.SkipWithError("failed");
    state.PauseTiming();
    daemon.Close(*session);
    state.ResumeTiming();
  }
}
BENCHMARK(BM_WriteIntoAFreshTensor)->Iterations(3)->Unit(benchmark::kMillisecond);

void BM_MemcpyIntoFreshSharedMemory(benchmark::State& state) {
  constexpr uint64_t kBytes = uint64_t{256} << 20;
  const std::vector<char> data(kBytes, 'x');
  for (auto _ : state) {
    state.PauseTiming();
    {
      const UniqueFd fd = *device::CreateSealedMemory(kBytes);
      const device::MappedMemory memory = *device::MappedMemory::Map(fd, kBytes);
      state.ResumeTiming();
      std::memcpy(memory.data(), data.data(), kBytes);
      state.PauseTiming();
    }
    state.ResumeTiming();
  }
}
BENCHMARK(BM_MemcpyIntoFreshSharedMemory)->Iterations(3)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace trun
