// Any JSON from a worker: refused, or canonical, and canonical again the same.
#include <cstdint>
#include <cstdlib>

#include "server/toolchain/triton/worker_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nlohmann::json value;
  if (!trun::ParseJsonObject(absl::string_view(reinterpret_cast<const char*>(data), size), &value)) return 0;
  const std::string canonical = trun::CanonicalJson(value);
  trun::JsonString(value, "op");
  trun::JsonInteger(value, "ns", 0);
  trun::PrintableText(canonical);
  nlohmann::json again;
  if (!trun::ParseJsonObject(canonical, &again) || trun::CanonicalJson(again) != canonical) abort();
  return 0;
}
