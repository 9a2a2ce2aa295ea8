// Any bytes as a cubin.
#include <cstddef>
#include <cstdint>

#include "server/artifact/metadata.h"
#include "server/artifact/signature.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)trun::ReadMetadata(R"({"shared": 0, "triton_version": "3.4.0"})", trun::Level::kCubin, bytes);
  (void)trun::ReadSignature(trun::Level::kCubin, bytes, "", 1);
  (void)trun::ReadParameters(trun::Level::kCubin, bytes);
  return 0;
}
