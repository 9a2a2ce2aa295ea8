#include "server/service/tuning_store.h"

#include "absl/strings/str_cat.h"
#include "common/base/digest.h"
#include "common/base/status.h"

namespace trun {
namespace {

constexpr size_t kMaxValueBytes = size_t{64} << 10;

absl::StatusOr<CacheKey> KeyOf(absl::string_view tenant, const device::DeviceInfo& device,
                               absl::string_view key) {
  const absl::StatusOr<Digest> digest = Digest::FromHex(key);
  if (!digest.ok()) {
    return InvalidArgument(Reason::kArgument, "the key of a tuning is a SHA-256 in hex",
                           {{"argument", "key"}});
  }
  Hasher hasher;
  return hasher.Add("trun tuning 1")
      .Add(tenant)
      .Add(device.name)
      .Add(device.target.ToString())
      .Add(digest->bytes())
      .Finish();
}

}  // namespace

absl::StatusOr<std::string> TuningStore::Find(absl::string_view tenant, const device::DeviceInfo& device,
                                              absl::string_view key) {
  TRUN_ASSIGN_OR_RETURN(const CacheKey name, KeyOf(tenant, device, key));
  const auto entry = cache_->Get(name, {});
  if (!entry.ok()) return std::string();  // also when it was damaged: it is removed by now
  return (*entry)->metadata_json;
}

absl::Status TuningStore::Store(const std::string& tenant, const device::DeviceInfo& device,
                                absl::string_view key, const std::string& value) {
  TRUN_ASSIGN_OR_RETURN(const CacheKey name, KeyOf(tenant, device, key));
  if (value.size() > kMaxValueBytes) {
    return ResourceExhausted(Reason::kTooLarge,
                             absl::StrCat("a tuning has at most ", kMaxValueBytes, " bytes"),
                             {{"limit", absl::StrCat(kMaxValueBytes)}});
  }
  CacheEntry entry;
  entry.kernel_name = "(an autotuner's choice)";
  entry.target = device.target.ToString();
  entry.tenant = tenant;
  entry.metadata_json = value;
  return cache_->Put(name, entry);
}

}  // namespace trun
