// Clusters, distributed shared memory, multicast, remote mbarriers and plain bulk copies, in hand-written
// PTX.
#include <cstring>
#include <string>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/async/emulator_fixture.h"

namespace trun::device {
namespace {

std::string Kernel(const std::string& body, const std::string& shared = "1024") {
  return ".version 8.6\n.target sm_90a\n.address_size 64\n"
         ".visible .entry k(.param .u64 in, .param .u64 out)\n{\n"
         ".shared .align 128 .b8 buffer[" +
         shared +
         "];\n.shared .align 8 .b64 bar;\n"
         ".reg .pred %p<8>;\n.reg .b16 %h<4>;\n.reg .b32 %r<32>;\n.reg .b64 %rd<32>;\n"
         "ld.param.u64 %rd1, [in];\nld.param.u64 %rd2, [out];\nmov.u32 %r1, %tid.x;\nmov.u32 %r2, "
         "%cluster_ctarank;\n" +
         body + "\nret;\n}\n";
}

// Thread 0 initialises `bar` for one arrival; all wait for that.
constexpr char kInit[] = R"(
setp.eq.u32 %p1, %r1, 0;
mov.u32 %r10, bar;
mov.u32 %r11, buffer;
@%p1 mbarrier.init.shared::cta.b64 [%r10], 1;
bar.sync 0;
)";

constexpr char kWait[] = R"(
wait: mbarrier.try_wait.parity.shared::cta.b64 %p2, [%r10], 0;
@!%p2 bra wait;
)";

class ClusterTest : public EmulatorFixture {
 protected:
  ClusterTest() : EmulatorFixture(90) {}

  static LaunchDimensions Of(uint32_t threads, uint32_t cluster) {
    LaunchDimensions d;
    d.grid = {cluster, 1, 1};
    d.block = {threads, 1, 1};
    d.cluster = {cluster, 1, 1};
    return d;
  }
  uint32_t Word(uint64_t address, size_t i) {
    uint32_t v;
    std::memcpy(&v, Host(address) + 4 * i, 4);
    return v;
  }
  uint64_t Numbers(size_t count) {
    const uint64_t address = Allocate(count * 4);
    for (uint32_t i = 0; i < count; ++i) std::memcpy(Host(address) + 4 * i, &i, 4);
    return address;
  }
};

TEST_F(ClusterTest, AWaitForAnMbarrierThatNobodyCompletesIsFoundAsAHang) {
  const LaunchOutcome outcome =
      RunText(Kernel(std::string(kInit) + kWait), Of(64, 1), {Allocate(64), Allocate(64)});
  EXPECT_EQ(GetReason(outcome.status), Reason::kHungKernel) << outcome.status;
  EXPECT_THAT(outcome.fault.instruction, testing::HasSubstr("mbarrier.try_wait"));
}

TEST_F(ClusterTest, AnMbarrierThatWasNotInitialisedIsReported) {
  const LaunchOutcome outcome =
      RunText(Kernel("mov.u32 %r10, bar;\nmbarrier.arrive.shared::cta.b64 %rd3, [%r10];"), Of(1, 1),
              {Allocate(64), Allocate(64)});
  EXPECT_EQ(GetReason(outcome.status), Reason::kBarrierDivergence) << outcome.status;
  EXPECT_THAT(outcome.fault.message, testing::HasSubstr("not initialised"));
}

TEST_F(ClusterTest, ABulkCopyOfAnOddSizeIsReported) {
  const LaunchOutcome outcome = RunText(
      Kernel(std::string(kInit) +
             "cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r11], [%rd1], 24, [%r10];"),
      Of(1, 1), {Allocate(64), Allocate(64)});
  EXPECT_EQ(GetReason(outcome.status), Reason::kMisalignedAddress) << outcome.status;
}

TEST_F(ClusterTest, AnUnknownFormIsRefusedWhenLoading) {
  for (const char* text : {"mbarrier.spin.shared::cta.b64 [%r10];",
                           "wgmma.mma_async.sync.aligned.m64n12k16.f32.f16.f16 {%r1}, %rd1, %rd2, 1;",
                           "tensormap.replace.tile.colour.shared::cta.b1024.b32 [%rd1], %r1;",
                           "cp.async.bulk.tensor.6d.shared::cta.global.mbarrier::complete_tx::bytes [%r1], "
                           "[%rd1, {%r1}], [%r1];"}) {
    const LaunchOutcome outcome = RunText(Kernel(text), Of(32, 1), {0, 0});
    const Reason reason = GetReason(outcome.status);
    EXPECT_TRUE(reason == Reason::kUnsupportedInstruction || reason == Reason::kInvalidIr)
        << text << outcome.status;
  }
}

TEST_F(ClusterTest, BulkCopiesMoveBytesInAndOut) {
  const uint64_t in = Numbers(256), out = Allocate(1024);
  const LaunchOutcome outcome = RunText(Kernel(std::string(kInit) + R"(
@%p1 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 1024;
@%p1 cp.async.bulk.shared::cta.global.mbarrier::complete_tx::bytes [%r11], [%rd1], 1024, [%r10];
)" + kWait + R"(
fence.proxy.async.shared::cta;
@%p1 cp.async.bulk.global.shared::cta.bulk_group [%rd2], [%r11], 512;
add.u64 %rd3, %rd2, 512;
add.u32 %r12, %r11, 512;
@%p1 cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%rd3], [%r12], 512;
@%p1 cp.async.bulk.commit_group;
@%p1 cp.async.bulk.wait_group 0;
)"),
                                        Of(64, 1), {in, out});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (uint32_t i = 0; i < 256; ++i) EXPECT_EQ(Word(out, i), i);
}

TEST_F(ClusterTest, EveryCtaReadsItsNeighboursSharedMemory) {
  const uint64_t out = Allocate(1024);
  const LaunchOutcome outcome = RunText(Kernel(R"(
mov.u32 %r11, buffer;
shl.b32 %r12, %r1, 2;
add.u32 %r13, %r11, %r12;
mad.lo.u32 %r14, %r2, 1000, %r1;
st.shared.u32 [%r13], %r14;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
add.u32 %r15, %r2, 1;
rem.u32 %r15, %r15, 4;
mapa.shared::cluster.u32 %r16, %r13, %r15;
ld.shared::cluster.u32 %r17, [%r16];
mad.lo.u32 %r18, %r2, 32, %r1;
mul.wide.u32 %rd3, %r18, 4;
add.u64 %rd3, %rd2, %rd3;
st.global.u32 [%rd3], %r17;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
)"),
                                        Of(32, 4), {0, out});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (uint32_t i = 0; i < 128; ++i) EXPECT_EQ(Word(out, i), (i / 32 + 1) % 4 * 1000 + i % 32) << i;
}

TEST_F(ClusterTest, AMulticastReachesTheCtasOfItsMask) {
  const uint64_t in = Numbers(64), out = Allocate(1024);
  const LaunchOutcome outcome = RunText(Kernel(std::string(kInit) + R"(
setp.ne.u32 %p3, %r2, 2;
and.pred %p4, %p1, %p3;
@%p4 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r10], 256;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
setp.eq.u32 %p5, %r2, 0;
and.pred %p5, %p5, %p1;
mov.b16 %h1, 11;
@%p5 cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%r11], [%rd1], 256, [%r10], %h1;
@!%p3 bra done;
)" + kWait + R"(
done: shl.b32 %r12, %r1, 2;
add.u32 %r13, %r11, %r12;
ld.shared.u32 %r17, [%r13];
mad.lo.u32 %r18, %r2, 64, %r1;
mul.wide.u32 %rd3, %r18, 4;
add.u64 %rd3, %rd2, %rd3;
st.global.u32 [%rd3], %r17;
)"),
                                        Of(64, 4), {in, out});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  for (uint32_t i = 0; i < 256; ++i) EXPECT_EQ(Word(out, i), i / 64 == 2 ? 0 : i % 64) << i;
}

TEST_F(ClusterTest, ARemoteArrivalCompletesThePhase) {
  const uint64_t out = Allocate(1024);
  const LaunchOutcome outcome = RunText(Kernel(std::string(kInit) + R"(
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
xor.b32 %r15, %r2, 1;
mapa.shared::cluster.u32 %r16, %r10, %r15;
@%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r16];
)" + kWait + R"(
mul.wide.u32 %rd3, %r2, 4;
add.u64 %rd3, %rd2, %rd3;
@%p1 st.global.u32 [%rd3], 7;
barrier.cluster.arrive.aligned;
barrier.cluster.wait.aligned;
)"),
                                        Of(64, 2), {0, out});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(Word(out, 0), 7u);
  EXPECT_EQ(Word(out, 1), 7u);
}

TEST_F(ClusterTest, WgmmaOfPartOfAWarpgroupIsReported) {
  const LaunchOutcome outcome = RunText(Kernel(R"(
wgmma.fence.sync.aligned;
setp.ne.b32 %p1, 0, 0;
wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16 {%r20,%r21,%r22,%r23}, %rd1, %rd2, %p1, 1, 1, 0, 0;
wgmma.commit_group.sync.aligned;
wgmma.wait_group.sync.aligned 0;)"),
                                        Of(64, 1), {0, 0});
  EXPECT_EQ(GetReason(outcome.status), Reason::kBarrierDivergence) << outcome.status;
}

}  // namespace
}  // namespace trun::device
