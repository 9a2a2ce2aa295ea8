#include "server/executor/control/canary/canary.h"

#include <memory>
#include <string>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "server/executor/control/canary/canary_cubins.h"

namespace trun {
namespace {

constexpr uint64_t kCanaryNumber = ~uint64_t{0} >> 1;  // no session counts its kernels so far
constexpr uint64_t kScratchBytes = 128;

// canary.ptx
constexpr char kCanaryPtx[] = R"(.version 6.4
.target sm_75
.address_size 64

.visible .entry canary(.param .u32 seed, .param .u64 scratch)
.reqntid 32, 1, 1
{
  .reg .pred %p<2>;
  .reg .b32 %r<6>;
  .reg .b64 %rd<4>;
  ld.param.u32 %r1, [seed];
  ld.param.u64 %rd1, [scratch];
  mov.u32 %r2, %tid.x;
  add.s32 %r3, %r2, 1;
  mul.lo.s32 %r4, %r1, %r3;
  mul.wide.u32 %rd2, %r2, 4;
  add.s64 %rd3, %rd1, %rd2;
  st.volatile.global.u32 [%rd3], %r4;
  ld.volatile.global.u32 %r5, [%rd3];
  setp.eq.s32 %p1, %r4, %r5;
  @%p1 bra $done;
  trap;
$done:
  ret;
}
)";

// Empty where there is none for the device.
absl::string_view ImageFor(const device::DeviceInfo& info) {
  if (info.module_level == Level::kPtx) return kCanaryPtx;
  absl::string_view image;
  for (const CanaryCubin& cubin : kCanaryCubins) {
    if (cubin.arch / 10 == info.target.arch / 10 && cubin.arch <= info.target.arch) {
      image = absl::string_view(reinterpret_cast<const char*>(cubin.bytes), cubin.size);
    }
  }
  return image;
}

struct Result {
  Mutex mu;
  CondVar changed;
  bool done ABSL_GUARDED_BY(mu) = false;
  absl::Status status ABSL_GUARDED_BY(mu);
};

}  // namespace

absl::Status RunCanary(ExecutorControl* executor, absl::Duration deadline) {
  const absl::string_view image = ImageFor(executor->device_info());
  if (image.empty()) return executor->health();
  TRUN_RETURN_IF_ERROR(executor->LoadKernel(kCanaryNumber, image, "canary").status());
  ExecutorLaunch launch;
  launch.sequence = kCanaryNumber;
  launch.kernel = kCanaryNumber;
  launch.dimensions.block = {32, 1, 1};
  launch.arguments = {std::string("\x0b\0\0\0", 4)};
  launch.global_scratch_bytes = kScratchBytes;
  launch.deadline = deadline;
  auto result = std::make_shared<Result>();
  executor->Launch(std::move(launch), [result](ExecutorLaunchResult outcome) {
    MutexLock lock(&result->mu);
    result->status = std::move(outcome.status);
    result->done = true;
    result->changed.SignalAll();
  });
  {
    // Called in any case: the executor's own fence around a hang is behind the deadline.
    MutexLock lock(&result->mu);
    while (!result->done) result->changed.Wait(&result->mu);
    TRUN_RETURN_IF_ERROR(Annotate(result->status, "the canary launch failed"));
  }
  return executor->UnloadKernel(kCanaryNumber);
}

}  // namespace trun
