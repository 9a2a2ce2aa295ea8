// Any bytes as metadata, alone and beside a real file.
#include <cstddef>
#include <cstdint>

#include "server/artifact/metadata.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view json(reinterpret_cast<const char*>(data), size);
  constexpr char kPtx[] =
      ".version 8.7\n.target sm_80\n.visible .entry k(.param .u64 .ptr .global .align 1 p)\n.reqntid 128\n{ "
      "ret; }\n";
  (void)trun::ReadMetadata(json, trun::Level::kPtx, kPtx);
  const auto canonical = trun::CanonicalMetadata(json);
  if (canonical.ok() && *trun::CanonicalMetadata(*canonical) != *canonical) __builtin_trap();
  return 0;
}
