#include "server/service/tensor_service.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/limits.h"
#include "server/service/wire.h"

namespace trun {
namespace {

constexpr int kMaxTensorsPerCall = 4096;

absl::Status CheckCount(int count) {
  if (count >= 1 && count <= kMaxTensorsPerCall) return absl::OkStatus();
  return InvalidArgument(Reason::kArgument,
                         absl::StrCat("name between 1 and ", kMaxTensorsPerCall, " tensors, not ", count));
}

absl::Status PastTheEnd(absl::string_view tensor, uint64_t bytes) {
  return MakeError(absl::StatusCode::kOutOfRange, Reason::kArgument,
                   absl::StrCat("the range ends after the ", bytes, " bytes of ", tensor));
}

// A Write under way.
struct WriteState {
  std::shared_ptr<Session> session;
  std::string tensor;
  uint64_t offset = 0;
  uint64_t written = 0;
};

absl::Status TakeChunk(SessionRegistry& sessions, const Caller& caller, const v1::WriteRequest& request,
                       WriteState& state) {
  if (state.session == nullptr) {
    TRUN_ASSIGN_OR_RETURN(state.session, sessions.Find(request.session(), caller.tenant));
    state.tensor = request.tensor();
    state.offset = request.offset();
    TRUN_RETURN_IF_ERROR(state.session->GetTensor(state.tensor).status());
  } else if (!request.tensor().empty() && request.tensor() != state.tensor) {
    return InvalidArgument(Reason::kArgument,
                           "one Write goes to one tensor: name it in the first message only");
  }
  const std::string& data = request.data();
  if (data.size() > kMaxChunkBytes) {
    return ResourceExhausted(Reason::kTooLarge,
                             absl::StrCat("a chunk is larger than ", kMaxChunkBytes, " bytes"),
                             {{"limit", absl::StrCat(kMaxChunkBytes)}});
  }
  if (state.offset > std::numeric_limits<uint64_t>::max() - data.size()) return PastTheEnd(state.tensor, 0);
  TRUN_RETURN_IF_ERROR(state.session->Write(state.tensor, state.offset, data));
  state.offset += data.size();
  state.written += data.size();
  return absl::OkStatus();
}

// A Read under way.
struct ReadState {
  std::shared_ptr<Session> session;
  uint64_t offset = 0;
  uint64_t left = 0;
};

absl::Status StartRead(SessionRegistry& sessions, const Caller& caller, const v1::ReadRequest& request,
                       ReadState& state) {
  TRUN_ASSIGN_OR_RETURN(state.session, sessions.Find(request.session(), caller.tenant));
  TRUN_ASSIGN_OR_RETURN(const TensorInfo tensor, state.session->GetTensor(request.tensor()));
  if (request.offset() > tensor.bytes) return PastTheEnd(request.tensor(), tensor.bytes);
  const uint64_t rest = tensor.bytes - request.offset();
  if (request.bytes() > rest) return PastTheEnd(request.tensor(), tensor.bytes);
  state.offset = request.offset();
  state.left = request.bytes() == 0 ? rest : request.bytes();
  return absl::OkStatus();
}

}  // namespace

TensorService::TensorService(const ServiceContext& context)
    : context_(context),
      allocate_(context, "TensorService/Allocate", WhileDraining::kRefused),
      write_(context, "TensorService/Write", WhileDraining::kRefused),
      read_(context, "TensorService/Read", WhileDraining::kServed),
      fill_(context, "TensorService/Fill", WhileDraining::kRefused),
      copy_(context, "TensorService/Copy", WhileDraining::kRefused),
      free_(context, "TensorService/Free", WhileDraining::kServed),
      import_(context, "TensorService/Import", WhileDraining::kRefused),
      list_(context, "TensorService/ListTensors", WhileDraining::kServed) {}

grpc::ServerUnaryReactor* TensorService::Allocate(grpc::CallbackServerContext* call,
                                                  const v1::AllocateRequest* request,
                                                  v1::AllocateResponse* response) {
  return UnaryCall::RunOn(context_.workers, context_, allocate_, call,
                          [this, request, response](const Caller& caller) -> absl::Status {
                            TRUN_RETURN_IF_ERROR(CheckCount(request->tensors_size()));
                            TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                                                  context_.sessions->Find(request->session(), caller.tenant));
                            std::vector<TensorSpec> specs;
                            for (const v1::TensorSpec& wire : request->tensors()) {
                              TRUN_ASSIGN_OR_RETURN(TensorSpec spec, DecodeTensorSpec(wire));
                              specs.push_back(std::move(spec));
                            }
                            TRUN_ASSIGN_OR_RETURN(const std::vector<TensorInfo> tensors,
                                                  session->Allocate(specs));
                            for (const TensorInfo& tensor : tensors)
                              EncodeTensor(tensor, response->add_tensors());
                            return absl::OkStatus();
                          });
}

grpc::ServerReadReactor<v1::WriteRequest>* TensorService::Write(grpc::CallbackServerContext* call,
                                                                v1::WriteResponse* response) {
  auto state = std::make_shared<WriteState>();
  return ClientStream<v1::WriteRequest>::RunOn(
      context_.workers, context_, write_, call,
      [this, state](const Caller& caller, const v1::WriteRequest& request) {
        return TakeChunk(*context_.sessions, caller, request, *state);
      },
      [state, response](const Caller& /*caller*/) -> absl::Status {
        if (state->session == nullptr) return InvalidArgument(Reason::kArgument, "nothing was sent");
        response->set_bytes(state->written);
        return absl::OkStatus();
      });
}

grpc::ServerWriteReactor<v1::ReadResponse>* TensorService::Read(grpc::CallbackServerContext* call,
                                                                const v1::ReadRequest* request) {
  auto state = std::make_shared<ReadState>();
  return PullStream<v1::ReadResponse>::RunOn(
      context_.workers, context_, read_, call,
      [this, request, state](const Caller& caller, v1::ReadResponse* response) -> absl::StatusOr<bool> {
        if (state->session == nullptr) {
          TRUN_RETURN_IF_ERROR(StartRead(*context_.sessions, caller, *request, *state));
        }
        if (state->left == 0) return false;
        const uint64_t count = std::min<uint64_t>(state->left, kMaxChunkBytes);
        std::string* data = response->mutable_data();
        data->resize(count);
        TRUN_RETURN_IF_ERROR(
            state->session->Read(request->tensor(), state->offset, absl::MakeSpan(data->data(), count)));
        state->offset += count;
        state->left -= count;
        return true;
      });
}

grpc::ServerUnaryReactor* TensorService::Fill(grpc::CallbackServerContext* call,
                                              const v1::FillRequest* request,
                                              v1::FillResponse* /*response*/) {
  return UnaryCall::RunOn(
      context_.workers, context_, fill_, call, [this, request](const Caller& caller) -> absl::Status {
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        return session->Fill(request->tensor(), request->offset(), request->bytes(), request->pattern());
      });
}

grpc::ServerUnaryReactor* TensorService::Copy(grpc::CallbackServerContext* call,
                                              const v1::CopyRequest* request,
                                              v1::CopyResponse* /*response*/) {
  return UnaryCall::RunOn(
      context_.workers, context_, copy_, call, [this, request](const Caller& caller) -> absl::Status {
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        return session->Copy(request->source(), request->source_offset(), request->destination(),
                             request->destination_offset(), request->bytes());
      });
}

grpc::ServerUnaryReactor* TensorService::Free(grpc::CallbackServerContext* call,
                                              const v1::FreeRequest* request,
                                              v1::FreeResponse* /*response*/) {
  return UnaryCall::RunOn(
      context_.workers, context_, free_, call, [this, request](const Caller& caller) -> absl::Status {
        TRUN_RETURN_IF_ERROR(CheckCount(request->tensors_size()));
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        const std::vector<std::string> tensors(request->tensors().begin(), request->tensors().end());
        return session->Free(tensors);
      });
}

grpc::ServerUnaryReactor* TensorService::Import(grpc::CallbackServerContext* call,
                                                const v1::ImportRequest* request,
                                                v1::ImportResponse* response) {
  return UnaryCall::RunOn(
      context_.workers, context_, import_, call,
      [this, request, response](const Caller& caller) -> absl::Status {
        TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                              context_.sessions->Find(request->session(), caller.tenant));
        MemoryImport memory;
        memory.bytes = request->bytes();
        if (request->has_exported()) {
          TRUN_ASSIGN_OR_RETURN(std::vector<UniqueFd> given,
                                context_.tokens->Take(request->exported().token(), caller.user));
          if (given.size() != 1) {
            return InvalidArgument(Reason::kArgument, absl::StrCat("the token stands for ", given.size(),
                                                                   " descriptors; an import is one"));
          }
          memory.descriptor = std::move(given[0]);
          memory.address = request->exported().device_address();
        } else {
          // A handle opens what the executor's user may open, whosever memory it is.
          TRUN_RETURN_IF_ERROR(RequireOwner(caller));
          memory.handle = request->ipc_handle();
        }
        TRUN_ASSIGN_OR_RETURN(const TensorInfo tensor, session->Import(std::move(memory)));
        EncodeTensor(tensor, response->mutable_tensor());
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* TensorService::ListTensors(grpc::CallbackServerContext* call,
                                                     const v1::ListTensorsRequest* request,
                                                     v1::ListTensorsResponse* response) {
  return UnaryCall::Run(context_, list_, call, [&](const Caller& caller) -> absl::Status {
    TRUN_ASSIGN_OR_RETURN(const std::shared_ptr<Session> session,
                          context_.sessions->Find(request->session(), caller.tenant));
    for (const TensorInfo& tensor : session->ListTensors()) EncodeTensor(tensor, response->add_tensors());
    return absl::OkStatus();
  });
}

}  // namespace trun
