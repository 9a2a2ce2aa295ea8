// The fake, and the real one over the toolchains under TRUN_TOOLCHAINS_DIR (default: the repository's).
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "server/toolchain/fake_source_frontend.h"
#include "server/toolchain/frontend/zygote_frontend.h"
#include "server/toolchain/source_frontend_conformance.h"

namespace trun {
namespace {

namespace fs = std::filesystem;

// Line 3 of /home/user/kernel.py is `statement`, line 7 `body`.
std::string Bundle(const std::string& statement, const std::string& body) {
  const std::string text =
      absl::StrCat("import triton\nimport triton.language as tl\n", statement,
                   "\n@triton.jit\ndef k(p, n, BLOCK: tl.constexpr):\n    i = tl.arange(0, BLOCK)\n    ",
                   body, "\n    tl.store(p + i, i.to(tl.float32) + X, mask=i < n)\n");
  return nlohmann::json{{"format", 1},
                        {"text", {{"file", "/home/user/kernel.py"}, {"source", text}, {"function", "k"}}},
                        {"arguments",
                         {{"p", {{"kind", "pointer"}, {"dtype", "f32"}, {"divisible", true}}},
                          {"n", {{"kind", "scalar"}, {"dtype", "i32"}}},
                          {"BLOCK", {{"kind", "constexpr"}, {"value", 64}}}}}}
      .dump();
}

std::string GluonBundle() {
  const std::string text =
      "from triton.experimental import gluon\nfrom triton.experimental.gluon import language as gl\n\n"
      "@gluon.jit\ndef k(p, L: gl.constexpr):\n    i = gl.arange(0, 128, layout=L)\n    gl.store(p + i, i)\n";
  const nlohmann::json layout = {
      {"call", {{"symbol", "triton.experimental.gluon.language.BlockedLayout"}}},
      {"args", {{{"list", {1}}}, {{"list", {32}}}, {{"list", {4}}}, {{"list", {0}}}}},
      {"kwargs", nlohmann::json::object()}};
  return nlohmann::json{{"format", 1},
                        {"text", {{"file", "/home/user/gluon.py"}, {"source", text}, {"function", "k"}}},
                        {"arguments",
                         {{"p", {{"kind", "pointer"}, {"dtype", "i32"}, {"divisible", true}}},
                          {"L", {{"kind", "constexpr"}, {"value", layout}}}}}}
      .dump();
}

std::string ToolchainsDirectory() {
  const char* set = getenv("TRUN_TOOLCHAINS_DIR");
  return set != nullptr ? set : TRUN_SOURCE_DIR "/build/toolchains";
}

const std::string& Scratch() {
  static const std::string* const folder = [] {
    static char name[] = "/tmp/trun-frontend-test-XXXXXX";
    if (mkdtemp(name) == nullptr) abort();
    atexit([] {
      std::error_code ignored;
      fs::remove_all(name, ignored);
    });
    return new std::string(name);
  }();
  return *folder;
}

ZygoteFrontendOptions RealOptions(const std::string& version) {
  ZygoteFrontendOptions options;
  options.python = absl::StrCat(ToolchainsDirectory(), "/", version, "/bin/python");
  options.scratch_directory = Scratch();
  options.max_zygotes = 2;
  options.memory_bytes = uint64_t{512} << 20;
  return options;
}

// One for all tests of a version: its zygotes stay warm.
std::shared_ptr<SourceFrontend> Real(const std::string& version) {
  static auto* const made = new std::map<std::string, std::shared_ptr<SourceFrontend>>;
  if (made->empty()) {
    atexit([] { made->clear(); });
  }
  auto& frontend = (*made)[version];
  if (frontend == nullptr) frontend = *ZygoteFrontend::Create(RealOptions(version));
  return frontend;
}

std::string ReadText(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<pid_t> ChildrenOf(pid_t parent) {
  std::vector<pid_t> found;
  for (const auto& task : fs::directory_iterator(absl::StrCat("/proc/", parent, "/task"))) {
    std::istringstream children(ReadText(task.path() / "children"));
    for (pid_t child = 0; children >> child;) found.push_back(child);
  }
  return found;
}

// The children that lower a source now: those of our zygotes.
void KillFrontendChildren() {
  for (const pid_t zygote : ChildrenOf(getpid())) {
    if (!absl::StrContains(ReadText(absl::StrCat("/proc/", zygote, "/cmdline")), "trun_frontend.py"))
      continue;
    for (const pid_t child : ChildrenOf(zygote)) kill(child, SIGKILL);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // paces a loop that ends by what it causes
}

FrontendSamples FakeSamples() {
  FrontendSamples samples;
  samples.name = "Fake";
  samples.make = [] { return std::make_shared<FakeSourceFrontend>(); };
  samples.good = FakeSourceFrontend::Bundle("lowered=a;");
  samples.gluon = FakeSourceFrontend::Bundle("gluon lowered=a;");
  samples.wrong = FakeSourceFrontend::Bundle("wrong");
  samples.imports_what_is_missing = FakeSourceFrontend::Bundle("missing");
  samples.refused["anything"] = FakeSourceFrontend::Bundle("refused");
  samples.endless = FakeSourceFrontend::Bundle("endless");
  samples.boundless = FakeSourceFrontend::Bundle("boundless");
  return samples;
}

FrontendSamples RealSamples(const std::string& version) {
  FrontendSamples samples;
  samples.name = absl::StrCat("Triton", absl::StrReplaceAll(version, {{".", "_"}}));
  samples.make = [version] { return Real(version); };
  samples.good = Bundle("X = tl.constexpr(1)", "pass");
  samples.gluon = GluonBundle();
  samples.wrong = Bundle("X = tl.constexpr(1)", "i = i + undefined");
  samples.imports_what_is_missing = Bundle("import torch; X = torch.pi", "pass");
  samples.refused["a file"] = Bundle("X = open('/etc/passwd').read()", "pass");
  samples.refused["a file to write"] = Bundle("X = open('/tmp/trun-frontend-test-file', 'w')", "pass");
  samples.refused["its parent's memory"] =
      Bundle("import os; X = open(f'/proc/{os.getppid()}/maps').read()", "pass");
  samples.refused["the network"] = Bundle("import socket; X = socket.socket()", "pass");
  samples.refused["a local socket"] = Bundle("import socket; X = socket.socketpair()", "pass");
  samples.refused["a process"] = Bundle("import os; X = os.fork()", "pass");
  samples.refused["a program"] = Bundle("import os; X = os.execv('/bin/true', ['true'])", "pass");
  samples.refused["its parent's end"] = Bundle("import os; X = os.kill(os.getppid(), 9)", "pass");
  samples.endless = Bundle("for X in iter(int, 1): pass", "pass");
  samples.boundless = Bundle("X = [bytearray(1 << 20) for _ in iter(int, 1)]", "pass");
  samples.kill = KillFrontendChildren;
  return samples;
}

INSTANTIATE_TEST_SUITE_P(Fake, SourceFrontendConformanceTest, ::testing::Values(FakeSamples()), FrontendName);
INSTANTIATE_TEST_SUITE_P(Real, SourceFrontendConformanceTest,
                         ::testing::Values(RealSamples("3.9.0"), RealSamples("3.4.0")), FrontendName);

SourceRequest RequestOf(const std::string& bundle) {
  SourceRequest request;
  request.bundle = bundle;
  request.target = {"cuda", 80, 32};
  return request;
}

TEST(ZygoteFrontendTest, WhereNothingConfinesSourceIsRefusedUnlessTheOperatorAllowsIt) {
  ZygoteFrontendOptions options = RealOptions("3.9.0");
  options.layers = "";
  auto frontend = ZygoteFrontend::Create(options);
  ASSERT_TRUE(frontend.ok()) << frontend.status();
  const absl::Status status = (*frontend)->Lower(RequestOf(Bundle("X = tl.constexpr(1)", "pass"))).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_EQ(GetReason(status), Reason::kNotPermitted);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("--allow-unconfined-frontend"));
  options.allow_unconfined = true;
  frontend = ZygoteFrontend::Create(options);
  ASSERT_TRUE(frontend.ok()) << frontend.status();
  EXPECT_TRUE((*frontend)->Lower(RequestOf(Bundle("X = tl.constexpr(1)", "pass"))).ok());
}

TEST(ZygoteFrontendTest, WithoutLandlockNoFileCanBeOpenedAtAll) {
  ZygoteFrontendOptions options = RealOptions("3.9.0");
  options.layers = "seccomp";
  const auto frontend = ZygoteFrontend::Create(options);
  ASSERT_TRUE(frontend.ok()) << frontend.status();
  const absl::Status status =
      (*frontend)->Lower(RequestOf(Bundle("X = open(triton.__file__).read()", "pass"))).status();
  EXPECT_EQ(GetReason(status), Reason::kNotPermitted) << status;
  const auto lowered = (*frontend)->Lower(RequestOf(Bundle("X = tl.constexpr(1)", "pass")));
  EXPECT_TRUE(lowered.ok()) << lowered.status();
}

TEST(ZygoteFrontendTest, WhatOneSourceLeavesBehindTheNextDoesNotSee) {
  const auto frontend = Real("3.9.0");
  const absl::Status left =
      frontend->Lower(RequestOf(Bundle("import math; math.secret = 7; X = undefined_name", "pass"))).status();
  EXPECT_EQ(GetReason(left), Reason::kInvalidIr) << left;
  const absl::Status status =
      frontend->Lower(RequestOf(Bundle("import math; X = tl.constexpr(math.secret)", "pass"))).status();
  EXPECT_EQ(GetReason(status), Reason::kInvalidIr);
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("secret")) << status;
}

TEST(ZygoteFrontendTest, APythonThatIsMissingIsABrokenToolchain) {
  ZygoteFrontendOptions options = RealOptions("3.9.0");
  options.python = "/nonexistent/python";
  const auto frontend = ZygoteFrontend::Create(options);
  ASSERT_TRUE(frontend.ok()) << frontend.status();
  const absl::Status status = (*frontend)->Lower(RequestOf(Bundle("X = 1", "pass"))).status();
  EXPECT_EQ(GetReason(status), Reason::kToolchainBroken) << status;
}

}  // namespace
}  // namespace trun
