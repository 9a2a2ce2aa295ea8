// Whole-number expressions of the command line: "cdiv(M, 64)", "M * K + 1".
#ifndef TRUN_CLIENT_CLI_EXPRESSION_H_
#define TRUN_CLIENT_CLI_EXPRESSION_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun::cli {

using Variables = std::map<std::string, int64_t>;

// + - * / // % (division rounds down), parentheses, decimal and 0x numbers, names, and the functions cdiv(a,
// b), min(a, b), max(a, b), pow2(a) (the next power of two). Pure. NOT_FOUND kArgument: a name that is no
// variable (detail "name"). INVALID_ARGUMENT kArgument: anything else that is wrong, division by zero and
// overflow among it; both name the expression and the place in it.
absl::StatusOr<int64_t> Evaluate(absl::string_view expression, const Variables& variables);

// Splits at commas outside parentheses: "cdiv(M, 64), 4" → two.
std::vector<std::string> SplitExpressions(absl::string_view text);

// A C identifier.
bool IsName(absl::string_view text);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_EXPRESSION_H_
