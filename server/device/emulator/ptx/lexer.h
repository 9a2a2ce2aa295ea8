// Tokens of PTX text.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_PTX_LEXER_H_
#define TRUN_SERVER_DEVICE_EMULATOR_PTX_LEXER_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device::ptx {

enum class TokenKind : uint8_t {
  kEnd,
  kName,     // add, %r1, $L__BB0_1, _
  kDotted,   // .global, .2d, .shared::cta; `text` is without the first dot
  kInteger,  // value
  kFloat,    // value: the bits of a double
  kSingle,   // value: the bits of a float
  kString,   // `text` is without the quotes, escapes as written
  kSymbol,   // one character, text[0]
  kError,    // `text` says what is wrong
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  absl::string_view text;
  uint64_t value = 0;
  Position position;
  bool adjacent = false;  // nothing between it and the token before
};

// Reads tokens one after another; comments and blanks are skipped. Thread-compatible.
class Lexer {
 public:
  explicit Lexer(absl::string_view text) : text_(text) {}
  // After kEnd or kError: the same again.
  Token Next();

 private:
  void SkipBlanks();
  size_t EndOfDecimalFraction(size_t begin) const;
  Token Number();
  Token Make(TokenKind kind, size_t begin, size_t end);
  Token Error(const char* what);
  Position Here() const;

  absl::string_view text_;
  size_t at_ = 0;
  uint32_t line_ = 1;
  size_t line_start_ = 0;
  bool failed_ = false;
};

}  // namespace trun::device::ptx

#endif  // TRUN_SERVER_DEVICE_EMULATOR_PTX_LEXER_H_
