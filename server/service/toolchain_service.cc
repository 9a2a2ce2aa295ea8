#include "server/service/toolchain_service.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "server/service/wire.h"

namespace trun {
namespace {

absl::Status CheckText(absl::string_view text, absl::string_view field) {
  if (text.size() <= kMaxNameBytes && text.find('\0') == absl::string_view::npos) return absl::OkStatus();
  return InvalidArgument(Reason::kArgument, absl::StrCat(field, " is longer than ", kMaxNameBytes,
                                                         " bytes, or holds a zero byte"));
}

}  // namespace

ToolchainService::ToolchainService(const ServiceContext& context)
    : context_(context),
      list_(context, "ToolchainService/ListToolchains", WhileDraining::kServed),
      install_(context, "ToolchainService/InstallToolchain", WhileDraining::kRefused),
      adopt_(context, "ToolchainService/AdoptToolchain", WhileDraining::kRefused),
      remove_(context, "ToolchainService/RemoveToolchain", WhileDraining::kRefused),
      describe_(context, "ToolchainService/DescribeToolchain", WhileDraining::kRefused) {}

grpc::ServerUnaryReactor* ToolchainService::ListToolchains(grpc::CallbackServerContext* call,
                                                           const v1::ListToolchainsRequest* /*request*/,
                                                           v1::ListToolchainsResponse* response) {
  return UnaryCall::RunOn(context_.workers, context_, list_, call,
                          [this, response](const Caller& /*caller*/) {
                            for (const std::shared_ptr<Toolchain>& toolchain : context_.toolchains->List()) {
                              EncodeToolchain(toolchain->info(), response->add_toolchains());
                            }
                            return absl::OkStatus();
                          });
}

grpc::ServerWriteReactor<v1::InstallToolchainResponse>* ToolchainService::InstallToolchain(
    grpc::CallbackServerContext* call, const v1::InstallToolchainRequest* request) {
  using Stream = EventStream<v1::InstallToolchainResponse>;
  // The request is gone once the stream has ended; an installation may go on after its client has left.
  return Stream::RunOn(context_.workers, context_, install_, call,
                       [this, version = request->version()](const std::shared_ptr<Stream>& stream) {
                         absl::Status allowed = RequireOwner(stream->scope().caller());
                         if (allowed.ok()) allowed = CheckText(version, "version");
                         if (!allowed.ok()) return stream->Close(allowed);
                         const absl::StatusOr<std::shared_ptr<Toolchain>> installed =
                             context_.toolchains->Install(version,
                                                          [&stream](const ToolchainProgress& progress) {
                                                            v1::InstallToolchainResponse event;
                                                            event.set_step(WireText(progress.step, 1024));
                                                            event.set_fraction(progress.fraction);
                                                            stream->Push(std::move(event));
                                                          });
                         if (!installed.ok()) return stream->Close(installed.status());
                         v1::InstallToolchainResponse last;
                         last.set_step("installed");
                         last.set_fraction(1.0);
                         EncodeToolchain((*installed)->info(), last.mutable_toolchain());
                         stream->CloseWith({std::move(last)}, absl::OkStatus());
                       });
}

grpc::ServerUnaryReactor* ToolchainService::AdoptToolchain(grpc::CallbackServerContext* call,
                                                           const v1::AdoptToolchainRequest* request,
                                                           v1::AdoptToolchainResponse* response) {
  return UnaryCall::RunOn(
      context_.workers, context_, adopt_, call,
      [this, request, response](const Caller& caller) -> absl::Status {
        TRUN_RETURN_IF_ERROR(RequireOwner(caller));
        TRUN_RETURN_IF_ERROR(CheckText(request->python(), "python"));
        TRUN_RETURN_IF_ERROR(CheckText(request->name(), "name"));
        if (request->python().empty() || request->python()[0] != '/') {
          return InvalidArgument(Reason::kArgument, "the environment's path must be absolute");
        }
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Toolchain> adopted,
                              context_.toolchains->Adopt(request->python(), request->name()));
        EncodeToolchain(adopted->info(), response->mutable_toolchain());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ToolchainService::RemoveToolchain(grpc::CallbackServerContext* call,
                                                            const v1::RemoveToolchainRequest* request,
                                                            v1::RemoveToolchainResponse* /*response*/) {
  return UnaryCall::RunOn(context_.workers, context_, remove_, call,
                          [this, request](const Caller& caller) -> absl::Status {
                            TRUN_RETURN_IF_ERROR(RequireOwner(caller));
                            return context_.toolchains->Remove(request->name());
                          });
}

grpc::ServerUnaryReactor* ToolchainService::DescribeToolchain(grpc::CallbackServerContext* call,
                                                              const v1::DescribeToolchainRequest* request,
                                                              v1::DescribeToolchainResponse* response) {
  return UnaryCall::RunOn(context_.compilers, context_, describe_, call,
                          [this, request, response](const Caller&) -> absl::Status {
                            TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Toolchain> toolchain,
                                                  context_.toolchains->Find(request->name()));
                            TRUN_ASSIGN_OR_RETURN(const std::vector<ToolchainOption> options,
                                                  toolchain->Options("cuda"));
                            EncodeToolchain(toolchain->info(), response->mutable_toolchain());
                            for (const ToolchainOption& option : options) {
                              v1::CompileOption* made = response->add_options();
                              made->set_name(WireText(option.name, kMaxNameBytes));
                              made->set_type(WireText(option.type, kMaxNameBytes));
                              made->set_default_json(WireText(option.default_json, kMaxNameBytes));
                            }
                            return absl::OkStatus();
                          });
}

}  // namespace trun
