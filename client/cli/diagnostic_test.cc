#include "client/cli/diagnostic.h"

#include "client/cli/exit_code.h"
#include "client/cli/progress.h"
#include "client/cli/run_report.h"
#include "client/cli/text.h"
#include "common/ir/launch_limits.h"
#include "common/rpc/status_mapping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(DiagnosticTest, TheHelpForTooMuchSharedMemoryIsNotOneForTheGrid) {
  const std::string help = HelpFor(TooMuchSharedMemory("k", 300'000, "sm_90", 232'448));
  EXPECT_THAT(help, ::testing::HasSubstr("num_stages"));
  EXPECT_THAT(help, ::testing::Not(::testing::HasSubstr("--grid")));
  EXPECT_THAT(HelpFor(InvalidArgument(Reason::kLaunchShape, "a grid of zero")),
              ::testing::HasSubstr("--grid"));
}

TEST(DiagnosticTest, AnErrorOfTheFileShowsItsLineAndACaret) {
  DiagnosticContext context;
  context.source = SourceText{"bad.ttir", "module {\n  %x = tt.laod %p\n}\n"};
  const absl::Status status =
      InvalidArgument(Reason::kInvalidIr, "unknown operation 'tt.laod'", {{"line", "2"}, {"column", "8"}});
  EXPECT_EQ(RenderDiagnostic(status, context, false),
            "bad.ttir:2:8: error: unknown operation 'tt.laod' [INVALID_IR]\n"
            "    2 |   %x = tt.laod %p\n"
            "      |        ^\n");
}

TEST(DiagnosticTest, WhatThePlaceAndTheExcerptSayIsNotSaidTwice) {
  DiagnosticContext context;
  context.source = SourceText{"/home/u/k.py", "def k(x):\n    return x.foo\n"};
  const absl::Status status = InvalidArgument(
      Reason::kInvalidIr,
      "/home/u/k.py:2:12: no attribute 'foo'\n    return x.foo\n           ^\ncalled from k.py:9",
      {{"file", "/home/u/k.py"}, {"line", "2"}, {"column", "12"}});
  EXPECT_EQ(RenderDiagnostic(status, context, false),
            "/home/u/k.py:2:12: error: no attribute 'foo' [INVALID_IR]\n"
            "    2 |     return x.foo\n"
            "      |            ^\n"
            "  called from k.py:9\n");
}

TEST(DiagnosticTest, AnErrorInAnotherFileShowsNothingOfTheOneThatWasSent) {
  DiagnosticContext context;
  context.source = SourceText{"/home/u/k.py", "def k(x):\n    return x.foo\n"};
  const std::string text =
      RenderDiagnostic(InvalidArgument(Reason::kInvalidIr, "/nowhere/lib.py:2:1: wrong\nrow\n^",
                                       {{"file", "/nowhere/lib.py"}, {"line", "2"}, {"column", "1"}}),
                       context, false);
  EXPECT_EQ(text, "/nowhere/lib.py:2:1: error: wrong [INVALID_IR]\n  row\n  ^\n");
}

TEST(DiagnosticTest, LongLinesAreCutAroundTheCaret) {
  DiagnosticContext context;
  context.source = SourceText{"long.ttir", std::string(500, 'a') + "X" + std::string(500, 'b')};
  const std::string text = RenderDiagnostic(
      InvalidArgument(Reason::kInvalidIr, "here", {{"line", "1"}, {"column", "501"}}), context, false);
  const std::vector<std::string> lines = [&] {
    std::vector<std::string> all;
    size_t start = 0;
    for (size_t end; (end = text.find('\n', start)) != std::string::npos; start = end + 1)
      all.push_back(text.substr(start, end - start));
    return all;
  }();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_LT(lines[1].size(), 120u);
  EXPECT_EQ(lines[1][lines[2].find('^')], 'X');
}

TEST(DiagnosticTest, TheCaretStandsUnderItsCharacterInRowsOfAnyAlphabet) {
  DiagnosticContext context;
  const std::string row = "  gr\u00f6\u00dfe = \u884c\u5217 + X";
  context.source = SourceText{"a.py", row};
  const auto render = [&](size_t column) {
    return RenderDiagnostic(
        InvalidArgument(Reason::kInvalidIr, "x", {{"line", "1"}, {"column", std::to_string(column)}}),
        context, false);
  };
  EXPECT_THAT(render(row.find('X') + 1), HasSubstr("\n    1 | " + row + "\n      |                ^\n"));
  EXPECT_THAT(render(row.size() + 99), HasSubstr("\n      |                 ^\n")) << "past the end";
  context.source->text = std::string(90, ' ') + "X\u00f6\u00f6" + std::string(50, ' ') + "Y";
  EXPECT_THAT(render(91), HasSubstr("X\u00f6\u00f6  ")) << "cut between code points, never in one";
}

TEST(DiagnosticTest, LinesThatTheFileDoesNotHaveShowNoExcerpt) {
  DiagnosticContext context;
  context.source = SourceText{"a.ttir", "one line"};
  EXPECT_EQ(RenderDiagnostic(InvalidArgument(Reason::kInvalidIr, "x", {{"line", "9"}, {"column", "1"}}),
                             context, false),
            "a.ttir:9:1: error: x [INVALID_IR]\n");
}

TEST(DiagnosticTest, EscapesOfAHostileMessageDoNotReachTheTerminal) {
  const std::string text = RenderDiagnostic(absl::InternalError("a\x1b[31mred\rb"), {}, false);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
  EXPECT_THAT(text, Not(HasSubstr("\r")));
  EXPECT_THAT(text, HasSubstr("\\x1b[31m"));
  EXPECT_THAT(RenderDiagnostic(absl::InternalError("a\u009b31mred \u00df"), {}, false),
              HasSubstr("a\\x9b31mred \u00df"));
}

absl::Status Fault() {
  v1::FaultReport fault;
  fault.set_sequence(3);
  fault.set_kernel_name("add_kernel");
  fault.set_instruction("st.global.b32 [%rd4], %r3;");
  fault.set_ptx_line(88);
  fault.add_program(3);
  fault.add_program(0);
  fault.add_program(0);
  fault.add_thread(5);
  fault.add_thread(0);
  fault.add_thread(0);
  fault.set_address(0x20000004000);
  fault.set_access_bytes(4);
  fault.set_space("global");
  fault.set_is_write(true);
  fault.set_nearest_tensor("t3");
  fault.set_nearest_tensor_offset(16384);
  fault.set_nearest_tensor_bytes(16384);
  return WithFault(FailedPrecondition(Reason::kIllegalAddress, "a store outside every live allocation"),
                   fault);
}

TEST(DiagnosticTest, AFaultSaysWhoDidWhatWhereAndNextToWhich) {
  DiagnosticContext context;
  context.tensors = {{"t3", "argument 2 'out' (pointer to f32)"}};
  EXPECT_EQ(
      RenderDiagnostic(Fault(), context, false),
      "error: a store outside every live allocation [ILLEGAL_ADDRESS]\n"
      "note: write of 4 bytes at 0x20000004000 of global memory by program (3, 0, 0), thread (5, 0, 0)\n"
      "note: that is just past its end: argument 2 'out' (pointer to f32), 16384 bytes\n"
      "note: PTX line 88: st.global.b32 [%rd4], %r3;\n"
      "note: kernel add_kernel, launch 3\n"
      "help: check the mask of that access, the shapes and strides given, and the grid\n");
}

TEST(DiagnosticTest, ForAProgramTheSameIsOneObject) {
  const nlohmann::ordered_json json = DiagnosticJson(Fault(), {});
  EXPECT_EQ(json["error"]["code"], "FAILED_PRECONDITION");
  EXPECT_EQ(json["error"]["reason"], "ILLEGAL_ADDRESS");
  EXPECT_EQ(json["error"]["exit_code"], 5);
  EXPECT_EQ(json["error"]["fault"]["ptx_line"], 88);
  EXPECT_EQ(json["error"]["fault"]["program"][0], 3);
}

TEST(DiagnosticTest, EveryReasonIsRenderedAndHasAnExitCodeOtherThanOk) {
  for (int i = 1; i <= 38; ++i) {
    const Reason reason = static_cast<Reason>(i);
    const absl::Status status = FailedPrecondition(reason, "message");
    EXPECT_NE(ExitCodeFor(status), kExitOk);
    EXPECT_THAT(RenderDiagnostic(status, {}, true), HasSubstr(std::string(ReasonName(reason))));
  }
}

TEST(ExitCodeTest, CodesAreTheDocumentedOnes) {
  EXPECT_EQ(ExitCodeFor(absl::OkStatus()), 0);
  EXPECT_EQ(ExitCodeFor(FailedPrecondition(Reason::kNumericMismatch, "")), 1);
  EXPECT_EQ(ExitCodeFor(InvalidArgument(Reason::kInvalidIr, "")), 3);
  EXPECT_EQ(ExitCodeFor(absl::NotFoundError("file")), 3);
  EXPECT_EQ(ExitCodeFor(FailedPrecondition(Reason::kCompileFailed, "")), 4);
  EXPECT_EQ(ExitCodeFor(DeadlineExceeded(Reason::kCompileTimeout, "")), 4);
  EXPECT_EQ(ExitCodeFor(DeadlineExceeded(Reason::kHungKernel, "")), 5);
  EXPECT_EQ(ExitCodeFor(Unavailable(Reason::kExecutorLost, "")), 6);
  EXPECT_EQ(ExitCodeFor(absl::DeadlineExceededError("")), 6);
  EXPECT_EQ(ExitCodeFor(ResourceExhausted(Reason::kQuota, "")), 7);
  EXPECT_EQ(ExitCodeFor(Internal("")), 70);
  EXPECT_EQ(ExitCodeFor(absl::UnknownError("")), 70);
}

TEST(TextTest, DurationsBytesAndCountsReadWell) {
  EXPECT_EQ(DurationText(absl::Nanoseconds(812)), "812 ns");
  EXPECT_EQ(DurationText(absl::Nanoseconds(3142)), "3.14 us");
  EXPECT_EQ(DurationText(absl::Microseconds(12400)), "12.4 ms");
  EXPECT_EQ(DurationText(absl::Milliseconds(1250)), "1.25 s");
  EXPECT_EQ(DurationText(absl::Seconds(185)), "3 min 5 s");
  EXPECT_EQ(DurationText(absl::Minutes(130)), "2 h 10 min");
  EXPECT_EQ(DurationText(absl::Hours(99)), "4 d 3 h");
  EXPECT_EQ(FormatBytes(17), "17 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(256 << 20), "256 MiB");
  EXPECT_EQ(FormatCount(4096), "4096");
  EXPECT_EQ(FormatCount(12345678), "12,345,678");
  EXPECT_EQ(FormatShape({512, 256}), "512x256");
}

TEST(TextTest, ATableAlignsItsColumnsAndNumbersToTheRight) {
  Table table({"name", "size", "note"});
  table.AddRow({"a", "7", ""});
  table.AddRow({"longer", "1234", "caf\xc3\xa9 \x1b"});
  table.AddRow({"b"});
  EXPECT_EQ(table.Render(),
            "NAME    SIZE  NOTE\n"
            "a          7\n"
            "longer  1234  caf\xc3\xa9 \\x1b\n"
            "b\n");
}

TEST(ProgressTest, ALineFitsTheTerminal) {
  EXPECT_EQ(Progress::RenderLine("installing 3.6.0", "downloading", 0.5, std::chrono::seconds(12), 80),
            "installing 3.6.0  [############............]  50%  12 s  downloading");
  EXPECT_EQ(Progress::RenderLine("compiling", "making ptx", -1, std::chrono::seconds(2), 80),
            "compiling  2 s  making ptx");
  EXPECT_LE(Progress::RenderLine("x", std::string(500, 'y'), 0.1, std::chrono::seconds(1), 40).size(), 40u);
}

RunReport Report() {
  RunReport report;
  report.device = "emulator:0";
  report.device_name = "PTX emulator";
  report.target = "cuda:80:32";
  report.kernel.name = "add";
  report.kernel.num_warps = 4;
  report.kernel.toolchain = "3.9.0";
  report.kernel.toolchain_reason = "newest that takes ttir";
  report.kernel.cached = true;
  report.kernel.cache_key = "0123456789abcdef";
  report.grid = {4, 1, 1};
  report.launch.device_time = absl::Microseconds(12);
  report.launch.warp_instructions = 12345;
  ShownTensor out;
  out.name = "out";
  out.position = 2;
  out.dtype = ScalarType::kU8;
  out.shape = {2, 2};
  out.bytes = std::string("\x01\x02\x03\x04", 4);
  CheckedOutput check;
  check.expected_file = "ref.npy";
  check.comparison.elements = 4;
  check.comparison.mismatches = 1;
  check.comparison.worst_index = 3;
  check.comparison.worst_got = 4;
  check.comparison.worst_expected = 5;
  check.comparison.largest_error = 1;
  out.check = check;
  report.tensors.push_back(out);
  return report;
}

TEST(RunReportTest, SaysWhereByWhatAndHowFarOff) {
  EXPECT_FALSE(Report().Matches());
  EXPECT_EQ(
      RenderRunReport(Report()),
      "device     emulator:0  PTX emulator  cuda:80:32\n"
      "toolchain  3.9.0  newest that takes ttir\n"
      "kernel     add  grid 4x1x1  warps 4  shared 0 B\n"
      "cache      hit  0123456789ab\n"
      "compile    0 ns\n"
      "upload     0 ns  0 B\n"
      "launch     0 ns  on the device 12.0 us, 12,345 warp instructions\n"
      "out        u8[2, 2]  min 1  max 4  mean 2.5\n"
      "           [1, 2, 3, 4]\n"
      "check      out: MISMATCH in 1 of 4 elements (rtol 0, atol 0); worst at [1, 1]: got 4, expected 5\n"
      "total      0 ns\n");
}

TEST(RunReportTest, AProgramGetsTheSame) {
  const nlohmann::ordered_json json = RunReportJson(Report());
  EXPECT_EQ(json["kernel"]["cached"], true);
  EXPECT_EQ(json["tensors"][0]["check"]["worst_index"], nlohmann::ordered_json({1, 1}));
  EXPECT_EQ(json["tensors"][0]["check"]["ok"], false);
  EXPECT_EQ(json["launch"]["device_us"], 12.0);
}

}  // namespace
}  // namespace trun::cli
