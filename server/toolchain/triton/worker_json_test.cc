#include "server/toolchain/triton/worker_json.h"

#include "gtest/gtest.h"

namespace trun {
namespace {

TEST(PrintableText, KeepsEveryAlphabet) {
  for (const char* text : {"a row\n\twith ASCII ~", "Gr\u00f6\u00dfe # \u03b1\u2265\u03b2",
                           "\u884c\u5217 \u00a0", "\U0001F600"}) {
    EXPECT_EQ(PrintableText(text), text);
  }
}

TEST(PrintableText, ReplacesEachByteThatIsNotOfUtf8) {
  EXPECT_EQ(PrintableText("a\xff\xc3z"), "a??z");
  EXPECT_EQ(PrintableText("\xed\xa0\x80"), "???") << "a surrogate";
  EXPECT_EQ(PrintableText("\xc0\xaf"), "??") << "longer than it has to be";
  EXPECT_EQ(PrintableText("\xf4\x90\x80\x80"), "????") << "past the last code point";
  EXPECT_EQ(PrintableText("cut \xe8\xa1"), "cut ??");
}

TEST(PrintableText, ReplacesWhatATerminalWouldActOn) {
  EXPECT_EQ(PrintableText(absl::string_view("\0\x1b[2J\x7f\r", 7)), "??[2J??");
  EXPECT_EQ(PrintableText("\u009b2J\u0085"), "?2J?");
}

}  // namespace
}  // namespace trun
