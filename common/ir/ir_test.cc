#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/ir/amd_target.h"
#include "common/ir/level.h"
#include "common/ir/scalar_type.h"
#include "common/ir/target.h"

namespace trun {
namespace {

TEST(LevelTest, ANameThatIsNoLevelIsRefusedWithTheList) {
  const absl::Status status = LevelFromName("spirv").status();
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedLevel);
  EXPECT_NE(status.message().find("ttgir"), absl::string_view::npos);
  EXPECT_FALSE(LevelFromName("unspecified").ok());
}

TEST(LevelTest, EveryLevelIsFoundByItsName) {
  for (int i = 1; i <= 9; ++i)
    EXPECT_EQ(*LevelFromName(LevelName(static_cast<Level>(i))), static_cast<Level>(i));
}

TEST(TargetTest, TextThatIsNoTargetIsRefused) {
  for (const char* text : {"", "sm_", "gpu", "cuda:80:64", "cuda:80:32:1", "sm_-80", "sm_99999"}) {
    EXPECT_EQ(GetReason(Target::Parse(text).status()), Reason::kUnsupportedTarget) << text;
  }
}

TEST(TargetTest, AmdTargetsHaveNames) {
  for (const char* text :
       {"gfx", "gfx94", "gfx94222", "gfxxyz", "hip:sm_80", "cuda:gfx942", "hip:gfx942:32"}) {
    EXPECT_EQ(GetReason(Target::Parse(text).status()), Reason::kUnsupportedTarget) << text;
  }
  for (const char* text : {"gfx90a", "hip:gfx90a", "hip:gfx90a:64"}) {
    const auto target = Target::Parse(text);
    ASSERT_TRUE(target.ok()) << target.status();
    EXPECT_TRUE(IsAmd(*target));
    EXPECT_EQ(GfxName(*target), "gfx90a");
    EXPECT_EQ(target->ToString(), "hip:gfx90a:64");
  }
  EXPECT_EQ(Target::Parse("gfx1100")->ToString(), "hip:gfx1100:32");
  EXPECT_FALSE(IsAmd(*Target::Parse("sm_90")));
}

TEST(TargetTest, EverySpellingOfATargetIsTheSame) {
  for (const char* text : {"sm_90", "90", "sm_90a", "cuda:90", "cuda:90:32"}) {
    EXPECT_EQ(Target::Parse(text)->ToString(), "cuda:90:32") << text;
  }
}

TEST(ScalarTypeTest, NamesLeadBackAndAliasesAgree) {
  for (int i = 1; i <= 18; ++i) {
    const ScalarType type = static_cast<ScalarType>(i);
    EXPECT_EQ(*ScalarTypeFromName(ScalarTypeName(type)), type);
    EXPECT_GT(ScalarTypeBytes(type), 0u);
  }
  EXPECT_EQ(*ScalarTypeFromName("float16"), ScalarType::kF16);
  EXPECT_EQ(*ScalarTypeFromName("fp8e4nv"), ScalarType::kF8E4M3);
  EXPECT_EQ(GetReason(ScalarTypeFromName("complex64").status()), Reason::kArgument);
  EXPECT_EQ(GetReason(ScalarTypeFromName("").status()), Reason::kArgument);
}

}  // namespace
}  // namespace trun
