#include "server/device/emulator/ptx/lexer.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace trun::device::ptx {
namespace {

bool IsNameStart(char c) { return absl::ascii_isalpha(c) || c == '_' || c == '$' || c == '%'; }
bool IsNamePart(char c) { return absl::ascii_isalnum(c) || c == '_' || c == '$'; }

int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 99;
}

}  // namespace

Position Lexer::Here() const { return {line_, static_cast<uint32_t>(at_ - line_start_ + 1)}; }

Token Lexer::Make(TokenKind kind, size_t begin, size_t end) {
  Token token;
  token.kind = kind;
  token.text = text_.substr(begin, end - begin);
  token.position = {line_, static_cast<uint32_t>(begin - line_start_ + 1)};
  return token;
}

Token Lexer::Error(const char* what) {
  Token token;
  token.kind = TokenKind::kError;
  token.text = what;
  token.position = Here();
  failed_ = true;
  return token;
}

void Lexer::SkipBlanks() {
  while (at_ < text_.size()) {
    const char c = text_[at_];
    if (c == '\n') {
      ++at_;
      ++line_;
      line_start_ = at_;
    } else if (c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v' || c == '\0') {
      ++at_;
    } else if (c == '/' && at_ + 1 < text_.size() && text_[at_ + 1] == '/') {
      while (at_ < text_.size() && text_[at_] != '\n') ++at_;
    } else if (c == '/' && at_ + 1 < text_.size() && text_[at_ + 1] == '*') {
      at_ += 2;
      while (at_ < text_.size() && !(text_[at_] == '*' && at_ + 1 < text_.size() && text_[at_ + 1] == '/')) {
        if (text_[at_] == '\n') {
          ++line_;
          line_start_ = at_ + 1;
        }
        ++at_;
      }
      at_ = at_ + 2 < text_.size() ? at_ + 2 : text_.size();
    } else {
      return;
    }
  }
}

// As ptxas reads them: 20. and .5 and 010.5 (ten and a half) too. `begin` where no such literal begins.
size_t Lexer::EndOfDecimalFraction(size_t begin) const {
  const auto digit = [this](size_t at) {
    return at < text_.size() && absl::ascii_isdigit(static_cast<unsigned char>(text_[at]));
  };
  size_t end = begin;
  size_t digits = 0;
  for (; digit(end); ++end) ++digits;
  const bool point = end < text_.size() && text_[end] == '.';
  if (point) {
    for (++end; digit(end); ++end) ++digits;
  }
  if (digits == 0) return begin;
  if (end < text_.size() && (text_[end] == 'e' || text_[end] == 'E')) {
    const size_t sign = end + 1 < text_.size() && (text_[end + 1] == '+' || text_[end + 1] == '-') ? 1 : 0;
    if (!digit(end + 1 + sign)) return begin;
    for (end += 1 + sign; digit(end);) ++end;
  } else if (!point) {
    return begin;
  }
  return end < text_.size() && IsNamePart(text_[end]) ? begin : end;
}

Token Lexer::Number() {
  const size_t begin = at_;
  const char second = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
  if (text_[at_] == '0' && (second == 'f' || second == 'F' || second == 'd' || second == 'D')) {
    const bool single = second == 'f' || second == 'F';
    const size_t digits = single ? 8 : 16;
    uint64_t value = 0;
    size_t n = 0;
    for (at_ += 2; at_ < text_.size() && n < digits && DigitOf(text_[at_]) < 16; ++at_, ++n) {
      value = value * 16 + DigitOf(text_[at_]);
    }
    if (n != digits) return Error("a floating-point literal has too few digits");
    Token token = Make(single ? TokenKind::kSingle : TokenKind::kFloat, begin, at_);
    token.value = value;
    return token;
  }
  if (const size_t end = EndOfDecimalFraction(at_); end != at_) {
    at_ = end;
    double number = 0;
    if (!absl::SimpleAtod(text_.substr(begin, at_ - begin), &number)) return Error("a number cannot be read");
    Token token = Make(TokenKind::kFloat, begin, at_);
    memcpy(&token.value, &number, sizeof number);
    return token;
  }
  int base = 10;
  if (text_[at_] == '0' && (second == 'x' || second == 'X')) {
    base = 16;
    at_ += 2;
  } else if (text_[at_] == '0' && (second == 'b' || second == 'B')) {
    base = 2;
    at_ += 2;
  } else if (text_[at_] == '0' && second >= '0' && second <= '9') {
    base = 8;
    at_ += 1;
  }
  uint64_t value = 0;
  size_t n = 0;
  bool overflow = false;
  for (; at_ < text_.size() && DigitOf(text_[at_]) < base; ++at_, ++n) {
    overflow |= __builtin_mul_overflow(value, static_cast<uint64_t>(base), &value);
    overflow |= __builtin_add_overflow(value, static_cast<uint64_t>(DigitOf(text_[at_])), &value);
  }
  if (base == 8 && at_ < text_.size() && absl::ascii_isdigit(static_cast<unsigned char>(text_[at_])))
    return Error("a number that begins with 0 is octal, and this one has a digit over 7");
  if (n == 0) return Error("a number has no digits");
  if (overflow) return Error("a number has more than 64 bits");
  if (at_ < text_.size() && (text_[at_] == 'U' || text_[at_] == 'u')) ++at_;
  Token token = Make(TokenKind::kInteger, begin, at_);
  token.value = value;
  return token;
}

Token Lexer::Next() {
  const size_t before = at_;
  if (!failed_) SkipBlanks();
  if (failed_) return Error("the text could not be read");
  const bool adjacent = before == at_;
  if (at_ >= text_.size()) {
    Token token;
    token.position = Here();
    return token;
  }
  const size_t begin = at_;
  const char c = text_[at_];
  Token token;
  // A point after a name begins what qualifies it (.2d); elsewhere it may begin a number.
  const bool qualifies = begin > 0 && IsNamePart(text_[begin - 1]);
  if (IsNameStart(c)) {
    ++at_;
    while (at_ < text_.size() && IsNamePart(text_[at_])) ++at_;
    token = Make(TokenKind::kName, begin, at_);
  } else if (c == '.' && !qualifies && EndOfDecimalFraction(begin) != begin) {
    token = Number();
  } else if (c == '.' && at_ + 1 < text_.size() && (IsNamePart(text_[at_ + 1]))) {
    ++at_;
    while (at_ < text_.size()) {
      if (IsNamePart(text_[at_])) {
        ++at_;
      } else if (text_[at_] == ':' && at_ + 2 < text_.size() && text_[at_ + 1] == ':' &&
                 IsNamePart(text_[at_ + 2])) {
        at_ += 3;
      } else {
        break;
      }
    }
    token = Make(TokenKind::kDotted, begin, at_);
    token.text.remove_prefix(1);
  } else if (absl::ascii_isdigit(static_cast<unsigned char>(c))) {
    token = Number();
  } else if (c == '"') {
    ++at_;
    while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') {
      at_ += text_[at_] == '\\' && at_ + 1 < text_.size() && text_[at_ + 1] != '\n' ? 2 : 1;
    }
    if (at_ >= text_.size() || text_[at_] != '"') return Error("a string is not closed on its line");
    token = Make(TokenKind::kString, begin + 1, at_);
    ++at_;
  } else if (strchr("{}()[]<>,;:@!|+-=*", c) != nullptr) {
    ++at_;
    token = Make(TokenKind::kSymbol, begin, at_);
  } else {
    return Error("a character that PTX does not have");
  }
  token.adjacent = adjacent;
  return token;
}

}  // namespace trun::device::ptx
