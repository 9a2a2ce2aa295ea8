#include "server/toolchain/triton/worker_message.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/ir/amd_target.h"
#include "server/toolchain/triton/worker_json.h"

namespace trun {
namespace {

constexpr size_t kMaxMessageBytes = 16 << 10;
constexpr size_t kMaxDetails = 16;

}  // namespace

absl::StatusOr<nlohmann::json> OptionsToJson(const CompileOptions& options) {
  nlohmann::json object = nlohmann::json::object();
  for (const auto& [name, text] : options) {
    nlohmann::json value;
    if (!ParseJsonValue(text, &value)) {
      return InvalidArgument(
          Reason::kUnknownOption,
          absl::StrCat("the value of option ", name, " is not JSON: ", text.substr(0, 100)),
          {{"option", name}});
    }
    object[name] = std::move(value);
  }
  return object;
}

nlohmann::json TargetToJson(const Target& target) {
  return {{"backend", target.backend},
          {"arch", IsAmd(target) ? nlohmann::json(GfxName(target)) : nlohmann::json(target.arch)},
          {"warp_size", target.warp_size}};
}

WorkerError ReadWorkerError(const nlohmann::json& header) {
  WorkerError error;
  error.kind = JsonString(header, "kind");
  error.message = PrintableText(JsonString(header, "message").substr(0, kMaxMessageBytes));
  const auto given = header.find("details");
  if (given == header.end() || !given->is_object()) return error;
  for (const auto& [key, value] : given->items()) {
    if (value.is_string() && error.details.size() < kMaxDetails)
      error.details[PrintableText(key)] = PrintableText(value.get<std::string>());
  }
  return error;
}

}  // namespace trun
