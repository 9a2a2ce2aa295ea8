#include "server/device/cuda/driver.h"

#include <dlfcn.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/device/cuda/result.h"

namespace trun::device {
namespace {

#define TRUN_CUDA_SYMBOL(name) TRUN_CUDA_SYMBOL_INNER(name)
#define TRUN_CUDA_SYMBOL_INNER(name) #name

constexpr int kOldestVersion = 12000;    // cuLaunchKernelEx with clusters, tensor maps
constexpr int kTellsParameters = 12040;  // cuFuncGetParamInfo

absl::Status NotUsable(absl::string_view what) {
  return FailedPrecondition(Reason::kUnavailable, absl::StrCat("no CUDA device can be used: ", what));
}

template <typename Function>
Function Find(void* library, const char* symbol) {
  return reinterpret_cast<Function>(dlsym(library, symbol));
}

absl::StatusOr<std::unique_ptr<Driver>> Open(const std::string& path) {
  // Global symbols of the library are nobody else's business; it is never closed, because its threads may
  // run.
  void* const library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return NotUsable(absl::StrCat("the driver library could not be loaded (", dlerror(),
                                  "): install NVIDIA's driver, or name the library in TRUN_LIBCUDA"));
  }
  auto driver = std::make_unique<Driver>();
  driver->path = path;
  std::string missing;
#define TRUN_CUDA_LOAD(name)                                                    \
  driver->name = Find<decltype(driver->name)>(library, TRUN_CUDA_SYMBOL(name)); \
  if (driver->name == nullptr) absl::StrAppend(&missing, missing.empty() ? "" : ", ", TRUN_CUDA_SYMBOL(name));
#define TRUN_CUDA_LOAD_OPTIONAL(name) \
  driver->name = Find<decltype(driver->name)>(library, TRUN_CUDA_SYMBOL(name));
  TRUN_CUDA_FUNCTIONS(TRUN_CUDA_LOAD)
  // 12.8 gave it a second version of the same form.
  if (missing == TRUN_CUDA_SYMBOL(cuEventElapsedTime)) {
    driver->cuEventElapsedTime = Find<decltype(driver->cuEventElapsedTime)>(library, "cuEventElapsedTime");
    if (driver->cuEventElapsedTime != nullptr) missing.clear();
  }
  TRUN_CUDA_OPTIONAL_FUNCTIONS(TRUN_CUDA_LOAD_OPTIONAL)
#undef TRUN_CUDA_LOAD
#undef TRUN_CUDA_LOAD_OPTIONAL
  if (!missing.empty()) {
    return NotUsable(
        absl::StrCat(path, " lacks ", missing, ": the driver is older than CUDA 12.0, update it"));
  }
  CUresult result = driver->cuDriverGetVersion(&driver->version);
  if (result != CUDA_SUCCESS) return ToStatus(*driver, result, "asking the driver for its version");
  if (driver->version < kOldestVersion) {
    return NotUsable(absl::StrCat("the driver runs CUDA ", driver->version / 1000, ".",
                                  driver->version % 1000 / 10, "; trun needs 12.0 or later: update it"));
  }
  if (driver->version < kTellsParameters) driver->cuFuncGetParamInfo = nullptr;
  result = driver->cuInit(0);
  if (result != CUDA_SUCCESS) {
    return NotUsable(ToStatus(*driver, result, "initialising the driver").message());
  }
  return driver;
}

}  // namespace

absl::StatusOr<const Driver*> LoadDriver(absl::string_view path) {
  static Mutex mu;
  static auto* const opened = new std::map<std::string, absl::StatusOr<std::unique_ptr<Driver>>>;
  std::string wanted(path);
  if (wanted.empty()) {
    const char* const given = std::getenv("TRUN_LIBCUDA");
    wanted = given != nullptr && *given != '\0' ? given : "libcuda.so.1";
  }
  MutexLock lock(&mu);
  auto it = opened->find(wanted);
  if (it == opened->end()) it = opened->emplace(wanted, Open(wanted)).first;
  if (!it->second.ok()) return it->second.status();
  return it->second->get();
}

}  // namespace trun::device
