#include "server/service/session_service.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "server/service/wire.h"

namespace trun {
namespace {

constexpr size_t kMaxClientNameBytes = 256;

}  // namespace

SessionService::SessionService(const ServiceContext& context)
    : context_(context),
      open_(context, "SessionService/OpenSession", WhileDraining::kRefused),
      keep_alive_(context, "SessionService/KeepAlive", WhileDraining::kServed),
      close_(context, "SessionService/CloseSession", WhileDraining::kServed),
      list_(context, "SessionService/ListSessions", WhileDraining::kServed),
      export_(context, "SessionService/ExportDescriptors", WhileDraining::kServed) {}

grpc::ServerUnaryReactor* SessionService::OpenSession(grpc::CallbackServerContext* call,
                                                      const v1::OpenSessionRequest* request,
                                                      v1::OpenSessionResponse* response) {
  return UnaryCall::RunOn(
      context_.workers, context_, open_, call,
      [this, request, response](const Caller& caller) -> absl::Status {
        if (request->protocol_version() != kProtocolVersion) {
          return FailedPrecondition(
              Reason::kProtocol,
              absl::StrCat("this daemon (", context_.facts.version, ") speaks protocol ", kProtocolVersion,
                           ", not ", request->protocol_version(), ": use a client of the same release"),
              {{"protocol_version", absl::StrCat(kProtocolVersion)}});
        }
        OpenSessionOptions options;
        options.tenant = caller.tenant;
        options.client_name = WireText(request->client_name(), kMaxClientNameBytes);
        options.device = request->device();
        TRUN_ASSIGN_OR_RETURN(options.lease, DecodeDuration(request->lease(), "lease", absl::Hours(1)));
        options.memory_limit_bytes = request->memory_limit_bytes();
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session, context_.sessions->Open(options));
        response->set_session(session->id());
        response->set_protocol_version(kProtocolVersion);
        response->set_server_version(context_.facts.version);
        response->set_device(session->device());
        response->set_device_name(session->device_info().name);
        response->set_device_target(session->device_info().target.ToString());
        EncodeDuration(session->lease(), response->mutable_lease());
        response->set_descriptor_socket(context_.facts.descriptor_socket);
        response->set_memory_limit_bytes(session->memory_limit());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* SessionService::KeepAlive(grpc::CallbackServerContext* call,
                                                    const v1::KeepAliveRequest* request,
                                                    v1::KeepAliveResponse* response) {
  return UnaryCall::Run(context_, keep_alive_, call, [&](const Caller& caller) -> absl::Status {
    TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                          context_.sessions->Find(request->session(), caller.tenant));
    EncodeDuration(session->lease(), response->mutable_lease());
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* SessionService::CloseSession(grpc::CallbackServerContext* call,
                                                       const v1::CloseSessionRequest* request,
                                                       v1::CloseSessionResponse* /*response*/) {
  return UnaryCall::RunOn(context_.workers, context_, close_, call, [this, request](const Caller& caller) {
    return context_.sessions->Close(request->session(), caller.tenant);
  });
}

grpc::ServerUnaryReactor* SessionService::ListSessions(grpc::CallbackServerContext* call,
                                                       const v1::ListSessionsRequest* /*request*/,
                                                       v1::ListSessionsResponse* response) {
  return UnaryCall::Run(context_, list_, call, [&](const Caller& caller) {
    for (const SessionStatistics& session : context_.sessions->List(caller.is_owner ? "" : caller.tenant)) {
      EncodeSession(session, response->add_sessions());
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* SessionService::ExportDescriptors(grpc::CallbackServerContext* call,
                                                            const v1::ExportDescriptorsRequest* request,
                                                            v1::ExportDescriptorsResponse* response) {
  return UnaryCall::RunOn(
      context_.workers, context_, export_, call,
      [this, request, response](const Caller& caller) -> absl::Status {
        if (request->tensors_size() == 0 ||
            static_cast<size_t>(request->tensors_size()) > kMaxDescriptorsPerExchange) {
          return InvalidArgument(Reason::kArgument,
                                 absl::StrCat("name between 1 and ", kMaxDescriptorsPerExchange, " tensors"));
        }
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        const std::vector<std::string> names(request->tensors().begin(), request->tensors().end());
        TRUN_ASSIGN_OR_RETURN(DescriptorExport exported, session->ExportDescriptors(names));
        TRUN_ASSIGN_OR_RETURN(*response->mutable_token(),
                              context_.tokens->Put(caller.user, std::move(exported.descriptors)));
        for (const DescriptorExport::Tensor& tensor : exported.tensors) {
          v1::ExportedTensor* made = response->add_tensors();
          made->set_descriptor_index(tensor.descriptor_index);
          made->set_offset(tensor.offset);
          made->set_bytes(tensor.bytes);
          made->set_descriptor_bytes(tensor.descriptor_bytes);
        }
        return absl::OkStatus();
      });
}

}  // namespace trun
