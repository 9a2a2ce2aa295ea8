#include "common/base/json_depth.h"

#include <gtest/gtest.h>

namespace trun {
namespace {

TEST(FirstTooDeepTest, IsTheBracketThatGoesTooFar) {
  EXPECT_EQ(FirstTooDeep("[[[]]]", 2), 2u);
  EXPECT_EQ(FirstTooDeep(R"({"a": [1, {"b": [2]}]})", 3), 16u);
  EXPECT_EQ(FirstTooDeep("[", 0), 0u);
}

TEST(FirstTooDeepTest, SidesDoNotAddUp) {
  EXPECT_EQ(FirstTooDeep("[[], [], [[]]]", 3), absl::string_view::npos);
}

TEST(FirstTooDeepTest, BracketsInStringsDoNotCountAndEscapedQuotesDoNotEndOne) {
  EXPECT_EQ(FirstTooDeep(R"(["[[[\"[[["])", 1), absl::string_view::npos);
  EXPECT_EQ(FirstTooDeep(R"(["\\", [[]]])", 2), 8u);
}

TEST(FirstTooDeepTest, TextThatIsNoJsonHasADepthToo) {
  EXPECT_EQ(FirstTooDeep("]]]]", 1), absl::string_view::npos);
  EXPECT_EQ(FirstTooDeep("\"[[[", 1), absl::string_view::npos);
}

}  // namespace
}  // namespace trun
