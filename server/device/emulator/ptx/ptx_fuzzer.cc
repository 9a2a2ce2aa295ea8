// Random bytes as PTX: every module is loaded or refused, in bounded time and memory, by the emulator of each
// architecture: the one that the text names in .target, or, where it names none of them, one that its length
// chooses.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/strings/ascii.h"
#include "absl/strings/string_view.h"
#include "server/device/emulator/emulator_module.h"

namespace {

constexpr std::array<int, 7> kArchs = {75, 80, 86, 89, 90, 100, 120};

int ArchFor(absl::string_view text) {
  int named = 0;
  if (const size_t at = text.find(".target sm_"); at != absl::string_view::npos) {
    for (char digit : text.substr(at + 11, 3)) {
      if (!absl::ascii_isdigit(static_cast<unsigned char>(digit))) break;
      named = 10 * named + (digit - '0');
    }
  }
  const bool known = std::find(kArchs.begin(), kArchs.end(), named) != kArchs.end();
  return known ? named : kArchs[text.size() % kArchs.size()];
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const memory =
      new std::shared_ptr<trun::device::AllocationTable>(std::make_shared<trun::device::AllocationTable>());
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto module = trun::device::LoadEmulatorModule(text, ArchFor(text), *memory);
  (void)module;
  return 0;
}
