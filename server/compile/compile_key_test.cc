#include "server/compile/compile_key.h"

#include <functional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "gtest/gtest.h"

namespace trun {
namespace {

struct Parts {
  Level level = Level::kPython;
  std::string ir = "ir", metadata = R"({"num_warps":4})", toolchain_id = "3.9.0 of yesterday";
  std::string frontend_id = "front end", passes;
  Target target{"cuda", 80, 32};
  CompileOptions options = {{"num_stages", "3"}, {"num_warps", "4"}};
};

CacheKey KeyOf(const Parts& parts) {
  CompileContext context;
  context.target = parts.target;
  context.toolchain_id = parts.toolchain_id;
  context.options = &parts.options;
  context.frontend_id = parts.frontend_id;
  context.passes = parts.passes;
  return MakeCompileKey(parts.level, Digest::Of(parts.ir), parts.metadata, context);
}

TEST(CompileKeyTest, EachPartAloneChangesIt) {
  const std::vector<std::function<void(Parts&)>> changes = {
      [](Parts& parts) { parts.level = Level::kGluon; },
      [](Parts& parts) { parts.ir += "\n"; },
      [](Parts& parts) { parts.metadata = R"({"num_warps":8})"; },
      [](Parts& parts) { parts.metadata.clear(); },
      [](Parts& parts) { parts.target.arch = 90; },
      [](Parts& parts) { parts.target.warp_size = 64; },
      [](Parts& parts) { parts.toolchain_id = "3.9.0 of today"; },  // the same name and version
      [](Parts& parts) { parts.options["num_warps"] = "8"; },
      [](Parts& parts) { parts.options.erase("num_stages"); },
      [](Parts& parts) { parts.options = {{"num_stages", "4"}, {"num_warps", "3"}}; },
      [](Parts& parts) { parts.frontend_id += "2"; },
      [](Parts& parts) { parts.passes = "-cse"; },
  };
  std::vector<CacheKey> keys = {KeyOf(Parts())};
  for (const auto& change : changes) {
    Parts parts;
    change(parts);
    for (size_t i = 0; i < keys.size(); ++i) EXPECT_NE(KeyOf(parts), keys[i]) << keys.size() << " and " << i;
    keys.push_back(KeyOf(parts));
  }
}

TEST(CompileKeyTest, WhatDecidesNothingDoesNot) {
  Parts parts;
  parts.options.clear();
  parts.options["num_warps"] = "4";
  parts.options["num_stages"] = "3";
  EXPECT_EQ(KeyOf(parts), KeyOf(Parts())) << "the order in which options were given";
  parts.metadata = R"({"num_warps":4,"hash":"of the source"})";
  EXPECT_EQ(KeyOf(parts), KeyOf(Parts())) << "a digest of the source that the metadata came with";
  // No front end reads what is past the sources.
  Parts ttir, other;
  ttir.level = other.level = Level::kTtir;
  other.frontend_id = "another";
  EXPECT_EQ(KeyOf(ttir), KeyOf(other));
}

TEST(CompileKeyTest, OptionsAreComparedByWhatTheySay) {
  const auto spaced = CanonicalOptions({{"num_warps", " 4 "}, {"extra", "[1,  2]"}});
  const auto dense = CanonicalOptions({{"extra", "[1,2]"}, {"num_warps", "4"}});
  ASSERT_TRUE(spaced.ok() && dense.ok());
  EXPECT_EQ(*spaced, *dense);
  const absl::Status status = CanonicalOptions({{"num_warps", "four"}}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status), Reason::kArgument);
  EXPECT_EQ(GetDetails(status)["option"], "num_warps");
}

}  // namespace
}  // namespace trun
