#include "server/artifact/level_detection.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "server/artifact/testdata.h"

namespace trun {
namespace {

TEST(LevelDetection, RefusesAnEmptyFile) {
  const auto level = DetectLevel("", "x.ttir");
  EXPECT_EQ(level.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(level.status()), Reason::kInvalidIr);
}

TEST(LevelDetection, RefusesAFileOverTheLimitAndNamesTheLimit) {
  const absl::Status status = CheckArtifactSize(kMaxArtifactBytes + 1, "big.ptx");
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), Reason::kTooLarge);
  EXPECT_EQ(GetDetails(status)["limit"], "67108864");
  EXPECT_TRUE(CheckArtifactSize(kMaxArtifactBytes, "").ok());
}

TEST(LevelDetection, RefusesBinariesThatAreNoCubinWhateverTheirName) {
  for (const std::string& bytes : {std::string("\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\x3e\0", 20),
                                   std::string("\x50\xed\x55\xba\1\0", 6), std::string("ab\0cd", 5)}) {
    const auto level = DetectLevel(bytes, "x.ptx");
    EXPECT_EQ(GetReason(level.status()), Reason::kUnsupportedLevel) << level.status();
  }
}

TEST(LevelDetection, RefusesTextThatSaysNothingUnlessItsNameDoes) {
  EXPECT_EQ(GetReason(DetectLevel("hello", "notes.txt").status()), Reason::kUnsupportedLevel);
  EXPECT_EQ(GetReason(DetectLevel("hello", "x.cubin").status()), Reason::kUnsupportedLevel);
  EXPECT_EQ(*DetectLevel("modul {", "x.ttir"), Level::kTtir);
  EXPECT_EQ(*DetectLevel("???", "a/b.c/x.PTX"), Level::kPtx);
}

TEST(LevelDetection, ContentsOutweighTheName) {
  EXPECT_EQ(*DetectLevel(GoldenArtifact("3.9.0", "mixed", Level::kPtx), "x.ttir"), Level::kPtx);
  EXPECT_EQ(*DetectLevel(GoldenArtifact("3.9.0", "mixed", Level::kCubin), "x.py"), Level::kCubin);
}

TEST(LevelDetection, KnowsEveryLevelOfRealArtifactsWithoutTheirNames) {
  for (const char* version : {"3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.8.0", "3.9.0"}) {
    for (const char* kernel : {"mixed", "described"}) {
      for (const Level level : {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin}) {
        const std::string bytes = GoldenArtifact(version, kernel, level);
        const auto detected = DetectLevel(bytes);
        ASSERT_TRUE(detected.ok()) << detected.status();
        EXPECT_EQ(*detected, level) << version << " " << kernel;
        EXPECT_TRUE(CheckLevel(level, bytes).ok());
      }
    }
  }
}

TEST(LevelDetection, KnowsTritonGpuOfOldVersionsAndPython) {
  EXPECT_EQ(
      *DetectLevel(
          "#blocked = #triton_gpu.blocked<{}>\nmodule attributes {\"triton_gpu.num-warps\" = 4 : i32} {\n"
          "  tt.func public @k() {\n"),
      Level::kTtgir);
  EXPECT_EQ(*DetectLevel("import triton\n@triton.jit\ndef k(x):\n  pass\n"), Level::kPython);
  EXPECT_EQ(*DetectLevel("from triton.experimental import gluon\n@gluon.jit\ndef k(x):\n  pass\n"),
            Level::kGluon);
}

TEST(LevelDetection, AnAmbiguousTextIsDecidedByItsNameOrRefused) {
  const std::string both = "import triton\nptx = '''\n.version 8.0\n'''\n";
  EXPECT_EQ(*DetectLevel(both, "x.py"), Level::kPython);
  EXPECT_EQ(GetReason(DetectLevel(both).status()), Reason::kUnsupportedLevel);
}

TEST(LevelDetection, CheckLevelRefusesBytesOfAnotherKind) {
  EXPECT_EQ(GetReason(CheckLevel(Level::kCubin, ".version 8.0")), Reason::kInvalidIr);
  EXPECT_EQ(GetReason(CheckLevel(Level::kPtx, absl::string_view(".vers\0", 6))), Reason::kInvalidIr);
}

}  // namespace
}  // namespace trun
