#ifndef TRUN_SERVER_SERVICE_TENSOR_SERVICE_H_
#define TRUN_SERVER_SERVICE_TENSOR_SERVICE_H_

#include "server/service/call.h"
#include "trun/v1/tensor.grpc.pb.h"

namespace trun {

// trun.v1.TensorService. Thread-safe. `context` outlives it.
class TensorService final : public v1::TensorService::CallbackService {
 public:
  explicit TensorService(const ServiceContext& context);

  grpc::ServerUnaryReactor* Allocate(grpc::CallbackServerContext* call, const v1::AllocateRequest* request,
                                     v1::AllocateResponse* response) override;
  grpc::ServerReadReactor<v1::WriteRequest>* Write(grpc::CallbackServerContext* call,
                                                   v1::WriteResponse* response) override;
  grpc::ServerWriteReactor<v1::ReadResponse>* Read(grpc::CallbackServerContext* call,
                                                   const v1::ReadRequest* request) override;
  grpc::ServerUnaryReactor* Fill(grpc::CallbackServerContext* call, const v1::FillRequest* request,
                                 v1::FillResponse* response) override;
  grpc::ServerUnaryReactor* Copy(grpc::CallbackServerContext* call, const v1::CopyRequest* request,
                                 v1::CopyResponse* response) override;
  grpc::ServerUnaryReactor* Free(grpc::CallbackServerContext* call, const v1::FreeRequest* request,
                                 v1::FreeResponse* response) override;
  grpc::ServerUnaryReactor* Import(grpc::CallbackServerContext* call, const v1::ImportRequest* request,
                                   v1::ImportResponse* response) override;
  grpc::ServerUnaryReactor* ListTensors(grpc::CallbackServerContext* call,
                                        const v1::ListTensorsRequest* request,
                                        v1::ListTensorsResponse* response) override;

 private:
  const ServiceContext& context_;
  const Method allocate_, write_, read_, fill_, copy_, free_, import_, list_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_TENSOR_SERVICE_H_
