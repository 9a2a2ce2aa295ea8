// From a session's kernel handle back to the build it came from, whose other levels can be fetched.
#ifndef TRUN_SERVER_SERVICE_KERNEL_TABLE_H_
#define TRUN_SERVER_SERVICE_KERNEL_TABLE_H_

#include <map>
#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "server/compile/compile_pipeline.h"

namespace trun {

// Owns nothing: a session holds its kernels, each as an aliasing pointer into its build, so an entry ends
// with the last session that has it. Thread-safe.
class KernelTable {
 public:
  // What Session::AddKernel is given.
  static std::shared_ptr<const CompiledKernel> KernelOf(std::shared_ptr<const KernelBuild> build) {
    const CompiledKernel* kernel = &build->kernel;
    return std::shared_ptr<const CompiledKernel>(std::move(build), kernel);
  }

  void Add(const std::shared_ptr<const KernelBuild>& build) {
    MutexLock lock(&mu_);
    builds_[&build->kernel] = build;
    if (builds_.size() < 2 * live_ + 64) return;
    for (auto entry = builds_.begin(); entry != builds_.end();) {
      entry = entry->second.expired() ? builds_.erase(entry) : std::next(entry);
    }
    live_ = builds_.size();
  }

  // Null when `kernel` did not come from Add. REQUIRES: the caller holds `kernel`.
  std::shared_ptr<const KernelBuild> Find(const CompiledKernel* kernel) {
    MutexLock lock(&mu_);
    const auto found = builds_.find(kernel);
    return found == builds_.end() ? nullptr : found->second.lock();
  }

 private:
  Mutex mu_;
  std::map<const CompiledKernel*, std::weak_ptr<const KernelBuild>> builds_ ABSL_GUARDED_BY(mu_);
  size_t live_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_KERNEL_TABLE_H_
