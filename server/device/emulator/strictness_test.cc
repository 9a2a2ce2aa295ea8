// What the emulator refuses at load, and what it sees at run time that no GPU shows.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

// A kernel with parameters p (u64) and n (u32), registers of all kinds, and `body`, whose first line is
// line 12.
std::string Ptx(const std::string& body, const std::string& target = "sm_80",
                const std::string& declarations = "") {
  return absl::StrCat(".version 8.4\n.target ", target,
                      "\n.address_size 64\n.visible .entry k(.param .u64 p, .param .u32 n)\n{\n",
                      ".reg .pred %p<8>;\n.reg .b16 %h<8>;\n.reg .b32 %r<32>;\n.reg .b64 %d<16>;\n",
                      declarations, "\nld.param.u64 %d0, [p]; ld.param.u32 %r0, [n]; mov.u32 %r1, %tid.x;\n",
                      body, "\nret;\n}\n");
}

class StrictnessTest : public ::testing::Test {
 protected:
  LaunchOutcome Run(const std::string& ptx, uint64_t pointer, uint32_t n = 0, uint32_t threads = 32,
                    uint32_t shared = 0, uint32_t grid = 1, absl::Duration deadline = absl::Seconds(10)) {
    auto kernel = launcher_.Load(ptx);
    if (!kernel.ok()) {
      LaunchOutcome outcome;
      outcome.status = kernel.status();
      return outcome;
    }
    LaunchDimensions dimensions;
    dimensions.block = {threads, 1, 1};
    dimensions.grid = {grid, 1, 1};
    dimensions.dynamic_shared_bytes = shared;
    return launcher_.Launch(*kernel, dimensions, TestParameters().Add(pointer).Add(n), deadline);
  }

  TestLauncher launcher_;
};

TEST_F(StrictnessTest, AnUnknownInstructionIsRefusedAtLoadWithItsLine) {
  const auto kernel = launcher_.Load(Ptx("frobnicate.b32 %r1, %r2;"));
  EXPECT_EQ(kernel.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(GetReason(kernel.status()), Reason::kUnsupportedInstruction);
  EXPECT_EQ(GetDetails(kernel.status())["line"], "12");
  EXPECT_EQ(GetDetails(kernel.status())["instruction"], "frobnicate.b32");
}

TEST_F(StrictnessTest, AnUnknownModifierIsRefusedAtLoad) {
  const auto kernel = launcher_.Load(Ptx("add.sideways.s32 %r1, %r2, %r3;"));
  EXPECT_EQ(GetReason(kernel.status()), Reason::kUnsupportedInstruction) << kernel.status();
}

TEST_F(StrictnessTest, TextThatDoesNotParseHasALineAndAColumn) {
  const auto kernel = launcher_.Load(Ptx("add.s32 %r1, , %r3;"));
  EXPECT_EQ(kernel.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(kernel.status()), Reason::kInvalidIr);
  EXPECT_EQ(GetDetails(kernel.status())["line"], "12");
  EXPECT_EQ(GetDetails(kernel.status())["column"], "14");
}

TEST_F(StrictnessTest, UndeclaredNamesAndWrongWidthsAreRefused) {
  for (const char* body :
       {"add.s32 %r1, %q, %r3;", "add.s64 %d1, %r2, %d3;", "bra $nowhere;",
        "@%r1 bra $x; $x:", "ld.global.u32 %r1, [%nothing];", "add.s32 %r1, %r2;",
        "st.global.u64 [%d0], %r1;", "setp.eq.s32 %r1, %r2, %r3;", "ld.param.u32 %r1, [p+12];"}) {
    const auto kernel = launcher_.Load(Ptx(body));
    EXPECT_EQ(GetReason(kernel.status()), Reason::kInvalidIr) << body << ": " << kernel.status();
  }
}

TEST_F(StrictnessTest, AModuleForANewerTargetIsRefused) {
  const auto kernel = launcher_.Load(Ptx("", "sm_90a"));
  EXPECT_EQ(kernel.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(kernel.status()), Reason::kUnsupportedTarget);
}

TEST_F(StrictnessTest, ACubinIsRefusedWithTheReason) {
  const auto kernel =
      launcher_.Load(std::string("\x7f"
                                 "ELF\x02\x01",
                                 6));
  EXPECT_EQ(kernel.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(kernel.status()), Reason::kUnsupportedLevel);
}

TEST_F(StrictnessTest, ARecursiveFunctionIsRefused) {
  const auto kernel = launcher_.Load(
      ".version 8.4\n.target sm_80\n.address_size 64\n.func f() { call.uni f; ret; }\n"
      ".visible .entry k() { call.uni f; ret; }\n");
  EXPECT_EQ(GetReason(kernel.status()), Reason::kUnsupportedInstruction) << kernel.status();
}

TEST_F(StrictnessTest, AReadOneElementPastTheEndNamesEverything) {
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>(31));
  const LaunchOutcome outcome =
      Run(Ptx(".loc 1 42 7\nmul.wide.u32 %d1, %r1, 4; add.s64 %d2, %d0, %d1;\nld.global.u32 %r2, [%d2];") +
              ".file 1 \"softmax.py\"\n",
          x.address);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  const FaultReport& fault = outcome.fault;
  EXPECT_EQ(fault.instruction, "ld.global.u32");
  EXPECT_EQ(fault.ptx_line, 14u);
  EXPECT_EQ(fault.source_file, "softmax.py");
  EXPECT_EQ(fault.source_line, 42u);
  EXPECT_EQ(fault.thread[0], 31u);
  EXPECT_EQ(fault.address, x.address + 124);
  EXPECT_EQ(fault.access_bytes, 4u);
  EXPECT_EQ(fault.space, "global");
  EXPECT_FALSE(fault.is_write);
  EXPECT_EQ(fault.nearest_allocation, x.id);
  EXPECT_NE(fault.message.find("0 bytes past the end"), std::string::npos) << fault.message;
}

TEST_F(StrictnessTest, UseAfterFreeIsToldFromOutOfBounds) {
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>(32));
  ASSERT_TRUE(launcher_.device().RemoveAllocation(x.id).ok());
  const LaunchOutcome outcome = Run(Ptx("st.global.u32 [%d0+8], %r1;"), x.address);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUseAfterFree) << outcome.status;
  EXPECT_EQ(outcome.fault.nearest_allocation, x.id);
  EXPECT_EQ(outcome.fault.nearest_allocation_offset, 8);
}

TEST_F(StrictnessTest, MisalignedAndNullAccesses) {
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>(32));
  LaunchOutcome outcome = Run(Ptx("ld.global.u32 %r2, [%d0+2];"), x.address);
  EXPECT_EQ(GetReason(outcome.status), Reason::kMisalignedAddress) << outcome.status;
  outcome = Run(Ptx("ld.global.v4.u32 {%r2, %r3, %r4, %r5}, [%d0+8];"), x.address);
  EXPECT_EQ(GetReason(outcome.status), Reason::kMisalignedAddress) << outcome.status;
  outcome = Run(Ptx("ld.global.u32 %r2, [%d0];"), 0);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_NE(outcome.fault.message.find("null"), std::string::npos);
  outcome = Run(Ptx("ld.u32 %r2, [%d0];"), 0xffffffffffffff00);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
}

TEST_F(StrictnessTest, SharedAndLocalMemoryHaveBounds) {
  const std::string shared = ".shared .align 4 .b8 s[128];";
  LaunchOutcome outcome = Run(Ptx("mov.u32 %r2, s; st.shared.u32 [%r2+128], %r1;", "sm_80", shared), 0);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_EQ(outcome.fault.space, "shared");
  EXPECT_EQ(outcome.fault.address, 128u);
  outcome = Run(Ptx("mov.u32 %r2, s; st.shared.u32 [%r2+124], %r1;", "sm_80", shared), 0);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  const std::string local = ".local .align 16 .b8 l[16];";
  outcome = Run(Ptx("st.local.u32 [l+16], %r1;", "sm_80", local), 0);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_EQ(outcome.fault.space, "local");
  outcome =
      Run(Ptx("mov.u64 %d1, l; cvta.local.u64 %d2, %d1; st.u32 [%d2+12], %r1; ld.local.u32 %r2, [l+12];",
              "sm_80", local),
          0);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(StrictnessTest, ParametersHaveBounds) {
  // cvta makes a generic address of the parameter buffer, which has 12 bytes.
  const std::string begin = "mov.b64 %d1, p; cvta.param.u64 %d2, %d1;\n";
  LaunchOutcome outcome = Run(Ptx(begin + "ld.u32 %r2, [%d2+8];"), 0);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  outcome = Run(Ptx(begin + "ld.u32 %r2, [%d2+12];"), 0);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_EQ(outcome.fault.space, "param");
  outcome = Run(Ptx(begin + "st.u32 [%d2], %r1;"), 0);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
}

TEST_F(StrictnessTest, MisalignedParameters) {
  const std::string begin = "mov.b64 %d1, p; cvta.param.u64 %d2, %d1;\n";
  for (const char* body : {"ld.u32 %r2, [%d2+2];", "ld.u64 %d3, [%d2+4];", "ld.param.u32 %r2, [%d1+6];"}) {
    const LaunchOutcome outcome = Run(Ptx(begin + body), 0);
    EXPECT_EQ(GetReason(outcome.status), Reason::kMisalignedAddress) << body << ": " << outcome.status;
    EXPECT_EQ(outcome.fault.space, "param") << body;
    EXPECT_EQ(outcome.fault.ptx_line, 13u) << body;
  }
  // By name the place is known at load.
  for (const char* body : {"ld.param.u32 %r2, [p+2];", "ld.param.v2.u32 {%r2, %r3}, [p+4];"}) {
    const absl::Status status = launcher_.Load(Ptx(body)).status();
    EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << body << ": " << status;
    EXPECT_EQ(GetDetails(status)["line"], "12") << body;
  }
}

TEST_F(StrictnessTest, MisalignedSharedAndLocalAccesses) {
  const std::string declarations = ".shared .align 16 .b8 s[64]; .local .align 16 .b8 l[64];";
  for (const char* body : {"mov.u32 %r2, s; ld.shared.u32 %r3, [%r2+2];", "st.local.u32 [l+1], %r1;",
                           "mov.u32 %r2, s; atom.shared.add.u32 %r3, [%r2+6], 1;"}) {
    const LaunchOutcome outcome = Run(Ptx(body, "sm_80", declarations), 0);
    EXPECT_EQ(GetReason(outcome.status), Reason::kMisalignedAddress) << body << ": " << outcome.status;
  }
}

TEST_F(StrictnessTest, AThreadThatRunsOverItsStackIsStopped) {
  // Writes its local memory upwards until it leaves it.
  const LaunchOutcome outcome =
      Run(Ptx("mov.u64 %d1, l;\n$again: st.local.u32 [%d1], %r1; add.s64 %d1, %d1, 4; bra $again;", "sm_80",
              ".local .align 16 .b8 l[64];"),
          0);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_EQ(outcome.fault.space, "local");
  EXPECT_EQ(outcome.fault.address, 64u);
}

TEST_F(StrictnessTest, ALocalVariableEndsAtItsLastByte) {
  const std::string one = ".local .align 1 .b8 l[13];", two = one + " .local .align 4 .b8 m[32];";
  for (const std::string& declarations : {one, two}) {
    EXPECT_TRUE(Run(Ptx("st.local.u8 [l+12], 0;", "sm_80", declarations), 0).status.ok());
    for (const char* body :
         {"st.local.u8 [l+13], 0;", "ld.local.u16 %h1, [l+12];", "mov.u64 %d1, l; st.local.u8 [%d1+15], 0;",
          "mov.u64 %d1, l; cvta.local.u64 %d2, %d1; ld.u8 %h1, [%d2+13];"}) {
      const LaunchOutcome outcome = Run(Ptx(body, "sm_80", declarations), 0);
      EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << body << outcome.status;
      EXPECT_EQ(outcome.fault.space, "local");
    }
  }
  // From one variable into the gap before the next, which is named.
  LaunchOutcome outcome = Run(Ptx("st.local.u8 [l+13], 0;", "sm_80", two), 0);
  EXPECT_NE(outcome.fault.message.find("(l of 13 bytes ends at 0xd)"), std::string::npos)
      << outcome.fault.message;
  // The next one begins at its alignment; all of it may be used, and nothing in front of it.
  EXPECT_TRUE(Run(Ptx("st.local.u32 [m], 0; st.local.u32 [m+28], 0;", "sm_80", two), 0).status.ok());
  for (const char* body : {"mov.u64 %d1, m; st.local.u32 [%d1+-4], 0;", "st.local.u32 [m+32], 0;"}) {
    EXPECT_EQ(GetReason(Run(Ptx(body, "sm_80", two), 0).status), Reason::kIllegalAddress) << body;
  }
}

TEST_F(StrictnessTest, ACallOfPrintfWithAnArgumentThatIsNoPointerIsRefused) {
  const auto kernel = launcher_.Load(
      ".version 8.4\n.target sm_80\n.address_size 64\n"
      ".extern .func (.param .b32 r) vprintf (.param .b64 f, .param .b64 a);\n"
      ".visible .entry k() { .param .b64 f; .param .b32 a; .param .b32 r; call.uni (r), vprintf, (f, a); "
      "ret; "
      "}\n");
  EXPECT_EQ(GetReason(kernel.status()), Reason::kInvalidIr) << kernel.status();
}

TEST_F(StrictnessTest, AnMbarrierThatCanNeverCompleteIsFoundWithoutWaitingForTheDeadline) {
  TestLauncher launcher(90);
  auto kernel =
      launcher.Load(Ptx("mov.u32 %r2, b; mbarrier.init.shared.b64 [%r2], 2;\n"
                        "mbarrier.arrive.shared.b64 %d1, [%r2];\n"
                        "$again: mbarrier.try_wait.parity.shared.b64 %p1, [%r2], 0; @!%p1 bra $again;",
                        "sm_90", ".shared .align 8 .b64 b;"));
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  LaunchDimensions dimensions;
  const absl::Time start = absl::Now();
  const LaunchOutcome outcome = launcher.Launch(
      *kernel, dimensions, TestParameters().Add(uint64_t{0}).Add(uint32_t{0}), absl::Minutes(10));
  EXPECT_EQ(GetReason(outcome.status), Reason::kHungKernel) << outcome.status;
  EXPECT_NE(outcome.fault.message.find("never completes"), std::string::npos) << outcome.fault.message;
  EXPECT_EQ(outcome.fault.ptx_line, 14u);
  EXPECT_LT(absl::Now() - start, absl::Minutes(2));
}

TEST_F(StrictnessTest, ConstantMemoryCannotBeWritten) {
  const std::string ptx =
      ".version 8.4\n.target sm_80\n.address_size 64\n.const .align 4 .b32 c[2] = {7, 8};\n"
      ".visible .entry k(.param .u64 p, .param .u32 n) { .reg .b64 %d<3>; .reg .b32 %r<3>;\n"
      "mov.u64 %d1, c; ld.const.u32 %r1, [c+4]; ld.param.u64 %d2, [p]; st.global.u32 [%d2], %r1;\n"
      "st.global.u32 [%d1], 0; ret; }\n";
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>(1));
  const LaunchOutcome outcome = Run(ptx, x.address);
  EXPECT_EQ(GetReason(outcome.status), Reason::kIllegalAddress) << outcome.status;
  EXPECT_EQ(launcher_.Download<uint32_t>(x)[0], 8u);
}

TEST_F(StrictnessTest, ABarrierThatNotAllThreadsReach) {
  const LaunchOutcome outcome =
      Run(Ptx("setp.lt.u32 %p1, %r1, 32; @%p1 bra $end; bar.sync 0; $end:"), 0, 0, 64);
  EXPECT_EQ(GetReason(outcome.status), Reason::kBarrierDivergence) << outcome.status;
  EXPECT_EQ(outcome.fault.instruction, "bar.sync");
  EXPECT_NE(outcome.fault.message.find("32 of 64"), std::string::npos) << outcome.fault.message;
}

TEST_F(StrictnessTest, LanesThatNeverMeetAtASyncInstructionAreReported) {
  const LaunchOutcome outcome =
      Run(Ptx("setp.lt.u32 %p1, %r1, 16; @%p1 bra $other; shfl.sync.bfly.b32 %r2, %r1, 1, 31, -1; bra $end;\n"
              "$other: shfl.sync.bfly.b32 %r3, %r1, 1, 31, -1;\n$end:"),
          0);
  EXPECT_EQ(GetReason(outcome.status), Reason::kBarrierDivergence) << outcome.status;
}

TEST_F(StrictnessTest, DivergentLanesMeetAgain) {
  const TestTensor x = launcher_.Allocate(32 * 4);
  const LaunchOutcome outcome =
      Run(Ptx("and.b32 %r2, %r1, 3; mov.u32 %r3, 0;\n$loop: setp.eq.u32 %p1, %r2, 0; @%p1 bra $out;\n"
              "add.u32 %r3, %r3, 10; sub.u32 %r2, %r2, 1; bra $loop;\n$out: shfl.sync.idx.b32 %r4, %r3, 3, "
              "31, -1;\n"
              "add.u32 %r3, %r3, %r4; mul.wide.u32 %d1, %r1, 4; add.s64 %d2, %d0, %d1; st.global.u32 [%d2], "
              "%r3;"),
          x.address);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<uint32_t>(x);
  for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(result[i], (i & 3) * 10 + 30);
}

TEST_F(StrictnessTest, ALaneThatSpinsOnAnotherLaneOfItsWarpLetsItRun) {
  const TestTensor flag = launcher_.Upload(std::vector<uint32_t>{0});
  const LaunchOutcome outcome =
      Run(Ptx("setp.eq.u32 %p1, %r1, 31; @%p1 bra $set;\n$spin: ld.volatile.global.u32 %r2, [%d0]; "
              "setp.eq.u32 %p2, %r2, 0;\n"
              "@%p2 bra $spin; bra $end;\n$set: st.volatile.global.u32 [%d0], 1;\n$end:"),
          flag.address);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(StrictnessTest, AnEndlessLoopPassesItsDeadlineAndSaysWhere) {
  const LaunchOutcome outcome =
      Run(Ptx("$again: add.u32 %r2, %r2, 1;\nbra $again;"), 0, 0, 64, 0, 4, absl::Milliseconds(30));
  EXPECT_EQ(GetReason(outcome.status), Reason::kHungKernel) << outcome.status;
  EXPECT_GE(outcome.fault.ptx_line, 12u);
}

TEST_F(StrictnessTest, TheFaultOfTheLowestProgramIsReportedWhateverTheThreads) {
  for (int threads : {1, 2, 5}) {
    TestLauncher launcher(80, threads);
    auto kernel =
        launcher.Load(Ptx("mov.u32 %r2, %ctaid.x; setp.lt.u32 %p1, %r2, 37; @%p1 bra $end; trap; $end:"));
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    LaunchDimensions dimensions;
    dimensions.grid = {200, 1, 1};
    dimensions.block = {32, 1, 1};
    const LaunchOutcome outcome =
        launcher.Launch(*kernel, dimensions, TestParameters().Add(uint64_t{0}).Add(uint32_t{0}));
    EXPECT_EQ(GetReason(outcome.status), Reason::kDeviceAssert) << outcome.status;
    EXPECT_EQ(outcome.fault.program[0], 37u) << threads;
  }
}

TEST_F(StrictnessTest, AMissingWaitIsReportedWhenCopiesAreLate) {
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>{5, 6}), out = launcher_.Allocate(8);
  const std::string begin =
      "mov.u32 %r2, s; add.s64 %d1, %d0, 4; cp.async.ca.shared.global [%r2], [%d0], 4; "
      "cp.async.commit_group;\n"
      "cp.async.ca.shared.global [%r2+4], [%d1], 4; cp.async.commit_group;\n";
  const std::string end =
      "ld.shared.u32 %r3, [%r2]; ld.shared.u32 %r4, [%r2+4]; mul.lo.u32 %r4, %r4, 10; add.u32 %r3, %r3, "
      "%r4;\n"
      "mov.b64 %d2, {%r0, 0}; add.s64 %d2, %d0, %d2; st.global.u32 [%d2], %r3;";
  const std::string shared = ".shared .align 16 .b8 s[16];";
  LaunchOutcome outcome;
  const auto result = [&](const std::string& wait) {
    outcome = Run(Ptx(begin + wait + end, "sm_80", shared), x.address,
                  static_cast<uint32_t>(out.address - x.address), 1);
    return launcher_.Download<uint32_t>(out)[0];
  };
  EXPECT_EQ(result(""), 65u);
  CheckOptions checks;
  checks.late_async = true;
  ASSERT_TRUE(launcher_.device().SetChecks(checks).ok());
  EXPECT_EQ(result("cp.async.wait_group 0;"), 65u);
  EXPECT_EQ(result("cp.async.wait_all;"), 65u);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  // The second group may still be under way.
  result("cp.async.wait_group 1;");
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_EQ(outcome.fault.instruction, "ld.shared.u32");
  EXPECT_EQ(outcome.fault.address, 4u);
  EXPECT_EQ(outcome.fault.other.role, "earlier write");
  EXPECT_EQ(outcome.fault.other.instruction, "cp.async.ca.shared.global");
  EXPECT_EQ(outcome.fault.other.ptx_line, 13u);
  result("");
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_EQ(outcome.fault.address, 0u);
}

TEST_F(StrictnessTest, FunctionsAreCalledWithTheirParameters) {
  const TestTensor x = launcher_.Allocate(32 * 4);
  const LaunchOutcome outcome = Run(
      absl::StrReplaceAll(
          Ptx("{ .param .b32 a; .param .b32 r; st.param.b32 [a], %r1; call.uni (r), twice, (a); ld.param.b32 "
              "%r2, [r]; }\n"
              "{ .param .b32 a; .param .b32 r; st.param.b32 [a], %r2; call.uni (r), twice, (a); ld.param.b32 "
              "%r3, [r]; }\n"
              "mul.wide.u32 %d1, %r1, 4; add.s64 %d2, %d0, %d1; st.global.u32 [%d2], %r3;"),
          {{".visible .entry",
            ".func (.param .b32 out) twice(.param .b32 in) { .reg .b32 %r<3>; .reg .pred %p<2>; ld.param.b32 "
            "%r1, [in];"
            " setp.eq.u32 %p1, %r1, 5; @%p1 bra $five; add.u32 %r2, %r1, %r1; st.param.b32 [out], %r2; ret;"
            " $five: st.param.b32 [out], 1000; ret; }\n.visible .entry"}}),
      x.address);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  const auto result = launcher_.Download<uint32_t>(x);
  for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(result[i], i == 5 ? 2000 : 4 * i) << i;
}

}  // namespace
}  // namespace trun::device
