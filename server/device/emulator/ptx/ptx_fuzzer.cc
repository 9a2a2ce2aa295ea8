// Random bytes as PTX: every module is loaded or refused, in bounded time and memory.
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "server/device/emulator/emulator_module.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const memory =
      new std::shared_ptr<trun::device::AllocationTable>(std::make_shared<trun::device::AllocationTable>());
  const auto module = trun::device::LoadEmulatorModule(
      absl::string_view(reinterpret_cast<const char*>(data), size), 90, *memory);
  (void)module;
  return 0;
}
