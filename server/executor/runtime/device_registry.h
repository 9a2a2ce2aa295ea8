#ifndef TRUN_SERVER_EXECUTOR_RUNTIME_DEVICE_REGISTRY_H_
#define TRUN_SERVER_EXECUTOR_RUNTIME_DEVICE_REGISTRY_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/device/device.h"

namespace trun {

// The devices an executor can open, registered by its main. Thread-compatible.
class DeviceRegistry {
 public:
  using Factory = std::function<absl::StatusOr<std::unique_ptr<device::Device>>()>;

  // ALREADY_EXISTS for a name that was registered before.
  absl::Status Register(absl::string_view name, Factory factory);
  // NOT_FOUND kArgument that lists the names; the factory's errors.
  absl::StatusOr<std::unique_ptr<device::Device>> Open(absl::string_view name) const;

 private:
  std::map<std::string, Factory, std::less<>> factories_;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_RUNTIME_DEVICE_REGISTRY_H_
