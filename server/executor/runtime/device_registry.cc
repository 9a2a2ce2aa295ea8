#include "server/executor/runtime/device_registry.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

absl::Status DeviceRegistry::Register(absl::string_view name, Factory factory) {
  if (!factories_.emplace(std::string(name), std::move(factory)).second) {
    return MakeError(absl::StatusCode::kAlreadyExists, Reason::kInternal,
                     absl::StrCat("device '", name, "' is registered twice"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<device::Device>> DeviceRegistry::Open(absl::string_view name) const {
  const auto it = factories_.find(name);
  if (it != factories_.end()) return it->second();
  std::string known;
  for (const auto& [other, factory] : factories_) absl::StrAppend(&known, known.empty() ? "" : ", ", other);
  return NotFound(Reason::kArgument, absl::StrCat("no device '", name, "'; there are: ", known));
}

}  // namespace trun
