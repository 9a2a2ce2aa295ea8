#include "server/artifact/signature.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "server/artifact/testdata.h"

namespace trun {
namespace {

using Kind = KernelArgument::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Shape(const KernelSignature& signature) {
  std::string out;
  for (const KernelArgument& argument : signature.arguments) {
    absl::StrAppend(&out, out.empty() ? "" : " ", argument.kind == Kind::kPointer ? "*" : "",
                    argument.kind == Kind::kTensorDescriptor ? "desc " : "", ScalarTypeName(argument.type),
                    ":", argument.bytes, argument.divisibility > 1 ? "!" : "");
  }
  return out;
}

KernelSignature Read(Level level, absl::string_view text, std::optional<int> hidden = std::nullopt) {
  auto signature = ReadSignature(level, text, "", hidden);
  if (!signature.ok()) ADD_FAILURE() << signature.status();
  return signature.ok() ? *signature : KernelSignature();
}

Reason Failure(Level level, absl::string_view text, absl::string_view name = "") {
  return GetReason(ReadSignature(level, text, name).status());
}

TEST(Signature, ATextWithoutAKernelIsInvalid) {
  EXPECT_EQ(Failure(Level::kTtir, "module {\n}"), Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kTtir, "module { tt.func private @f(%a: i32) {} }"), Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kLlir, "; ModuleID = 'x'\ndeclare void @f()"), Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kPtx, ".version 8.0\n.target sm_80\n"), Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kCubin, "ELF"), Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kPython, "def k(): pass"), Reason::kUnsupportedLevel);
}

TEST(Signature, ABrokenHeadNamesItsLineAndColumn) {
  const auto signature = ReadSignature(Level::kTtir, "module {\n  tt.func public @k(%x i32) {\n");
  EXPECT_EQ(GetReason(signature.status()), Reason::kInvalidIr);
  EXPECT_EQ(GetDetails(signature.status())["line"], "2");
  EXPECT_EQ(GetDetails(signature.status())["column"], "21");
  EXPECT_EQ(Failure(Level::kTtir, "module { tt.func public"), Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kTtir, "tt.func @k(%a: i32"), Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kPtx, ".version 8.0 .target sm_80 .entry k(.param .u64) {}"), Reason::kInvalidIr);
  EXPECT_EQ(
      Failure(Level::kPtx, ".version 8.0 .target sm_80 .entry k(.param .b8 x[99999999999999999999]) {}"),
      Reason::kInvalidIr);
  EXPECT_EQ(Failure(Level::kPtx, ".version 8.0 .target sm_80 .entry k() { {"), Reason::kInvalidIr);
}

TEST(Signature, AnArgumentThatNoLaunchCanPassIsNamed) {
  const auto signature = ReadSignature(Level::kTtir, "tt.func public @k(%x: i32, %y: tensor<4xf32>) {}");
  EXPECT_EQ(GetReason(signature.status()), Reason::kInvalidIr);
  EXPECT_EQ(GetDetails(signature.status())["argument"], "1");
}

TEST(Signature, SeveralKernelsNeedAName) {
  const char* text = "tt.func public @a(%x: i32) {}\n tt.func @b() {}\n tt.func private @c() {}";
  EXPECT_EQ(Failure(Level::kTtir, text), Reason::kArgument);
  EXPECT_EQ(Failure(Level::kTtir, text, "c"), Reason::kArgument);
  EXPECT_THAT(std::string(ReadSignature(Level::kTtir, text, "z").status().message()), HasSubstr("a, b"));
  EXPECT_EQ(ReadSignature(Level::kTtir, text, "b")->arguments.size(), 0u);
  EXPECT_THAT(*ReadEntryNames(Level::kTtir, text), ElementsAre("a", "b"));
}

TEST(Signature, TtirGivesKindsTypesAndDivisibilityInAnyOrderOfAttributes) {
  const KernelSignature signature = Read(Level::kTtir,
                                         "module {\n  // tt.func public @comment(%z: i1)\n  tt.func public "
                                         "@k(%x_ptr: !tt.ptr<f16, 1> {tt.pointer_range = "
                                         "32 : i32, tt.divisibility = 16 : i32}, %arg1: !tt.ptr<bf16> "
                                         "{\"tt.divisibility\" = dense<16> : tensor<1xi32>, "
                                         "tt.x = [1, 2]} loc(\"y\"(#loc3)), %arg2: i1 loc(\"/x/tt.py\":3:0), "
                                         "%arg3: !tt.ptr<!tt.ptr<i32>>, %arg4: f64, "
                                         "%n: i64 {tt.divisibility = 8 : i32} loc(callsite(\"f\"(#loc1) at "
                                         "#loc2)), %f: !tt.ptr<f8E4M3FN>) attributes "
                                         "{noinline = false} {\n tt.return }\n}");
  EXPECT_EQ(signature.name, "k");
  EXPECT_EQ(Shape(signature), "*f16:8! *bf16:8! i1:1 *unspecified:8 f64:8 i64:8! *f8e4m3:8");
  EXPECT_EQ(signature.arguments[0].name, "x_ptr");
  EXPECT_EQ(signature.arguments[0].divisibility, 16);
  EXPECT_EQ(signature.arguments[1].name, "y");
  EXPECT_EQ(signature.arguments[1].divisibility, 16);
  EXPECT_EQ(signature.arguments[2].name, "");
  EXPECT_EQ(signature.arguments[5].name, "n");
  EXPECT_EQ(signature.arguments[5].divisibility, 8);
}

TEST(Signature, LlirOfOldTritonFindsKernelsByTheirAnnotations) {
  const char* text =
      "; ModuleID = 'LLVMDialectModule'\nsource_filename = \"x\"\ndefine void @k(ptr addrspace(1) nocapture "
      "readonly %0, "
      "i32 %1, float %2, ptr addrspace(1) nocapture readnone %3) local_unnamed_addr !dbg !5 {\n  ret "
      "void\n}\n"
      "define internal { i32, i32 } @helper(i32 %0) {\n ret { i32, i32 } zeroinitializer\n}\n"
      "!nvvm.annotations = !{!3, !4}\n!3 = !{ptr @k, !\"kernel\", i32 1}\n!4 = !{ptr @k, !\"maxntidx\", i32 "
      "128}\n";
  EXPECT_EQ(Shape(Read(Level::kLlir, text)), "*unspecified:8 i32:4 f32:4 *unspecified:8");
  EXPECT_THAT(*ReadEntryNames(Level::kLlir, text), ElementsAre("k"));
}

TEST(Signature, PtxOfOldTritonCannotTellPointersFromIntegersOf64Bits) {
  const char* text =
      ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k(\n .param .u64 k_param_0,\n .param "
      ".u32 "
      "k_param_1,\n .param .b16 k_param_2,\n .param .u64 k_param_3\n)\n.maxntid 128, 1, 1\n{\n ld.param.u64 "
      "%rd1, "
      "[k_param_0];\n ret;\n}\n";
  // .maxntid: Triton 3.0 or 3.1, which has no hidden parameters, though nobody reads the last one.
  EXPECT_EQ(Shape(Read(Level::kPtx, text)), "*unspecified:8 i32:4 unspecified:2 *unspecified:8");
  EXPECT_EQ(Shape(Read(Level::kPtx, text, 1)), "*unspecified:8 i32:4 unspecified:2");
}

TEST(Signature, HiddenParametersThatTheFileDoesNotHaveAreAContradiction) {
  const char* text = ".version 8.0\n.target sm_80\n.visible .entry k(.param .u32 a) { ret; }";
  const auto signature = ReadSignature(Level::kPtx, text, "", 2);
  EXPECT_EQ(GetReason(signature.status()), Reason::kMetadata);
  EXPECT_EQ(GetDetails(signature.status())["key"], "triton_version");
  EXPECT_FALSE(ReadSignature(Level::kPtx, text, "", 1).ok());
}

class RealArtifacts : public ::testing::TestWithParam<std::string> {
 protected:
  int hidden() const { return GetParam() == "3.4.0" ? 1 : 2; }
};
INSTANTIATE_TEST_SUITE_P(Versions, RealArtifacts,
                         ::testing::Values("3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.8.0", "3.9.0"),
                         [](const auto& info) {
                           return absl::StrReplaceAll("v" + info.param, {{".", "_"}});
                         });

TEST_P(RealArtifacts, EveryLevelTellsTheSameKernel) {
  const char* full = "*f32:8! *f32:8 i1:1 f16:2 i64:8! i8:1";
  const KernelSignature ttir = Read(Level::kTtir, GoldenArtifact(GetParam(), "mixed", Level::kTtir));
  EXPECT_EQ(Shape(ttir), full);
  EXPECT_EQ(ttir.arguments[0].name, GetParam() == "3.4.0" ? "" : "p");
  EXPECT_EQ(Read(Level::kTtgir, GoldenArtifact(GetParam(), "mixed", Level::kTtgir)), ttir);
  const std::string llir = GoldenArtifact(GetParam(), "mixed", Level::kLlir);
  EXPECT_EQ(Shape(Read(Level::kLlir, llir)), "*unspecified:8 *unspecified:8 i1:1 f16:2 i64:8 i8:1");
  const std::string ptx = GoldenArtifact(GetParam(), "mixed", Level::kPtx);
  EXPECT_EQ(Shape(Read(Level::kPtx, ptx)), "*unspecified:8 *unspecified:8 i8:1 unspecified:2 i64:8 i8:1");
  EXPECT_EQ(Read(Level::kPtx, ptx), Read(Level::kPtx, ptx, hidden()));
  const std::string cubin = GoldenArtifact(GetParam(), "mixed", Level::kCubin);
  EXPECT_EQ(Failure(Level::kCubin, cubin), Reason::kMetadata);
  EXPECT_EQ(Shape(Read(Level::kCubin, cubin, hidden())),
            "*unspecified:8 *unspecified:8 unspecified:1 unspecified:2 unspecified:8 unspecified:1");
  for (const Level level : {Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin}) {
    const auto merged =
        MergeSignatures(ttir, Read(level, GoldenArtifact(GetParam(), "mixed", level), hidden()));
    ASSERT_TRUE(merged.ok()) << merged.status();
    EXPECT_EQ(*merged, ttir);
  }
}

TEST_P(RealArtifacts, ATensorDescriptorStandsForItsShapeAndStridesToo) {
  const KernelSignature ttir = Read(Level::kTtir, GoldenArtifact(GetParam(), "described", Level::kTtir));
  EXPECT_EQ(Shape(ttir), "desc f16:128 *f16:8 i32:4");
  EXPECT_EQ(ttir.arguments[0].descriptor_type, "fp16[64, 64]");
  EXPECT_EQ(ParameterCount(ttir.arguments[0]), 5);
  EXPECT_EQ(ParameterCount(ttir.arguments[1]), 1);
  for (const Level level : {Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin}) {
    const KernelSignature lower = Read(level, GoldenArtifact(GetParam(), "described", level), hidden());
    EXPECT_EQ(lower.arguments.size(), 3u) << LevelName(level);
    EXPECT_EQ(ParameterCount(lower.arguments[0]), 5);
    const auto merged = MergeSignatures(ttir, lower);
    ASSERT_TRUE(merged.ok()) << merged.status();
    EXPECT_EQ(*merged, ttir);
  }
}

TEST(Signature, IntegersOfADescriptorHaveASign) {
  const KernelSignature read =
      Read(Level::kTtir,
           "module {\n  tt.func public @copy(%a: !tt.tensordesc<tensor<16x64xsi32>>, "
           "%b: !tt.tensordesc<16x64xui8>) attributes {noinline = false} {\n    tt.return\n  }\n}\n");
  EXPECT_EQ(Shape(read), "desc i32:128 desc u8:128");
  EXPECT_EQ(read.arguments[0].descriptor_type, "i32[16, 64]");
  EXPECT_EQ(read.arguments[1].descriptor_type, "u8[16, 64]");
}

TEST(Signature, ADescriptorInIm2colModeHasTheRankOfItsTensorNotOfItsBlock) {
  for (const char* block : {"tensor<128x64xf16, #shared>", "128x64xf16, #shared"}) {
    const KernelSignature upper = Read(
        Level::kTtgir,
        absl::StrCat(
            "#shared = #ttg.nvmma_shared<{swizzlingByteWidth = 128, transposed = false, elementBitWidth = "
            "16}>\nmodule {\n  tt.func public @conv(%x: !ttng.tensordesc_im2col<",
            block,
            ">, %1: i32, %2: i32, %3: i32, %4: i32, %5: i64, %6: i64, %7: i64, %8: i64, %n: i64) attributes "
            "{noinline = false} {\n    tt.return\n  }\n}\n"));
    EXPECT_EQ(Shape(upper), "desc f16:128 i64:8");
    EXPECT_EQ(upper.arguments[0].descriptor_type, "fp16[128, 64], input_rank=4");
    EXPECT_EQ(ParameterCount(upper.arguments[0]), 9);
    const KernelSignature lower = Read(Level::kPtx,
                                       ".version 8.8\n.target sm_90a\n.address_size 64\n.visible .entry "
                                       "conv(\n .param .align 64 .b8 p0[128],\n "
                                       ".param .u32 p1, .param .u32 p2, .param .u32 p3, .param .u32 p4,\n "
                                       ".param .u64 p5, .param .u64 p6, .param "
                                       ".u64 p7, .param .u64 p8, .param .u64 p9, .param .u64 .ptr .global "
                                       ".align 1 p10, .param .u64 .ptr .global "
                                       ".align 1 p11)\n.reqntid 128\n{\n ret;\n}\n",
                                       2);
    EXPECT_EQ(lower.arguments[0].descriptor_type, "[?, ?, ?, ?]");
    const auto merged = MergeSignatures(upper, lower);
    ASSERT_TRUE(merged.ok()) << merged.status();
    EXPECT_EQ(*merged, upper);
  }
}

TEST_P(RealArtifacts, PtxAndCubinLayParametersOutAlike) {
  for (const char* kernel : {"mixed", "described"}) {
    const auto ptx = ReadParameters(Level::kPtx, GoldenArtifact(GetParam(), kernel, Level::kPtx));
    const auto cubin = ReadParameters(Level::kCubin, GoldenArtifact(GetParam(), kernel, Level::kCubin));
    ASSERT_TRUE(ptx.ok()) << ptx.status();
    ASSERT_TRUE(cubin.ok()) << cubin.status();
    EXPECT_EQ(*ptx, *cubin) << kernel;
  }
}

TEST(Signature, ArtifactsOfOlderVersionsTellTheSameKernel) {
  for (const auto& [version, hidden] :
       std::vector<std::pair<std::string, int>>{{"3.0.0", 0}, {"3.1.0", 0}, {"3.2.0", 0}, {"3.3.1", 1}}) {
    const KernelSignature ttir = Read(Level::kTtir, GoldenArtifact(version, "mixed", Level::kTtir));
    EXPECT_EQ(Shape(ttir), "*f32:8! *f32:8 i1:1 f16:2 i64:8! i8:1");
    for (const Level level : {Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin}) {
      const std::string bytes = GoldenArtifact(version, "mixed", level);
      const auto merged = MergeSignatures(ttir, Read(level, bytes, hidden));
      ASSERT_TRUE(merged.ok()) << version << " " << LevelName(level) << " " << merged.status();
      EXPECT_EQ(*merged, ttir);
      if (level != Level::kCubin) EXPECT_EQ(Read(level, bytes), Read(level, bytes, hidden)) << version;
    }
  }
}

TEST(Signature, MergingTwoKernelsThatCannotBeOneNamesTheArgument) {
  const KernelSignature a = Read(Level::kTtir, "tt.func @k(%x: !tt.ptr<f32>, %n: i32) {}");
  const auto with = [&](const char* text) { return MergeSignatures(a, Read(Level::kTtir, text)).status(); };
  EXPECT_EQ(GetReason(with("tt.func @other(%x: !tt.ptr<f32>, %n: i32) {}")), Reason::kMetadata);
  EXPECT_EQ(GetDetails(with("tt.func @k(%x: !tt.ptr<f32>) {}"))["key"], "signature");
  EXPECT_EQ(GetDetails(with("tt.func @k(%x: !tt.ptr<f32>, %n: f32) {}"))["argument"], "1");
  EXPECT_EQ(GetDetails(with("tt.func @k(%x: !tt.ptr<f32>, %n: i64) {}"))["argument"], "1");
  EXPECT_EQ(GetDetails(with("tt.func @k(%x: i64, %n: i32) {}"))["argument"], "0");
  EXPECT_TRUE(with("tt.func @k(%y: !tt.ptr<f32>, %m: i32) {}").ok());
}

TEST(Signature, HiddenParametersFollowTheVersionOrTheKeys) {
  KernelMetadata metadata;
  EXPECT_EQ(HiddenParameters(metadata), std::nullopt);
  for (const auto& [version, count] : std::vector<std::pair<const char*, int>>{{"3.0.0", 0},
                                                                               {"3.2.0", 0},
                                                                               {"3.3.1", 1},
                                                                               {"3.4.0", 1},
                                                                               {"3.5.1", 2},
                                                                               {"3.9.0+git1", 2},
                                                                               {"3.10.0", 2}}) {
    metadata.triton_version = version;
    EXPECT_EQ(HiddenParameters(metadata), count) << version;
  }
  metadata.triton_version = "";
  metadata.raw_json = R"({"global_scratch_size":0})";
  EXPECT_EQ(HiddenParameters(metadata), 1);
  metadata.raw_json = R"({"global_scratch_size":0,"profile_scratch_size":0})";
  EXPECT_EQ(HiddenParameters(metadata), 2);
  metadata.raw_json = R"({"cluster_dims":[1,1,1],"num_stages":3,"shared":0})";
  EXPECT_EQ(HiddenParameters(metadata), 0);
}

// Whatever the bytes, an answer or a status: run under ASan and UBSan.
TEST(Signature, SurvivesDamagedFilesOfEveryLevel) {
  std::mt19937 random(1);
  for (const Level level : {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin}) {
    const std::string whole = GoldenArtifact("3.9.0", "described", level);
    for (int round = 0; round < 300; ++round) {
      std::string damaged = whole;
      for (int i = 0; i < 1 + round % 40; ++i)
        damaged[random() % damaged.size()] = static_cast<char>(random());
      if (round % 3 == 0) damaged.resize(random() % damaged.size());
      (void)ReadSignature(level, damaged, "", 1);
      (void)ReadParameters(level, damaged);
    }
  }
}

TEST(Signature, ReadsHugeAndDeeplyNestedTextsInLinearTime) {
  const std::string nested(size_t{4} << 20, '(');
  const std::string angles(size_t{4} << 20, '<');
  std::string many = "tt.func @k(";
  for (int i = 0; i < 250'000; ++i) many += "%a: i32, ";
  const absl::Time start = absl::Now();
  EXPECT_FALSE(ReadSignature(Level::kTtir, absl::StrCat("tt.func @k(%a: ", nested)).ok());
  EXPECT_FALSE(ReadSignature(Level::kTtir, absl::StrCat("tt.func @k(%a: ", angles)).ok());
  EXPECT_FALSE(ReadSignature(Level::kTtir, many).ok());
  EXPECT_FALSE(ReadSignature(Level::kLlir, absl::StrCat("define void @k() ", nested, "{")).ok());
  EXPECT_FALSE(
      ReadSignature(Level::kPtx, absl::StrCat(".version 8.0 .target sm_80 .entry k() {", nested)).ok());
  EXPECT_LT(absl::Now() - start, absl::Seconds(60));  // quadratic work would take an hour
}

}  // namespace
}  // namespace trun
