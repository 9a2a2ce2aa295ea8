#include "server/artifact/metadata_json.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/json_depth.h"
#include "common/base/status.h"
#include "server/artifact/level_detection.h"
#include "server/artifact/metadata.h"

namespace trun {
namespace {

constexpr int kMaxDepth = 32;

absl::Status SyntaxError(absl::string_view text, size_t byte, absl::string_view what) {
  const absl::string_view before = text.substr(0, std::min(byte, text.size()));
  const size_t line = 1 + static_cast<size_t>(std::count(before.begin(), before.end(), '\n'));
  const size_t line_begin = before.rfind('\n');
  const size_t column =
      line_begin == absl::string_view::npos ? before.size() : before.size() - line_begin - 1;
  return InvalidArgument(
      Reason::kMetadata,
      absl::StrCat("the metadata is not JSON: ", what, " at line ", line, ", column ",
                   std::max<size_t>(column, 1)),
      {{"line", absl::StrCat(line)}, {"column", absl::StrCat(std::max<size_t>(column, 1))}});
}

// The start of a value, in ASCII.
std::string Shown(const nlohmann::json& value) { return value.dump(-1, ' ', true).substr(0, 60); }

}  // namespace

absl::Status MetadataError(absl::string_view key, absl::string_view message) {
  return InvalidArgument(Reason::kMetadata, message, {{"key", std::string(key)}});
}

absl::StatusOr<MetadataJson> MetadataJson::Parse(absl::string_view text) {
  MetadataJson result;
  if (text.empty()) return result;
  if (text.size() > kMaxMetadataTextBytes) {
    return ResourceExhausted(
        Reason::kTooLarge,
        absl::StrCat("the metadata has ", text.size(), " bytes; the limit is ", kMaxMetadataTextBytes),
        {{"limit", absl::StrCat(kMaxMetadataTextBytes)}});
  }
  const size_t deep = FirstTooDeep(text, kMaxDepth);
  if (deep != absl::string_view::npos) return SyntaxError(text, deep + 1, "it is nested too deep");
  try {
    result.object_ = nlohmann::json::parse(text.begin(), text.end());
  } catch (const nlohmann::json::parse_error& error) {
    return SyntaxError(text, error.byte, "unexpected character");
  } catch (const nlohmann::json::exception&) {
    return SyntaxError(text, 0, "a number is out of range");
  }
  if (!result.object_.is_object()) return SyntaxError(text, 1, "it is not an object");
  return result;
}

bool MetadataJson::Has(const char* key) const {
  const auto found = object_.find(key);
  return found != object_.end() && !found->is_null();
}

absl::StatusOr<std::optional<int64_t>> MetadataJson::Integer(const char* key, int64_t least,
                                                             int64_t most) const {
  if (!Has(key)) return std::optional<int64_t>();
  const nlohmann::json& value = object_[key];
  const bool fits =
      value.is_number_unsigned()
          ? most >= 0 && value.get<uint64_t>() <= static_cast<uint64_t>(most) &&
                (least < 0 || value.get<uint64_t>() >= static_cast<uint64_t>(least))
          : value.is_number_integer() && value.get<int64_t>() >= least && value.get<int64_t>() <= most;
  if (!fits) {
    return MetadataError(key, absl::StrCat("metadata key '", key, "' must be an integer from ", least, " to ",
                                           most, ", not ", Shown(value)));
  }
  return std::optional<int64_t>(value.get<int64_t>());
}

absl::StatusOr<std::optional<bool>> MetadataJson::Boolean(const char* key) const {
  if (!Has(key)) return std::optional<bool>();
  const nlohmann::json& value = object_[key];
  if (!value.is_boolean()) {
    return MetadataError(key,
                         absl::StrCat("metadata key '", key, "' must be true or false, not ", Shown(value)));
  }
  return std::optional<bool>(value.get<bool>());
}

absl::StatusOr<std::optional<std::string>> MetadataJson::String(const char* key) const {
  if (!Has(key)) return std::optional<std::string>();
  const nlohmann::json& value = object_[key];
  if (!value.is_string()) {
    return MetadataError(key, absl::StrCat("metadata key '", key, "' must be a string, not ", Shown(value)));
  }
  return std::optional<std::string>(value.get<std::string>());
}

std::string MetadataJson::Canonical() const { return object_.dump(); }

}  // namespace trun
