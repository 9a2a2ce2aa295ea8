// What a debugger and a trace see of a launch.
#include "server/device/emulator/debug/debugger.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// Lines of the text are counted from 1; %r2 is not needed behind line 11, and %r5 may have its place.
const char kKernel[] =
    ".version 8.4\n.target sm_80\n.address_size 64\n"        // 1-3
    ".visible .entry k(.param .u64 p) {\n"                   // 4
    ".reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<4>;\n"  // 5
    ".loc 1 10 0\n"                                          // 6
    "ld.param.u64 %d1, [p];\n"                               // 7
    "mov.u32 %r1, %tid.x;\n"                                 // 8
    ".loc 1 11 0\n"                                          // 9
    "add.u32 %r2, %r1, 100;\n"                               // 10
    "mul.lo.u32 %r3, %r2, 2;\n"                              // 11
    ".loc 1 12 0\n"                                          // 12
    "add.u32 %r5, %r3, 7;\n"                                 // 13
    "mul.wide.u32 %d2, %r1, 4; add.s64 %d3, %d1, %d2;\n"     // 14
    "st.global.u32 [%d3], %r5;\n"                            // 15
    "ret; }\n.file 1 \"/src/kernel.py\"\n";

class DebuggerTest : public ::testing::Test {
 protected:
  LaunchOutcome Run(std::shared_ptr<Debugger> debugger, TraceOptions trace = {}, uint32_t grid = 2) {
    auto kernel = launcher_.Load(kKernel);
    EXPECT_TRUE(kernel.ok()) << kernel.status();
    LaunchRequest request;
    request.kernel = *kernel;
    request.dimensions.block = {64, 1, 1};
    request.dimensions.grid = {grid, 1, 1};
    const TestParameters parameters = TestParameters().Add(x_);
    request.parameters = parameters.bytes();
    request.observer = std::move(debugger);
    request.trace = trace;
    LaunchOutcome outcome;
    launcher_.stream().Launch(request, [&outcome](LaunchOutcome done) { outcome = std::move(done); });
    launcher_.stream().Synchronize();
    return outcome;
  }

  TestLauncher launcher_;
  TestTensor x_ = launcher_.Allocate(256);
};

TEST_F(DebuggerTest, PlacesThatAreNoneAreRefused) {
  Debugger debugger([](const Stop&) { return DebugAction::kContinue; });
  EXPECT_EQ(debugger.Add(Breakpoint{}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(debugger.Add(Watchpoint{}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(debugger.Remove(7).code(), absl::StatusCode::kNotFound);
}

TEST_F(DebuggerTest, ABreakpointOfOneThreadStopsOnceAndShowsItsRegisters) {
  int stops = 0;
  auto debugger = std::make_shared<Debugger>([&](const Stop& stop) {
    ++stops;
    EXPECT_EQ(stop.reason, StopReason::kBreakpoint);
    EXPECT_THAT(stop.program, ElementsAre(1, 0, 0));
    EXPECT_THAT(stop.thread, ElementsAre(37, 0, 0));
    EXPECT_EQ(stop.instruction, "mul.lo.u32");
    EXPECT_EQ(stop.source_file, "/src/kernel.py");
    EXPECT_EQ(stop.source_line, 11u);
    EXPECT_EQ(*stop.ReadRegister("%r1"), 37u);
    EXPECT_EQ(*stop.ReadRegister("%r2"), 137u);
    EXPECT_EQ(*stop.ReadRegister("%d1"), x_.address);
    // Not yet written; never declared.
    EXPECT_EQ(stop.ReadRegister("%r3").status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_EQ(stop.ReadRegister("%nothing").status().code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(stop.ReadMemory("global", x_.address, 4)->size(), 4u);
    EXPECT_EQ(GetReason(stop.ReadMemory("global", 64, 4).status()), Reason::kIllegalAddress);
    return DebugAction::kContinue;
  });
  Breakpoint at;
  at.ptx_line = 11;
  at.threads.program = {1, 0, 0};
  at.threads.thread = {37, 0, 0};
  ASSERT_TRUE(debugger->Add(at).ok());
  EXPECT_TRUE(Run(debugger).status.ok());
  EXPECT_EQ(stops, 1);
  EXPECT_EQ(launcher_.Download<uint32_t>(x_)[37], 281u);
}

TEST_F(DebuggerTest, ARegisterWhosePlaceIsGoneIsDeadNotWrong) {
  auto debugger = std::make_shared<Debugger>([&](const Stop& stop) {
    const absl::Status status = stop.ReadRegister("%r2").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr("holds no value here"));
    EXPECT_EQ(*stop.ReadRegister("%r5"), 207u + 2 * stop.thread[0]);
    EXPECT_THAT(stop.Registers(), Not(testing::Contains("%r2")));
    EXPECT_THAT(stop.Registers(), testing::Contains("%r5"));
    return DebugAction::kContinue;
  });
  Breakpoint at;
  at.ptx_line = 15;
  ASSERT_TRUE(debugger->Add(at).ok());
  EXPECT_TRUE(Run(debugger).status.ok());
}

TEST_F(DebuggerTest, SourceLinesAndStepsLeadThroughTheKernel) {
  std::vector<std::pair<uint32_t, uint32_t>> seen;  // source line, PTX line
  auto debugger = std::make_shared<Debugger>([&](const Stop& stop) {
    seen.emplace_back(stop.source_line, stop.ptx_line);
    EXPECT_THAT(stop.thread, ElementsAre(3, 0, 0));
    if (seen.size() == 1) return DebugAction::kStepInstruction;
    return seen.size() == 2 ? DebugAction::kStepLine : DebugAction::kContinue;
  });
  Breakpoint at;
  at.source_file = "kernel.py";
  at.source_line = 11;
  at.threads.thread = {3, 0, 0};
  at.threads.program = {0, 0, 0};
  ASSERT_TRUE(debugger->Add(at).ok());
  EXPECT_TRUE(Run(debugger).status.ok());
  EXPECT_THAT(seen, ElementsAre(std::pair(11u, 10u), std::pair(11u, 11u), std::pair(12u, 13u)));
}

TEST_F(DebuggerTest, WatchpointsSeeRegistersAndMemoryChange) {
  std::vector<std::string> seen;
  auto debugger = std::make_shared<Debugger>([&](const Stop& stop) {
    EXPECT_EQ(stop.reason, StopReason::kWatchpoint);
    seen.push_back(stop.instruction);
    if (stop.number == 1) {
      EXPECT_EQ(*stop.ReadRegister("%r3"), 2 * (stop.thread[0] + 100));
    }
    if (stop.number == 2) {
      uint32_t value = 0;
      memcpy(&value, stop.ReadMemory("global", x_.address + 20, 4)->data(), 4);
      EXPECT_EQ(value, 217u);
      EXPECT_EQ(stop.thread[0], 5u);
    }
    return DebugAction::kContinue;
  });
  Watchpoint reg;
  reg.reg = "%r3";
  reg.threads.thread = {40, 0, 0};
  ASSERT_EQ(*debugger->Add(reg), 1);
  Watchpoint memory;
  memory.address = x_.address + 20;
  memory.bytes = 4;
  ASSERT_EQ(*debugger->Add(memory), 2);
  EXPECT_TRUE(Run(debugger, {}, 1).status.ok());
  EXPECT_THAT(seen, testing::UnorderedElementsAre("mul.lo.u32", "st.global.u32"));
}

TEST_F(DebuggerTest, LocalSharedAndParameterMemoryAreReadAsTheyStand) {
  const auto kernel = launcher_.Load(
      ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p, .param .u32 n) {\n"
      ".reg .b32 %r<8>; .local .align 8 .b8 l[8]; .shared .align 8 .b8 s[8];\n"
      "mov.u32 %r1, %tid.x; add.u32 %r2, %r1, 1000; st.local.u32 [l+4], %r2; st.shared.u32 [s+4], 9;\n"
      "ret; }\n");  // 7
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  int stops = 0;
  auto debugger = std::make_shared<Debugger>([&](const Stop& stop) {
    ++stops;
    const auto word = [&](const char* space, uint64_t address) {
      const auto bytes = stop.ReadMemory(space, address, 4);
      EXPECT_TRUE(bytes.ok()) << space << ": " << bytes.status();
      uint32_t value = 0;
      if (bytes.ok()) memcpy(&value, bytes->data(), 4);
      return value;
    };
    EXPECT_EQ(word("local", 0), 0u);
    EXPECT_EQ(word("local", 4), 1000 + stop.thread[0]);
    EXPECT_EQ(word("shared", 4), 9u);
    EXPECT_EQ(word("param", 0), static_cast<uint32_t>(x_.address));
    EXPECT_EQ(word("param", 8), 77u);
    for (const auto& [space, address] :
         {std::pair("local", 16u), std::pair("shared", 8u), std::pair("param", 12u)}) {
      const absl::Status status = stop.ReadMemory(space, address, 4).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << space << ": " << status;
      EXPECT_EQ(GetReason(status), Reason::kIllegalAddress) << space << ": " << status;
    }
    return DebugAction::kContinue;
  });
  for (const uint32_t thread : {3u, 40u}) {
    Breakpoint at;
    at.ptx_line = 7;
    at.threads.thread = {thread, 0, 0};
    ASSERT_TRUE(debugger->Add(at).ok());
  }
  LaunchRequest request;
  request.kernel = *kernel;
  request.dimensions.block = {64, 1, 1};
  const TestParameters parameters = TestParameters().Add(x_).Add(77u);
  request.parameters = parameters.bytes();
  request.observer = debugger;
  LaunchOutcome outcome;
  launcher_.stream().Launch(request, [&outcome](LaunchOutcome done) { outcome = std::move(done); });
  launcher_.stream().Synchronize();
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(stops, 2);
}

TEST_F(DebuggerTest, TheDebuggerCanEndTheLaunch) {
  auto debugger = std::make_shared<Debugger>([](const Stop&) { return DebugAction::kEnd; });
  Breakpoint at;
  at.ptx_line = 10;
  ASSERT_TRUE(debugger->Add(at).ok());
  const LaunchOutcome outcome = Run(debugger);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(GetReason(outcome.status), Reason::kCancelled) << outcome.status;
}

TEST_F(DebuggerTest, ATraceShowsLinesAndRegistersOfOneThread) {
  TraceOptions trace;
  trace.lines = trace.registers = true;
  trace.program = {1, 0, 0};
  trace.thread = {33, 0, 0};
  const LaunchOutcome outcome = Run(nullptr, trace);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(outcome.trace, testing::StartsWith("/src/kernel.py:10\n"));
  EXPECT_THAT(outcome.trace, HasSubstr("  PTX 8  mov.u32                 %r1 = 0x00000021 (33)\n"));
  EXPECT_THAT(outcome.trace,
              HasSubstr("/src/kernel.py:11\n  PTX 10  add.u32                 %r2 = 0x00000085 (133)\n"));
  trace.registers = false;
  EXPECT_EQ(Run(nullptr, trace).trace, "/src/kernel.py:10\n/src/kernel.py:11\n/src/kernel.py:12\n");
  EXPECT_EQ(Run(nullptr).trace, "");
}

TEST_F(DebuggerTest, ATraceHasALimitAndSaysSo) {
  auto kernel = launcher_.Load(
      ".version 8.4\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u64 p) {\n"
      ".reg .pred %p<4>; .reg .b32 %r<8>;\nmov.u32 %r1, 0;\n$again: add.u32 %r1, %r1, 1; setp.lt.u32 %p1, "
      "%r1, "
      "100000; @%p1 bra $again; ret; }\n");
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  LaunchRequest request;
  request.kernel = *kernel;
  const TestParameters parameters = TestParameters().Add(x_);
  request.parameters = parameters.bytes();
  request.trace.registers = true;
  LaunchOutcome outcome;
  launcher_.stream().Launch(request, [&outcome](LaunchOutcome done) { outcome = std::move(done); });
  launcher_.stream().Synchronize();
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_LE(outcome.trace.size(), kMaxTraceBytes);
  EXPECT_THAT(outcome.trace, testing::EndsWith("it has reached its limit of 1048576 bytes\n"));
}

}  // namespace
}  // namespace trun::device
