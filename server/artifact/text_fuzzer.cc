// Any bytes as TTIR, TTGIR, LLIR or PTX: what it looks like, or by its last byte if it looks like nothing.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>

#include "server/artifact/level_detection.h"
#include "server/artifact/metadata.h"
#include "server/artifact/signature.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  constexpr trun::Level kLevels[] = {trun::Level::kPtx, trun::Level::kTtir, trun::Level::kTtgir,
                                     trun::Level::kLlir};
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const auto detected = trun::DetectLevel(text);
  const trun::Level level =
      std::count(std::begin(kLevels), std::end(kLevels), detected.value_or(trun::Level::kCubin)) > 0
          ? *detected
          : kLevels[data[size - 1] % 4];
  (void)trun::ReadMetadata("", level, text);
  (void)trun::ReadParameters(level, text);
  const auto signature = trun::ReadSignature(level, text);
  if (signature.ok() && !trun::MergeSignatures(*signature, *signature).ok()) __builtin_trap();
  return 0;
}
