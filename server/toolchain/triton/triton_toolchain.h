// Toolchain over a pool of Python workers, each with one Triton.
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_TRITON_TOOLCHAIN_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_TRITON_TOOLCHAIN_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/mutex.h"
#include "server/toolchain/source_frontend.h"
#include "server/toolchain/toolchain.h"
#include "server/toolchain/triton/worker_pool.h"

namespace trun {

struct TritonToolchainOptions {
  ToolchainInfo info;
  WorkerPoolOptions pool;
  std::shared_ptr<SourceFrontend> frontend;         // may be null
  uint64_t memory_limit_bytes = uint64_t{8} << 30;  // of a compile that names none
};

// Thread-safe. Starts no process before the first Options, Compile or Prewarm. What a worker answers is not
// trusted: sizes, order of levels and JSON are checked, and a worker that lies is ended.
class TritonToolchain final : public Toolchain {
 public:
  explicit TritonToolchain(TritonToolchainOptions options);
  ~TritonToolchain() override;

  ToolchainInfo info() const override;
  absl::StatusOr<std::vector<ToolchainOption>> Options(const std::string& backend) override;
  absl::Status Compile(const StageRequest& request,
                       const std::function<StageDecision(StageResult)>& on_stage) override;
  void Prewarm(int workers) override;
  SourceFrontend* frontend() override { return options_.frontend.get(); }

  // Starts a worker and lets it greet. The statuses of WorkerProcess::Start; kToolchainBroken also where it
  // is not the version that info() names.
  absl::Status Check();
  // The toolchain's folder is deleted when this object is.
  void DeleteWhenUnused() { delete_when_unused_ = true; }

 private:
  // One try. `delivered` becomes true with the first stage that was given to the caller.
  absl::Status CompileOnce(const nlohmann::json& header, const StageRequest& request,
                           const std::function<StageDecision(StageResult)>& on_stage, bool* delivered);

  const TritonToolchainOptions options_;
  std::atomic<bool> delete_when_unused_{false};
  WorkerPool pool_;

  Mutex mu_;
  std::map<std::string, std::vector<ToolchainOption>> option_lists_ ABSL_GUARDED_BY(mu_);
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_TRITON_TOOLCHAIN_H_
