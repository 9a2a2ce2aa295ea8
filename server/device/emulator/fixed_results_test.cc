// The result of a launch is a function of the launch: not of how many host threads run it, nor of the day.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

constexpr uint64_t kNull = 0;  // the scratch pointers of Triton 3.9

// Magnitudes from 2^-20 to 2^20: hardly two orders of adding them give the same sum.
std::vector<float> OrderMatters(size_t n) {
  std::mt19937 generator(5);
  std::uniform_real_distribution<float> mantissa(-1, 1);
  std::vector<float> values(n);
  for (float& value : values)
    value = std::ldexp(mantissa(generator), static_cast<int>(generator() % 41) - 20);
  return values;
}

std::string Kernel(const std::string& name) { return ReadTestData("ptx/" + name + ".sm80.ptx"); }

LaunchDimensions Dimensions(uint32_t programs, uint32_t threads) {
  LaunchDimensions dimensions;
  dimensions.grid = {programs, 1, 1};
  dimensions.block = {threads, 1, 1};
  dimensions.dynamic_shared_bytes = 4096;
  return dimensions;
}

using Words = std::vector<uint32_t>;

// What `run` gives with 1, 2 and 5 host threads, three times each; one result, when they agree.
Words SameWithAnyThreads(const std::function<Words(TestLauncher*)>& run) {
  Words first;
  for (int threads : {1, 2, 5}) {
    TestLauncher launcher(80, threads);
    for (int round = 0; round < 3; ++round) {
      const Words result = run(&launcher);
      if (first.empty()) first = result;
      EXPECT_EQ(result, first) << threads << " host threads, round " << round;
    }
  }
  EXPECT_FALSE(first.empty());
  return first;
}

Words Launch(TestLauncher* launcher, const std::string& ptx, const LaunchDimensions& dimensions,
             const TestParameters& parameters, const TestTensor& out) {
  const auto kernel = launcher->Load(ptx);
  if (!kernel.ok()) {
    ADD_FAILURE() << kernel.status();
    return {};
  }
  const LaunchOutcome outcome = launcher->Launch(*kernel, dimensions, parameters);
  EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  return launcher->Download<uint32_t>(out);
}

TEST(FixedResultsTest, AFloatSumOfAtomicsHasTheSameBits) {
  const int n = 80 * 256;
  const auto sum_of = [&](const std::vector<float>& x) {
    return SameWithAnyThreads([&](TestLauncher* launcher) {
      const TestTensor in = launcher->Upload(x), sum = launcher->Upload(std::vector<float>{0});
      return Launch(launcher, Kernel("atomic_sum"), Dimensions(80, 128),
                    TestParameters().Add(in).Add(sum).Add(n).Add(kNull).Add(kNull), sum);
    });
  };
  std::vector<float> x = OrderMatters(n);
  const Words forwards = sum_of(x);
  std::reverse(x.begin(), x.end());
  EXPECT_NE(forwards, sum_of(x)) << "these numbers add up to the same in every order: they show nothing";
}

TEST(FixedResultsTest, AHistogramOfAtomicsHasTheSameBits) {
  const int n = 80 * 256 - 3;
  std::vector<int32_t> x(n);
  for (int i = 0; i < n; ++i) x[i] = i * i % 7;
  const Words counts = SameWithAnyThreads([&](TestLauncher* launcher) {
    const TestTensor in = launcher->Upload(x), out = launcher->Upload(std::vector<int32_t>(7));
    return Launch(launcher, Kernel("histogram"), Dimensions(80, 128),
                  TestParameters().Add(in).Add(out).Add(n).Add(kNull).Add(kNull), out);
  });
  Words expected(7);
  for (int32_t value : x) ++expected[value];
  EXPECT_EQ(counts, expected);
}

TEST(FixedResultsTest, ProgramsLeaveAGridBarrierWithTheSameBits) {
  const int programs = 80;
  const Words out = SameWithAnyThreads([&](TestLauncher* launcher) {
    const TestTensor arrived = launcher->Upload(std::vector<int32_t>{0});
    const TestTensor result = launcher->Upload(std::vector<int32_t>(2 * programs));
    return Launch(launcher, Kernel("grid_barrier"), Dimensions(programs, 128),
                  TestParameters().Add(arrived).Add(result).Add(programs).Add(kNull).Add(kNull), result);
  });
  for (int i = 0; i < programs; ++i) {
    EXPECT_EQ(out[programs + i], static_cast<uint32_t>((i + 1) % programs + 1)) << i;
  }
}

// Whoever draws the last ticket adds up what the others have left: out[0] the sum, out[1 + i] program i's
// ticket.
const char kLastReduces[] = R"(
.version 8.4
.target sm_80
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 partial, .param .u64 counter, .param .u64 out)
{
  .reg .pred %p<4>; .reg .b32 %r<8>; .reg .f32 %f<4>; .reg .b64 %d<12>;
  ld.param.u64 %d1, [x]; ld.param.u64 %d2, [partial]; ld.param.u64 %d3, [counter]; ld.param.u64 %d4, [out];
  mov.u32 %r1, %ctaid.x; mov.u32 %r2, %nctaid.x;
  mul.wide.u32 %d5, %r1, 4;
  add.s64 %d6, %d1, %d5; ld.global.f32 %f1, [%d6]; mul.rn.f32 %f1, %f1, %f1;
  add.s64 %d7, %d2, %d5; st.global.f32 [%d7], %f1;
  fence.acq_rel.gpu;
  atom.global.add.u32 %r3, [%d3], 1;
  add.s64 %d8, %d4, %d5; st.global.u32 [%d8+4], %r3;
  add.u32 %r4, %r3, 1; setp.ne.u32 %p1, %r4, %r2; @%p1 bra $end;
  fence.acq_rel.gpu;
  mov.f32 %f2, 0f00000000; mov.u32 %r5, 0;
$next:
  add.u32 %r6, %r5, %r1; rem.u32 %r6, %r6, %r2; mul.wide.u32 %d9, %r6, 4; add.s64 %d9, %d2, %d9;
  ld.volatile.global.f32 %f3, [%d9]; add.rn.f32 %f2, %f2, %f3;
  add.u32 %r5, %r5, 1; setp.lt.u32 %p2, %r5, %r2; @%p2 bra $next;
  st.global.f32 [%d4], %f2;
$end:
  ret;
}
)";

TEST(FixedResultsTest, TheSameProgramDrawsTheLastTicketAndReduces) {
  const uint32_t programs = 80;
  const Words out = SameWithAnyThreads([&](TestLauncher* launcher) {
    const TestTensor x = launcher->Upload(OrderMatters(programs));
    const TestTensor partial = launcher->Allocate(programs * 4);
    const TestTensor counter = launcher->Upload(Words{0});
    const TestTensor result = launcher->Upload(Words(1 + programs));
    return Launch(launcher, kLastReduces, Dimensions(programs, 1),
                  TestParameters().Add(x).Add(partial).Add(counter).Add(result), result);
  });
  Words tickets(out.begin() + 1, out.end());
  std::sort(tickets.begin(), tickets.end());
  for (uint32_t i = 0; i < programs; ++i) EXPECT_EQ(tickets[i], i);
}

// Nothing here lets one program see another: they run side by side.
TEST(FixedResultsTest, ProgramsSideBySideGiveTheSameBits) {
  const int rows = 80, columns = 700;
  const Words out = SameWithAnyThreads([&](TestLauncher* launcher) {
    const TestTensor x = launcher->Upload(OrderMatters(rows * columns));
    const TestTensor result = launcher->Upload(std::vector<float>(rows * columns));
    return Launch(
        launcher, Kernel("row_softmax"), Dimensions(rows, 128),
        TestParameters().Add(result).Add(x).Add(columns).Add(columns).Add(columns).Add(kNull).Add(kNull),
        result);
  });
  EXPECT_EQ(out.size(), static_cast<size_t>(rows * columns));
}

}  // namespace
}  // namespace trun::device
