#include "server/artifact/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "server/artifact/level_detection.h"
#include "server/artifact/signature.h"
#include "server/artifact/testdata.h"

namespace trun {
namespace {

using ::testing::HasSubstr;

constexpr char kPtx[] =
    ".version 8.7\n.target sm_80\n.address_size 64\n.visible .entry k(\n .param .u64 .ptr .global .align 1 "
    "k_param_0,\n"
    " .param .u64 .ptr .global .align 1 k_param_1\n)\n.reqntid 128\n{\n ld.param.b64 %rd1, [k_param_0];\n "
    "ret;\n}\n";
constexpr char kSharedPtx[] =
    ".version 8.7\n.target sm_90a\n.extern .shared .align 16 .b8 global_smem[];\n.visible .entry k(\n .param "
    ".u32 a\n)\n"
    ".reqntid 256\n{\n ret;\n}\n";

absl::Status Failure(absl::string_view json, Level level = Level::kPtx, absl::string_view bytes = kPtx,
                     absl::string_view name = "") {
  return ReadMetadata(json, level, bytes, name).status();
}
std::string FailedKey(absl::string_view json, Level level = Level::kPtx, absl::string_view bytes = kPtx,
                      absl::string_view name = "") {
  const absl::Status status = Failure(json, level, bytes, name);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_EQ(GetReason(status), Reason::kMetadata) << status;
  return GetDetails(status)["key"];
}

TEST(Metadata, TextThatIsNoJsonNamesItsLineAndColumn) {
  const absl::Status status = Failure("{\n  \"num_warps\": four}");
  EXPECT_EQ(GetReason(status), Reason::kMetadata);
  EXPECT_EQ(GetDetails(status)["line"], "2");
  EXPECT_THAT(GetDetails(status)["column"], ::testing::AnyOf("16", "17"));
  EXPECT_EQ(GetReason(Failure("[]")), Reason::kMetadata);
  EXPECT_EQ(GetReason(Failure("{\"a\": 1e999}")), Reason::kMetadata);
  EXPECT_EQ(GetReason(Failure("{\"a\": \"\xff\"}")), Reason::kMetadata);
}

TEST(Metadata, TooMuchNestingOrTooManyBytesAreRefused) {
  EXPECT_EQ(GetReason(Failure(absl::StrCat("{\"a\": ", std::string(1'000'000, '[')))), Reason::kMetadata);
  EXPECT_EQ(GetReason(Failure(std::string(kMaxMetadataTextBytes + 1, ' '))), Reason::kTooLarge);
}

TEST(Metadata, ValuesOfTheWrongTypeOrRangeNameTheirKey) {
  EXPECT_EQ(FailedKey(R"({"num_warps": "4"})"), "num_warps");
  EXPECT_EQ(FailedKey(R"({"num_warps": 4.0})"), "num_warps");
  EXPECT_EQ(FailedKey(R"({"num_warps": 0})"), "num_warps");
  EXPECT_EQ(FailedKey(R"({"num_warps": 18446744073709551615})"), "num_warps");
  EXPECT_EQ(FailedKey(R"({"num_warps": -9223372036854775808})"), "num_warps");
  EXPECT_EQ(FailedKey(R"({"shared": -1})"), "shared");
  EXPECT_EQ(FailedKey(R"({"name": 3})"), "name");
  EXPECT_EQ(FailedKey(R"({"launch_pdl": 1})"), "launch_pdl");
  EXPECT_EQ(FailedKey(R"({"warp_size": 64})"), "warp_size");
  EXPECT_EQ(FailedKey(R"({"tmem_size": 513})"), "tmem_size");
  EXPECT_EQ(FailedKey(R"({"global_scratch_align": 3})"), "global_scratch_align");
  EXPECT_EQ(FailedKey(R"({"target": "cuda:80"})"), "target");
  EXPECT_EQ(FailedKey(R"({"target": {"backend": "cuda", "arch": "80"}})"), "target");
  EXPECT_EQ(FailedKey(R"({"target": {"backend": "cuda", "arch": 80, "warp_size": 64}})"), "target");
  EXPECT_EQ(FailedKey(R"({"cluster_dims": [1, 1]})"), "cluster_dims");
  EXPECT_EQ(FailedKey(R"({"cluster_dims": [3, 1, 1], "num_ctas": 2})"), "cluster_dims");
  EXPECT_EQ(GetReason(Failure(R"({"target": {"backend": "hip", "arch": "gfx942"}})")),
            Reason::kUnsupportedTarget);
}

TEST(Metadata, ContradictionsBetweenJsonAndFileNameTheirKey) {
  EXPECT_EQ(FailedKey(R"({"num_warps": 8})"), "num_warps");
  EXPECT_EQ(FailedKey(R"({"name": "other"})"), "name");
  EXPECT_EQ(FailedKey(R"({"name": "k"})", Level::kPtx, kPtx, "j"), "name");
  EXPECT_EQ(FailedKey(R"({"target": {"backend": "cuda", "arch": 90, "warp_size": 32}})"), "target");
  EXPECT_EQ(FailedKey(R"({"arch": "sm90", "target": {"backend": "cuda", "arch": 80, "warp_size": 32}})"),
            "arch");
  const char* ttgir =
      "module attributes {\"ttg.num-ctas\" = 1 : i32, \"ttg.num-warps\" = 4 : i32, ttg.target = \"cuda:80\"} "
      "{\n"
      "tt.func public @k(%x: i32) {}}";
  EXPECT_EQ(FailedKey(R"({"num_warps": 8})", Level::kTtgir, ttgir), "num_warps");
  EXPECT_EQ(FailedKey(R"({"num_ctas": 2})", Level::kTtgir, ttgir), "num_ctas");
  EXPECT_EQ(FailedKey(R"({"target": {"backend": "cuda", "arch": 90}})", Level::kTtgir, ttgir), "target");
}

TEST(Metadata, ABlockThatTritonNeverLaunchesIsRefused) {
  const std::string flat = absl::StrReplaceAll(kPtx, {{".reqntid 128", ".reqntid 16, 16, 1"}});
  EXPECT_EQ(FailedKey("", Level::kPtx, flat), "num_warps");
  const std::string odd = absl::StrReplaceAll(kPtx, {{".reqntid 128", ".reqntid 100"}});
  EXPECT_EQ(FailedKey("", Level::kPtx, odd), "num_warps");
}

TEST(Metadata, MissingKeysAreNamed) {
  const std::string no_block = absl::StrReplaceAll(kPtx, {{".reqntid 128", ""}});
  EXPECT_EQ(FailedKey("", Level::kPtx, no_block), "num_warps");
  EXPECT_EQ(FailedKey("", Level::kPtx, kSharedPtx), "shared");
  // 3.4 passes one scratch pointer last; this kernel reads it.
  const std::string scratch = absl::StrReplaceAll(kPtx, {{"[k_param_0]", "[k_param_1]"}});
  EXPECT_EQ(FailedKey(R"({"triton_version": "3.4.0"})", Level::kPtx, scratch), "global_scratch_size");
  EXPECT_TRUE(Failure(R"({"triton_version": "3.4.0"})").ok());
  EXPECT_EQ(FailedKey("", Level::kCubin, GoldenArtifact("3.9.0", "mixed", Level::kCubin)), "shared");
}

TEST(Metadata, PtxAloneTellsNameWarpsAndTarget) {
  const auto metadata = ReadMetadata("", Level::kPtx, kPtx);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_EQ(metadata->name, "k");
  EXPECT_EQ(metadata->num_warps, 4);
  EXPECT_EQ(metadata->target.ToString(), "cuda:80:32");
  EXPECT_EQ(metadata->shared_bytes, 0u);
  EXPECT_EQ(metadata->raw_json, "{}");
  const auto shared = ReadMetadata(R"({"shared": 4096})", Level::kPtx, kSharedPtx);
  ASSERT_TRUE(shared.ok()) << shared.status();
  EXPECT_EQ(shared->num_warps, 8);
  EXPECT_EQ(shared->target.arch, 90);
  EXPECT_EQ(shared->shared_bytes, 4096u);
}

TEST(Metadata, MaxntidOfOldTritonTellsTheWarps) {
  const std::string old = absl::StrReplaceAll(kPtx, {{".reqntid 128", ".maxntid 64, 1, 1"}});
  EXPECT_EQ(ReadMetadata("", Level::kPtx, old)->num_warps, 2);
  EXPECT_EQ(FailedKey(R"({"num_warps": 4})", Level::kPtx, old), "num_warps");
}

TEST(Metadata, AWarpSpecialisedKernelLaunchesItsTotalWarps) {
  const char* ttgir =
      "module attributes {\"ttg.num-warps\" = 4 : i32, \"ttg.total-num-warps\" = 12 : i32, ttg.shared = 1024 "
      ": i32} {\n"
      "tt.func public @k(%x: i32) {}}";
  const auto metadata = ReadMetadata("", Level::kTtgir, ttgir);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_EQ(metadata->num_warps, 12);
  EXPECT_EQ(metadata->shared_bytes, 1024u);
  EXPECT_EQ(ReadMetadata(R"({"num_warps": 12})", Level::kTtgir, ttgir)->num_warps, 12);
  EXPECT_EQ(FailedKey(R"({"num_warps": 8})", Level::kTtgir, ttgir), "num_warps");
}

TEST(Metadata, OldDialectNamesAndTtirAreRead) {
  const char* old =
      "module attributes {\"triton_gpu.num-ctas\" = 1 : i32, \"triton_gpu.num-warps\" = 8 : i32, "
      "triton_gpu.target = \"cuda:75\"} { tt.func public @k() {} }";
  const auto metadata = ReadMetadata("", Level::kTtgir, old);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_EQ(metadata->num_warps, 8);
  EXPECT_EQ(metadata->target.arch, 75);
  const auto ttir = ReadMetadata("", Level::kTtir, "module { tt.func public @k(%n: i32) { } }");
  ASSERT_TRUE(ttir.ok()) << ttir.status();
  EXPECT_EQ(ttir->name, "k");
  EXPECT_EQ(ttir->num_warps, 0);
}

TEST(Metadata, ClustersFollowTheVersion) {
  const auto old = ParseMetadata(R"({"num_ctas": 4, "cluster_dims": [2, 2, 1]})");
  ASSERT_TRUE(old.ok()) << old.status();
  EXPECT_THAT(old->cluster, ::testing::ElementsAre(2, 2, 1));
  EXPECT_THAT(ParseMetadata(R"({"num_ctas": 4})")->cluster, ::testing::ElementsAre(4, 1, 1));
  EXPECT_THAT(ParseMetadata(R"({"num_ctas": 1, "cluster_dims": [2, 1, 1]})")->cluster,
              ::testing::ElementsAre(1, 1, 1));
}

TEST(Metadata, RealMetadataFitsItsFilesAtEveryLevelAndKeepsUnknownKeys) {
  for (const char* version : {"3.4.0", "3.5.1", "3.6.0", "3.7.1", "3.8.0", "3.9.0"}) {
    for (const char* kernel : {"mixed", "described"}) {
      const std::string json = GoldenMetadata(version, kernel);
      for (const Level level : {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin}) {
        const auto metadata = ReadMetadata(json, level, GoldenArtifact(version, kernel, level), kernel);
        ASSERT_TRUE(metadata.ok()) << version << " " << kernel << " " << metadata.status();
        EXPECT_EQ(metadata->name, kernel);
        EXPECT_EQ(metadata->num_warps, 8);
        EXPECT_EQ(metadata->triton_version, version);
        EXPECT_EQ(metadata->target.arch, kernel == absl::string_view("mixed") ? 80 : 90);
        EXPECT_EQ(metadata->shared_bytes, nlohmann::json::parse(json)["shared"].get<uint32_t>());
        EXPECT_EQ(nlohmann::json::parse(metadata->raw_json), nlohmann::json::parse(json));
      }
    }
  }
}

TEST(Metadata, RealMetadataOfOlderVersionsFitsItsFiles) {
  for (const auto& [version, hidden] :
       std::vector<std::pair<std::string, int>>{{"3.0.0", 0}, {"3.1.0", 0}, {"3.2.0", 0}, {"3.3.1", 1}}) {
    const std::string json = GoldenMetadata(version, "mixed");
    for (const Level level : {Level::kTtir, Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin}) {
      const auto metadata = ReadMetadata(json, level, GoldenArtifact(version, "mixed", level));
      ASSERT_TRUE(metadata.ok()) << version << " " << LevelName(level) << " " << metadata.status();
      EXPECT_EQ(metadata->num_warps, 8);
      EXPECT_EQ(metadata->shared_bytes, 32u);
      EXPECT_EQ(HiddenParameters(*metadata), hidden);
    }
  }
}

TEST(Metadata, CanonicalFormHasSortedKeysAndNoWhiteSpace) {
  EXPECT_EQ(*CanonicalMetadata("{ \"b\" : [1, 2],\n \"a\": null }"), R"({"a":null,"b":[1,2]})");
  EXPECT_EQ(*CanonicalMetadata(""), "{}");
}

TEST(Metadata, WhatSharedMemoryAnEarlierCompileOfATtgirCameToIsNoLimitToIt) {
  const std::string ttgir =
      "module attributes {\"ttg.num-warps\" = 4 : i32, ttg.target = \"cuda:80\"} {\n"
      "  tt.func public @k(%a: !tt.ptr<f32>) attributes {noinline = false} {\n    tt.return\n  }\n}\n";
  const auto metadata = ReadMetadata(R"({"shared": 237568})", Level::kTtgir, ttgir);
  ASSERT_TRUE(metadata.ok()) << metadata.status();
  EXPECT_EQ(metadata->shared_bytes, 237568u);
}

TEST(Metadata, MoreSharedMemoryThanTheArchitectureHasIsNoFaultOfTheMetadata) {
  EXPECT_TRUE(ReadMetadata(R"({"shared": 166912})", Level::kPtx, kPtx).ok());
  const absl::Status status = ReadMetadata(R"({"shared": 166913})", Level::kPtx, kPtx).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(status), Reason::kLaunchShape);
  EXPECT_EQ(GetDetails(status)["key"], "shared");
  EXPECT_EQ(GetDetails(status)["bytes"], "166913");
  EXPECT_EQ(GetDetails(status)["limit"], "166912");
  EXPECT_EQ(status.message(),
            "kernel 'k' needs 166913 bytes of shared memory for one block; sm_80 has at most 166912: compile "
            "it with "
            "smaller blocks or fewer stages (num_stages)");
}

}  // namespace
}  // namespace trun
