#include "client/cli/instruction_mix.h"

#include <array>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace trun::cli {
namespace {

// The first prefix that fits decides.
constexpr std::array<std::pair<absl::string_view, absl::string_view>, 44> kKinds = {{
    {"cp.async.bulk", "tma"},
    {"cp.reduce.async.bulk", "tma"},
    {"tensormap", "tma"},
    {"cp.async", "cp.async"},
    {"wgmma", "wgmma"},
    {"tcgen05", "tcgen05"},
    {"mma", "mma"},
    {"ldmatrix", "ldmatrix"},
    {"stmatrix", "stmatrix"},
    {"ld.global", "ld.global"},
    {"ld.volatile.global", "ld.global"},
    {"st.global", "st.global"},
    {"ld.shared", "ld.shared"},
    {"st.shared", "st.shared"},
    {"shfl", "shfl"},
    {"redux", "shfl"},
    {"vote", "shfl"},
    {"bar", "barrier"},
    {"mbarrier", "barrier"},
    {"fence", "barrier"},
    {"membar", "barrier"},
    {"elect", "barrier"},
    {"atom", "atomic"},
    {"red", "atomic"},
    {"cvt", "convert"},
    {"bra", "branch"},
    {"ret", "branch"},
    {"call", "branch"},
    {"exit", "branch"},
    {"ex2", "float"},
    {"lg2", "float"},
    {"rcp", "float"},
    {"rsqrt", "float"},
    {"sqrt", "float"},
    {"sin", "float"},
    {"cos", "float"},
    {"tanh", "float"},
    {"fma", "float"},
    {"div.full", "float"},
    {"mov", "other"},
    {"ld.param", "other"},
    {"st.param", "other"},
    {"cvta", "other"},
    {"prmt", "integer"},
}};
// Words that are of either number, by the type at their end.
constexpr std::array<absl::string_view, 23> kArithmetic = {
    "add", "sub", "mul", "mad", "div",  "rem", "min",  "max",  "neg", "abs", "and", "or",
    "xor", "not", "shl", "shr", "setp", "set", "selp", "lop3", "shf", "bfe", "bfi"};

absl::string_view KindOf(absl::string_view instruction) {
  // cvta is not cvt: the longer word first.
  if (absl::StartsWith(instruction, "cvta")) return "other";
  for (const auto& [prefix, kind] : kKinds) {
    if (absl::StartsWith(instruction, prefix)) return kind;
  }
  const absl::string_view word = instruction.substr(0, instruction.find('.'));
  for (const absl::string_view name : kArithmetic) {
    if (word != name) continue;
    const absl::string_view type = instruction.substr(instruction.rfind('.') + 1);
    return absl::StartsWith(type, "f") || absl::StartsWith(type, "bf") ? "float" : "integer";
  }
  return "other";
}

}  // namespace

std::map<std::string, int> CountInstructions(absl::string_view ptx) {
  std::map<std::string, int> counts;
  for (absl::string_view line : absl::StrSplit(ptx, '\n')) {
    line = absl::StripAsciiWhitespace(line.substr(0, line.find("//")));
    absl::ConsumePrefix(&line, "{");
    line = absl::StripLeadingAsciiWhitespace(line);
    if (!line.empty() && line[0] == '@') {  // a predicate
      const size_t space = line.find(' ');
      line = space == absl::string_view::npos ? "" : absl::StripLeadingAsciiWhitespace(line.substr(space));
    }
    // Instructions begin with a small letter and end with a semicolon; an mma's operands may stand on lines
    // of their own.
    const size_t end = line.find_first_of(" \t;");
    if (line.empty() || !absl::ascii_islower(static_cast<unsigned char>(line[0])) ||
        end == absl::string_view::npos) {
      continue;
    }
    ++counts["total"];
    ++counts[std::string(KindOf(line.substr(0, end)))];
  }
  return counts;
}

}  // namespace trun::cli
