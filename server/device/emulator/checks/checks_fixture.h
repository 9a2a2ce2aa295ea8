// Tests of the checks: small kernels, run with them.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_CHECKS_FIXTURE_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_CHECKS_FIXTURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {

// A kernel with a pointer and a number; the first line of `body` is line 11.
inline std::string Ptx(const std::string& body, const std::string& declarations = "",
                       const std::string& target = "sm_80") {
  return absl::StrCat(".version 8.4\n.target ", target,
                      "\n.address_size 64\n.visible .entry k(.param .u64 p, .param .u32 n)\n{\n",
                      ".reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<32>;\n.reg .b64 %d<16>;\n",
                      declarations, "\nld.param.u64 %d0, [p]; ld.param.u32 %r0, [n];\n",
                      "mov.u32 %r1, %tid.x; mul.wide.u32 %d1, %r1, 4; add.s64 %d2, %d0, %d1;\n", body,
                      "\nret;\n}\n.file 1 \"kernel.py\"\n");
}

inline constexpr char kShared[] = ".shared .align 16 .b8 s[1024];";

class ChecksTest : public ::testing::Test {
 protected:
  LaunchOutcome Run(const std::string& ptx, const TestTensor& x, const CheckOptions& checks,
                    uint32_t threads = 32, uint32_t grid = 1, uint32_t n = 0,
                    TestLauncher* launcher = nullptr) {
    if (launcher == nullptr) launcher = &launcher_;
    auto kernel = launcher->Load(ptx);
    if (!kernel.ok()) {
      LaunchOutcome outcome;
      outcome.status = kernel.status();
      return outcome;
    }
    EXPECT_TRUE(launcher->device().SetChecks(checks).ok());
    LaunchDimensions dimensions;
    dimensions.block = {threads, 1, 1};
    dimensions.grid = {grid, 1, 1};
    return launcher->Launch(*kernel, dimensions, TestParameters().Add(x).Add(n));
  }

  TestTensor Fresh(size_t bytes) {
    const TestTensor x = launcher_.Allocate(bytes);
    launcher_.SetUnwritten({x.id});
    return x;
  }

  static constexpr CheckOptions kUninit = {true, false, false};
  static constexpr CheckOptions kRaces = {false, true, false};
  static constexpr CheckOptions kAsync = {false, false, true};

  TestLauncher launcher_;
};

class DefinednessTest : public ChecksTest {
 protected:
  // The reason that the body gives with --check=uninit on an sm_90 or, with `arch`, another one.
  Reason Of(const std::string& body, const std::string& declarations = "", uint32_t threads = 32,
            int arch = 90) {
    TestLauncher launcher(arch);
    const TestTensor x = launcher.Upload(std::vector<uint32_t>(1024, 5));
    const std::string target = absl::StrCat("sm_", arch, arch >= 90 ? "a" : "");
    outcome_ = Run(Ptx(body, declarations, target), x, kUninit, threads, 1, 0, &launcher);
    EXPECT_TRUE(outcome_.status.ok() || GetReason(outcome_.status) == Reason::kUninitializedRead)
        << outcome_.status;
    return GetReason(outcome_.status);
  }

  static constexpr Reason kFine = Reason::kUnspecified, kFound = Reason::kUninitializedRead;

  LaunchOutcome outcome_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_CHECKS_FIXTURE_H_
