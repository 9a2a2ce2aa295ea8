// Cubins on a CUDA device. Private to this room.
#ifndef TRUN_SERVER_DEVICE_CUDA_CUDA_MODULE_H_
#define TRUN_SERVER_DEVICE_CUDA_CUDA_MODULE_H_

#include <array>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/device/cuda/context.h"
#include "server/device/device.h"

namespace trun::device {

class CudaKernel final : public Kernel {
 public:
  const KernelAttributes& attributes() const override { return attributes_; }
  CUfunction function() const { return function_; }
  const std::array<uint32_t, 3>& required_cluster() const { return required_cluster_; }
  // It prints: its launches run alone, so that the text is theirs.
  bool prints() const { return prints_; }

 private:
  friend class CudaModuleLoader;
  CUfunction function_ = nullptr;
  KernelAttributes attributes_;
  std::array<uint32_t, 3> required_cluster_ = {0, 0, 0};
  bool prints_ = false;
};

// As Device::LoadModule. Everything of the module is on the device when this returns: no launch loads code.
absl::StatusOr<std::unique_ptr<Module>> LoadCudaModule(const std::shared_ptr<CudaContext>& context,
                                                       absl::string_view image);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_CUDA_MODULE_H_
