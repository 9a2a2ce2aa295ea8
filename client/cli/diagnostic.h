// How an error is shown: like a good compiler's for a person, as one JSON object for a program.
//
//   matmul.ttir:12:9: error: expected ']' [INVALID_IR]
//      12 |   %x = tt.load %p : tensor<64xf32
//         |         ^
//   help: ...
#ifndef TRUN_CLIENT_CLI_DIAGNOSTIC_H_
#define TRUN_CLIENT_CLI_DIAGNOSTIC_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json_fwd.hpp"
#include "trun/status.h"

namespace trun::cli {

// The file that a status's line and column are about.
struct SourceText {
  std::string name;
  std::string text;
};

// What is known of a session's tensors, so that a fault can name one. handle → "argument 2 'c_ptr'".
struct TensorName {
  std::string handle;
  std::string name;
};

struct DiagnosticContext {
  std::optional<SourceText> source;
  std::vector<TensorName> tensors;
};

// REQUIRES: !status.ok(). Ends with a newline. Control characters of the message are made visible.
std::string RenderDiagnostic(const absl::Status& status, const DiagnosticContext& context, bool color);
// {"error": {"code", "reason", "message", "exit_code", "details", "location", "fault", "help"}}.
nlohmann::ordered_json DiagnosticJson(const absl::Status& status, const DiagnosticContext& context);
nlohmann::ordered_json FaultJson(const FaultReport& fault);

// The next step for a status; empty where there is none to name.
std::string HelpFor(const absl::Status& status);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_DIAGNOSTIC_H_
