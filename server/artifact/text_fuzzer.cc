// Any bytes as TTIR, TTGIR, LLIR or PTX: the first byte chooses.
#include <cstddef>
#include <cstdint>

#include "server/artifact/level_detection.h"
#include "server/artifact/metadata.h"
#include "server/artifact/signature.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  constexpr trun::Level kLevels[] = {trun::Level::kPtx, trun::Level::kTtir, trun::Level::kTtgir,
                                     trun::Level::kLlir};
  const trun::Level level = kLevels[data[0] % 4];
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  (void)trun::DetectLevel(text);
  (void)trun::ReadMetadata("", level, text);
  (void)trun::ReadParameters(level, text);
  const auto signature = trun::ReadSignature(level, text);
  if (signature.ok() && !trun::MergeSignatures(*signature, *signature).ok()) __builtin_trap();
  return 0;
}
