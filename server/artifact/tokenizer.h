// Splits the text of MLIR, LLVM IR or PTX into words, strings and punctuation: enough to find declarations in
// files that nobody has checked yet. Not a parser of any of them.
#ifndef TRUN_SERVER_ARTIFACT_TOKENIZER_H_
#define TRUN_SERVER_ARTIFACT_TOKENIZER_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace trun {

struct Token {
  enum class Kind { kEnd, kWord, kString, kPunctuation };
  Kind kind = Kind::kEnd;
  absl::string_view text;  // of a string: what stands between the quotes, escapes as written
  uint32_t line = 0;       // 1-based
  uint32_t column = 0;     // 1-based, in bytes
  size_t begin = 0;        // offsets in the whole text, quotes included
  size_t end = 0;

  bool Is(char c) const { return kind == Kind::kPunctuation && text.size() == 1 && text[0] == c; }
  bool IsWord(absl::string_view word) const { return kind == Kind::kWord && text == word; }
};

// Reads one text once, from front to back, in linear time. Not thread-safe. The text must outlive the tokens.
// "->" is one punctuation token, every other punctuation one character. A string that is not closed ends with
// its line.
class Tokenizer {
 public:
  enum class Language { kMlir, kLlvm, kPtx };

  Tokenizer(absl::string_view text, Language language);

  const Token& current() const { return current_; }
  // Moves on and returns the new current token; stays at kEnd.
  const Token& Next();
  // From a current '(' '[' '{' or '<': moves behind its partner. False where there is none; then at kEnd.
  // '<' pairs with '>' only in MLIR and LLVM. Counts, never recurses.
  bool SkipGroup();

 private:
  void SkipBlank();

  absl::string_view text_;
  Language language_;
  std::array<bool, 256> is_word_{};
  size_t position_ = 0;
  uint32_t line_ = 1;
  size_t line_begin_ = 0;
  Token current_;
};

// INVALID_ARGUMENT kInvalidIr (details: line, column) that says what is wrong at that token.
absl::Status MalformedAt(const Token& token, absl::string_view what);

}  // namespace trun

#endif  // TRUN_SERVER_ARTIFACT_TOKENIZER_H_
