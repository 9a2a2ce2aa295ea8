// Reading JSON that an untrusted process wrote.
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_JSON_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_JSON_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/string_view.h"

namespace trun {

// False unless `text` is one JSON object, nested less than 64 deep (so that nothing recursive overflows on
// it).
bool ParseJsonObject(absl::string_view text, nlohmann::json* out);
// The same for any value.
bool ParseJsonValue(absl::string_view text, nlohmann::json* out);

// Sorted keys, no spaces; strings that are not UTF-8 are repaired.
std::string CanonicalJson(const nlohmann::json& value);

// A member's value; "" or `fallback` where it is missing or of another type. REQUIRES: object is an object.
std::string JsonString(const nlohmann::json& object, const char* key);
int64_t JsonInteger(const nlohmann::json& object, const char* key, int64_t fallback);

// The text with every byte that is not of valid UTF-8, and every control character but newline and tab
// (U+0080 to U+009F among them), as '?': fit for a status message.
std::string PrintableText(absl::string_view text);

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_WORKER_JSON_H_
