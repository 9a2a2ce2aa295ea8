// --check=uninit through bulk and tensor copies: they write what they copy and no more, and hand on what
// nothing wrote.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/async/tensor_map.h"
#include "server/device/emulator/checks/checks_fixture.h"

namespace trun::device {
namespace {

// --- bulk copies

const char kBulk[] = ".shared .align 128 .b8 s[1024]; .shared .align 8 .b64 b;";
// Thread 0 copies `bytes` of x to the start of shared memory, and all wait.
std::string BulkLoad(const std::string& copy, uint32_t bytes) {
  return absl::StrCat(
      "mov.u32 %r2, s; mov.u32 %r3, b; setp.eq.u32 %p1, %r1, 0; @%p1 mbarrier.init.shared.b64 [%r3], 1;\n",
      "bar.sync 0; @%p1 mbarrier.arrive.expect_tx.shared.b64 %d3, [%r3], ", bytes, ";\n@%p1 ", copy,
      "\n$again: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra $again;\n");
}
std::string PlainLoad(uint32_t bytes) {
  return BulkLoad(
      absl::StrCat("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%d0], ", bytes,
                   ", [%r3];"),
      bytes);
}

TEST_F(DefinednessTest, ABulkCopyWritesWhatItCopiesAndNoMore) {
  const std::string read = "shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r2; ld.shared.u32 %r5, [%r4]; ";
  EXPECT_EQ(Of(PlainLoad(128) + read + "st.global.u32 [%d2], %r5;", kBulk), kFine) << outcome_.status;
  EXPECT_EQ(Of(PlainLoad(64) + read + "st.global.u32 [%d2], %r5;", kBulk), kFound);
  EXPECT_EQ(outcome_.fault.thread[0], 16u);
  EXPECT_EQ(Of(PlainLoad(64) + read + "setp.eq.u32 %p3, %r5, 0; @%p3 bra $end; $end:", kBulk), kFound);
}

TEST_F(DefinednessTest, ABulkStoreOfWhatNothingWroteIsReported) {
  const auto kernel = [](const char* op, uint32_t bytes) {
    return absl::StrCat(PlainLoad(64), "@%p1 cp", op, " [%d0], [%r2], ", bytes,
                        ";\n@%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;");
  };
  for (const char* op : {".async.bulk.global.shared::cta.bulk_group",
                         ".reduce.async.bulk.global.shared::cta.bulk_group.add.u32"}) {
    EXPECT_EQ(Of(kernel(op, 64), kBulk), kFine) << op << outcome_.status;
    EXPECT_EQ(Of(kernel(op, 80), kBulk), kFound) << op;
    EXPECT_EQ(outcome_.fault.space, "shared");
    EXPECT_EQ(outcome_.fault.address, 64u);
    EXPECT_EQ(outcome_.fault.access_bytes, 16u);
  }
}

TEST_F(DefinednessTest, ABulkCopyHandsOnWhatNobodyWroteToGlobalMemory) {
  TestLauncher launcher(90);
  TestTensor x;
  const auto reason = [&](const std::string& body, bool unwritten = true) {
    x = launcher.Allocate(256);
    launcher.SetUnwritten(unwritten ? std::vector<uint64_t>{x.id} : std::vector<uint64_t>());
    outcome_ = Run(Ptx(body, kBulk, "sm_90"), x, kUninit, 32, 1, 0, &launcher);
    return GetReason(outcome_.status);
  };
  const std::string read = "ld.shared.u32 %r5, [%r2+8]; st.global.u32 [%d2+128], %r5;";
  const std::string reduce =
      "@%p1 st.shared.v4.u32 [%r2], {0, 0, 0, 0}; @%p1 "
      "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 "
      "[%d0+128], [%r2], 16;\n@%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;";
  const std::string store = absl::StrReplaceAll(reduce, {{"cp.reduce", "cp"}, {".add.u32", ""}});
  EXPECT_EQ(reason(PlainLoad(64) + read), kFound);
  EXPECT_EQ(outcome_.fault.other.instruction.substr(0, 13), "cp.async.bulk") << outcome_.status;
  EXPECT_NE(outcome_.fault.message.find(absl::StrCat("of allocation ", x.id, " of 256 bytes")),
            std::string::npos)
      << outcome_.status;
  EXPECT_EQ(reason(PlainLoad(64) + read, false), kFine) << outcome_.status;
  const std::string start = "mov.u32 %r2, s; setp.eq.u32 %p1, %r1, 0;\n";
  EXPECT_EQ(reason(start + reduce), kFound);
  EXPECT_NE(outcome_.fault.message.find("atomic"), std::string::npos) << outcome_.status;
  EXPECT_EQ(outcome_.fault.nearest_allocation, x.id);
  // What a bulk copy has stored is written.
  EXPECT_EQ(reason(start + store + "@%p1 ld.global.u32 %r5, [%d0+128]; @%p1 st.global.u32 [%d0], %r5;"),
            kFine)
      << outcome_.status;
}

TEST_F(DefinednessTest, ACopyToAnotherCtaOfTheClusterHandsItOn) {
  TestLauncher launcher(90);
  const TestTensor x = launcher.Upload(std::vector<uint32_t>(64));
  const auto reason = [&](uint32_t bytes, uint32_t read) {
    // CTA 0 writes 32 bytes and copies `bytes` to CTA 1, which looks at byte `read`.
    auto kernel = launcher.Load(absl::StrCat(Ptx(
        absl::StrCat(
            "mov.u32 %r2, s; mov.u32 %r3, b; mov.u32 %r6, %cluster_ctarank; setp.eq.u32 %p1, %r6, 0;\n",
            "mbarrier.init.shared.b64 [%r3], 1; mbarrier.arrive.expect_tx.shared.b64 %d3, [%r3], ", bytes,
            ";\nbarrier.cluster.arrive; barrier.cluster.wait; @!%p1 bra $wait;\n",
            "st.shared.v4.u32 [%r2], {0, 0, 0, 0}; st.shared.v4.u32 [%r2+16], {0, 0, 0, 0};\n",
            "fence.proxy.async.shared::cta; add.u32 %r7, %r2, 512; mapa.shared::cluster.u32 %r4, %r7, 1; ",
            "mapa.shared::cluster.u32 %r5, %r3, 1;\n",
            "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r4], [%r2], ", bytes,
            ", [%r5];\nbra $end;\n",
            "$wait: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra $wait;\n",
            "ld.shared.u32 %r8, [%r2+", 512 + read,
            "]; st.global.u32 [%d0], %r8;\n$end: barrier.cluster.arrive; barrier.cluster.wait;"),
        kBulk, "sm_90")));
    EXPECT_TRUE(kernel.ok()) << kernel.status();
    // What the copy reads has to be waited for by its mbarrier only, and is.
    EXPECT_TRUE(launcher.device().SetChecks({true, true, true}).ok());
    LaunchDimensions dimensions;
    dimensions.grid = dimensions.cluster = {2, 1, 1};
    outcome_ = launcher.Launch(*kernel, dimensions, TestParameters().Add(x).Add(uint32_t{0}));
    return GetReason(outcome_.status);
  };
  EXPECT_EQ(reason(32, 28), kFine) << outcome_.status;
  EXPECT_EQ(reason(48, 28), kFine) << outcome_.status;
  EXPECT_EQ(reason(48, 32), kFound);
  EXPECT_EQ(outcome_.fault.program[0], 1u);
}

// --- tensor copies

class TensorDefinednessTest : public DefinednessTest {
 protected:
  // A tensor of 12 columns and 8 rows of u32, the map in front of it; boxes are 8 x 4, swizzled by 32 bytes.
  TensorDefinednessTest() : launcher_(90) {
    x_ = launcher_.Allocate(4096);
    TensorMap map;
    map.global_address = x_.address + 1024;
    map.rank = 2;
    map.element = TensorElement::kU32;
    map.global_dim = {12, 8, 1, 1, 1};
    map.global_stride = {64, 0, 0, 0};
    map.box_dim = {8, 4, 1, 1, 1};
    map.swizzle = numerics::Swizzle::k32;
    EXPECT_TRUE(map.Check().ok()) << map.Check();
    map.Encode(x_.host);
  }

  Reason Launch(const std::string& body, bool unwritten = false) {
    launcher_.SetUnwritten(unwritten ? std::vector<uint64_t>{x_.id} : std::vector<uint64_t>());
    outcome_ = Run(Ptx(body, kBulk, "sm_90"), x_, kUninit, 32, 1, 0, &launcher_);
    return GetReason(outcome_.status);
  }
  // Thread 0 loads the box at (x, y), 128 bytes.
  static std::string Load(int x, int y) {
    return absl::StrCat(
        "mov.u32 %r6, ", x, "; mov.u32 %r7, ", y, ";\n",
        BulkLoad("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
                 "[%r2], [%d0, {%r6, %r7}], [%r3];",
                 128));
  }
  static std::string Store(const char* op, int x, int y) {
    return absl::StrCat("mov.u32 %r2, s; setp.eq.u32 %p1, %r1, 0; mov.u32 %r6, ", x, "; mov.u32 %r7, ", y,
                        ";\nbar.sync 0; @%p1 cp", op, " [%d0, {%r6, %r7}], [%r2];\n",
                        "@%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;");
  }

  TestLauncher launcher_;
  TestTensor x_;
};

const char kTensorStore[] = ".async.bulk.tensor.2d.global.shared::cta.tile.bulk_group";
const char kTensorAdd[] = ".reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group";

TEST_F(TensorDefinednessTest, ALoadWritesItsBoxWithWhatLiesOutOfBounds) {
  const std::string read =
      "shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r2; ld.shared.u32 %r5, [%r4]; st.global.u32 [%d2+2048], %r5;";
  EXPECT_EQ(Launch(Load(0, 0) + read), kFine) << outcome_.status;
  EXPECT_EQ(Launch(Load(8, 6) + read), kFine) << outcome_.status;
  EXPECT_EQ(Launch(Load(0, 0) + absl::StrReplaceAll(read, {{"[%r4]", "[%r4+64]"}})), kFound);
  EXPECT_EQ(outcome_.fault.thread[0], 16u);
}

TEST_F(TensorDefinednessTest, ALoadHandsOnWhatNobodyWroteToItsSwizzledPlace) {
  // The map and all rows but row 5 are written by the device, once a launch has vouched for nothing.
  EXPECT_EQ(Launch("", true), kFine);
  const std::vector<char> bytes(1024 + 5 * 64);
  const auto write = [&](uint64_t at, size_t count) {
    EXPECT_TRUE(
        launcher_.device().WriteMemory(x_.address + at, absl::MakeConstSpan(bytes).first(count)).ok());
  };
  std::vector<char> map(x_.host, x_.host + 128);
  EXPECT_TRUE(launcher_.device().WriteMemory(x_.address, map).ok());
  write(1024, 5 * 64);
  write(1024 + 6 * 64, 1024);
  // Rows 4 to 7: row 5 is the second of the box, whose 32 bytes are not exchanged (128-byte row 0).
  const std::string read =
      "shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r2; ld.shared.u32 %r5, [%r4]; setp.ne.u32 %p3, %r5, 99;\n"
      "shr.u32 %r8, %r1, 3;\n";
  EXPECT_EQ(Launch(Load(0, 4) + read +
                       "setp.ne.u32 %p4, %r8, 1; and.pred %p4, %p4, %p3; @%p4 st.global.u32 "
                       "[%d2+2048], %r1;",
                   true),
            kFine)
      << outcome_.status;
  EXPECT_EQ(Launch(Load(0, 4) + read + "@%p3 st.global.u32 [%d2+2048], %r1;", true), kFound);
  EXPECT_EQ(outcome_.fault.thread[0], 8u);
  EXPECT_NE(outcome_.fault.message.find(absl::StrCat("from byte ", 1024 + 5 * 64, " of allocation")),
            std::string::npos)
      << outcome_.status;
}

TEST_F(TensorDefinednessTest, AStoreReadsOnlyWhatLiesWithinTheTensor) {
  const auto fill = [](const char* threads) {
    return absl::StrCat("mov.u32 %r2, s; shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r2; and.b32 %r5, %r1, 7;\n",
                        "setp.lt.u32 %p2, %r5, ", threads, "; @%p2 st.shared.u32 [%r4], %r1;\n");
  };
  for (const char* op : {kTensorStore, kTensorAdd}) {
    EXPECT_EQ(Launch(fill("8") + Store(op, 0, 0)), kFine) << op << outcome_.status;
    // The right half of each row is not written: it is stored at column 0, not at column 8 of 12.
    EXPECT_EQ(Launch(fill("4") + Store(op, 8, 0)), kFine) << op << outcome_.status;
    EXPECT_EQ(Launch(fill("4") + Store(op, 0, 0)), kFound) << op;
    EXPECT_EQ(outcome_.fault.space, "shared");
    EXPECT_EQ(outcome_.fault.address, 16u);
  }
}

TEST_F(TensorDefinednessTest, AStoreOverItsOwnMapIsFollowedNoFurther) {
  TensorMap map = TensorMap::Decode(x_.host);
  map.global_address = x_.address;
  const std::string fill =
      "mov.u32 %r2, s; shl.b32 %r4, %r1, 2; add.u32 %r4, %r4, %r2; st.shared.u32 [%r4], 0x1010101;\n";
  for (const uint32_t first : {0u, 0xffffffffu, 256u}) {
    map.Encode(x_.host);
    EXPECT_EQ(
        Launch(absl::StrReplaceAll(fill, {{"0x1010101", absl::StrCat(first)}}) + Store(kTensorStore, 0, 0)),
        kFine)
        << outcome_.status;
  }
}

TEST_F(TensorDefinednessTest, ATensorMapThatNothingWroteIsReported) {
  EXPECT_EQ(Launch(Load(0, 0), true), kFound);
  EXPECT_NE(outcome_.fault.message.find("tensor map"), std::string::npos) << outcome_.status;
}

}  // namespace
}  // namespace trun::device
