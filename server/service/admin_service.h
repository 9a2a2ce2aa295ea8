#ifndef TRUN_SERVER_SERVICE_ADMIN_SERVICE_H_
#define TRUN_SERVER_SERVICE_ADMIN_SERVICE_H_

#include <string>

#include "server/service/call.h"
#include "trun/v1/admin.grpc.pb.h"

namespace trun {

// trun.v1.AdminService. Thread-safe. `context` outlives it. Only the daemon's own user may change anything
// (PERMISSION_DENIED kNotPermitted) or see the entries of others.
class AdminService final : public v1::AdminService::CallbackService {
 public:
  explicit AdminService(const ServiceContext& context);

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* call,
                                          const v1::GetServerInfoRequest* request,
                                          v1::GetServerInfoResponse* response) override;
  grpc::ServerUnaryReactor* GetCacheStatistics(grpc::CallbackServerContext* call,
                                               const v1::GetCacheStatisticsRequest* request,
                                               v1::GetCacheStatisticsResponse* response) override;
  grpc::ServerWriteReactor<v1::ListCacheEntriesResponse>* ListCacheEntries(
      grpc::CallbackServerContext* call, const v1::ListCacheEntriesRequest* request) override;
  grpc::ServerUnaryReactor* GetCacheEntry(grpc::CallbackServerContext* call,
                                          const v1::GetCacheEntryRequest* request,
                                          v1::GetCacheEntryResponse* response) override;
  grpc::ServerWriteReactor<v1::GetCacheBlobResponse>* GetCacheBlob(
      grpc::CallbackServerContext* call, const v1::GetCacheBlobRequest* request) override;
  grpc::ServerUnaryReactor* PinCacheEntry(grpc::CallbackServerContext* call,
                                          const v1::PinCacheEntryRequest* request,
                                          v1::PinCacheEntryResponse* response) override;
  grpc::ServerUnaryReactor* EvictCacheEntries(grpc::CallbackServerContext* call,
                                              const v1::EvictCacheEntriesRequest* request,
                                              v1::EvictCacheEntriesResponse* response) override;
  grpc::ServerUnaryReactor* VerifyCache(grpc::CallbackServerContext* call,
                                        const v1::VerifyCacheRequest* request,
                                        v1::VerifyCacheResponse* response) override;
  grpc::ServerWriteReactor<v1::ExportCacheResponse>* ExportCache(
      grpc::CallbackServerContext* call, const v1::ExportCacheRequest* request) override;
  grpc::ServerReadReactor<v1::ImportCacheRequest>* ImportCache(grpc::CallbackServerContext* call,
                                                               v1::ImportCacheResponse* response) override;
  grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* call, const v1::DrainRequest* request,
                                  v1::DrainResponse* response) override;

 private:
  // The one entry that `prefix` names among those that `caller` may see. NOT_FOUND kHandle; INVALID_ARGUMENT
  // kArgument: not 6 to 64 hexadecimal digits, or several entries begin with them.
  absl::StatusOr<CacheEntryInfo> Resolve(const std::string& prefix, const Caller& caller) const;

  const ServiceContext& context_;
  const Method info_, statistics_, list_, get_, blob_, pin_, evict_, verify_, export_, import_, drain_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_ADMIN_SERVICE_H_
