// Sessions on a CUDA device with real executor processes: on the fake driver, or with TRUN_TEST_LIBCUDA on a
// GPU.
#ifndef TRUN_TESTS_GPU_GPU_SESSION_FIXTURE_H_
#define TRUN_TESTS_GPU_GPU_SESSION_FIXTURE_H_

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "server/executor/control/awaited.h"
#include "server/executor/control/canary/canary.h"
#include "server/executor/control/subprocess_executor_factory.h"
#include "server/session/session_registry.h"

namespace trun {

using SteadyClock = std::chrono::steady_clock;

inline bool OnARealGpu() { return std::getenv("TRUN_TEST_LIBCUDA") != nullptr; }

inline std::string TestData(const std::string& name) {
  const char* const folder = std::getenv("TRUN_TESTDATA");
  std::ifstream file((folder != nullptr ? std::string(folder) : std::string("testdata")) + "/" + name,
                     std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// A figure for bench/baselines, where it is measured on a GPU.
inline void Figure(const char* name, double value, const char* unit) {
  if (OnARealGpu()) std::printf("FIGURE %s %.4g %s\n", name, value, unit);
}

inline double MillisecondsSince(SteadyClock::time_point begin) {
  return std::chrono::duration<double, std::milli>(SteadyClock::now() - begin).count();
}

inline std::shared_ptr<const CompiledKernel> Kernel(const std::string& file, const std::string& name,
                                                    std::vector<KernelArgument> arguments) {
  auto kernel = std::make_shared<CompiledKernel>();
  kernel->signature = {name, std::move(arguments)};
  kernel->metadata.name = name;
  kernel->metadata.num_warps = 1;
  kernel->metadata.triton_version = "3.2.0";
  kernel->artifacts[Level::kCubin] = {Level::kCubin, TestData(file)};
  return kernel;
}

inline KernelArgument Pointer() {
  return {"", KernelArgument::Kind::kPointer, ScalarType::kUnspecified, 8, 1, ""};
}
inline KernelArgument Word() { return {"", KernelArgument::Kind::kScalar, ScalarType::kI32, 4, 1, ""}; }

class GpuSessionTest : public ::testing::Test {
 protected:
  void SetUp() override { Start(/*warm_spares=*/true); }

  // With an emulator of sm_90 beside the GPU, where it is asked for: "emulator:0".
  void Start(bool warm_spares, bool with_emulator = false) {
    const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    std::string executor = (here.parent_path() / "bin" / "trun-executor").string();
    std::string library = (here / "libtrun_fake_cuda.so").string();
    if (const char* const real = std::getenv("TRUN_TEST_LIBCUDA")) library = real;
    SubprocessExecutorFactoryOptions options;
    options.devices = {CudaExecutorCommand(executor, 0, library)};
    if (with_emulator) {
      options.devices.push_back(EmulatorExecutorCommand(executor, 0, 90, 1, uint64_t{256} << 20));
    }
    options.canary = [](ExecutorControl* spare) { return RunCanary(spare, absl::Seconds(10)); };
    options.stderr_fd = 2;
    options.warm_spares = warm_spares;
    auto factory = SubprocessExecutorFactory::Create(options);
    ASSERT_TRUE(factory.ok()) << factory.status();
    factory_ = *std::move(factory);
    const auto devices = factory_->Devices();
    ASSERT_TRUE(devices[0].usable.ok()) << devices[0].usable;
    SessionRegistryOptions registry;
    registry.default_device = "cuda:0";
    registry_ = SessionRegistry::Create(registry, factory_.get(), Clock::Real());
  }

  void WaitForSpare() {
    // The canary needs a spare: one that is not there yet is started and waited for.
    for (int i = 0; i < 200; ++i) {
      if (factory_->HasSpare("cuda:0")) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    FAIL() << "no spare executor within 4 s";
  }

  std::shared_ptr<Session> Open(const std::string& device = "") {
    auto session = registry_->Open({"uid:1", "test", device, absl::Seconds(300), 0});
    EXPECT_TRUE(session.ok()) << session.status();
    return session.ok() ? *session : nullptr;
  }
  static std::shared_ptr<char> MapWhole(const StagingInfo& staging) {
    void* const mapped =
        mmap(nullptr, staging.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, staging.descriptor.get(), 0);
    EXPECT_NE(mapped, MAP_FAILED);
    return std::shared_ptr<char>(static_cast<char*>(mapped),
                                 [bytes = staging.bytes](char* p) { munmap(p, bytes); });
  }
  static TensorInfo New(Session& session, uint64_t words) {
    auto infos = session.Allocate({TensorSpec{ScalarType::kI32, {words}}});
    EXPECT_TRUE(infos.ok()) << infos.status();
    return infos.ok() ? infos->at(0) : TensorInfo();
  }
  static std::string Add(Session& session, const std::string& file, const std::string& name,
                         std::vector<KernelArgument> arguments) {
    auto handle = session.AddKernel(Kernel(file, name, std::move(arguments)));
    EXPECT_TRUE(handle.ok()) << handle.status();
    return handle.ok() ? *handle : "";
  }
  static std::string AddFill(Session& session) {
    return Add(session, "conformance.sm_90.cubin", "fill", {Pointer(), Word()});
  }
  static SessionLaunch Fill(const std::string& kernel, const TensorInfo& tensor, int64_t addend) {
    SessionLaunch launch;
    launch.kernel = kernel;
    launch.grid = {2};
    launch.arguments = {TensorReference{tensor.handle, 0}, addend};
    return launch;
  }
  static SessionLaunch On(const std::string& kernel, const TensorInfo& tensor) {
    SessionLaunch launch;
    launch.kernel = kernel;
    launch.grid = {1};
    launch.arguments = {TensorReference{tensor.handle, 0}};
    return launch;
  }
  static LaunchResult Run(Session& session, const SessionLaunch& launch) {
    Awaited<LaunchResult> result;
    const auto sequence = session.Launch(launch, result.callback());
    if (sequence.ok()) return result.Wait();
    LaunchResult refused;
    refused.status = sequence.status();
    return refused;
  }
  static std::vector<int32_t> Words(Session& session, const TensorInfo& tensor, size_t count) {
    std::vector<int32_t> words(count, -1);
    const absl::Status read =
        session.Read(tensor.handle, 0, absl::MakeSpan(reinterpret_cast<char*>(words.data()), 4 * count));
    EXPECT_TRUE(read.ok()) << read;
    return words;
  }

  std::unique_ptr<SubprocessExecutorFactory> factory_;
  std::unique_ptr<SessionRegistry> registry_;
};

}  // namespace trun

#endif  // TRUN_TESTS_GPU_GPU_SESSION_FIXTURE_H_
