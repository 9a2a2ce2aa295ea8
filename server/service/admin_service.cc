#include "server/service/admin_service.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "server/cache/cache_transfer.h"
#include "server/service/byte_stream.h"
#include "server/service/wire.h"

namespace trun {
namespace {

constexpr size_t kMinPrefix = 6;
constexpr int kMaxKeys = 10000;
// A reader of a listing or an export that takes nothing for so long has lost it.
constexpr absl::Duration kStalled = absl::Seconds(60);
constexpr uint64_t kMaxImportBytes = uint64_t{64} << 30;

bool MaySee(const Caller& caller, const CacheEntryInfo& entry) {
  return caller.is_owner || entry.tenant == caller.tenant;
}

absl::Status Stalled() {
  return DeadlineExceeded(Reason::kCancelled, "the client did not read for a minute, or is gone");
}

}  // namespace

AdminService::AdminService(const ServiceContext& context)
    : context_(context),
      info_(context, "AdminService/GetServerInfo", WhileDraining::kServed),
      statistics_(context, "AdminService/GetCacheStatistics", WhileDraining::kServed),
      list_(context, "AdminService/ListCacheEntries", WhileDraining::kServed),
      get_(context, "AdminService/GetCacheEntry", WhileDraining::kServed),
      blob_(context, "AdminService/GetCacheBlob", WhileDraining::kServed),
      pin_(context, "AdminService/PinCacheEntry", WhileDraining::kRefused),
      evict_(context, "AdminService/EvictCacheEntries", WhileDraining::kRefused),
      verify_(context, "AdminService/VerifyCache", WhileDraining::kRefused),
      export_(context, "AdminService/ExportCache", WhileDraining::kRefused),
      import_(context, "AdminService/ImportCache", WhileDraining::kRefused),
      drain_(context, "AdminService/Drain", WhileDraining::kServed) {}

absl::StatusOr<CacheEntryInfo> AdminService::Resolve(const std::string& prefix, const Caller& caller) const {
  const std::string lower = absl::AsciiStrToLower(prefix);
  const bool is_hex = std::all_of(lower.begin(), lower.end(), absl::ascii_isxdigit);
  if (!is_hex || lower.size() < kMinPrefix || lower.size() > 2 * Digest::kBytes) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("a cache key is named by ", kMinPrefix, " to 64 hexadecimal digits"));
  }
  std::vector<CacheEntryInfo> found;
  if (lower.size() == 2 * Digest::kBytes) {
    TRUN_ASSIGN_OR_RETURN(const CacheKey key, Digest::FromHex(lower));
    absl::StatusOr<CacheEntryInfo> entry = context_.cache->Info(key);
    if (entry.ok() && MaySee(caller, *entry)) found.push_back(*std::move(entry));
  } else {
    TRUN_RETURN_IF_ERROR(context_.cache->List([&](const CacheEntryInfo& entry) {
      if (absl::StartsWith(entry.key.ToHex(), lower) && MaySee(caller, entry)) found.push_back(entry);
      return found.size() < 2;
    }));
  }
  if (found.empty()) return NotFound(Reason::kHandle, absl::StrCat("no cache entry begins with ", lower));
  if (found.size() > 1) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("several cache entries begin with ", lower, ": give more digits"));
  }
  return found.front();
}

grpc::ServerUnaryReactor* AdminService::GetServerInfo(grpc::CallbackServerContext* call,
                                                      const v1::GetServerInfoRequest* /*request*/,
                                                      v1::GetServerInfoResponse* response) {
  return UnaryCall::Run(context_, info_, call, [&](const Caller& /*caller*/) {
    const ServerFacts& facts = context_.facts;
    response->set_version(facts.version);
    response->set_pid(getpid());
    EncodeDuration(context_.clock->Now() - facts.started, response->mutable_uptime());
    response->set_socket(facts.socket);
    response->set_cache_path(facts.cache_path);
    response->set_log_path(facts.log_path);
    response->set_private_daemon(facts.private_daemon);
    response->set_sessions(context_.sessions->open_sessions());
    response->set_compiles(context_.pipeline->Statistics().requests);
    response->set_launches(context_.launches->load());
    response->set_draining(context_.gate->draining());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* AdminService::GetCacheStatistics(grpc::CallbackServerContext* call,
                                                           const v1::GetCacheStatisticsRequest* /*request*/,
                                                           v1::GetCacheStatisticsResponse* response) {
  return UnaryCall::RunOn(context_.workers, context_, statistics_, call,
                          [this, response](const Caller& /*caller*/) {
                            const CacheStatistics statistics = context_.cache->Statistics();
                            response->set_path(statistics.path);
                            response->set_entries(statistics.entries);
                            response->set_blob_bytes(statistics.blob_bytes);
                            response->set_disk_bytes(statistics.disk_bytes);
                            response->set_limit_bytes(statistics.limit_bytes);
                            response->set_pinned(statistics.pinned);
                            response->set_hits(statistics.hits);
                            response->set_misses(statistics.misses);
                            response->set_memory_hits(statistics.memory_hits);
                            response->set_negative_hits(statistics.negative_hits);
                            response->set_healed(statistics.healed);
                            response->set_evicted(statistics.evicted);
                            return absl::OkStatus();
                          });
}

grpc::ServerWriteReactor<v1::ListCacheEntriesResponse>* AdminService::ListCacheEntries(
    grpc::CallbackServerContext* call, const v1::ListCacheEntriesRequest* /*request*/) {
  using Stream = EventStream<v1::ListCacheEntriesResponse>;
  return Stream::RunOn(context_.workers, context_, list_, call,
                       [this](const std::shared_ptr<Stream>& stream) {
                         bool taken = true;
                         const absl::Status listed = context_.cache->List([&](const CacheEntryInfo& entry) {
                           if (!MaySee(stream->scope().caller(), entry)) return true;
                           v1::ListCacheEntriesResponse response;
                           EncodeCacheEntry(entry, response.mutable_entry());
                           return taken = stream->PushSlowly(std::move(response), kStalled);
                         });
                         stream->Close(taken ? listed : Stalled());
                       });
}

grpc::ServerUnaryReactor* AdminService::GetCacheEntry(grpc::CallbackServerContext* call,
                                                      const v1::GetCacheEntryRequest* request,
                                                      v1::GetCacheEntryResponse* response) {
  return UnaryCall::RunOn(context_.workers, context_, get_, call,
                          [this, request, response](const Caller& caller) -> absl::Status {
                            TRUN_ASSIGN_OR_RETURN(const CacheEntryInfo entry,
                                                  Resolve(request->key(), caller));
                            TRUN_ASSIGN_OR_RETURN(const CacheEntry whole, context_.cache->Read(entry.key));
                            EncodeCacheEntry(entry, response->mutable_entry());
                            response->set_metadata_json(WireText(whole.metadata_json, kMaxMetadataJsonBytes));
                            return absl::OkStatus();
                          });
}

grpc::ServerWriteReactor<v1::GetCacheBlobResponse>* AdminService::GetCacheBlob(
    grpc::CallbackServerContext* call, const v1::GetCacheBlobRequest* request) {
  return StreamBytes<v1::GetCacheBlobResponse>(
      context_, blob_, call, [this, request](const Caller& caller) -> absl::StatusOr<std::string> {
        TRUN_ASSIGN_OR_RETURN(const Level level, DecodeLevel(request->level(), "level"));
        TRUN_ASSIGN_OR_RETURN(const CacheEntryInfo entry, Resolve(request->key(), caller));
        return context_.cache->GetBlob(entry.key, level);
      });
}

grpc::ServerUnaryReactor* AdminService::PinCacheEntry(grpc::CallbackServerContext* call,
                                                      const v1::PinCacheEntryRequest* request,
                                                      v1::PinCacheEntryResponse* /*response*/) {
  return UnaryCall::RunOn(
      context_.workers, context_, pin_, call, [this, request](const Caller& caller) -> absl::Status {
        TRUN_RETURN_IF_ERROR(RequireOwner(caller));
        TRUN_ASSIGN_OR_RETURN(const CacheEntryInfo entry, Resolve(request->key(), caller));
        return context_.cache->SetPinned(entry.key, request->pinned());
      });
}

grpc::ServerUnaryReactor* AdminService::EvictCacheEntries(grpc::CallbackServerContext* call,
                                                          const v1::EvictCacheEntriesRequest* request,
                                                          v1::EvictCacheEntriesResponse* response) {
  return UnaryCall::RunOn(
      context_.workers, context_, evict_, call,
      [this, request, response](const Caller& caller) -> absl::Status {
        TRUN_RETURN_IF_ERROR(RequireOwner(caller));
        if (request->keys_size() > kMaxKeys || (request->keys_size() == 0) != request->all()) {
          return InvalidArgument(Reason::kArgument, "name the entries to evict, or say all of them");
        }
        std::vector<CacheEntryInfo> entries;
        for (const std::string& prefix : request->keys()) {
          TRUN_ASSIGN_OR_RETURN(CacheEntryInfo entry, Resolve(prefix, caller));
          entries.push_back(std::move(entry));
        }
        if (request->all()) {
          TRUN_RETURN_IF_ERROR(context_.cache->List([&](const CacheEntryInfo& entry) {
            if (request->force() || !entry.pinned) entries.push_back(entry);
            return true;
          }));
        }
        for (const CacheEntryInfo& entry : entries) {
          TRUN_ASSIGN_OR_RETURN(const bool removed, context_.cache->Remove(entry.key, request->force()));
          if (!removed) continue;
          response->set_evicted(response->evicted() + 1);
          for (const CacheBlobInfo& blob : entry.blobs) {
            response->set_freed_bytes(response->freed_bytes() + blob.bytes);
          }
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AdminService::VerifyCache(grpc::CallbackServerContext* call,
                                                    const v1::VerifyCacheRequest* /*request*/,
                                                    v1::VerifyCacheResponse* response) {
  return UnaryCall::RunOn(context_.workers, context_, verify_, call,
                          [this, response](const Caller& caller) -> absl::Status {
                            TRUN_RETURN_IF_ERROR(RequireOwner(caller));
                            TRUN_ASSIGN_OR_RETURN(const CacheVerification verified, context_.cache->Verify());
                            response->set_entries(verified.entries);
                            response->set_blobs(verified.blobs);
                            response->set_bad_blobs(verified.bad_blobs);
                            for (const CacheKey& key : verified.removed) response->add_removed(key.ToHex());
                            return absl::OkStatus();
                          });
}

grpc::ServerWriteReactor<v1::ExportCacheResponse>* AdminService::ExportCache(
    grpc::CallbackServerContext* call, const v1::ExportCacheRequest* request) {
  using Stream = EventStream<v1::ExportCacheResponse>;
  auto prefixes = std::make_shared<std::vector<std::string>>(request->keys().begin(), request->keys().end());
  return Stream::RunOn(
      context_.workers, context_, export_, call, [this, prefixes](const std::shared_ptr<Stream>& stream) {
        const Caller& caller = stream->scope().caller();
        const auto run = [&]() -> absl::Status {
          TRUN_RETURN_IF_ERROR(RequireOwner(caller));
          if (prefixes->size() > kMaxKeys) return InvalidArgument(Reason::kArgument, "too many keys");
          std::vector<CacheKey> keys;
          for (const std::string& prefix : *prefixes) {
            TRUN_ASSIGN_OR_RETURN(const CacheEntryInfo entry, Resolve(prefix, caller));
            keys.push_back(entry.key);
          }
          return trun::ExportCache(*context_.cache, keys, [&](absl::string_view bytes) -> absl::Status {
            v1::ExportCacheResponse response;
            response.set_data(bytes.data(), bytes.size());
            return stream->PushSlowly(std::move(response), kStalled) ? absl::OkStatus() : Stalled();
          });
        };
        stream->Close(run());
      });
}

grpc::ServerReadReactor<v1::ImportCacheRequest>* AdminService::ImportCache(
    grpc::CallbackServerContext* call, v1::ImportCacheResponse* response) {
  struct State {
    std::unique_ptr<CacheImporter> importer;
  };
  auto state = std::make_shared<State>();
  const auto begin = [this, state](const Caller& caller) -> absl::Status {
    if (state->importer != nullptr) return absl::OkStatus();
    TRUN_RETURN_IF_ERROR(RequireOwner(caller));
    TRUN_ASSIGN_OR_RETURN(state->importer, CacheImporter::Create(context_.facts.cache_path, kMaxImportBytes));
    return absl::OkStatus();
  };
  return ClientStream<v1::ImportCacheRequest>::RunOn(
      context_.workers, context_, import_, call,
      [begin, state](const Caller& caller, const v1::ImportCacheRequest& request) -> absl::Status {
        TRUN_RETURN_IF_ERROR(begin(caller));
        return state->importer->Append(request.data());
      },
      [this, begin, state, response](const Caller& caller) -> absl::Status {
        TRUN_RETURN_IF_ERROR(begin(caller));
        TRUN_ASSIGN_OR_RETURN(const CacheImport imported, state->importer->Finish(*context_.cache));
        response->set_imported(imported.imported);
        response->set_already_there(imported.already_there);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* call,
                                              const v1::DrainRequest* request,
                                              v1::DrainResponse* /*response*/) {
  return UnaryCall::Run(context_, drain_, call, [&](const Caller& caller) -> absl::Status {
    TRUN_RETURN_IF_ERROR(RequireOwner(caller));
    TRUN_ASSIGN_OR_RETURN(const absl::Duration deadline,
                          DecodeDuration(request->deadline(), "deadline", absl::Hours(1)));
    context_.drain(deadline);
    return absl::OkStatus();
  });
}

}  // namespace trun
