#include "server/service/device_service.h"

#include "common/rpc/status_mapping.h"

namespace trun {

DeviceService::DeviceService(const ServiceContext& context)
    : context_(context), list_(context, "DeviceService/ListDevices", WhileDraining::kServed) {}

grpc::ServerUnaryReactor* DeviceService::ListDevices(grpc::CallbackServerContext* call,
                                                     const v1::ListDevicesRequest* /*request*/,
                                                     v1::ListDevicesResponse* response) {
  return UnaryCall::RunOn(
      context_.workers, context_, list_, call, [this, response](const Caller& /*caller*/) {
        for (const ExecutorFactory::DeviceDescription& device : context_.executors->Devices()) {
          const SessionRegistry::DeviceUsage usage = context_.sessions->UsageOf(device.device);
          v1::DeviceInfo* made = response->add_devices();
          made->set_device(device.device);
          made->set_name(WireText(device.info.name, 1024));
          made->set_target(device.info.target.ToString());
          made->set_memory_bytes(device.info.memory_bytes);
          made->set_multiprocessors(device.info.multiprocessors);
          made->set_max_shared_bytes(device.info.max_shared_bytes);
          made->set_sessions(usage.sessions);
          made->set_used_bytes(usage.used_bytes);
          made->set_is_default(device.device == context_.sessions->default_device());
          made->set_clock_khz(device.info.clock_khz);
          made->set_memory_clock_khz(device.info.memory_clock_khz);
          made->set_driver(WireText(device.info.driver, 1024));
          made->set_pinning_refused(WireText(device.info.pinning_refused, 1024));
          for (const SessionStatistics& session : context_.sessions->List("")) {
            if (session.device != device.device) continue;
            v1::DeviceUser* user = made->add_users();
            user->set_client_name(WireText(session.client_name, 256));
            user->set_used_bytes(session.tensor_bytes);
            user->set_executor_pid(session.executor_pid);
          }
          if (!device.usable.ok()) made->set_unusable_reason(WireText(device.usable.message(), 4096));
        }
        if (!context_.no_gpu_reason.empty()) {
          v1::DeviceInfo* none = response->add_devices();
          none->set_device("cuda");
          none->set_unusable_reason(WireText(context_.no_gpu_reason, 4096));
        }
        return absl::OkStatus();
      });
}

}  // namespace trun
