// --check=race: what one proxy has written and another sees (PTX ISA, "Memory Consistency Model: Proxies").
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/async/tensor_map.h"
#include "server/device/emulator/checks/checks_fixture.h"

namespace trun::device {
namespace {

constexpr Reason kFine = Reason::kUnspecified;

class ProxiesTest : public ChecksTest {
 protected:
  ProxiesTest() : launcher_(90) {}

  Reason Of(const std::string& body, uint32_t threads = 32, uint32_t grid = 1, CheckOptions checks = kRaces) {
    const TestTensor x = launcher_.Upload(std::vector<uint32_t>(64));
    outcome_ = Run(Ptx(body, kShared, "sm_90"), x, checks, threads, grid, 0, &launcher_);
    EXPECT_TRUE(outcome_.status.ok() || GetReason(outcome_.status) == Reason::kRace) << outcome_.status;
    return GetReason(outcome_.status);
  }
  // A race, for want of a fence of the proxy.
  bool Found(const char* fence = "fence.proxy.async") const {
    return GetReason(outcome_.status) == Reason::kRace &&
           outcome_.fault.message.find(fence) != std::string::npos;
  }

  static constexpr char kShared[] = ".shared .align 128 .b8 s[1024]; .shared .align 8 .b64 b;";

  TestLauncher launcher_;
  LaunchOutcome outcome_;
};

const char kInit[] =
    "mov.u32 %r2, s; mov.u32 %r3, b; setp.eq.u32 %p1, %r1, 0; @%p1 mbarrier.init.shared.b64 [%r3], 1; "
    "bar.sync 0;\n";
const char kLoad[] =
    "@%p1 mbarrier.arrive.expect_tx.shared.b64 %d3, [%r3], 64;\n"
    "@%p1 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%d0], 64, [%r3];\n";
const char kWait[] = "$again: mbarrier.try_wait.parity.shared.b64 %p2, [%r3], 0; @!%p2 bra $again;\n";
const char kStore[] =
    "@%p1 cp.async.bulk.global.shared::cta.bulk_group [%d0], [%r2], 16;\n"
    "@%p1 cp.async.bulk.commit_group; @%p1 cp.async.bulk.wait_group 0;\n";

TEST_F(ProxiesTest, ABulkLoadSeesStoresToGlobalMemoryOnlyBehindAFence) {
  const auto kernel = [](const std::string& fence) {
    return absl::StrCat(kInit, "st.global.u32 [%d2], %r1;\n", fence, "\nbar.sync 0;\n", kLoad, kWait);
  };
  for (const char* fence : {"fence.proxy.async;", "fence.proxy.async.global;"}) {
    EXPECT_EQ(Of(kernel(fence)), kFine) << fence << outcome_.status;
  }
  for (const char* fence : {"", "membar.gl;", "fence.proxy.async.shared::cta;"}) {
    for (const CheckOptions& checks : {kRaces, kAsync}) {
      EXPECT_EQ(Of(kernel(fence), 32, 1, checks), Reason::kRace) << fence;
      EXPECT_TRUE(Found()) << outcome_.status;
      EXPECT_EQ(outcome_.fault.space, "global");
      EXPECT_EQ(outcome_.fault.other.instruction, "st.global.u32");
    }
  }
  // What nobody has written in this launch is seen.
  EXPECT_EQ(Of(absl::StrCat(kInit, kLoad, kWait)), kFine) << outcome_.status;
}

TEST_F(ProxiesTest, AFenceOnEitherSideOfAReleaseWillDo) {
  // Program 0 writes and raises a flag, program 1 waits for it and copies.
  const auto kernel = [](const std::string& writer, const std::string& reader) {
    return absl::StrCat(
        kInit, "mov.u32 %r4, %ctaid.x; setp.ne.u32 %p3, %r4, 0; @%p3 bra $wait;\nst.global.u32 [%d0+4], 7;\n",
        writer,
        "\nst.release.gpu.global.u32 [%d0+128], 1;\nbra $end;\n$wait: ld.acquire.gpu.global.u32 %r5, "
        "[%d0+128];\n",
        "setp.eq.u32 %p4, %r5, 0; @%p4 bra $wait;\n", reader, "\n", kLoad, kWait, "$end:");
  };
  const std::string fence = "fence.proxy.async.global;";
  EXPECT_EQ(Of(kernel(fence, ""), 1, 2), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel("", fence), 1, 2), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel("", ""), 1, 2), Reason::kRace);
  EXPECT_TRUE(Found()) << outcome_.status;
}

TEST_F(ProxiesTest, AFenceForGlobalMemoryIsNoneForSharedMemory) {
  const auto kernel = [](const char* fence) {
    return absl::StrCat(kInit, "@%p1 st.shared.v4.u32 [%r2], {5, 5, 5, 5};\n", fence, "\n", kStore);
  };
  for (const char* fence :
       {"fence.proxy.async;", "fence.proxy.async.shared::cta;", "fence.proxy.async.shared::cluster;"})
    EXPECT_EQ(Of(kernel(fence)), kFine) << fence << outcome_.status;
  EXPECT_EQ(Of(kernel("fence.proxy.async.global;")), Reason::kRace);
  EXPECT_TRUE(Found()) << outcome_.status;
}

TEST_F(ProxiesTest, ABulkCopyOverWhatStoresWroteNeedsAFenceAndOverWhatLoadsReadABarrier) {
  const auto kernel = [](const std::string& before, const std::string& between) {
    return absl::StrCat(kInit, "and.b32 %r4, %r1, 31; shl.b32 %r4, %r4, 1; add.u32 %r4, %r4, %r2;\n", before,
                        "\n", between, "\nbar.sync 0;\n", kLoad, kWait);
  };
  const std::string store = "st.shared.u16 [%r4], 1;", load = "ld.shared.u16 %h1, [%r4];";
  EXPECT_EQ(Of(kernel(store, "fence.proxy.async.shared::cta;")), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel(store, "")), Reason::kRace);
  EXPECT_TRUE(Found()) << outcome_.status;
  EXPECT_EQ(Of(kernel(load, "")), kFine) << outcome_.status;
  // A place where a map was made: Triton 3.4 uses it again without a fence.
  EXPECT_EQ(
      Of(kernel(
          "@%p1 st.shared.u32 [%r2], 5; @%p1 tensormap.replace.tile.rank.shared::cta.b1024.b32 [%r2], 1;",
          "")),
      kFine)
      << outcome_.status;
  EXPECT_EQ(Of(absl::StrReplaceAll(kernel(load, ""), {{"\nbar.sync 0;\n@%p1 mb", "\n@%p1 mb"}}), 64),
            Reason::kRace);
}

TEST_F(ProxiesTest, AReductionByTheAsyncProxyReadsWhatStoresWrote) {
  const auto kernel = [](const char* fence) {
    return absl::StrCat(
        kInit, "@%p1 st.shared.v4.u32 [%r2], {5, 5, 5, 5};\nst.global.u32 [%d2], %r1;\n", fence,
        "\nbar.sync 0;\n",
        absl::StrReplaceAll(kStore, {{"@%p1 cp.async.bulk.global", "@%p1 cp.reduce.async.bulk.global"},
                                     {"bulk_group [", "bulk_group.add.u32 ["}}));
  };
  EXPECT_EQ(Of(kernel("fence.proxy.async;")), kFine) << outcome_.status;
  EXPECT_EQ(Of(kernel("fence.proxy.async.shared::cta;")), Reason::kRace);
  EXPECT_TRUE(Found()) << outcome_.status;
  EXPECT_EQ(outcome_.fault.space, "global");
}

TEST_F(ProxiesTest, AStoreOverTheSourceOfABulkLoadHasToWaitForIt) {
  const std::string store = "@%p1 st.global.u32 [%d0+8], 3;\n";
  EXPECT_EQ(Of(absl::StrCat(kInit, kLoad, kWait, store)), kFine) << outcome_.status;
  for (const CheckOptions& checks : {kRaces, kAsync}) {
    EXPECT_EQ(Of(absl::StrCat(kInit, kLoad, store, kWait), 32, 1, checks), Reason::kRace);
    EXPECT_NE(outcome_.fault.message.find("nothing has waited for"), std::string::npos) << outcome_.status;
    EXPECT_EQ(outcome_.fault.other.role, "earlier read");
  }
}

TEST_F(ProxiesTest, ATensorMapThatTheKernelChangedIsSeenBehindItsOwnFence) {
  const TestTensor x = launcher_.Allocate(1024);
  TensorMap map;
  map.global_address = x.address + 512;
  map.element = TensorElement::kU32;
  map.global_dim = {16, 1, 1, 1, 1};
  map.box_dim = {16, 1, 1, 1, 1};
  const auto reason = [&](const std::string& change, const std::string& fence) {
    map.Encode(x.host);
    outcome_ = Run(Ptx(absl::StrCat(kInit, change, "\nbar.sync 0;\n", fence, "\nmov.u32 %r4, 0;\n",
                                    absl::StrReplaceAll(
                                        kLoad, {{"cp.async.bulk.shared", "cp.async.bulk.tensor.1d.shared"},
                                                {"global.mbarrier", "global.tile.mbarrier"},
                                                {"[%d0], 64", "[%d0, {%r4}]"}}),
                                    kWait),
                       kShared, "sm_90a"),
                   x, kRaces, 32, 1, 0, &launcher_);
    return GetReason(outcome_.status);
  };
  const std::string acquire = "fence.proxy.tensormap::generic.acquire.gpu [%d0], 128;";
  for (const std::string change : {"@%p1 tensormap.replace.tile.global_dim.global.b1024.b32 [%d0], 0, 12;",
                                   "@%p1 st.global.u32 [%d0+40], 13;"}) {
    EXPECT_EQ(reason(change, acquire), kFine) << change << outcome_.status;
    for (const char* fence : {"", "fence.proxy.async;", "membar.gl;"}) {
      EXPECT_EQ(reason(change, fence), Reason::kRace) << change << fence;
      EXPECT_TRUE(Found("fence.proxy.tensormap")) << outcome_.status;
    }
  }
  EXPECT_EQ(reason("", ""), kFine) << outcome_.status;
}

}  // namespace
}  // namespace trun::device
