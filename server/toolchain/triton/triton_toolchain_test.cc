// The real thing: every toolchain under TRUN_TOOLCHAINS_DIR (default: build/toolchains of the repository).
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/toolchain/toolchain_conformance.h"
#include "server/toolchain/triton/triton_registry.h"

namespace trun {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Kernel(const std::string& name) {
  const std::string text = ReadText(std::string(TRUN_SOURCE_DIR "/examples/kernels/") + name + ".ttir");
  EXPECT_FALSE(text.empty()) << name;
  return text;
}

std::string ToolchainsDirectory() {
  const char* set = getenv("TRUN_TOOLCHAINS_DIR");
  return set != nullptr ? set : TRUN_SOURCE_DIR "/build/toolchains";
}

// One registry for all tests: its pools stay warm, so a case costs what it compiles.
TritonRegistry* Registry() {
  static const std::unique_ptr<TritonRegistry> registry = [] {
    static char folder[] = "/tmp/trun-toolchain-test-XXXXXX";
    if (mkdtemp(folder) == nullptr) return std::unique_ptr<TritonRegistry>();
    atexit([] {
      std::error_code ignored;
      fs::remove_all(folder, ignored);
    });
    TritonRegistryOptions options;
    options.toolchain_directories = {ToolchainsDirectory()};
    options.state_directory = absl::StrCat(folder, "/state");
    options.scratch_directory = absl::StrCat(folder, "/run");
    options.max_workers = 2;
    auto created = TritonRegistry::Create(options);
    return *std::move(created);
  }();
  return registry.get();
}

pid_t BusyWorker() {
  // The one child of ours whose session is its own: found by its name in /proc.
  const std::string own = absl::StrCat("\t", getpid(), "\n");
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string status = ReadText(entry.path() / "status");
    if (absl::StrContains(status, "PPid:" + own) &&
        absl::StrContains(ReadText(entry.path() / "cmdline"), "trun_worker")) {
      return std::stoi(entry.path().filename().string());
    }
  }
  return 0;
}

ToolchainSamples Samples(const std::string& version) {
  ToolchainSamples samples;
  samples.name = absl::StrCat("Triton", absl::StrReplaceAll(version, {{".", "_"}}));
  samples.make = [version]() -> std::shared_ptr<Toolchain> {
    auto found = Registry()->Find(version);
    return found.ok() ? *found : nullptr;
  };
  samples.good_ttir = Kernel("vector_add");
  samples.bad[Level::kTtir] =
      "module {\n  tt.func public @k(%a: !tt.ptr<f32>) {\n    %0 = arith.foo %a : i32\n    tt.return\n  "
      "}\n}\n";
  samples.bad_line[Level::kTtir] = 3;
  const std::string dialect = version < "3.3" ? "triton_gpu" : "ttg";
  samples.bad[Level::kTtgir] =
      absl::StrCat("module attributes {\"", dialect, ".num-warps\" = 4 : i32} {\n",
                   "  tt.func public @k() {\n    tt.return %nothing : i32\n  }\n}\n");
  samples.bad_line[Level::kTtgir] = 3;
  samples.bad[Level::kPtx] =
      ".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n  .reg .b32 %r1;\n  frob.b32 "
      "%r1;\n  "
      "ret;\n}\n";
  samples.bad_line[Level::kPtx] = 7;
  samples.crashing_llir = "define void @k( {\n";
  samples.kill_worker = [](Toolchain*) {
    // Every worker of this process: the busy one is among them, and the idle ones must not matter.
    for (pid_t pid = BusyWorker(); pid != 0; pid = BusyWorker()) {
      kill(pid, SIGKILL);
      // Neither a zombie (it has no command line) nor a reaped one (its file is gone) is found again.
      std::string state = ReadText(absl::StrCat("/proc/", pid, "/stat"));
      while (!state.empty() && !absl::StrContains(state, ") Z")) {
        usleep(1000);
        state = ReadText(absl::StrCat("/proc/", pid, "/stat"));
      }
    }
  };
  samples.bounded = true;
  return samples;
}

std::vector<ToolchainSamples> AllSamples() {
  std::vector<ToolchainSamples> all;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(ToolchainsDirectory(), error)) {
    const std::string version = entry.path().filename().string();
    if (version == "3.4.0" || version == "3.9.0") all.push_back(Samples(version));
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Real, ToolchainConformanceTest, ::testing::ValuesIn(AllSamples()), SampleName);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ToolchainConformanceTest);

class TritonToolchainTest : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    auto found = Registry()->Find(GetParam());
    if (!found.ok()) GTEST_SKIP() << GetParam() << " is not installed in " << ToolchainsDirectory();
    toolchain_ = *found;
  }
  absl::StatusOr<std::map<Level, StageResult>> Compile(Level from, const std::string& ir, Level to, int arch,
                                                       const CompileOptions& options = {},
                                                       const std::string& metadata = "") {
    StageRequest request;
    request.from = from;
    request.ir = ir;
    request.to = to;
    request.target = {"cuda", arch, 32};
    request.options = options;
    request.metadata_json = metadata;
    request.file_name = "k.txt";
    std::map<Level, StageResult> stages;
    TRUN_RETURN_IF_ERROR(toolchain_->Compile(request, [&](StageResult stage) {
      stages[stage.level] = std::move(stage);
      return StageDecision::kContinue;
    }));
    return stages;
  }

  std::shared_ptr<Toolchain> toolchain_;
};

INSTANTIATE_TEST_SUITE_P(Versions, TritonToolchainTest, ::testing::Values("3.4.0", "3.9.0"),
                         [](const auto& info) { return absl::StrReplaceAll(info.param, {{".", "_"}}); });

TEST_P(TritonToolchainTest, EveryExampleBecomesACubinForAmpereAndHopper) {
  for (const char* name : {"vector_add", "softmax", "layer_norm", "reduce_sum", "transpose", "matmul",
                           "matmul_fp16", "matmul_bf16", "matmul_tf32", "matmul_fp32"}) {
    for (int arch : {80, 90}) {
      auto stages = Compile(Level::kTtir, Kernel(name), Level::kCubin, arch);
      ASSERT_TRUE(stages.ok()) << name << " sm_" << arch << ": " << stages.status();
      EXPECT_EQ(stages->at(Level::kCubin).bytes.substr(0, 4),
                "\x7f"
                "ELF");
      const auto metadata = nlohmann::json::parse(stages->at(Level::kCubin).metadata_json);
      EXPECT_EQ(metadata["name"], absl::StartsWith(name, "matmul") ? "matmul" : name);
      EXPECT_EQ(metadata["num_warps"], 4);
      EXPECT_TRUE(metadata["shared"].is_number());
      EXPECT_EQ(metadata["target"]["arch"], arch);
      EXPECT_EQ(metadata["triton_version"], GetParam());
    }
  }
}

TEST_P(TritonToolchainTest, EveryLevelLeadsToTheSameCubin) {
  auto whole = Compile(Level::kTtir, Kernel("matmul_fp16"), Level::kCubin, 80);
  ASSERT_TRUE(whole.ok()) << whole.status();
  for (Level from : {Level::kTtgir, Level::kLlir, Level::kPtx}) {
    const StageResult& start = whole->at(from);
    auto rest =
        Compile(from, start.bytes, Level::kCubin, 80, {}, from == Level::kTtgir ? "" : start.metadata_json);
    ASSERT_TRUE(rest.ok()) << LevelName(from) << ": " << rest.status();
    EXPECT_EQ(rest->at(Level::kCubin).bytes, whole->at(Level::kCubin).bytes) << LevelName(from);
    const auto expected = nlohmann::json::parse(whole->at(Level::kCubin).metadata_json);
    const auto got = nlohmann::json::parse(rest->at(Level::kCubin).metadata_json);
    for (const char* key : {"name", "num_warps", "shared", "target", "global_scratch_size"}) {
      EXPECT_EQ(got[key], expected[key]) << LevelName(from) << " " << key;
    }
  }
}

TEST_P(TritonToolchainTest, AFreshWorkerThatStartsBelowTtgirMakesTheSamePtxAsOneThatDidTheWholeWay) {
  auto whole = Compile(Level::kTtir, Kernel("matmul_fp16"), Level::kPtx, 90);
  ASSERT_TRUE(whole.ok()) << whole.status();
  // Workers are killed, so that the next compile is the first of its process: LLVM's options must not depend
  // on before.
  Samples(GetParam()).kill_worker(toolchain_.get());
  auto rest = Compile(Level::kLlir, whole->at(Level::kLlir).bytes, Level::kPtx, 90, {},
                      whole->at(Level::kLlir).metadata_json);
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_EQ(rest->at(Level::kPtx).bytes, whole->at(Level::kPtx).bytes);
}

TEST_P(TritonToolchainTest, PtxAloneSaysItsNameItsWarpsAndThatItWantsNoSharedMemory) {
  auto whole = Compile(Level::kTtir, Kernel("vector_add"), Level::kPtx, 80, {{"num_warps", "8"}});
  ASSERT_TRUE(whole.ok()) << whole.status();
  auto rest = Compile(Level::kPtx, whole->at(Level::kPtx).bytes, Level::kCubin, 80);
  ASSERT_TRUE(rest.ok()) << rest.status();
  const auto metadata = nlohmann::json::parse(rest->at(Level::kCubin).metadata_json);
  EXPECT_EQ(metadata["name"], "vector_add");
  EXPECT_EQ(metadata["num_warps"], 8);
  EXPECT_EQ(metadata["shared"], 0);  // the file has none
  // Where it has some, only the metadata that is not given says how much.
  std::string text = whole->at(Level::kPtx).bytes;
  const size_t entry = text.find(".visible .entry");
  ASSERT_NE(entry, std::string::npos);
  text.insert(entry, ".extern .shared .align 16 .b8 global_smem[];\n");
  rest = Compile(Level::kPtx, text, Level::kCubin, 80);
  ASSERT_TRUE(rest.ok()) << rest.status();
  EXPECT_FALSE(nlohmann::json::parse(rest->at(Level::kCubin).metadata_json).contains("shared"));
}

TEST_P(TritonToolchainTest, MetadataThatContradictsTheFileIsRefused) {
  auto whole = Compile(Level::kTtir, Kernel("vector_add"), Level::kPtx, 80);
  ASSERT_TRUE(whole.ok()) << whole.status();
  for (Level from : {Level::kTtgir, Level::kPtx}) {
    auto wrong = Compile(from, whole->at(from).bytes, Level::kCubin, 80, {}, "{\"num_warps\": 2}");
    EXPECT_EQ(wrong.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(GetReason(wrong.status()), Reason::kMetadata) << LevelName(from) << wrong.status();
    EXPECT_EQ(GetDetails(wrong.status())["key"], "num_warps");
  }
  auto wrong =
      Compile(Level::kTtgir, whole->at(Level::kTtgir).bytes, Level::kCubin, 80, {{"num_warps", "8"}});
  EXPECT_EQ(GetReason(wrong.status()), Reason::kMetadata) << wrong.status();
}

TEST_P(TritonToolchainTest, OptionsOfTheMetadataHoldWhereTheRequestSaysNothing) {
  auto stages =
      Compile(Level::kTtir, Kernel("vector_add"), Level::kPtx, 80, {}, "{\"num_warps\": 8, \"x\": 1}");
  ASSERT_TRUE(stages.ok()) << stages.status();
  EXPECT_THAT(stages->at(Level::kPtx).bytes, HasSubstr(".reqntid 256"));
  stages = Compile(Level::kTtir, Kernel("vector_add"), Level::kPtx, 80, {{"num_warps", "2"}},
                   "{\"num_warps\": 8}");
  ASSERT_TRUE(stages.ok()) << stages.status();
  EXPECT_THAT(stages->at(Level::kPtx).bytes, HasSubstr(".reqntid 64"));
}

TEST_P(TritonToolchainTest, OptionsOfAWrongTypeOrThatNameFilesAreRefused) {
  for (const auto& [name, value] :
       std::map<std::string, std::string>{{"num_warps", "\"four\""},
                                          {"num_stages", "true"},
                                          {"num_warps", "3"},
                                          {"ptx_options", "\"-o /etc/x\""},
                                          {"extern_libs", "{\"libdevice\":\"/etc/passwd\"}"},
                                          {"ir_override", "\"/etc/passwd\""},
                                          {"arch", "\"sm90\""}}) {
    auto stages = Compile(Level::kTtir, Kernel("vector_add"), Level::kCubin, 80, {{name, value}});
    EXPECT_EQ(stages.status().code(), absl::StatusCode::kInvalidArgument) << name << " " << stages.status();
    EXPECT_EQ(GetReason(stages.status()), Reason::kUnknownOption) << name;
  }
}

TEST_P(TritonToolchainTest, AnArchitectureThatDoesNotExistIsUnsupported) {
  auto stages = Compile(Level::kTtir, Kernel("vector_add"), Level::kCubin, 999);
  EXPECT_EQ(stages.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(stages.status()), Reason::kUnsupportedTarget) << stages.status();
}

TEST_P(TritonToolchainTest, WorkersLeaveNothingBehindInTheirScratchFolder) {
  auto stages = Compile(Level::kPtx, ".version 8.0\n.target sm_80\n.visible .entry k() { nonsense; }\n",
                        Level::kCubin, 80);
  EXPECT_EQ(GetReason(stages.status()), Reason::kInvalidIr) << stages.status();
  ASSERT_TRUE(Compile(Level::kTtir, Kernel("vector_add"), Level::kCubin, 80).ok());
  EXPECT_EQ(toolchain_->info().busy_workers, 0);
}

}  // namespace
}  // namespace trun
