#include "server/toolchain/triton/worker_json.h"

#include <algorithm>
#include <utility>

#include "common/base/utf8.h"

namespace trun {
namespace {

constexpr int kMaxDepth = 64;

// Counted before parsing: a tree that is too deep is never built.
bool TooDeep(absl::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

bool ParseJsonValue(absl::string_view text, nlohmann::json* out) {
  if (TooDeep(text)) return false;
  nlohmann::json value = nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return false;
  *out = std::move(value);
  return true;
}

bool ParseJsonObject(absl::string_view text, nlohmann::json* out) {
  nlohmann::json value;
  if (!ParseJsonValue(text, &value) || !value.is_object()) return false;
  *out = std::move(value);
  return true;
}

std::string CanonicalJson(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string JsonString(const nlohmann::json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

int64_t JsonInteger(const nlohmann::json& object, const char* key, int64_t fallback) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number_integer() ? it->get<int64_t>() : fallback;
}

std::string PrintableText(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = Utf8SequenceLength(text, at);
    const auto first = static_cast<unsigned char>(text[at]);
    const bool control =
        length == 1 ? (first < 0x20 && first != '\n' && first != '\t') || first == 0x7F
                    : length == 2 && first == 0xC2 && static_cast<unsigned char>(text[at + 1]) < 0xA0;
    if (length == 0 || control) {
      out.push_back('?');
    } else {
      out.append(text.data() + at, length);
    }
    at += std::max<size_t>(length, 1);
  }
  return out;
}

}  // namespace trun
