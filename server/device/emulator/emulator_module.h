// A PTX module that has been loaded: its kernels, and its variables in memory.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EMULATOR_MODULE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EMULATOR_MODULE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/mutex.h"
#include "server/device/device.h"
#include "server/device/emulator/exec/instrument.h"
#include "server/device/emulator/memory/allocation_table.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {

class EmulatorKernel final : public Kernel {
 public:
  EmulatorKernel(std::shared_ptr<const Program> program, std::shared_ptr<const std::string> text)
      : program_(std::move(program)), text_(std::move(text)) {}
  const KernelAttributes& attributes() const override { return program_->attributes; }
  const std::shared_ptr<const Program>& program() const { return program_; }
  const std::shared_ptr<const std::string>& text() const { return text_; }
  // The program for launches that something looks on at (exec/instrument.h); made on the first call.
  std::shared_ptr<const Program> instrumented() const {
    MutexLock lock(&mu_);
    if (instrumented_ == nullptr) instrumented_ = InstrumentProgram(program_);
    return instrumented_;
  }

 private:
  const std::shared_ptr<const Program> program_;
  mutable Mutex mu_;
  mutable std::shared_ptr<const Program> instrumented_ ABSL_GUARDED_BY(mu_);
  const std::shared_ptr<const std::string> text_;  // what the program's string_views point into
};

// Parses, checks and decodes all of `image`; the statuses are those of Device::LoadModule. The module's
// variables are added to `memory` until it is destroyed. Thread-safe.
absl::StatusOr<std::unique_ptr<Module>> LoadEmulatorModule(absl::string_view image, int arch,
                                                           std::shared_ptr<AllocationTable> memory);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EMULATOR_MODULE_H_
