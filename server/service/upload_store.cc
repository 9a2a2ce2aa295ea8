#include "server/service/upload_store.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

UploadStore::Upload::~Upload() { store_->Release(tenant_, data_.size()); }

absl::Status UploadStore::Upload::Append(absl::string_view data) {
  if (data.size() > store_->limits_.file_bytes - data_.size()) {
    return ResourceExhausted(Reason::kTooLarge,
                             absl::StrCat("the file is larger than ", store_->limits_.file_bytes, " bytes"),
                             {{"limit", absl::StrCat(store_->limits_.file_bytes)}});
  }
  TRUN_RETURN_IF_ERROR(store_->Reserve(tenant_, data.size()));
  data_.append(data.data(), data.size());
  return absl::OkStatus();
}

absl::StatusOr<Digest> UploadStore::Upload::Finish() {
  if (data_.empty()) return InvalidArgument(Reason::kInvalidIr, "the file is empty");
  const Digest digest = Digest::Of(data_);
  MutexLock lock(&store_->mu_);
  File& file = store_->files_[{tenant_, digest}];
  file.last_used = store_->clock_->Now();
  // A file that is there already stays as it is; the destructor gives this copy's bytes back.
  if (file.data == nullptr)
    file.data = std::make_shared<const std::string>(std::exchange(data_, std::string()));
  return digest;
}

absl::StatusOr<std::shared_ptr<const std::string>> UploadStore::Find(absl::string_view tenant,
                                                                     const Digest& digest) {
  MutexLock lock(&mu_);
  const auto found = files_.find({std::string(tenant), digest});
  if (found == files_.end()) {
    return NotFound(Reason::kHandle, absl::StrCat("no file with the digest ", digest.ToHex(),
                                                  " is stored for you: upload it (CompileService.Upload)"));
  }
  found->second.last_used = clock_->Now();
  return found->second.data;
}

absl::Status UploadStore::Reserve(const std::string& tenant, uint64_t bytes) {
  MutexLock lock(&mu_);
  if (charged_[tenant] + bytes > limits_.tenant_bytes || total_ + bytes > limits_.total_bytes) DropExpired();
  uint64_t& charged = charged_[tenant];
  if (charged + bytes > limits_.tenant_bytes || total_ + bytes > limits_.total_bytes) {
    const uint64_t limit =
        charged + bytes > limits_.tenant_bytes ? limits_.tenant_bytes : limits_.total_bytes;
    return ResourceExhausted(
        Reason::kQuota,
        absl::StrCat("uploaded files would be over ", limit, " bytes; each is kept for an hour"),
        {{"limit", absl::StrCat(limit)}});
  }
  charged += bytes;
  total_ += bytes;
  return absl::OkStatus();
}

void UploadStore::Release(const std::string& tenant, uint64_t bytes) {
  MutexLock lock(&mu_);
  const auto charged = charged_.find(tenant);
  if (charged == charged_.end()) return;
  charged->second -= bytes;
  total_ -= bytes;
  if (charged->second == 0) charged_.erase(charged);
}

void UploadStore::DropExpired() {
  const absl::Time oldest = clock_->Now() - limits_.kept;
  for (auto file = files_.begin(); file != files_.end();) {
    if (file->second.last_used > oldest) {
      ++file;
      continue;
    }
    charged_[file->first.first] -= file->second.data->size();
    total_ -= file->second.data->size();
    file = files_.erase(file);
  }
}

}  // namespace trun
