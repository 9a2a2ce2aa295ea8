// A device that says OK to everything and does nothing: the suite of Device must see it in every case.
#include <memory>

#include "common/base/mutant_conformance.h"
#include "server/device/device_conformance.h"

namespace trun::device {
namespace {

class AlwaysOkKernel final : public Kernel {
 public:
  const KernelAttributes& attributes() const override { return attributes_; }

 private:
  KernelAttributes attributes_;
};

class AlwaysOkModule final : public Module {
 public:
  absl::StatusOr<const Kernel*> GetKernel(absl::string_view) const override { return &kernel_; }

 private:
  AlwaysOkKernel kernel_;
};

class AlwaysOkArena final : public Arena {
 public:
  uint64_t address() const override { return 0; }
  uint64_t bytes() const override { return 0; }
};

class AlwaysOkStream final : public Stream {
 public:
  void Launch(const LaunchRequest&, Done done) override { done({}); }
  void Synchronize() override {}
  absl::Status Cancel() override { return absl::OkStatus(); }
};

class AlwaysOkDevice final : public Device {
 public:
  const DeviceInfo& info() const override { return info_; }
  absl::StatusOr<std::unique_ptr<Module>> LoadModule(absl::string_view) override {
    return std::make_unique<AlwaysOkModule>();
  }
  absl::StatusOr<UniqueFd> CreateMemory(uint64_t) override { return UniqueFd(); }
  absl::StatusOr<std::unique_ptr<Arena>> MapArena(const UniqueFd&, uint64_t, uint64_t) override {
    return std::make_unique<AlwaysOkArena>();
  }
  absl::Status AddAllocation(uint64_t, uint64_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status RemoveAllocation(uint64_t) override { return absl::OkStatus(); }
  absl::Status WriteMemory(uint64_t, absl::Span<const char>) override { return absl::OkStatus(); }
  absl::Status ReadMemory(uint64_t, absl::Span<char>) override { return absl::OkStatus(); }
  absl::Status FillMemory(uint64_t, uint64_t, absl::string_view) override { return absl::OkStatus(); }
  absl::Status CopyMemory(uint64_t, uint64_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status PinMemory(absl::Span<char>) override { return absl::OkStatus(); }
  void UnpinMemory(absl::Span<char>) override {}
  absl::StatusOr<TensorMapBytes> EncodeTensorMap(const TensorMapFields&) const override {
    return TensorMapBytes();
  }
  absl::StatusOr<std::unique_ptr<Stream>> CreateStream() override {
    return std::make_unique<AlwaysOkStream>();
  }
  absl::Status SetChecks(const CheckOptions&) override { return absl::OkStatus(); }

 private:
  DeviceInfo info_;
};

DeviceUnderTest Mutant() {
  DeviceUnderTest device;
  device.name = "Mutant";
  device.create = []() -> absl::StatusOr<std::unique_ptr<Device>> {
    return std::make_unique<AlwaysOkDevice>();
  };
  device.assemble = [](const std::string& ptx) { return absl::StatusOr<std::string>(ptx); };
  return device;
}

INSTANTIATE_TEST_SUITE_P(AlwaysOkDevice, DeviceConformanceTest, ::testing::Values(Mutant()));

}  // namespace
}  // namespace trun::device

int main(int argc, char** argv) { return trun::RunMutants(&argc, argv); }
