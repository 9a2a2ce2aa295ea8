// --check=uninit through matrix products and fragments: what nothing wrote comes out where it has gone in,
// and nowhere else.
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/checks/checks_fixture.h"

namespace trun::device {
namespace {

// Stores `registers` of the lanes for which the mask has a bit, or of all.
std::string StoreLanes(const std::string& register_name, uint32_t lanes = 0xffffffff) {
  return absl::StrCat(
      "mov.u32 %r30, 1; and.b32 %r31, %r1, 31; shl.b32 %r30, %r30, %r31; and.b32 %r30, %r30, ", lanes,
      "; setp.ne.u32 %p7, %r30, 0;\n@%p7 st.global.u32 [%d2], ", register_name, ";\n");
}

std::string Zero(const std::string& prefix, int first, int last) {
  std::string text;
  for (int r = first; r <= last; ++r) absl::StrAppend(&text, "mov.u32 ", prefix, r, ", 0; ");
  return text + "\n";
}

// --- products of a warp

struct ProductCase {
  const char* name;
  const char* text;  // of the instruction: D is %r4 …, A %r8 …, B %r12 …, C %r16 …
  int undefined;     // the register of a source that lane 5 has not written
  int result;        // a register of D
  uint32_t lanes;    // in which it depends on that source
  int arch = 90;
};

class ProductTest : public DefinednessTest, public testing::WithParamInterface<ProductCase> {};

TEST_P(ProductTest, WhatNothingWroteMakesItsRowsAndColumnsUndefinedAndNoMore) {
  const ProductCase& p = GetParam();
  // Everything is zero, but the one register in lane 5.
  std::string body = "and.b32 %r3, %r1, 31; setp.ne.u32 %p1, %r3, 5;\n";
  for (int r = 4; r < 30; ++r)
    absl::StrAppend(&body, r == p.undefined ? "@%p1 " : "", "mov.u32 %r", r, ", 0;\n");
  absl::StrAppend(&body, p.text, "\n");
  const std::string result = absl::StrCat("%r", p.result);
  EXPECT_EQ(Of(body + StoreLanes(result, ~p.lanes), "", 32, p.arch), kFine) << outcome_.status;
  for (uint32_t lanes = p.lanes; lanes != 0; lanes &= lanes - 1) {
    EXPECT_EQ(Of(body + StoreLanes(result, lanes & -lanes), "", 32, p.arch), kFound)
        << "lane " << __builtin_ctz(lanes);
  }
}

const char kDense[] =
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%r4, %r5, %r6, %r7}, "
    "{%r8, %r9, %r10, %r11}, {%r12, %r13}, {%r16, %r17, %r18, %r19};";
const char kHalves[] =
    "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 {%r4, %r5}, "
    "{%r8, %r9, %r10, %r11}, {%r12, %r13}, {%r16, %r17};";
const char kNibbles[] =
    "mma.sync.aligned.m16n8k64.row.col.s32.s4.s4.s32 {%r4, %r5, %r6, %r7}, "
    "{%r8, %r9, %r10, %r11}, {%r12, %r13}, {%r16, %r17, %r18, %r19};";
const char kBits[] =
    "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc {%r4, %r5}, {%r8}, {%r12}, "
    "{%r16, %r17};";
const char kSparse[] =
    "mma.sp.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32 {%r4, %r5, %r6, %r7}, "
    "{%r8, %r9, %r10, %r11}, {%r12, %r13, %r14, %r15}, {%r16, %r17, %r18, %r19}, %r20, 0;";
const char kScaled[] =
    "mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e4m3.f32.ue8m0 "
    "{%r4, %r5, %r6, %r7}, {%r8, %r9, %r10, %r11}, {%r12, %r13}, {%r16, %r17, %r18, %r19}, %r20, {0, 0}, "
    "%r21, "
    "{0, 0};";
const char kQuadPairs[] =
    "mma.sync.aligned.m8n8k4.row.col.f32.f16.f16.f32 {%r4, %r5, %r6, %r7, %r22, %r23, "
    "%r24, %r25}, {%r8, %r9}, {%r12, %r13}, {%r16, %r17, %r18, %r19, %r26, %r27, %r28, "
    "%r29};";
const char kMove[] = "movmatrix.sync.aligned.m8n8.trans.b16 %r4, %r8;";

// Lane 5 has row 1 of A, lanes 4 to 7 row 1 of D; it has column 1 of B, which is that of lanes 0, 4, 8 … and
// the odd registers of D.
INSTANTIATE_TEST_SUITE_P(
    Kinds, ProductTest,
    testing::Values(
        ProductCase{"DenseRow", kDense, 8, 4, 0xf0}, ProductCase{"DenseOtherRow", kDense, 9, 6, 0xf0},
        ProductCase{"DenseNoRow", kDense, 9, 5, 0}, ProductCase{"DenseColumn", kDense, 13, 5, 0x11111111},
        ProductCase{"DenseNoColumn", kDense, 13, 6, 0}, ProductCase{"DenseC", kDense, 17, 5, 0x20},
        ProductCase{"HalvesRow", kHalves, 9, 5, 0xf0}, ProductCase{"HalvesC", kHalves, 16, 4, 0x20},
        ProductCase{"NibblesRow", kNibbles, 8, 5, 0xf0},
        ProductCase{"NibblesColumn", kNibbles, 12, 7, 0x11111111}, ProductCase{"BitsRow", kBits, 8, 4, 0xf0},
        ProductCase{"BitsColumn", kBits, 12, 5, 0x11111111}, ProductCase{"SparseRow", kSparse, 8, 4, 0xf0},
        // All metadata is zero: of each four elements of K the first is taken, which lane 5 has not.
        ProductCase{"SparseNotTaken", kSparse, 12, 5, 0}, ProductCase{"SparseC", kSparse, 19, 7, 0x20},
        ProductCase{"ScaledRow", kScaled, 8, 4, 0xf0, 120},
        // Of scale factors lane 5 has that of row 9, and lane 4 · column that of a column.
        ProductCase{"ScaleOfA", kScaled, 20, 6, 0xf0, 120},
        ProductCase{"ScaleOfNothing", kScaled, 21, 5, 0, 120},
        // Lanes 4 … 7 and 20 … 23 make one product, of which lane 5 has row 1.
        ProductCase{"QuadPairsRow", kQuadPairs, 8, 4, 0xa0}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(DefinednessTest, AMatrixThatIsTransposedTakesWhatNothingWroteWithIt) {
  // Lane 5 has columns 2 and 3 of row 1, which become rows 2 and 3 of column 1: lanes 8 and 12, upper halves.
  const std::string body = "setp.ne.u32 %p1, %r1, 5; @%p1 mov.u32 %r8, 0;\n" + std::string(kMove);
  EXPECT_EQ(Of(body + StoreLanes("%r4", ~0x1100u)), kFine) << outcome_.status;
  EXPECT_EQ(Of(body + StoreLanes("%r4", 0x100)), kFound);
  EXPECT_EQ(Of(body + StoreLanes("%r4", 0x1000)), kFound);
  EXPECT_EQ(Of(body + "and.b32 %r4, %r4, 0xffff;\n" + StoreLanes("%r4")), kFine) << outcome_.status;
}

// --- fragments in memory

TEST_F(DefinednessTest, TilesOfWmmaCarryTheirElementsInAndOut) {
  const std::string shared = ".shared .align 32 .b8 s[2048];";
  // A tile of 16 x 16 f16 in shared memory; row 3 is written by no one, or by all.
  const auto kernel = [](bool whole, const std::string& rest) {
    return absl::StrCat(
        "mov.u32 %r2, s; shl.b32 %r3, %r1, 4; add.u32 %r4, %r2, %r3; shr.u32 %r5, %r1, 1;\n",
        "setp.ne.u32 %p1, %r5, ", whole ? 77 : 3, "; @%p1 st.shared.v4.u32 [%r4], {0, 0, 0, 0};\n",
        Zero("%r", 20, 29), "bar.sync 0;\n",
        "wmma.load.a.sync.aligned.row.m16n16k16.shared.f16 {%r6, %r7, %r8, %r9, %r10, %r11, %r12, "
        "%r13}, [%r2];\n",
        "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%r14, %r15, %r16, %r17, %r18, %r19, %r20, "
        "%r21}, {%r6, %r7, %r8, %r9, %r10, %r11, %r12, %r13}, {%r22, %r22, %r22, %r22, %r22, %r22, "
        "%r22, %r22}, {%r23, %r23, %r23, %r23, %r23, %r23, %r23, %r23};\n",
        rest);
  };
  // The result goes to shared memory (64 bytes a row), and from there, row 3 last.
  const std::string rows =
      "add.u32 %r2, %r2, 1024; wmma.store.d.sync.aligned.row.m16n16k16.shared.f32 [%r2], {%r14, %r15, %r16, "
      "%r17, "
      "%r18, %r19, %r20, %r21};\nbar.sync 0; and.b32 %r5, %r1, 15; shl.b32 %r5, %r5, 2; add.u32 %r5, %r2, "
      "%r5;\n";
  const std::string global =
      "wmma.store.d.sync.aligned.row.m16n16k16.global.f32 [%d0], {%r14, %r15, %r16, %r17, %r18, %r19, %r20, "
      "%r21};";
  EXPECT_EQ(Of(kernel(true, global), shared), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel(false, global), shared), kFound);
  EXPECT_EQ(outcome_.fault.address, 0x200000000000u + 3 * 64);
  EXPECT_EQ(outcome_.fault.other.instruction.substr(0, 11), "wmma.load.a") << outcome_.status;
  EXPECT_EQ(Of(kernel(false, rows + "ld.shared.u32 %r4, [%r5+256]; st.global.u32 [%d2], %r4;"), shared),
            kFine)
      << outcome_.status;
  EXPECT_EQ(Of(kernel(false, rows + "ld.shared.u32 %r4, [%r5+192]; st.global.u32 [%d2], %r4;"), shared),
            kFound);
}

TEST_F(DefinednessTest, MatricesOfBytesAreLoadedAndStoredAsTheyAre) {
  const std::string shared = ".shared .align 16 .b8 s[1024];";
  // 16 rows of 16 bytes, of which row 3 is not written; transposed, it is a byte in each column.
  const std::string fill =
      "mov.u32 %r2, s; shl.b32 %r3, %r1, 4; add.u32 %r4, %r2, %r3;\n"
      "setp.ne.u32 %p1, %r1, 3; @%p1 st.shared.v4.u32 [%r4], {0, 0, 0, 0};\n";
  const std::string load = "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8 {%r6, %r7}, [%r4];\n";
  EXPECT_EQ(Of(fill + load + "st.global.u32 [%d2], %r6;", shared, 32, 120), kFound);
  EXPECT_EQ(outcome_.fault.other.instruction.substr(0, 8), "ldmatrix");
  // A column of 16 elements is held by four lanes, four each: rows 4 to 7, 8 to 11 and 12 to 15 are all
  // there.
  EXPECT_EQ(Of(fill + load + StoreLanes("%r6", 0xeeeeeeee), shared, 32, 120), kFine) << outcome_.status;
  const std::string store =
      "setp.ne.u32 %p2, %r1, 9; @%p2 mov.u32 %r8, 0; stmatrix.sync.aligned.m16n8.x1.trans.shared.b8 [%r4], "
      "{%r8};\n"
      "ld.shared.v4.u32 {%r10, %r11, %r12, %r13}, [%r4];\n";
  EXPECT_EQ(Of(store.substr(0, 0) + "mov.u32 %r2, s; shl.b32 %r3, %r1, 4; add.u32 %r4, %r2, %r3;\n" + store +
                   "setp.lt.u32 %p3, %r1, 8; @%p3 st.global.v4.u32 [%d0], {%r10, %r11, %r12, %r13};",
               shared, 32, 120),
            kFound);
}

// --- wgmma

// A of 64 x 16 f16 and B of 16 x 8 in shared memory, in units of 16 bytes: A's at 16 · row + 1024 · half, B's
// behind, at 16 · column + 128 · half. Threads `skip_a` and `skip_b` leave theirs as it is.
std::string WgmmaKernel(int skip_a, int skip_b, const std::string& scale, const std::string& a = "%d4",
                        const std::string& more = "") {
  return absl::StrCat(
      "mov.u32 %r2, s; shl.b32 %r3, %r1, 4; add.u32 %r4, %r2, %r3;\n", "setp.ne.u32 %p1, %r1, ", skip_a,
      "; @%p1 st.shared.v4.u32 [%r4], {0, 0, 0, 0};\n", "setp.ne.u32 %p1, %r1, ", skip_b,
      "; setp.lt.and.u32 %p1, %r1, 16, %p1; @%p1 st.shared.v4.u32 [%r4+2048], {0, 0, 0, 0};\n",
      "fence.proxy.async.shared::cta; bar.sync 0;\n",
      "cvt.u64.u32 %d3, %r2; shr.u64 %d3, %d3, 4; mov.u64 %d5, ", (uint64_t{64} << 16) | (uint64_t{8} << 32),
      "; or.b64 %d4, %d3, %d5;\n", "add.u64 %d3, %d3, 128; mov.u64 %d5, ",
      (uint64_t{8} << 16) | (uint64_t{8} << 32), "; or.b64 %d5, %d3, %d5;\n", more, "setp.ne.u32 %p2, 0, ",
      scale, ";\nwgmma.fence.sync.aligned;\n",
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r16, %r17, %r18, %r19}, ", a, ", %d5, %p2, 1, 1, ",
      a == "%d4" ? "0, " : "", "0;\nwgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;\n");
}
const char kTiles[] = ".shared .align 128 .b8 s[4096];";

TEST_F(DefinednessTest, WgmmaHandsOnRowsAndColumnsThatNothingWroteToSharedMemory) {
  const auto all = [](const std::string& lanes_of) {
    return absl::StrCat("st.global.u32 [%d2], %r16; st.global.u32 [%d2], %r17; st.global.u32 [%d2], %r18;\n",
                        "st.global.u32 [%d2], ", lanes_of, ";");
  };
  const std::string zeros = Zero("%r", 16, 19);
  EXPECT_EQ(Of(zeros + WgmmaKernel(-1, -1, "1") + all("%r19"), kTiles, 128), kFine) << outcome_.status;
  // Row 21 of A: row 5 of warp 1, lanes 20 to 23 of it, registers 0 and 1.
  const std::string row = zeros + WgmmaKernel(21, -1, "1");
  EXPECT_EQ(Of(row + all("%r19"), kTiles, 128), kFound);
  EXPECT_EQ(outcome_.fault.thread[0], 32u + 20);
  EXPECT_EQ(outcome_.fault.other.instruction.substr(0, 15), "wgmma.mma_async") << outcome_.status;
  EXPECT_EQ(Of(row + "st.global.u32 [%d2], %r18; st.global.u32 [%d2], %r19;", kTiles, 128), kFine)
      << outcome_.status;
  EXPECT_EQ(Of(row + "add.u32 %r5, %r1, -52; setp.gt.u32 %p1, %r5, 3; @%p1 st.global.u32 [%d2], %r16;",
               kTiles, 128),
            kFine)
      << outcome_.status;
  // Column 3 of B, the upper half of K: register 1 and 3 of every fourth lane.
  const std::string column = zeros + WgmmaKernel(-1, 8 + 3, "1");
  EXPECT_EQ(Of(column + StoreLanes("%r16") + StoreLanes("%r17", 0xdddddddd) + StoreLanes("%r19", 0xdddddddd),
               kTiles, 128),
            kFine)
      << outcome_.status;
  EXPECT_EQ(Of(column + StoreLanes("%r17", 0x20), kTiles, 128), kFound);
  EXPECT_EQ(Of(column + StoreLanes("%r19", 0x20), kTiles, 128), kFound);
}

TEST_F(DefinednessTest, WgmmaReadsItsAccumulatorsOnlyWhereItAddsToThem) {
  const std::string store = "st.global.u32 [%d2], %r17;";
  EXPECT_EQ(Of(WgmmaKernel(-1, -1, "0") + store, kTiles, 128), kFine) << outcome_.status;
  EXPECT_EQ(Of(WgmmaKernel(-1, -1, "1") + store, kTiles, 128), kFound);
  EXPECT_EQ(Of(WgmmaKernel(-1, -1, "%r28") + store, kTiles, 128), kFound);  // who knows
}

TEST_F(DefinednessTest, WgmmaTakesAFromRegisters) {
  // Register 1 of A in thread 70: row 8 + 1 of warp 2, lanes 4 to 7, registers 2 and 3 of D.
  const std::string kernel =
      Zero("%r", 16, 19) +
      WgmmaKernel(-1, -1, "1", "{%r8, %r9, %r10, %r11}",
                  Zero("%r", 8, 8) + Zero("%r", 10, 11) + "setp.ne.u32 %p3, %r1, 70; @%p3 mov.u32 %r9, 0;\n");
  EXPECT_EQ(Of(kernel + "st.global.u32 [%d2], %r16; st.global.u32 [%d2], %r17;", kTiles, 128), kFine)
      << outcome_.status;
  EXPECT_EQ(Of(kernel + "st.global.u32 [%d2], %r18;", kTiles, 128), kFound);
  EXPECT_EQ(outcome_.fault.thread[0], 68u);
}

TEST_F(DefinednessTest, ADescriptorThatNothingWroteIsAnAddress) {
  std::string kernel = Zero("%r", 16, 19) + WgmmaKernel(-1, -1, "1");
  kernel = absl::StrReplaceAll(kernel, {{"or.b64 %d5, %d3, %d5;", "or.b64 %d5, %d6, %d5;"}});
  EXPECT_EQ(Of(kernel, kTiles, 128), kFound);
  EXPECT_NE(outcome_.fault.message.find("address"), std::string::npos) << outcome_.status;
}

// --- what else was taken for defined

TEST_F(DefinednessTest, AReductionOfABarrierDependsOnEveryThread) {
  const auto kernel = [](const char* thread) {
    return absl::StrCat("setp.ne.u32 %p1, %r1, ", thread, "; @%p1 setp.eq.u32 %p2, %r1, 3;\n",
                        "bar.red.popc.u32 %r3, 0, %p2; mov.u32 %r4, %r3;\nbar.red.popc.u32 %r5, 0, %p1;\n");
  };
  EXPECT_EQ(Of(kernel("99") + "st.global.u32 [%d2], %r4;", "", 64), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel("40") + "st.global.u32 [%d2], %r5;", "", 64), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel("40") + "st.global.u32 [%d2], %r4;", "", 64), kFound);
  EXPECT_EQ(outcome_.fault.thread[0], 0u);
}

TEST_F(DefinednessTest, AFieldIsDefinedWhereItsOwnBytesAre) {
  // %h1 has nothing: the low half of %r2, and the bytes 0 and 1 of %d3.
  const std::string half = "mov.u16 %h2, 7; mov.b32 %r2, {%h1, %h2}; cvt.u64.u32 %d3, %r2;\n";
  const std::string store = " st.global.u32 [%d2], %r3;", wide = " cvt.u32.u64 %r3, %d4;" + store;
  EXPECT_EQ(Of(half + "bfe.u32 %r3, %r2, 16, 12;" + store), kFine) << outcome_.status;
  EXPECT_EQ(Of(half + "bfe.u64 %d4, %d3, 16, 16;" + wide), kFine) << outcome_.status;
  EXPECT_EQ(Of(half + "bfe.u64 %d4, %d3, 15, 16;" + wide), kFound);
  EXPECT_EQ(Of(half + "bfe.u32 %r3, %r2, 0, 4;" + store), kFound);
  EXPECT_EQ(Of(half + "bfe.u32 %r3, %r2, 0, 0;" + store), kFine) << outcome_.status;
  EXPECT_EQ(Of(half + "bfe.u32 %r3, %r1, %r9, 4;" + store), kFound);
}

TEST_F(DefinednessTest, EachHalfOfAPairDecidesItsOwnPredicate) {
  const std::string kernel =
      "mov.b16 %h1, 0; mov.b32 %r3, {%h1, %h2}; mov.u32 %r4, 0; setp.eq.f16x2 %p1|%p2, %r3, %r4;\n";
  EXPECT_EQ(Of(kernel + "@%p1 st.global.u32 [%d2], %r1;"), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel + "@%p2 st.global.u32 [%d2], %r1;"), kFound);
}

TEST_F(DefinednessTest, AnAsynchronousCopyOfAnUnknownSizeOrPlaceIsReported) {
  const std::string shared = ".shared .align 16 .b8 s[64];", start = "mov.u32 %r2, s;\n";
  EXPECT_EQ(Of(start + "mov.u32 %r3, 4; cp.async.ca.shared.global [%r2], [%d0], 16, %r3;", shared), kFine)
      << outcome_.status;
  EXPECT_EQ(Of(start + "cp.async.ca.shared.global [%r2], [%d0], 16, %r3;", shared), kFound);
  EXPECT_EQ(Of("cp.async.ca.shared.global [%r2], [%d0], 16;", shared), kFound);
  EXPECT_EQ(Of(start + "mbarrier.init.shared.b64 [%r2], %r3;", shared), kFound);
}

}  // namespace
}  // namespace trun::device
