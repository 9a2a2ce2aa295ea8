// A toolchain that compiles nothing and answers at once with files that read well: for tests of what stands
// above.
#ifndef TRUN_SERVER_TOOLCHAIN_FAKE_TOOLCHAIN_H_
#define TRUN_SERVER_TOOLCHAIN_FAKE_TOOLCHAIN_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/toolchain/fake_source_frontend.h"
#include "server/toolchain/toolchain.h"
#include "server/toolchain/toolchain_registry.h"

namespace trun {

// Thread-safe. Compiles FakeTtir(...) down to PTX of a kernel "k(ptr, i32)". A file whose text has "refuse"
// in it, or is no text, is kInvalidIr, one with "dubious" in it gets a warning a stage; what a stage makes
// depends on the `lowered` of its source only, so sources may share what follows.
class FakeToolchain final : public Toolchain {
 public:
  explicit FakeToolchain(std::string version) : version_(std::move(version)) {}

  // Two sources with equal `lowered` become the same TTGIR.
  static std::string FakeTtir(const std::string& comment, const std::string& lowered) {
    return absl::StrCat("// ", comment, "\n// lowered=", lowered, "\nmodule {\n",
                        "  tt.func public @k(%x: !tt.ptr<f32> {tt.divisibility = 16 : i32}, %n: i32) ",
                        "attributes {noinline = false} {\n    tt.return\n  }\n}\n");
  }

  ToolchainInfo info() const override {
    ToolchainInfo info;
    info.name = version_;
    info.version = version_;
    info.id = absl::StrCat("id of ", version_);
    if (frontend_ != nullptr) info.frontend_id = frontend_->id();
    MutexLock lock(&mu_);
    info.usable = usable_;
    return info;
  }
  absl::StatusOr<std::vector<ToolchainOption>> Options(const std::string&) override {
    return std::vector<ToolchainOption>{{"num_warps", "int", "4"}};
  }
  absl::Status Compile(const StageRequest& request,
                       const std::function<StageDecision(StageResult)>& on_stage) override {
    {
      MutexLock lock(&mu_);
      ++compiles_;
      last_deadline_ = request.deadline;
      last_resume_after_ = request.resume_after;
    }
    TRUN_RETURN_IF_ERROR(Check(request));
    std::string lowered = "none";
    const size_t at = request.ir.find("lowered=");
    if (at != std::string::npos) lowered = request.ir.substr(at + 8, request.ir.find('\n', at) - at - 8);
    uint32_t passes = 0;
    for (int number = static_cast<int>(request.from) + 1; number <= static_cast<int>(request.to); ++number) {
      const Level level = static_cast<Level>(number);
      if (request.on_started != nullptr) request.on_started();
      std::function<absl::Status(const StageRequest&)> hook;
      {
        MutexLock lock(&mu_);
        const auto found = hooks_.find(level);
        if (found != hooks_.end()) hook = found->second;
        ++stages_[level];
      }
      if (hook != nullptr) TRUN_RETURN_IF_ERROR(hook(request));
      if (request.is_abandoned != nullptr && request.is_abandoned()) {
        return MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "nobody waits for this compile");
      }
      if (request.on_pass != nullptr) {  // two a stage, of which the second changes nothing
        const std::string stage(LevelName(level));
        request.on_pass({level, stage + "/lower", passes++, true, absl::Microseconds(5), "ir of " + stage});
        request.on_pass({level, stage + "/cse", passes++, false, absl::Microseconds(5), ""});
      }
      StageResult result;
      result.level = level;
      result.bytes = Make(level, lowered, request.target.arch);
      result.metadata_json =
          absl::StrCat(R"({"global_scratch_size":0,"name":"k","num_ctas":1,"num_warps":4,)",
                       has_profile_scratch() ? R"("profile_scratch_size":0,)" : "", R"("shared":0,)",
                       R"("target":{"arch":)", request.target.arch,
                       R"(,"backend":"cuda","warp_size":32},"triton_version":")", version_, R"("})");
      result.time = absl::Milliseconds(1);
      if (request.ir.find("dubious") != std::string::npos) {
        result.log = absl::StrCat("warning: ", LevelName(level), " is dubious");
      }
      if (on_stage(std::move(result)) == StageDecision::kStop) return absl::OkStatus();
    }
    return absl::OkStatus();
  }

  SourceFrontend* frontend() override { return frontend_.get(); }
  // REQUIRES: before its first use.
  void SetFrontend(std::shared_ptr<FakeSourceFrontend> frontend) { frontend_ = std::move(frontend); }

  // Called before `level` is made; an error ends the compile, a block holds it.
  void BeforeStage(Level level, std::function<absl::Status(const StageRequest&)> hook) {
    MutexLock lock(&mu_);
    hooks_[level] = std::move(hook);
  }
  void SetUsable(absl::Status usable) {
    MutexLock lock(&mu_);
    usable_ = std::move(usable);
  }
  int compiles() const {
    MutexLock lock(&mu_);
    return compiles_;
  }
  int stages(Level level) const {
    MutexLock lock(&mu_);
    const auto found = stages_.find(level);
    return found == stages_.end() ? 0 : found->second;
  }
  std::string last_resume_after() const {
    MutexLock lock(&mu_);
    return last_resume_after_;
  }
  absl::Duration last_deadline() const {
    MutexLock lock(&mu_);
    return last_deadline_;
  }

 private:
  // A second hidden parameter from Triton 3.5 on.
  bool has_profile_scratch() const { return version_ != "3.4.0"; }

  // Refusals of a real toolchain, as far as they need no compiler.
  static absl::Status Check(const StageRequest& request) {
    if (request.from < Level::kTtir || request.from >= request.to || request.to > Level::kCubin) {
      return InvalidArgument(
          Reason::kUnsupportedLevel,
          absl::StrCat("there is no way from ", LevelName(request.from), " to ", LevelName(request.to)));
    }
    if (request.target.backend != "cuda") {
      return FailedPrecondition(Reason::kUnsupportedTarget,
                                absl::StrCat("no backend ", request.target.backend));
    }
    for (const auto& [name, value] : request.options) {
      int number = 0;
      if (name != "num_warps" || !absl::SimpleAtoi(value, &number)) {
        return InvalidArgument(
            Reason::kUnknownOption,
            absl::StrCat("no option ", name, " = ", value, "; there is num_warps, a number"),
            {{"option", name}});
      }
    }
    const std::string& metadata = request.metadata_json;
    if (!metadata.empty() && (metadata.front() != '{' || metadata.back() != '}')) {
      return InvalidArgument(Reason::kMetadata, "the metadata is not a JSON object");
    }
    const auto is_text = [](unsigned char c) { return c >= ' ' || c == '\n' || c == '\t'; };
    if (request.ir.find("refuse") != std::string::npos ||
        !std::all_of(request.ir.begin(), request.ir.end(), is_text)) {
      return InvalidArgument(Reason::kInvalidIr, absl::StrCat(request.file_name, ":1: line 1 is refused"),
                             {{"line", "1"}});
    }
    return absl::OkStatus();
  }

  std::string Make(Level level, const std::string& lowered, int arch) const {
    const std::string tag = absl::StrCat("lowered=", lowered, "\n");
    switch (level) {
      case Level::kTtgir:
        return absl::StrCat("// ", tag, "#blocked = #ttg.blocked<{sizePerThread = [1]}>\n",
                            "module attributes {\"ttg.num-ctas\" = 1 : i32, \"ttg.num-warps\" = 4 : i32, ",
                            "ttg.target = \"cuda:", arch, "\", \"ttg.threads-per-warp\" = 32 : i32} {\n",
                            "  tt.func public @k(%x: !tt.ptr<f32> {tt.divisibility = 16 : i32}, %n: i32) ",
                            "attributes {noinline = false} {\n    tt.return\n  }\n}\n");
      case Level::kLlir:
        return absl::StrCat("; ", tag, "define ptx_kernel void @k(ptr addrspace(1) %0, i32 %1, ",
                            "ptr addrspace(1) readnone %2",
                            has_profile_scratch() ? ", ptr addrspace(1) readnone %3" : "", ") {\n",
                            "  ret void\n}\n");
      case Level::kPtx:
        return absl::StrCat("// ", tag, ".version 8.4\n.target sm_", arch, "\n.address_size 64\n",
                            ".visible .entry k(\n\t.param .u64 .ptr .global .align 1 k_param_0,\n",
                            "\t.param .u32 k_param_1,\n\t.param .u64 .ptr .global .align 1 k_param_2",
                            has_profile_scratch() ? ",\n\t.param .u64 .ptr .global .align 1 k_param_3" : "",
                            "\n)\n.reqntid 128\n{\n\tret;\n}\n");
      default:
        return absl::StrCat("\x7f", "ELF ", tag);
    }
  }

  const std::string version_;
  std::shared_ptr<FakeSourceFrontend> frontend_;
  mutable Mutex mu_;
  absl::Status usable_ ABSL_GUARDED_BY(mu_);
  std::map<Level, std::function<absl::Status(const StageRequest&)>> hooks_ ABSL_GUARDED_BY(mu_);
  std::map<Level, int> stages_ ABSL_GUARDED_BY(mu_);
  int compiles_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Duration last_deadline_ ABSL_GUARDED_BY(mu_);
  std::string last_resume_after_ ABSL_GUARDED_BY(mu_);
};

// Thread-safe. Knows what it is given, in that order; installs nothing.
class FakeToolchainRegistry final : public ToolchainRegistry {
 public:
  explicit FakeToolchainRegistry(std::vector<std::shared_ptr<Toolchain>> toolchains)
      : toolchains_(std::move(toolchains)) {}

  absl::StatusOr<std::shared_ptr<Toolchain>> Find(absl::string_view name) override {
    for (const auto& toolchain : toolchains_) {
      if (toolchain->info().name == name) return toolchain;
    }
    return NotFound(Reason::kToolchainNotFound,
                    absl::StrCat("no toolchain ", name, ": run `trun-client toolchains install ", name, "`"),
                    {{"toolchain", std::string(name)}});
  }
  std::vector<std::shared_ptr<Toolchain>> List() override { return toolchains_; }
  absl::StatusOr<std::shared_ptr<Toolchain>> Install(
      absl::string_view, const std::function<void(const ToolchainProgress&)>&) override {
    return Unavailable(Reason::kUnavailable, "this registry has no package index");
  }
  absl::StatusOr<std::shared_ptr<Toolchain>> Adopt(absl::string_view, absl::string_view) override {
    return FailedPrecondition(Reason::kToolchainBroken, "there is no Triton");
  }
  absl::Status Remove(absl::string_view name) override { return Find(name).status(); }

 private:
  const std::vector<std::shared_ptr<Toolchain>> toolchains_;
};

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_FAKE_TOOLCHAIN_H_
