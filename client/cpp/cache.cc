#include "trun/cache.h"

#include <utility>

#include "client/cpp/connection.h"
#include "common/rpc/limits.h"
#include "trun/v1/admin.grpc.pb.h"

namespace trun {
inline namespace client {
namespace {

absl::Time ToTime(const google::protobuf::Timestamp& stamp) {
  return absl::FromUnixSeconds(stamp.seconds()) + absl::Nanoseconds(stamp.nanos());
}

CacheEntryInfo ToInfo(const v1::CacheEntry& from) {
  CacheEntryInfo info;
  info.key = from.key();
  info.kernel_name = from.kernel_name();
  info.toolchain = from.toolchain();
  info.target = from.target();
  info.source_level = static_cast<Level>(from.source_level());
  for (const v1::CacheBlob& blob : from.blobs()) {
    info.blobs.push_back({static_cast<Level>(blob.level()), blob.bytes(), blob.digest()});
  }
  info.created = ToTime(from.created());
  info.last_used = ToTime(from.last_used());
  info.hits = from.hits();
  info.pinned = from.pinned();
  info.error = from.error();
  return info;
}

absl::StatusOr<CacheEvictResult> SendEvict(Connection& connection,
                                           const v1::EvictCacheEntriesRequest& request) {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection.channel);
  TRUN_ASSIGN_OR_RETURN(const v1::EvictCacheEntriesResponse response,
                        Call(*stub, &v1::AdminService::Stub::EvictCacheEntries, request));
  return CacheEvictResult{response.evicted(), response.freed_bytes()};
}

}  // namespace

absl::StatusOr<CacheStatistics> Cache::GetStatistics() const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  TRUN_ASSIGN_OR_RETURN(
      const v1::GetCacheStatisticsResponse response,
      Call(*stub, &v1::AdminService::Stub::GetCacheStatistics, v1::GetCacheStatisticsRequest()));
  CacheStatistics statistics;
  statistics.path = response.path();
  statistics.entries = response.entries();
  statistics.blob_bytes = response.blob_bytes();
  statistics.disk_bytes = response.disk_bytes();
  statistics.limit_bytes = response.limit_bytes();
  statistics.pinned = response.pinned();
  statistics.hits = response.hits();
  statistics.misses = response.misses();
  statistics.memory_hits = response.memory_hits();
  statistics.negative_hits = response.negative_hits();
  statistics.healed = response.healed();
  statistics.evicted = response.evicted();
  return statistics;
}

absl::StatusOr<std::vector<CacheEntryInfo>> Cache::List() const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  grpc::ClientContext context;
  auto reader = stub->ListCacheEntries(&context, v1::ListCacheEntriesRequest());
  std::vector<CacheEntryInfo> entries;
  v1::ListCacheEntriesResponse response;
  while (reader->Read(&response)) entries.push_back(ToInfo(response.entry()));
  TRUN_RETURN_IF_ERROR(FromGrpcStatus(reader->Finish()));
  return entries;
}

absl::StatusOr<CacheEntryInfo> Cache::Get(const std::string& key) const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  v1::GetCacheEntryRequest request;
  request.set_key(key);
  TRUN_ASSIGN_OR_RETURN(const v1::GetCacheEntryResponse response,
                        Call(*stub, &v1::AdminService::Stub::GetCacheEntry, request));
  CacheEntryInfo info = ToInfo(response.entry());
  info.metadata_json = response.metadata_json();
  return info;
}

absl::StatusOr<std::string> Cache::GetBlob(const std::string& key, Level level) const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  v1::GetCacheBlobRequest request;
  request.set_key(key);
  request.set_level(static_cast<v1::Level>(level));
  grpc::ClientContext context;
  SetTimeout(context, kCallTimeout);
  auto reader = stub->GetCacheBlob(&context, request);
  std::string bytes;
  v1::GetCacheBlobResponse response;
  while (reader->Read(&response)) bytes += response.data();
  TRUN_RETURN_IF_ERROR(FromGrpcStatus(reader->Finish()));
  return bytes;
}

absl::Status Cache::SetPinned(const std::string& key, bool pinned) const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  v1::PinCacheEntryRequest request;
  request.set_key(key);
  request.set_pinned(pinned);
  return Call(*stub, &v1::AdminService::Stub::PinCacheEntry, request).status();
}

absl::StatusOr<CacheEvictResult> Cache::Evict(absl::Span<const std::string> keys, bool force) const {
  v1::EvictCacheEntriesRequest request;
  for (const std::string& key : keys) request.add_keys(key);
  request.set_force(force);
  return SendEvict(*connection_, request);
}

absl::StatusOr<CacheEvictResult> Cache::EvictAll(bool force) const {
  v1::EvictCacheEntriesRequest request;
  request.set_all(true);
  request.set_force(force);
  return SendEvict(*connection_, request);
}

absl::StatusOr<CacheVerifyResult> Cache::Verify() const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  // Reads the whole cache from disk.
  TRUN_ASSIGN_OR_RETURN(
      const v1::VerifyCacheResponse response,
      Call(*stub, &v1::AdminService::Stub::VerifyCache, v1::VerifyCacheRequest(), absl::InfiniteDuration()));
  CacheVerifyResult result{response.entries(), response.blobs(), response.bad_blobs(), {}};
  result.removed.assign(response.removed().begin(), response.removed().end());
  return result;
}

absl::Status Cache::Export(absl::Span<const std::string> keys,
                           const std::function<absl::Status(absl::string_view)>& sink) const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  v1::ExportCacheRequest request;
  for (const std::string& key : keys) request.add_keys(key);
  grpc::ClientContext context;
  auto reader = stub->ExportCache(&context, request);
  v1::ExportCacheResponse response;
  absl::Status sunk;
  while (reader->Read(&response)) {
    if (!sunk.ok()) continue;
    sunk = sink(response.data());
    if (!sunk.ok()) context.TryCancel();
  }
  const grpc::Status end = reader->Finish();
  TRUN_RETURN_IF_ERROR(sunk);
  return FromGrpcStatus(end);
}

absl::StatusOr<CacheImportResult> Cache::Import(
    const std::function<absl::StatusOr<std::string>()>& source) const {
  const std::unique_ptr<v1::AdminService::Stub> stub = v1::AdminService::NewStub(connection_->channel);
  grpc::ClientContext context;
  v1::ImportCacheResponse response;
  auto writer = stub->ImportCache(&context, &response);
  absl::Status read;
  for (;;) {
    absl::StatusOr<std::string> chunk = source();
    if (!chunk.ok()) {
      // Half a file must not look like a whole one.
      read = chunk.status();
      context.TryCancel();
      break;
    }
    if (chunk->empty()) break;
    v1::ImportCacheRequest request;
    bool broken = false;
    for (size_t at = 0; at < chunk->size() && !broken; at += kMaxChunkBytes) {
      request.set_data(chunk->substr(at, kMaxChunkBytes));
      broken = !writer->Write(request);
    }
    if (broken) break;  // Finish says why
  }
  writer->WritesDone();
  const grpc::Status end = writer->Finish();
  TRUN_RETURN_IF_ERROR(read);
  TRUN_RETURN_IF_ERROR(FromGrpcStatus(end));
  return CacheImportResult{response.imported(), response.already_there()};
}

}  // namespace client
}  // namespace trun
