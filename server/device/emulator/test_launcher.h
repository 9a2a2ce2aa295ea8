// What tests and benchmarks need to run a kernel: a device, an arena with tensors in it, a stream.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_TEST_LAUNCHER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_TEST_LAUNCHER_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/device/device.h"
#include "server/device/emulator/emulator_device.h"

namespace trun::device {

// A tensor in the launcher's arena.
struct TestTensor {
  uint64_t address = 0;
  uint64_t id = 0;
  uint8_t* host = nullptr;
  size_t bytes = 0;

  template <typename T>
  T* As() const {
    return reinterpret_cast<T*>(host);
  }
};

// Packs parameters one after another at their natural alignment.
class TestParameters {
 public:
  template <typename T>
  TestParameters& Add(T value) {
    while (bytes_.size() % sizeof(T) != 0) bytes_.push_back(std::byte{0});
    const auto* raw = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), raw, raw + sizeof value);
    return *this;
  }
  TestParameters& Add(const TestTensor& tensor) { return Add(tensor.address); }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

// Thread-compatible. Ends the process when the device cannot be made: there is nothing to test then.
class TestLauncher {
 public:
  static constexpr uint64_t kArena = 0x2000'0000'0000;

  explicit TestLauncher(int arch = 80, int threads = 0, size_t arena_bytes = size_t{64} << 20);
  ~TestLauncher();

  // Between tensors is a gap that belongs to none.
  TestTensor Allocate(size_t bytes);
  template <typename T>
  TestTensor Upload(const std::vector<T>& values) {
    TestTensor tensor = Allocate(values.size() * sizeof(T));
    memcpy(tensor.host, values.data(), values.size() * sizeof(T));
    return tensor;
  }
  template <typename T>
  std::vector<T> Download(const TestTensor& tensor) const {
    return std::vector<T>(tensor.As<T>(), tensor.As<T>() + tensor.bytes / sizeof(T));
  }

  absl::StatusOr<const Kernel*> Load(absl::string_view ptx);
  LaunchOutcome Launch(const Kernel* kernel, const LaunchDimensions& dimensions,
                       const TestParameters& parameters, absl::Duration deadline = absl::Seconds(30));

  // Of the next launches: allocations for which nobody but launches has written (LaunchRequest::unwritten).
  void SetUnwritten(std::vector<uint64_t> ids) { unwritten_ = std::move(ids); }

  Device& device() { return *device_; }
  Stream& stream() { return *stream_; }

 private:
  std::unique_ptr<Device> device_;
  std::unique_ptr<Arena> arena_;
  std::vector<std::unique_ptr<Module>> modules_;
  std::vector<uint64_t> unwritten_;
  std::unique_ptr<Stream> stream_;
  uint8_t* host_ = nullptr;
  size_t arena_bytes_ = 0;
  size_t used_ = 0;
  uint64_t next_id_ = 1;
};

// The checks that $TRUN_TEST_CHECKS names ("uninit,race,async"): so that kernels known to be right are run
// with them, too. None where it is not set.
CheckOptions ChecksOfEnvironment();

// The content of a file in testdata/; ends the process when it is not there.
std::string ReadTestData(const std::string& name);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_TEST_LAUNCHER_H_
