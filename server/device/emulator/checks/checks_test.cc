// The checks on request: what they report, with both halves, and what they must not report.
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/checks/checks_fixture.h"

namespace trun::device {
namespace {

// --- uninitialised values

TEST_F(ChecksTest, AStoreOfARegisterThatNothingWroteIsReported) {
  const TestTensor x = launcher_.Allocate(128);
  const LaunchOutcome outcome =
      Run(Ptx(".loc 1 7 3\nadd.u32 %r5, %r4, 1;\nst.global.u32 [%d2], %r5;"), x, kUninit);
  EXPECT_EQ(outcome.status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUninitializedRead) << outcome.status;
  EXPECT_EQ(outcome.fault.ptx_line, 13u);
  EXPECT_EQ(outcome.fault.source_file, "kernel.py");
  EXPECT_EQ(outcome.fault.source_line, 7u);
  EXPECT_EQ(outcome.fault.address, x.address);
  EXPECT_EQ(outcome.fault.nearest_allocation, x.id);
  EXPECT_NE(outcome.fault.message.find("%r5"), std::string::npos) << outcome.fault.message;
  EXPECT_TRUE(Run(Ptx("add.u32 %r5, %r4, 1;\nst.global.u32 [%d2], %r5;"), x, {}).status.ok());
}

TEST_F(ChecksTest, ABranchAndAnAddressOnUndefinedValuesAreReported) {
  const TestTensor x = launcher_.Allocate(128);
  LaunchOutcome outcome = Run(Ptx("setp.eq.u32 %p1, %r4, 1;\n@%p1 bra $end;\n$end:"), x, kUninit);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUninitializedRead) << outcome.status;
  EXPECT_EQ(outcome.fault.ptx_line, 12u);
  outcome = Run(Ptx("add.s64 %d3, %d2, %d4;\nld.global.u32 %r3, [%d3];"), x, kUninit);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUninitializedRead) << outcome.status;
  EXPECT_NE(outcome.fault.message.find("address"), std::string::npos) << outcome.fault.message;
}

TEST_F(ChecksTest, SharedAndLocalMemoryThatNothingWroteIsNamedWithTheRead) {
  const TestTensor x = launcher_.Allocate(128);
  LaunchOutcome outcome = Run(
      Ptx("mov.u32 %r2, s;\nld.shared.u32 %r3, [%r2+8];\nst.global.u32 [%d2], %r3;", kShared), x, kUninit);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUninitializedRead) << outcome.status;
  EXPECT_EQ(outcome.fault.ptx_line, 13u);
  EXPECT_EQ(outcome.fault.other.instruction, "ld.shared.u32");
  EXPECT_EQ(outcome.fault.other.ptx_line, 12u);
  outcome = Run(Ptx("ld.local.u32 %r3, [l+4];\nst.global.u32 [%d2], %r3;", ".local .align 16 .b8 l[16];"), x,
                kUninit);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUninitializedRead) << outcome.status;
  outcome = Run(Ptx("mov.u32 %r2, s; st.shared.u16 [%r2], %h1; st.shared.u32 [%r2+4], %r1;\n"
                    "ld.shared.u32 %r3, [%r2+4]; st.global.u32 [%d2], %r3;",
                    kShared),
                x, kUninit);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(ChecksTest, GlobalMemoryIsUndefinedOnlyWhileNothingCanHaveWrittenIt) {
  const std::string copy = Ptx("ld.global.u32 %r3, [%d2];\nst.global.u32 [%d2+128], %r3;");
  const TestTensor x = Fresh(256);
  EXPECT_EQ(GetReason(Run(copy, x, kUninit).status), Reason::kUninitializedRead);
  const std::vector<char> bytes(124);
  ASSERT_TRUE(launcher_.device().WriteMemory(x.address, bytes).ok());
  EXPECT_EQ(Run(copy, x, kUninit).fault.thread[0], 31u);
  ASSERT_TRUE(launcher_.device().FillMemory(x.address + 124, 4, absl::string_view("\0", 1)).ok());
  EXPECT_TRUE(Run(copy, x, kUninit).status.ok());
  // What a kernel stored is defined, and what a launch without the check may have stored.
  const TestTensor y = Fresh(256);
  EXPECT_TRUE(Run(Ptx("st.global.u32 [%d2], %r1;"), y, kUninit).status.ok());
  EXPECT_TRUE(Run(copy, y, kUninit).status.ok());
  const TestTensor z = Fresh(256);
  EXPECT_EQ(GetReason(Run(copy, z, kUninit).status), Reason::kUninitializedRead);
  EXPECT_TRUE(Run(Ptx(""), z, {}).status.ok());
  EXPECT_TRUE(Run(copy, z, kUninit).status.ok());
  // Nor does it help to vouch again for what an earlier launch without the check may have written.
  const TestTensor w = launcher_.Allocate(256);
  EXPECT_TRUE(Run(Ptx(""), w, {}).status.ok());
  launcher_.SetUnwritten({w.id});
  EXPECT_TRUE(Run(copy, w, kUninit).status.ok());
  // An allocation that nobody vouched for counts as written.
  EXPECT_TRUE(Run(copy, launcher_.Allocate(256), kUninit).status.ok());
}

TEST_F(ChecksTest, TheReportNamesTheAllocationThatNobodyWrote) {
  const TestTensor out = launcher_.Allocate(128);
  const TestTensor x = Fresh(128);
  const LaunchOutcome outcome =
      Run(Ptx(absl::StrCat("mov.u64 %d4, ", out.address,
                           "; add.s64 %d4, %d4, %d1;\nld.global.u32 %r3, [%d2];\nadd.u32 %r3, %r3, "
                           "1;\nst.global.u32 [%d4], %r3;")),
          x, kUninit);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUninitializedRead) << outcome.status;
  EXPECT_EQ(outcome.fault.nearest_allocation, x.id);
  EXPECT_EQ(outcome.fault.nearest_allocation_bytes, 128u);
  EXPECT_EQ(outcome.fault.other.ptx_line, 12u);
  EXPECT_NE(outcome.fault.message.find(absl::StrCat("of allocation ", x.id, " of 128 bytes")),
            std::string::npos)
      << outcome.fault.message;
}

TEST_F(ChecksTest, AnAtomicOnMemoryThatNobodyWroteIsReportedAndAnExchangeIsNot) {
  EXPECT_EQ(GetReason(Run(Ptx("red.global.add.u32 [%d2], 1;"), Fresh(128), kUninit).status),
            Reason::kUninitializedRead);
  const LaunchOutcome outcome = Run(Ptx("atom.global.exch.b32 %r3, [%d2], 1;\nld.global.u32 %r4, [%d2];\n"
                                        "st.global.u32 [%d2], %r4;"),
                                    Fresh(128), kUninit);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(ChecksTest, ValuesOfMaskedOffLanesMayBeComputedWith) {
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>(32, 3));
  // A masked load without another value, arithmetic, a shuffle that takes defined lanes, a selection, a
  // masked store; halves of a packed register; a predicate that decides alone.
  const LaunchOutcome outcome = Run(
      Ptx("setp.lt.u32 %p1, %r1, 16;\n@%p1 ld.global.u32 %r3, [%d2];\nadd.u32 %r4, %r3, %r3;\n"
          "and.b32 %r6, %r1, 15; shfl.sync.idx.b32 %r7, %r4, %r6, 31, -1; st.global.u32 [%d2], %r7;\n"
          "selp.b32 %r8, %r4, %r1, %p1; st.global.u32 [%d2], %r8;\n"
          "@%p1 st.global.u32 [%d2], %r4;\n"
          "cvt.u16.u32 %h1, %r1; mov.b32 %r9, {%h1, %h2}; mov.b32 {%h3, %h4}, %r9; st.global.u16 [%d2], "
          "%h3;\n"
          "setp.eq.and.u32 %p2, %r4, 6, %p1; @%p2 st.global.u32 [%d2], %r1;\n"
          "setp.eq.u32 %p3, %r4, 6; and.pred %p4, %p3, %p1; @%p4 bra $end; st.global.u32 [%d2], %r1;\n$end:"),
      x, kUninit);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
}

TEST_F(ChecksTest, LogicOfThreeWithAMaskLeavesUndefinedBytesBehind) {
  const TestTensor x = launcher_.Allocate(128);
  // A half that nothing wrote is masked away: (a & mask) | b; then it is not.
  const std::string halves = "cvt.u16.u32 %h1, %r1; mov.b32 %r9, {%h1, %h2};\n";
  EXPECT_TRUE(Run(Ptx(halves + "lop3.b32 %r3, %r9, 0xffff, %r1, 0xea; st.global.u32 [%d2], %r3;"), x, kUninit)
                  .status.ok());
  EXPECT_EQ(GetReason(Run(Ptx(halves + "lop3.b32 %r3, %r9, 0x1ffff, %r1, 0xea; st.global.u32 [%d2], %r3;"), x,
                          kUninit)
                          .status),
            Reason::kUninitializedRead);
}

TEST_F(ChecksTest, TheSecondProgramOfAHostThreadStartsUndefined) {
  const TestTensor x = launcher_.Allocate(128);
  const LaunchOutcome outcome = Run(Ptx("mov.u32 %r2, s; mov.u32 %r5, %ctaid.x; setp.eq.u32 %p1, %r5, 0;\n"
                                        "@%p1 st.shared.u32 [%r2], %r1; ld.shared.u32 %r3, [%r2];\n"
                                        "st.global.u32 [%d2], %r3;",
                                        kShared),
                                    x, kUninit, 32, 2);
  EXPECT_EQ(GetReason(outcome.status), Reason::kUninitializedRead) << outcome.status;
  EXPECT_EQ(outcome.fault.program[0], 1u);
}

// --- races

TEST_F(ChecksTest, ACounterThatIsNoAtomicRacesBetweenPrograms) {
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>{0});
  const std::string plain = "ld.global.u32 %r3, [%d0];\nadd.u32 %r3, %r3, 1;\nst.global.u32 [%d0], %r3;";
  const LaunchOutcome outcome = Run(Ptx(plain), x, kRaces, 1, 2);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_EQ(outcome.fault.program[0], 1u);
  EXPECT_EQ(outcome.fault.other.program[0], 0u);
  EXPECT_EQ(outcome.fault.other.role, "earlier write");
  EXPECT_EQ(outcome.fault.other.ptx_line, 13u);
  EXPECT_EQ(outcome.fault.nearest_allocation, x.id);
  EXPECT_TRUE(Run(Ptx("red.global.add.u32 [%d0], 1;"), x, kRaces, 64, 8).status.ok());
  EXPECT_TRUE(Run(Ptx(plain), x, kRaces, 1, 1).status.ok());
}

TEST_F(ChecksTest, AnAtomicFlagOrdersWithReleaseAndAcquireOnly) {
  // Program 0 writes and raises a flag, program 1 waits for it and reads.
  const auto kernel = [](const std::string& raise, const std::string& look) {
    return Ptx(absl::StrCat(
        "mov.u32 %r2, %ctaid.x; setp.ne.u32 %p1, %r2, 0; @%p1 bra $wait;\nst.global.u32 [%d0+4], 7;\n", raise,
        "\nbra $end;\n$wait: ", look,
        "\nsetp.eq.u32 %p2, %r3, 0; @%p2 bra $wait;\nld.global.u32 %r4, [%d0+4];\n$end:"));
  };
  const auto reason = [&](const std::string& raise, const std::string& look) {
    const TestTensor x = launcher_.Upload(std::vector<uint32_t>{0, 0});
    return GetReason(Run(kernel(raise, look), x, kRaces, 1, 2).status);
  };
  const std::string release = "st.release.gpu.global.u32 [%d0], 1;",
                    acquire = "ld.acquire.gpu.global.u32 %r3, [%d0];";
  EXPECT_EQ(reason(release, acquire), Reason::kUnspecified);
  EXPECT_EQ(
      reason("membar.gl; st.volatile.global.u32 [%d0], 1;", "ld.volatile.global.u32 %r3, [%d0]; membar.gl;"),
      Reason::kUnspecified);
  EXPECT_EQ(reason("st.relaxed.gpu.global.u32 [%d0], 1;", acquire), Reason::kRace);
  EXPECT_EQ(reason(release, "ld.relaxed.gpu.global.u32 %r3, [%d0];"), Reason::kRace);
}

TEST_F(ChecksTest, WarpsOfAProgramNeedABarrierForSharedMemory) {
  const TestTensor x = launcher_.Allocate(512);
  const auto kernel = [](const std::string& barrier) {
    return Ptx(
        "mov.u32 %r2, s; shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3; add.u32 %r7, %r1, 1;\n"
        "st.shared.u32 [%r4], %r7;\n" +
            barrier +
            "\nxor.b32 %r5, %r3, 128; add.u32 %r5, %r5, %r2;\n"
            "ld.shared.u32 %r6, [%r5]; st.global.u32 [%d2], %r6;",
        kShared);
  };
  EXPECT_TRUE(Run(kernel("bar.sync 0;"), x, kRaces, 64).status.ok());
  EXPECT_TRUE(Run(kernel("barrier.sync 3, 64;"), x, kRaces, 64).status.ok());
  LaunchOutcome outcome = Run(kernel(""), x, kRaces, 64);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_EQ(outcome.fault.space, "shared");
  EXPECT_TRUE(Run(kernel(""), x, kAsync, 64).status.ok());  // nothing of it is asynchronous
  outcome = Run(kernel("bar.warp.sync -1;"), x, kRaces, 64);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
}

TEST_F(ChecksTest, WarpsThatExchangeATileOfWmmaNeedABarrier) {
  const TestTensor x = launcher_.Allocate(2048);
  const auto kernel = [](const std::string& barrier) {
    // Each warp loads zeros of its own place, stores a tile there, and loads the other warp's.
    const char* const group = "{%r10, %r11, %r12, %r13, %r14, %r15, %r16, %r17}";
    return Ptx(
        absl::StrCat("mov.u32 %r2, s; shr.u32 %r3, %r1, 5; shl.b32 %r3, %r3, 10; add.u32 %r4, %r2, %r3;\n"
                     "xor.b32 %r5, %r3, 1024; add.u32 %r5, %r5, %r2;\n",
                     "add.u32 %r10, %r1, 1;\nwmma.store.d.sync.aligned.row.m16n16k16.shared.s32 [%r4], ",
                     group, ";\n", barrier, "\nwmma.load.c.sync.aligned.row.m16n16k16.shared.s32 ", group,
                     ", [%r5];\nst.global.u32 [%d2], %r10;"),
        ".shared .align 16 .b8 s[2048];");
  };
  EXPECT_TRUE(Run(kernel("bar.sync 0;"), x, kRaces, 64).status.ok());
  const LaunchOutcome outcome = Run(kernel(""), x, kRaces, 64);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
}

TEST_F(ChecksTest, ABulkCopyThatNothingWaitedForIsReported) {
  TestLauncher launcher(90);
  const auto kernel = [](const std::string& wait) {
    return Ptx(
        "mov.u32 %r2, s; mov.u32 %r3, b; mbarrier.init.shared.b64 [%r3], 1;\n"
        "mbarrier.arrive.expect_tx.shared.b64 %d3, [%r3], 64;\n"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%d0], 64, [%r3];\n" +
            wait + "ld.shared.u32 %r4, [%r2]; st.global.u32 [%d0], %r4;",
        ".shared .align 16 .b8 s[64]; .shared .align 8 .b64 b;", "sm_90");
  };
  const TestTensor x = launcher.Upload(std::vector<uint32_t>(32, 5));
  const std::string wait = "$again: mbarrier.try_wait.parity.shared.b64 %p1, [%r3], 0; @!%p1 bra $again;\n";
  for (const CheckOptions& checks : {kRaces, kAsync}) {
    LaunchOutcome outcome = Run(kernel(wait), x, checks, 1, 1, 0, &launcher);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status;
    outcome = Run(kernel(""), x, checks, 1, 1, 0, &launcher);
    EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
    EXPECT_EQ(outcome.fault.other.ptx_line, 13u) << outcome.status;
  }
}

TEST_F(ChecksTest, LanesOfOneStoreMayWriteOneValueOnlyToOnePlace) {
  const TestTensor x = launcher_.Allocate(128);
  const LaunchOutcome outcome = Run(Ptx("st.global.u32 [%d0+8], %r1;"), x, kRaces);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_EQ(outcome.fault.other.role, "the other lane");
  EXPECT_NE(outcome.fault.thread, outcome.fault.other.thread);
  EXPECT_TRUE(Run(Ptx("mov.u32 %r2, 7; st.global.u32 [%d0+8], %r2;"), x, kRaces).status.ok());
  EXPECT_TRUE(Run(Ptx("st.global.u32 [%d2], %r1;"), x, kRaces).status.ok());
  // Places that overlap in part.
  EXPECT_EQ(GetReason(Run(Ptx("shr.u64 %d4, %d1, 1; and.b64 %d4, %d4, -4; add.s64 %d4, %d4, %d0;\n"
                              "st.global.u32 [%d4], %r1;"),
                          x, kRaces)
                          .status),
            Reason::kRace);
}

TEST_F(ChecksTest, LanesOfOneStmatrixMayWriteOneRowOnlyToOnePlace) {
  TestLauncher launcher(90);
  const TestTensor x = launcher.Upload(std::vector<uint32_t>(64, 0));
  // Every row goes to the same place: it is of the registers of four lanes, not of the lane that gives its
  // address.
  const auto reason = [&](const std::string& value, const std::string& form) {
    const std::string body = absl::StrCat(value, " mov.u32 %r3, s; stmatrix.sync.aligned.m8n8.x1", form,
                                          ".shared.b16 [%r3], {%r2};");
    return GetReason(Run(Ptx(body, kShared, "sm_90"), x, kRaces, 32, 1, 0, &launcher).status);
  };
  EXPECT_EQ(reason("and.b32 %r2, %r1, 3;", ""), Reason::kUnspecified);
  EXPECT_EQ(reason("shr.u32 %r2, %r1, 2;", ""), Reason::kRace);
  EXPECT_EQ(reason("shr.u32 %r2, %r1, 2; mul.lo.u32 %r2, %r2, 65537;", ".trans"), Reason::kUnspecified);
  EXPECT_EQ(reason("and.b32 %r2, %r1, 3;", ".trans"), Reason::kRace);
}

TEST_F(ChecksTest, LanesThatExchangeThroughSharedMemoryHaveToMeet) {
  const TestTensor x = launcher_.Allocate(128);
  const auto kernel = [](const std::string& meet, const std::string& other) {
    return Ptx(
        absl::StrCat("mov.u32 %r2, s; shl.b32 %r3, %r1, 2; add.u32 %r4, %r2, %r3; add.u32 %r7, %r1, 1;\n"
                     "st.shared.u32 [%r4], %r7;\n",
                     meet, "\nxor.b32 %r5, %r3, ", other,
                     "; add.u32 %r5, %r5, %r2;\nld.shared.u32 %r6, [%r5]; st.global.u32 [%d2], %r6;"),
        kShared);
  };
  for (const char* meet : {"bar.warp.sync -1;", "bar.sync 0;"}) {
    EXPECT_TRUE(Run(kernel(meet, "4"), x, kRaces).status.ok()) << meet;
  }
  EXPECT_TRUE(Run(kernel("", "0"), x, kRaces).status.ok());  // each lane its own
  const LaunchOutcome outcome = Run(kernel("", "4"), x, kRaces);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_NE(outcome.fault.message.find("bar.warp.sync"), std::string::npos) << outcome.fault.message;
  EXPECT_NE(outcome.fault.thread, outcome.fault.other.thread);
}

TEST_F(ChecksTest, LanesThatExchangeThroughGlobalMemoryHaveToMeet) {
  const auto kernel = [](const std::string& meet, const std::string& other) {
    return Ptx(absl::StrCat("add.u32 %r7, %r1, 1; st.global.u32 [%d2], %r7;\n", meet, "\nxor.b32 %r5, %r1, ",
                            other,
                            "; mul.wide.u32 %d3, %r5, 4; add.s64 %d3, %d3, %d0; ld.global.u32 %r6, [%d3];"));
  };
  const auto reason = [&](const std::string& ptx) {
    return GetReason(Run(ptx, launcher_.Allocate(128), kRaces).status);
  };
  EXPECT_EQ(reason(kernel("bar.warp.sync -1;", "1")), Reason::kUnspecified);
  EXPECT_EQ(reason(kernel("", "0")), Reason::kUnspecified);  // each lane its own
  EXPECT_EQ(reason(kernel("", "1")), Reason::kRace);
  // A program's scalar, which one lane stores and all load again in the next turn.
  EXPECT_EQ(reason(Ptx("mov.u32 %r3, 0; setp.eq.u32 %p1, %r1, 0;\n$again: ld.global.u32 %r4, [%d0];\n"
                       "add.u32 %r4, %r4, 1; @%p1 st.global.u32 [%d0], %r4;\n"
                       "add.u32 %r3, %r3, 1; setp.lt.u32 %p2, %r3, 3; @%p2 bra $again;")),
            Reason::kUnspecified);
}

TEST_F(ChecksTest, ACtaScopeReachesNoOtherProgram) {
  const TestTensor x = launcher_.Upload(std::vector<uint32_t>(8));
  const auto reason = [&](const std::string& body, uint32_t threads, uint32_t grid) {
    return GetReason(Run(Ptx(body), x, kRaces, threads, grid).status);
  };
  for (const char* scope : {"cta", "gpu"}) {
    const bool narrow = absl::string_view(scope) == "cta";
    const std::string add = absl::StrCat("red.relaxed.", scope, ".global.add.u32 [%d0], 1;");
    EXPECT_EQ(reason(add, 64, 2), narrow ? Reason::kRace : Reason::kUnspecified) << scope;
    EXPECT_EQ(reason(add, 64, 1), Reason::kUnspecified) << scope;
    // Warp (program) 0 writes and raises a flag, the other waits for it and reads.
    const auto flag = [&](const char* who, uint32_t first) {
      return absl::StrCat("mov.u32 %r2, ", who, "; setp.ge.u32 %p1, %r2, ", first,
                          "; @%p1 bra $wait;\nst.global.u32 [%d0+4], 7;\nfence.acq_rel.", scope,
                          ";\nst.relaxed.gpu.global.u32 [%d0+8], 1;\nbra $end;\n"
                          "$wait: ld.relaxed.gpu.global.u32 %r3, [%d0+8];\nfence.acq_rel.",
                          scope,
                          ";\nsetp.eq.u32 %p2, %r3, 0; @%p2 bra $wait;\nld.global.u32 %r4, [%d0+4];\n$end:");
    };
    std::memset(x.host, 0, x.bytes);
    EXPECT_EQ(reason(flag("%ctaid.x", 1), 1, 2), narrow ? Reason::kRace : Reason::kUnspecified) << scope;
    std::memset(x.host, 0, x.bytes);
    EXPECT_EQ(reason(flag("%tid.x", 32), 64, 1), Reason::kUnspecified) << scope;
  }
}

TEST_F(ChecksTest, AClusterScopeReachesNoOtherCluster) {
  TestLauncher launcher(90);
  const auto reason = [&](const std::string& body, uint32_t cluster) {
    const TestTensor x = launcher.Upload(std::vector<uint32_t>(8));
    auto kernel = launcher.Load(Ptx(body, kShared, "sm_90"));
    EXPECT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_TRUE(launcher.device().SetChecks(kRaces).ok());
    LaunchDimensions dimensions;
    dimensions.grid = {2, 1, 1};
    dimensions.cluster = {cluster, 1, 1};
    return GetReason(launcher.Launch(*kernel, dimensions, TestParameters().Add(x).Add(uint32_t{0})).status);
  };
  for (const std::string scope : {"cluster", "gpu"}) {
    const Reason apart = scope == "cluster" ? Reason::kRace : Reason::kUnspecified;
    const std::string add = absl::StrCat("red.relaxed.", scope, ".global.add.u32 [%d0], 1;");
    // Program 0 writes and raises a flag, the other waits for it and reads.
    const std::string flag = absl::StrCat(
        "mov.u32 %r2, %ctaid.x; setp.ne.u32 %p1, %r2, 0; @%p1 bra $wait;\nst.global.u32 [%d0+4], 7;\n",
        "st.release.", scope, ".global.u32 [%d0+8], 1;\nbra $end;\n$wait: ld.acquire.", scope,
        ".global.u32 %r3, [%d0+8];\nsetp.eq.u32 %p2, %r3, 0; @%p2 bra $wait;\nld.global.u32 %r4, "
        "[%d0+4];\n$end:");
    for (const std::string& body : {add, flag}) {
      EXPECT_EQ(reason(body, 2), Reason::kUnspecified) << body;
      EXPECT_EQ(reason(body, 1), apart) << body;
    }
  }
  // An arrival that is relaxed orders what a fence has released, and nothing else.
  const auto meet = [](const std::string& arrive) {
    return absl::StrCat("mov.u32 %r2, %ctaid.x; setp.ne.u32 %p1, %r2, 0; @!%p1 st.global.u32 [%d0+4], 7;\n",
                        arrive, "\nbarrier.cluster.wait; @%p1 ld.global.u32 %r4, [%d0+4];");
  };
  EXPECT_EQ(reason(meet("barrier.cluster.arrive;"), 2), Reason::kUnspecified);
  EXPECT_EQ(reason(meet("fence.acq_rel.cluster; barrier.cluster.arrive.relaxed;"), 2), Reason::kUnspecified);
  EXPECT_EQ(reason(meet("barrier.cluster.arrive.relaxed;"), 2), Reason::kRace);
}

// --- kernels of Triton with something taken out

class SeededBugTest : public ChecksTest {
 protected:
  // c = a · b of 128 × 128, one program's part of it.
  LaunchOutcome Matmul(const std::string& ptx, const CheckOptions& checks) {
    auto kernel = launcher_.Load(ptx);
    if (!kernel.ok()) {
      LaunchOutcome outcome;
      outcome.status = kernel.status();
      return outcome;
    }
    EXPECT_TRUE(launcher_.device().SetChecks(checks).ok());
    std::vector<uint32_t> ones(128 * 128);
    for (size_t i = 0; i < ones.size(); ++i) ones[i] = 0x3c003c00 + static_cast<uint32_t>(i % 7);
    const TestTensor a = launcher_.Upload(ones), b = launcher_.Upload(ones);
    const TestTensor c = launcher_.Allocate(128 * 128 * 4);
    const uint32_t size = 128;
    TestParameters parameters;
    parameters.Add(a).Add(b).Add(c);
    for (const ParameterLayout& p : (*kernel)->attributes().parameters) {
      if (parameters.bytes().size() > p.offset) continue;
      if (p.bytes == 8) parameters.Add(uint64_t{0});
      if (p.bytes == 4) parameters.Add(size);
    }
    LaunchDimensions dimensions;
    dimensions.block = (*kernel)->attributes().required_block;
    dimensions.grid = {1, 1, 1};
    dimensions.dynamic_shared_bytes = 65536;
    return launcher_.Launch(*kernel, dimensions, parameters);
  }
};

TEST_F(SeededBugTest, AMatmulWithoutOneOfItsBarriersRaces) {
  const std::string ptx = ReadTestData("ptx/matmul_fp16.sm80.ptx");
  LaunchOutcome outcome = Matmul(ptx, {true, true, true});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  outcome = Matmul(absl::StrReplaceAll(ptx, {{"bar.sync", "// bar.sync"}}), kRaces);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_EQ(outcome.fault.space, "shared");
  EXPECT_FALSE(outcome.fault.other.instruction.empty());
  EXPECT_NE(outcome.fault.source_line, 0u);
}

TEST_F(SeededBugTest, AMatmulWithoutItsCopyWaitsIsReported) {
  const std::string ptx = ReadTestData("ptx/matmul_tf32.sm80.ptx");
  ASSERT_TRUE(Matmul(ptx, {true, true, true}).status.ok());
  ASSERT_NE(ptx.find("cp.async.wait_group"), std::string::npos);
  const std::string broken = absl::StrReplaceAll(ptx, {{"cp.async.wait_group", "// cp.async.wait_group"}});
  for (const CheckOptions& checks : {kRaces, kAsync}) {
    const LaunchOutcome outcome = Matmul(broken, checks);
    EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
    EXPECT_EQ(outcome.fault.other.instruction.substr(0, 8), "cp.async") << outcome.status;
  }
}

}  // namespace
}  // namespace trun::device
