#include "server/service/staging_service.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

constexpr int kMaxRanges = 1024;

absl::StatusOr<TransferDirection> DecodeDirection(v1::TransferDirection direction) {
  if (direction == v1::TRANSFER_DIRECTION_TO_TENSOR) return TransferDirection::kToTensor;
  if (direction == v1::TRANSFER_DIRECTION_FROM_TENSOR) return TransferDirection::kFromTensor;
  return InvalidArgument(Reason::kArgument, absl::StrCat("a transfer of direction ", direction,
                                                         "; it goes to or from a tensor"));
}

}  // namespace

StagingService::StagingService(const ServiceContext& context)
    : context_(context),
      create_(context, "StagingService/CreateStaging", WhileDraining::kRefused),
      transfer_(context, "StagingService/Transfer", WhileDraining::kServed),
      free_(context, "StagingService/FreeStaging", WhileDraining::kServed) {}

grpc::ServerUnaryReactor* StagingService::CreateStaging(grpc::CallbackServerContext* call,
                                                        const v1::CreateStagingRequest* request,
                                                        v1::CreateStagingResponse* response) {
  return UnaryCall::RunOn(context_.workers, context_, create_, call,
                          [this, request, response](const Caller& caller) -> absl::Status {
                            TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                                                  context_.sessions->Find(request->session(), caller.tenant));
                            TRUN_ASSIGN_OR_RETURN(StagingInfo made, session->CreateStaging(request->bytes()));
                            std::vector<UniqueFd> descriptors;
                            descriptors.push_back(std::move(made.descriptor));
                            absl::StatusOr<std::string> token =
                                context_.tokens->Put(caller.user, std::move(descriptors));
                            if (!token.ok()) {
                              session->FreeStaging(made.handle).IgnoreError();  // nobody could ever map it
                              return token.status();
                            }
                            response->set_staging(made.handle);
                            response->set_bytes(made.bytes);
                            response->set_token(*std::move(token));
                            response->set_unregistered_reason(made.unregistered);
                            return absl::OkStatus();
                          });
}

grpc::ServerUnaryReactor* StagingService::Transfer(grpc::CallbackServerContext* call,
                                                   const v1::TransferRequest* request,
                                                   v1::TransferResponse* /*response*/) {
  return UnaryCall::RunOn(
      context_.workers, context_, transfer_, call, [this, request](const Caller& caller) -> absl::Status {
        if (request->ranges_size() < 1 || request->ranges_size() > kMaxRanges) {
          return InvalidArgument(Reason::kArgument, absl::StrCat("a transfer of ", request->ranges_size(),
                                                                 " ranges; it has 1 to ", kMaxRanges));
        }
        TRUN_ASSIGN_OR_RETURN(const TransferDirection direction, DecodeDirection(request->direction()));
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        std::vector<StagingMove> moves;
        for (const v1::TransferRange& range : request->ranges()) {
          moves.push_back({range.staging_offset(), range.tensor(), range.tensor_offset(), range.bytes()});
        }
        return session->Transfer(request->staging(), moves, direction);
      });
}

grpc::ServerUnaryReactor* StagingService::FreeStaging(grpc::CallbackServerContext* call,
                                                      const v1::FreeStagingRequest* request,
                                                      v1::FreeStagingResponse* /*response*/) {
  return UnaryCall::RunOn(context_.workers, context_, free_, call,
                          [this, request](const Caller& caller) -> absl::Status {
                            TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                                                  context_.sessions->Find(request->session(), caller.tenant));
                            return session->FreeStaging(request->staging());
                          });
}

}  // namespace trun
