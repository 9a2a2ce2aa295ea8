// Files that clients sent ahead of a Compile, so that each is sent once.
#ifndef TRUN_SERVER_SERVICE_UPLOAD_STORE_H_
#define TRUN_SERVER_SERVICE_UPLOAD_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/base/clock.h"
#include "common/base/digest.h"
#include "common/base/mutex.h"

namespace trun {

struct UploadLimits {
  uint64_t file_bytes = 0;
  uint64_t tenant_bytes = 0;  // uploads under way included
  uint64_t total_bytes = 0;
  absl::Duration kept = absl::Hours(1);  // after the last use, at least
};

// A tenant sees its own files only. Thread-safe.
class UploadStore {
 public:
  // `clock` outlives it.
  UploadStore(const UploadLimits& limits, Clock* clock) : limits_(limits), clock_(clock) {}

  // A file under way; what it holds is charged to its tenant. Thread-compatible. Must not outlive the store.
  class Upload {
   public:
    Upload(UploadStore* store, std::string tenant) : store_(store), tenant_(std::move(tenant)) {}
    ~Upload();
    Upload(const Upload&) = delete;
    Upload& operator=(const Upload&) = delete;

    // RESOURCE_EXHAUSTED: kTooLarge (the file; details: limit), kQuota (the tenant's files together; details:
    // limit).
    absl::Status Append(absl::string_view data);
    // Keeps the file and returns the digest of its bytes. INVALID_ARGUMENT kInvalidIr: it is empty.
    // REQUIRES: called at most once, last.
    absl::StatusOr<Digest> Finish();

   private:
    UploadStore* const store_;
    const std::string tenant_;
    std::string data_;
  };

  // NOT_FOUND kHandle. Counts as a use.
  absl::StatusOr<std::shared_ptr<const std::string>> Find(absl::string_view tenant, const Digest& digest);

 private:
  struct File {
    std::shared_ptr<const std::string> data;
    absl::Time last_used;
  };

  absl::Status Reserve(const std::string& tenant, uint64_t bytes);
  void Release(const std::string& tenant, uint64_t bytes);
  void DropExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const UploadLimits limits_;
  Clock* const clock_;
  Mutex mu_;
  std::map<std::pair<std::string, Digest>, File> files_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, uint64_t> charged_ ABSL_GUARDED_BY(mu_);  // a tenant's bytes
  uint64_t total_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_UPLOAD_STORE_H_
