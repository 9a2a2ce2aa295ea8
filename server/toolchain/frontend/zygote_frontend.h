// SourceFrontend over Python zygotes that fork a confined child for each request (docs/formats/frames.md).
#ifndef TRUN_SERVER_TOOLCHAIN_FRONTEND_ZYGOTE_FRONTEND_H_
#define TRUN_SERVER_TOOLCHAIN_FRONTEND_ZYGOTE_FRONTEND_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/toolchain/source_frontend.h"
#include "server/toolchain/triton/worker_pool.h"

namespace trun {

struct ZygoteFrontendOptions {
  std::string python;             // of the toolchain's environment
  std::string scratch_directory;  // exists; the scripts and the zygotes' folders go there
  int max_zygotes = 0;            // each lowers one source at a time; 0: one per core
  absl::Duration idle_retirement = absl::Minutes(10);
  uint64_t memory_bytes = uint64_t{2} << 30;   // that a source may take beyond what Triton takes
  absl::Duration longest = absl::Seconds(60);  // a source's, whatever the request's deadline
  bool allow_unconfined = false;               // lower also where the kernel offers no confinement
  std::string layers = "landlock,seccomp";     // of confinement; fewer in tests only
};

// Thread-safe. Starts no process before the first Lower. A request past its deadline or its memory costs the
// pool its zygote, which is replaced in the background.
class ZygoteFrontend final : public SourceFrontend {
 public:
  // Writes the scripts. FromErrno's statuses where it cannot.
  static absl::StatusOr<std::shared_ptr<ZygoteFrontend>> Create(const ZygoteFrontendOptions& options);

  std::string id() const override { return id_; }
  absl::StatusOr<StageResult> Lower(const SourceRequest& request) override;

 private:
  ZygoteFrontend(const ZygoteFrontendOptions& options, std::string id, WorkerPoolOptions pool)
      : options_(options), id_(std::move(id)), pool_(std::move(pool)) {}

  // One try.
  absl::StatusOr<StageResult> LowerOnce(const nlohmann::json& header, const SourceRequest& request);

  const ZygoteFrontendOptions options_;
  const std::string id_;
  WorkerPool pool_;
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_FRONTEND_ZYGOTE_FRONTEND_H_
