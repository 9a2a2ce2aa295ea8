#include "server/artifact/tokenizer.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

Tokenizer::Tokenizer(absl::string_view text, Language language) : text_(text), language_(language) {
  for (int c = '0'; c <= '9'; ++c) is_word_[c] = true;
  for (int c = 'a'; c <= 'z'; ++c) is_word_[c] = is_word_[c - 'a' + 'A'] = true;
  for (const char c : absl::string_view("_$.%")) is_word_[static_cast<unsigned char>(c)] = true;
  if (language != Language::kPtx) {
    for (const char c : absl::string_view("@#!")) is_word_[static_cast<unsigned char>(c)] = true;
  }
  if (language == Language::kLlvm) is_word_['-'] = true;
  Next();
}

void Tokenizer::SkipBlank() {
  while (position_ < text_.size()) {
    const char c = text_[position_];
    const char following = position_ + 1 < text_.size() ? text_[position_ + 1] : '\0';
    const bool line_comment = language_ == Language::kLlvm ? c == ';' : c == '/' && following == '/';
    if (c == '\n') {
      ++line_;
      line_begin_ = ++position_;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++position_;
    } else if (line_comment) {
      position_ = text_.find('\n', position_);
      if (position_ == absl::string_view::npos) position_ = text_.size();
    } else if (language_ == Language::kPtx && c == '/' && following == '*') {
      for (position_ += 2; position_ < text_.size(); ++position_) {
        if (text_[position_] == '\n') {
          ++line_;
          line_begin_ = position_ + 1;
        }
        if (text_[position_] == '*' && position_ + 1 < text_.size() && text_[position_ + 1] == '/') {
          position_ += 2;
          break;
        }
      }
    } else {
      return;
    }
  }
}

const Token& Tokenizer::Next() {
  SkipBlank();
  current_ = Token();
  current_.line = line_;
  current_.column = static_cast<uint32_t>(position_ - line_begin_ + 1);
  current_.begin = current_.end = position_;
  if (position_ >= text_.size()) return current_;
  const size_t begin = position_;
  const char c = text_[begin];
  if (c == '"') {
    ++position_;
    while (position_ < text_.size() && text_[position_] != '"' && text_[position_] != '\n') {
      position_ +=
          text_[position_] == '\\' && position_ + 1 < text_.size() && text_[position_ + 1] != '\n' ? 2 : 1;
    }
    current_.kind = Token::Kind::kString;
    current_.text = text_.substr(begin + 1, position_ - begin - 1);
    if (position_ < text_.size() && text_[position_] == '"') ++position_;
  } else if (is_word_[static_cast<unsigned char>(c)]) {
    while (position_ < text_.size() && is_word_[static_cast<unsigned char>(text_[position_])]) ++position_;
    current_.kind = Token::Kind::kWord;
    current_.text = text_.substr(begin, position_ - begin);
  } else {
    position_ += text_.substr(begin, 2) == "->" ? 2 : 1;
    current_.kind = Token::Kind::kPunctuation;
    current_.text = text_.substr(begin, position_ - begin);
  }
  current_.end = position_;
  return current_;
}

bool Tokenizer::SkipGroup() {
  const bool angles = language_ != Language::kPtx;
  size_t depth = 0;
  while (current_.kind != Token::Kind::kEnd) {
    if (current_.Is('(') || current_.Is('[') || current_.Is('{') || (angles && current_.Is('<'))) {
      ++depth;
    } else if (current_.Is(')') || current_.Is(']') || current_.Is('}') || (angles && current_.Is('>'))) {
      if (--depth == 0) {
        Next();
        return true;
      }
    }
    Next();
  }
  return false;
}

absl::Status MalformedAt(const Token& token, absl::string_view what) {
  return InvalidArgument(Reason::kInvalidIr,
                         absl::StrCat("line ", token.line, ", column ", token.column, ": ", what),
                         {{"line", absl::StrCat(token.line)}, {"column", absl::StrCat(token.column)}});
}

}  // namespace trun
