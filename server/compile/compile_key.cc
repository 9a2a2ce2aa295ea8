#include "server/compile/compile_key.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/base/json_depth.h"
#include "common/base/status.h"
#include "server/toolchain/source_frontend.h"

namespace trun {
namespace {

constexpr absl::string_view kKeyVersion = "trun compile 1";
constexpr size_t kMaxOptionBytes = size_t{64} << 10;
constexpr int kMaxOptionDepth = 32;

// "hash" names the source Triton started from (triton/compiler/compiler.py) and no stage reads it: with it in
// the key, no two sources would ever share what they have in common.
std::string MetadataOfKey(absl::string_view metadata_json) {
  std::string text(metadata_json);
  if (!absl::StrContains(text, "\"hash\"") || FirstTooDeep(text, kMaxOptionDepth) != absl::string_view::npos)
    return text;
  nlohmann::json parsed = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object() || parsed.erase("hash") == 0) return text;
  return parsed.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

CacheKey MakeCompileKey(Level level, const Digest& ir, absl::string_view metadata_json,
                        const CompileContext& context) {
  Hasher hasher;
  hasher.Add(kKeyVersion)
      .Add(static_cast<uint64_t>(level))
      .Add(ir.bytes())
      .Add(MetadataOfKey(metadata_json))
      .Add(context.target.ToString())
      .Add(context.toolchain_id)
      .Add(static_cast<uint64_t>(context.options->size()));
  for (const auto& [name, value] : *context.options) hasher.Add(name).Add(value);
  hasher.Add(context.instrumentation);
  if (IsSourceLevel(level)) hasher.Add(context.frontend_id);
  if (!context.passes.empty()) hasher.Add("passes").Add(context.passes);
  return hasher.Finish();
}

absl::StatusOr<CompileOptions> CanonicalOptions(const CompileOptions& options) {
  CompileOptions canonical;
  for (const auto& [name, value] : options) {
    const bool is_sound =
        value.size() <= kMaxOptionBytes && FirstTooDeep(value, kMaxOptionDepth) == absl::string_view::npos;
    nlohmann::json parsed = nlohmann::json::value_t::discarded;
    if (is_sound) parsed = nlohmann::json::parse(value, nullptr, /*allow_exceptions=*/false);
    if (parsed.is_discarded()) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("the value of the compile option '", name,
                                          "' is not JSON of at most ", kMaxOptionBytes, " bytes and ",
                                          kMaxOptionDepth, " levels: write 4, true, \"text\" or [1, 2]"),
                             {{"option", name}});
    }
    canonical[name] = parsed.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
  return canonical;
}

}  // namespace trun
