#include "client/cli/expression.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

constexpr int kMaxDepth = 64;

bool IsNameStart(char c) { return absl::ascii_isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool IsNamePart(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }

int64_t FloorDivide(int64_t a, int64_t b) { return a / b - ((a % b != 0 && (a < 0) != (b < 0)) ? 1 : 0); }

// Recursive descent, a level of precedence a function.
class Parser {
 public:
  Parser(absl::string_view text, const Variables& variables) : text_(text), variables_(variables) {}

  absl::StatusOr<int64_t> Whole() {
    TRUN_ASSIGN_OR_RETURN(const int64_t value, Sum());
    SkipSpace();
    if (at_ != text_.size()) return Bad(absl::StrCat("'", text_.substr(at_), "' is not expected there"));
    return value;
  }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && absl::ascii_isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool Take(absl::string_view token) {
    SkipSpace();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  absl::Status Bad(absl::string_view what) const {
    return InvalidArgument(Reason::kArgument, absl::StrCat("in '", text_, "', column ", at_ + 1, ": ", what));
  }

  absl::StatusOr<int64_t> Sum() {
    TRUN_ASSIGN_OR_RETURN(int64_t value, Product());
    for (;;) {
      const bool plus = Take("+");
      if (!plus && !Take("-")) return value;
      TRUN_ASSIGN_OR_RETURN(const int64_t right, Product());
      if (plus ? __builtin_add_overflow(value, right, &value)
               : __builtin_sub_overflow(value, right, &value)) {
        return Bad("the result does not fit 64 bits");
      }
    }
  }

  absl::StatusOr<int64_t> Product() {
    TRUN_ASSIGN_OR_RETURN(int64_t value, Unary());
    for (;;) {
      const char op = Take("*") ? '*' : (Take("//") || Take("/")) ? '/' : Take("%") ? '%' : '\0';
      if (op == '\0') return value;
      TRUN_ASSIGN_OR_RETURN(const int64_t right, Unary());
      if (op == '*') {
        if (__builtin_mul_overflow(value, right, &value)) return Bad("the result does not fit 64 bits");
        continue;
      }
      if (right == 0) return Bad("division by zero");
      if (right == -1 && value == INT64_MIN) return Bad("the result does not fit 64 bits");
      value = op == '/' ? FloorDivide(value, right) : value - FloorDivide(value, right) * right;
    }
  }

  absl::StatusOr<int64_t> Unary() {
    if (++depth_ > kMaxDepth) return Bad("nested too deeply");
    absl::StatusOr<int64_t> value = Take("-") ? Negated() : Take("+") ? Unary() : Atom();
    --depth_;
    return value;
  }

  absl::StatusOr<int64_t> Negated() {
    TRUN_ASSIGN_OR_RETURN(const int64_t value, Unary());
    if (value == INT64_MIN) return Bad("the result does not fit 64 bits");
    return -value;
  }

  absl::StatusOr<int64_t> Atom() {
    SkipSpace();
    if (Take("(")) {
      TRUN_ASSIGN_OR_RETURN(const int64_t value, Sum());
      if (!Take(")")) return Bad("')' is missing");
      return value;
    }
    size_t end = at_;
    if (end < text_.size() && IsNameStart(text_[end])) {
      while (end < text_.size() && IsNamePart(text_[end])) ++end;
      const std::string name(text_.substr(at_, end - at_));
      at_ = end;
      if (Take("(")) return CallFunction(name);
      const auto found = variables_.find(name);
      if (found != variables_.end()) return found->second;
      return NotFound(Reason::kArgument, absl::StrCat("in '", text_, "': '", name, "' is no known number"),
                      {{"name", name}});
    }
    while (end < text_.size() && absl::ascii_isalnum(static_cast<unsigned char>(text_[end]))) ++end;
    const absl::string_view digits = text_.substr(at_, end - at_);
    int64_t value = 0;
    const bool hex = digits.substr(0, 2) == "0x" || digits.substr(0, 2) == "0X";
    if (digits.empty() || !(hex ? absl::SimpleHexAtoi(digits, &value) : absl::SimpleAtoi(digits, &value))) {
      return Bad(digits.empty() ? "a number or a name is missing"
                                : absl::StrCat("'", digits, "' is not a whole number"));
    }
    at_ = end;
    return value;
  }

  absl::StatusOr<int64_t> CallFunction(const std::string& name) {
    std::vector<int64_t> values;
    do {
      TRUN_ASSIGN_OR_RETURN(const int64_t value, Sum());
      values.push_back(value);
    } while (Take(","));
    if (!Take(")")) return Bad("')' is missing");
    const size_t wanted = name == "pow2" ? 1 : 2;
    if (name != "cdiv" && name != "min" && name != "max" && name != "pow2") {
      return Bad(absl::StrCat("there is no function '", name, "': cdiv, min, max and pow2 are there"));
    }
    if (values.size() != wanted)
      return Bad(absl::StrCat(name, " takes ", wanted, wanted == 1 ? " value" : " values"));
    if (name == "min") return std::min(values[0], values[1]);
    if (name == "max") return std::max(values[0], values[1]);
    if (name == "pow2") {
      int64_t power = 1;
      while (power < values[0]) {
        if (power > (INT64_MAX >> 1)) return Bad("the result does not fit 64 bits");
        power *= 2;
      }
      return power;
    }
    if (values[1] == 0) return Bad("division by zero");
    if (values[0] == INT64_MIN) return Bad("the result does not fit 64 bits");
    return -FloorDivide(-values[0], values[1]);
  }

  const absl::string_view text_;
  const Variables& variables_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

absl::StatusOr<int64_t> Evaluate(absl::string_view expression, const Variables& variables) {
  return Parser(expression, variables).Whole();
}

std::vector<std::string> SplitExpressions(absl::string_view text) {
  std::vector<std::string> parts;
  size_t start = 0;
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '(') ++depth;
    if (text[i] == ')') --depth;
    if (text[i] != ',' || depth > 0) continue;
    parts.emplace_back(absl::StripAsciiWhitespace(text.substr(start, i - start)));
    start = i + 1;
  }
  parts.emplace_back(absl::StripAsciiWhitespace(text.substr(start)));
  return parts;
}

bool IsName(absl::string_view text) {
  return !text.empty() && IsNameStart(text[0]) && std::all_of(text.begin(), text.end(), IsNamePart);
}

}  // namespace trun::cli
