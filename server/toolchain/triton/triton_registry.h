// ToolchainRegistry over folders of virtual environments, and environments adopted by path.
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_TRITON_REGISTRY_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_TRITON_REGISTRY_H_

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "common/base/mutex.h"
#include "server/toolchain/toolchain_registry.h"
#include "server/toolchain/triton/manifest.h"
#include "server/toolchain/triton/triton_toolchain.h"

namespace trun {

struct TritonRegistryOptions {
  // FOLDER/VERSION is a virtual environment. The first folder is where Install puts new ones.
  std::vector<std::string> toolchain_directories;
  std::string state_directory;    // manifests; made when missing
  std::string scratch_directory;  // the workers' temporary files and script; made when missing, 0700
  std::string python = "/usr/bin/python3";
  int max_workers = 0;  // of each toolchain; 0: as many as cores
  absl::Duration idle_retirement = absl::Minutes(10);
  uint64_t memory_limit_bytes = uint64_t{8} << 30;  // of one compile
  // Makes the front end of a toolchain with this Python. Null: source is not lowered.
  std::function<absl::StatusOr<std::shared_ptr<SourceFrontend>>(const std::string& python)> make_frontend;
};

// Thread-safe. It looks at files and starts no Python (a ptxas --version where a toolchain is new or
// changed): thousands of files for each toolchain, so a thread of its own does it. Every method waits for
// that one.
class TritonRegistry final : public ToolchainRegistry {
 public:
  // Returns before the toolchains have been looked at. FromErrno's statuses where a folder cannot be made. A
  // toolchain that is broken is listed as broken.
  static absl::StatusOr<std::unique_ptr<TritonRegistry>> Create(TritonRegistryOptions options);
  // Waits for the look.
  ~TritonRegistry() override;

  absl::StatusOr<std::shared_ptr<Toolchain>> Find(absl::string_view name) override;
  std::vector<std::shared_ptr<Toolchain>> List() override;
  absl::StatusOr<std::shared_ptr<Toolchain>> Install(
      absl::string_view version, const std::function<void(const ToolchainProgress&)>& on_progress) override;
  absl::StatusOr<std::shared_ptr<Toolchain>> Adopt(absl::string_view path, absl::string_view name) override;
  absl::Status Remove(absl::string_view name) override;

 private:
  explicit TritonRegistry(TritonRegistryOptions options) : options_(std::move(options)) {}

  absl::Status Prepare();
  // REQUIRES: nothing is being installed. Removes what others left half made when they died.
  void Scan();
  // Looks at the environment, writes its manifest where it is new or changed. Broken ones too, never null.
  std::shared_ptr<TritonToolchain> Load(const std::string& name, const std::string& path, bool adopted,
                                        const ToolchainManifest* known);
  void AwaitScan() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // ALREADY_EXISTS where the name is taken; else it is reserved until Release.
  absl::Status Reserve(const std::string& name);
  void Release(const std::string& name);

  const TritonRegistryOptions options_;
  std::string manifests_;      // folder
  std::string worker_folder_;  // path
  std::string worker_digest_;

  Mutex mu_;
  CondVar scanned_changed_;
  bool scanned_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, std::shared_ptr<TritonToolchain>> toolchains_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> reserved_ ABSL_GUARDED_BY(mu_);  // being installed or adopted
  std::thread scan_;
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_TRITON_REGISTRY_H_
