#include "server/device/cuda/address_window.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace trun::device {
namespace {

struct Reserved {
  Mutex mu;
  std::map<uint64_t, int> users ABSL_GUARDED_BY(mu);  // by the address of the window
};

Reserved& OfThisProcess() {
  static Reserved* const reserved = new Reserved;
  return *reserved;
}

}  // namespace

AddressWindows::~AddressWindows() {
  Reserved& reserved = OfThisProcess();
  MutexLock lock(&reserved.mu);
  for (const uint64_t window : mine_) {
    const auto it = reserved.users.find(window);
    // A window of a lost context stays as it is: the driver is not to be touched.
    if (--it->second > 0 || !context_->Enter().ok()) continue;
    context_->driver().cuMemAddressFree(window, kWindowBytes);
    reserved.users.erase(it);
  }
}

absl::Status AddressWindows::Reserve(uint64_t address, uint64_t bytes) {
  const uint64_t window = address / kWindowBytes * kWindowBytes;
  if (window == 0 || bytes > kWindowBytes - (address - window)) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("an arena of ", bytes, " bytes at 0x", absl::Hex(address),
                                        " does not lie in one window of 1 TiB"));
  }
  if (mine_.count(window) != 0) return absl::OkStatus();
  Reserved& reserved = OfThisProcess();
  MutexLock lock(&reserved.mu);
  const auto it = reserved.users.find(window);
  if (it != reserved.users.end()) {
    ++it->second;
    mine_.insert(window);
    return absl::OkStatus();
  }
  CUdeviceptr given = 0;
  TRUN_RETURN_IF_ERROR(
      context_->Check(context_->driver().cuMemAddressReserve(&given, kWindowBytes, 0, window, 0),
                      absl::StrCat("reserving addresses at 0x", absl::Hex(window))));
  if (given != window) {
    context_->driver().cuMemAddressFree(given, kWindowBytes);
    return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument,
                     absl::StrCat("the driver gave 0x", absl::Hex(given), " for 0x", absl::Hex(window),
                                  ": something else of this process lies there"));
  }
  reserved.users[window] = 1;
  mine_.insert(window);
  return absl::OkStatus();
}

}  // namespace trun::device
