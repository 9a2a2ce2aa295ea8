#include "common/base/status.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace trun {
namespace {

TEST(StatusTest, AnOrdinaryStatusHasNoReasonAndNoDetails) {
  EXPECT_EQ(GetReason(absl::OkStatus()), Reason::kUnspecified);
  EXPECT_EQ(GetReason(absl::InternalError("x")), Reason::kUnspecified);
  EXPECT_TRUE(GetDetails(absl::InternalError("x")).empty());
}

TEST(StatusTest, ReasonAndDetailsSurviveAnnotation) {
  absl::Status status =
      InvalidArgument(Reason::kArgument, "argument 3 is i32", {{"argument", "3"}, {"empty", ""}});
  status = Annotate(WithDetails(status, {{"kernel", "add"}}), "launch");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status.message(), "launch: argument 3 is i32");
  EXPECT_EQ(GetReason(status), Reason::kArgument);
  EXPECT_EQ(GetDetails(status), (ErrorDetails{{"argument", "3"}, {"empty", ""}, {"kernel", "add"}}));
}

TEST(StatusTest, EveryReasonHasANameThatLeadsBackToIt) {
  for (int i = 1; i <= static_cast<int>(Reason::kInternal); ++i) {
    const Reason reason = static_cast<Reason>(i);
    EXPECT_NE(ReasonName(reason), "UNSPECIFIED") << i;
    EXPECT_EQ(ReasonFromName(ReasonName(reason)), reason) << i;
  }
  EXPECT_EQ(ReasonFromName("NO_SUCH_REASON"), Reason::kUnspecified);
}

TEST(StatusTest, AnErrnoKeepsItsTextAndCode) {
  const absl::Status status = FromErrno(ENOENT, "opening /x");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "opening /x: No such file or directory");
}

}  // namespace
}  // namespace trun
