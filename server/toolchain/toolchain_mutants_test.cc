// Toolchains and front ends that break a rule each: their suites must see it.
#include <atomic>
#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/mutant_conformance.h"
#include "server/toolchain/source_frontend_conformance.h"
#include "server/toolchain/toolchain_conformance.h"

namespace trun {
namespace {

StageResult Result(Level level, const std::string& text) {
  StageResult result;
  result.level = level;
  result.bytes = text;
  result.metadata_json = R"({"num_warps":4,"triton_version":"9.9.9"})";
  return result;
}

// Compiles whatever it is given, heeds no decision, and does not know what it is.
class AlwaysOkToolchain : public Toolchain {
 public:
  ToolchainInfo info() const override { return {}; }
  absl::StatusOr<std::vector<ToolchainOption>> Options(const std::string&) override {
    return std::vector<ToolchainOption>();
  }
  absl::Status Compile(const StageRequest&,
                       const std::function<StageDecision(StageResult)>& on_stage) override {
    for (const Level level : {Level::kTtgir, Level::kLlir, Level::kPtx, Level::kCubin})
      on_stage(Result(level, "made"));
    return absl::OkStatus();
  }
};

class ToolchainWithoutStages final : public AlwaysOkToolchain {
 public:
  absl::Status Compile(const StageRequest&, const std::function<StageDecision(StageResult)>&) override {
    return absl::OkStatus();
  }
};

class DifferentEachTimeToolchain final : public AlwaysOkToolchain {
 public:
  absl::Status Compile(const StageRequest&,
                       const std::function<StageDecision(StageResult)>& on_stage) override {
    on_stage(Result(Level::kTtgir, absl::StrCat("made by call ", ++calls_)));
    return absl::OkStatus();
  }

 private:
  std::atomic<int> calls_{0};
};

// Its pool does not come back from a compile.
class OnlyOnceToolchain final : public AlwaysOkToolchain {
 public:
  absl::Status Compile(const StageRequest& request,
                       const std::function<StageDecision(StageResult)>& on_stage) override {
    if (++calls_ > 1) return Unavailable(Reason::kWorkerLost, "the pool is empty");
    return AlwaysOkToolchain::Compile(request, on_stage);
  }

 private:
  std::atomic<int> calls_{0};
};

template <typename Mutant>
ToolchainSamples MutantToolchain() {
  ToolchainSamples samples;
  samples.name = "Mutant";
  samples.make = [] { return std::make_shared<Mutant>(); };
  samples.good_ttir = "good";
  samples.bad = {{Level::kTtir, "bad"}, {Level::kPtx, "bad"}};
  samples.bad_line = {{Level::kTtir, 1}, {Level::kPtx, 1}};
  samples.crashing_llir = "crash";
  samples.kill_worker = [](Toolchain*) {};
  samples.bounded = true;
  return samples;
}

INSTANTIATE_TEST_SUITE_P(AlwaysOkToolchain, ToolchainConformanceTest,
                         ::testing::Values(MutantToolchain<AlwaysOkToolchain>()), SampleName);
INSTANTIATE_TEST_SUITE_P(ToolchainWithoutStages, ToolchainConformanceTest,
                         ::testing::Values(MutantToolchain<ToolchainWithoutStages>()), SampleName);
INSTANTIATE_TEST_SUITE_P(DifferentEachTimeToolchain, ToolchainConformanceTest,
                         ::testing::Values(MutantToolchain<DifferentEachTimeToolchain>()), SampleName);
INSTANTIATE_TEST_SUITE_P(OnlyOnceToolchain, ToolchainConformanceTest,
                         ::testing::Values(MutantToolchain<OnlyOnceToolchain>()), SampleName);

class AlwaysOkFrontend : public SourceFrontend {
 public:
  std::string id() const override { return "mutant"; }
  absl::StatusOr<StageResult> Lower(const SourceRequest&) override {
    return Result(Level::kTtir, "tt.func public @k(");
  }
};

class DifferentEachTimeFrontend final : public SourceFrontend {
 public:
  std::string id() const override { return "mutant"; }
  absl::StatusOr<StageResult> Lower(const SourceRequest&) override {
    return Result(Level::kTtir, absl::StrCat("tt.func public @k(", ++calls_));
  }

 private:
  std::atomic<int> calls_{0};
};

template <typename Mutant>
FrontendSamples MutantFrontend() {
  FrontendSamples samples;
  samples.name = "Mutant";
  samples.make = [] { return std::make_shared<Mutant>(); };
  samples.good = samples.gluon = samples.wrong = samples.imports_what_is_missing = "bundle";
  samples.refused["anything"] = samples.endless = samples.boundless = "bundle";
  samples.kill = [] {};
  return samples;
}

INSTANTIATE_TEST_SUITE_P(AlwaysOkFrontend, SourceFrontendConformanceTest,
                         ::testing::Values(MutantFrontend<AlwaysOkFrontend>()), FrontendName);
INSTANTIATE_TEST_SUITE_P(DifferentEachTimeFrontend, SourceFrontendConformanceTest,
                         ::testing::Values(MutantFrontend<DifferentEachTimeFrontend>()), FrontendName);

}  // namespace
}  // namespace trun

int main(int argc, char** argv) { return trun::RunMutants(&argc, argv); }
