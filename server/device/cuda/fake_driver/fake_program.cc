#include "server/device/cuda/fake_driver/fake_program.h"

#include <cstdlib>
#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "server/device/cuda/fake_driver/fake_streams.h"

namespace trun::fake_cuda {
namespace {

thread_local CUcontext t_current = nullptr;

struct LastLaunch {
  Mutex mu;
  std::string text ABSL_GUARDED_BY(mu);
};

LastLaunch& Last() {
  static auto* const last = new LastLaunch;
  return *last;
}

std::string AttributeText(const CUlaunchAttribute& attribute) {
  if (attribute.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
    const auto& cluster = attribute.value.clusterDim;
    return absl::StrCat("\"", static_cast<int>(attribute.id), "\": [", cluster.x, ", ", cluster.y, ", ",
                        cluster.z, "]");
  }
  const int value = attribute.id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE ? attribute.value.cooperative
                    : attribute.id == CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE
                        ? static_cast<int>(attribute.value.clusterSchedulingPolicyPreference)
                        : attribute.value.programmaticStreamSerializationAllowed;
  return absl::StrCat("\"", static_cast<int>(attribute.id), "\": ", value);
}

}  // namespace

void NoteLaunch(const std::string& kernel, const CUlaunchConfig& config, const KernelLaunch& launch) {
  std::string attributes;
  for (unsigned i = 0; i < config.numAttrs; ++i) {
    absl::StrAppend(&attributes, i == 0 ? "" : ", ", AttributeText(config.attrs[i]));
  }
  std::string text =
      absl::StrCat("{\"kernel\": \"", kernel, "\", \"grid\": [", config.gridDimX, ", ", config.gridDimY, ", ",
                   config.gridDimZ, "], \"block\": [", config.blockDimX, ", ", config.blockDimY, ", ",
                   config.blockDimZ, "], \"shared\": ", config.sharedMemBytes);
  absl::StrAppend(
      &text, ", \"stream\": ", reinterpret_cast<uintptr_t>(config.hStream), ", \"attributes\": {", attributes,
      "}, \"parameters\": \"",
      absl::BytesToHexString(absl::string_view(launch.parameters.data(), launch.parameters.size())), "\"}");
  MutexLock lock(&Last().mu);
  Last().text = std::move(text);
}

}  // namespace trun::fake_cuda

extern "C" {

const char* trunFakeCudaLastLaunch() {
  trun::MutexLock lock(&trun::fake_cuda::Last().mu);
  return trun::fake_cuda::Last().text.c_str();
}

CUresult cuCtxSetCurrent(CUcontext context) {
  trun::fake_cuda::t_current = context;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = trun::fake_cuda::t_current;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetDevice(CUdevice* device) {
  *device = 0;
  return trun::fake_cuda::t_current == nullptr ? CUDA_ERROR_INVALID_CONTEXT : CUDA_SUCCESS;
}
CUresult cuCtxGetLimit(size_t* value, CUlimit) {
  *value = size_t{1} << 20;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetLimit(CUlimit, size_t) { return CUDA_SUCCESS; }
CUresult cuDeviceCanAccessPeer(int* can, CUdevice, CUdevice) {
  *can = 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }
CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction, const CUlaunchConfig* config) {
  *clusters = 132 / static_cast<int>(config->attrs[0].value.clusterDim.x);
  return CUDA_SUCCESS;
}

}  // extern "C"
