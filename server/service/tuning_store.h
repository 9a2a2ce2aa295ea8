// Autotuners' choices, kept in the kernel cache: they outlive processes, and go when the cache needs room.
#ifndef TRUN_SERVER_SERVICE_TUNING_STORE_H_
#define TRUN_SERVER_SERVICE_TUNING_STORE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/cache/kernel_cache.h"
#include "server/device/device.h"

namespace trun {

// Thread-safe. A choice belongs to one tenant and to one kind of device: what an emulator ranked first is
// never found for a GPU.
class TuningStore {
 public:
  // `cache` outlives it.
  explicit TuningStore(KernelCache* cache) : cache_(cache) {}

  // "" where there is none. INVALID_ARGUMENT kArgument: `key` is no SHA-256 in hex.
  absl::StatusOr<std::string> Find(absl::string_view tenant, const device::DeviceInfo& device,
                                   absl::string_view key);
  // Also RESOURCE_EXHAUSTED kTooLarge (details: limit), and the statuses of KernelCache::PutAll.
  absl::Status Store(const std::string& tenant, const device::DeviceInfo& device, absl::string_view key,
                     const std::string& value);

 private:
  KernelCache* const cache_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_TUNING_STORE_H_
