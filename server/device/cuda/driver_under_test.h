// Which driver the tests of this room run on: the fake one, or with TRUN_TEST_LIBCUDA a real one.
//
// On a real GPU a test that loses its context takes the process with it, so each test runs in a process of
// its own there (tests/gpu/run.sh does that).
#ifndef TRUN_SERVER_DEVICE_CUDA_DRIVER_UNDER_TEST_H_
#define TRUN_SERVER_DEVICE_CUDA_DRIVER_UNDER_TEST_H_

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/device/cuda/cuda_device.h"

namespace trun::device {

inline bool OnARealGpu() { return std::getenv("TRUN_TEST_LIBCUDA") != nullptr; }

inline std::string DriverLibrary() {
  if (const char* const real = std::getenv("TRUN_TEST_LIBCUDA")) return real;
  const auto tests = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  return (tests / "libtrun_fake_cuda.so").string();
}

// The fake begins anew, as a new process would.
inline void ResetDriver() {
  if (OnARealGpu()) return;
  void* const library = dlopen(DriverLibrary().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  reinterpret_cast<void (*)()>(dlsym(library, "trunFakeCudaReset"))();
}

// While the fake is held, none of its kernels begins. A GPU cannot be held.
inline void HoldDriver(bool held) {
  if (OnARealGpu()) return;
  void* const library = dlopen(DriverLibrary().c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  reinterpret_cast<void (*)(int)>(dlsym(library, "trunFakeCudaHold"))(held ? 1 : 0);
}

inline absl::StatusOr<std::unique_ptr<Device>> CreateDeviceUnderTest(bool capture_output = false) {
  ResetDriver();
  CudaOptions options;
  options.library = DriverLibrary();
  options.capture_output = capture_output;
  return CreateCudaDevice(options);
}

// A file of testdata/.
inline std::string TestData(const std::string& name) {
  const char* const folder = std::getenv("TRUN_TESTDATA");
  std::ifstream file((folder != nullptr ? std::string(folder) : std::string("testdata")) + "/" + name,
                     std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_DRIVER_UNDER_TEST_H_
