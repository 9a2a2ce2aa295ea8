#ifndef TRUN_SERVER_SERVICE_DEVICE_SERVICE_H_
#define TRUN_SERVER_SERVICE_DEVICE_SERVICE_H_

#include "server/service/call.h"
#include "trun/v1/device.grpc.pb.h"

namespace trun {

// trun.v1.DeviceService. Thread-safe. `context` outlives it.
class DeviceService final : public v1::DeviceService::CallbackService {
 public:
  explicit DeviceService(const ServiceContext& context);

  grpc::ServerUnaryReactor* ListDevices(grpc::CallbackServerContext* call,
                                        const v1::ListDevicesRequest* request,
                                        v1::ListDevicesResponse* response) override;

 private:
  const ServiceContext& context_;
  const Method list_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_DEVICE_SERVICE_H_
