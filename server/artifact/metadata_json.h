// Strict access to a metadata JSON: bounded depth, typed keys, errors that name the key.
#ifndef TRUN_SERVER_ARTIFACT_METADATA_JSON_H_
#define TRUN_SERVER_ARTIFACT_METADATA_JSON_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"

namespace trun {

// kMetadata with the key in its details.
absl::Status MetadataError(absl::string_view key, absl::string_view message);

// A parsed JSON object. A key whose value is null counts as absent. Thread-safe once made.
class MetadataJson {
 public:
  // "" is an empty object. INVALID_ARGUMENT kMetadata: no JSON object, nested deeper than 32 (details: line,
  // column). RESOURCE_EXHAUSTED kTooLarge over kMaxMetadataTextBytes (details: limit).
  static absl::StatusOr<MetadataJson> Parse(absl::string_view text);

  bool Has(const char* key) const;
  // nullopt where absent. INVALID_ARGUMENT kMetadata: another type, or outside [least, most].
  absl::StatusOr<std::optional<int64_t>> Integer(const char* key, int64_t least, int64_t most) const;
  absl::StatusOr<std::optional<bool>> Boolean(const char* key) const;
  absl::StatusOr<std::optional<std::string>> String(const char* key) const;

  const nlohmann::json& object() const { return object_; }
  // Sorted keys, no white space.
  std::string Canonical() const;

 private:
  nlohmann::json object_ = nlohmann::json::object();
};

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_METADATA_JSON_H_
