// The executor's side of the protocol: serves one connection from trund until it ends.
#ifndef TRUN_SERVER_EXECUTOR_RUNTIME_EXECUTOR_LOOP_H_
#define TRUN_SERVER_EXECUTOR_RUNTIME_EXECUTOR_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"
#include "server/device/device.h"
#include "server/executor/protocol/frame_stream.h"
#include "server/executor/runtime/device_registry.h"
#include "server/executor/runtime/scratch_pool.h"
#include "server/executor/runtime/transfer_queue.h"
#include "trun/internal/v1/executor.pb.h"

namespace trun {

struct ExecutorLoopOptions {
  uint64_t scratch_address = 0x4800'0000'0000;  // above every arena of a session
  uint64_t scratch_limit = uint64_t{4} << 30;
  // Called when the peer has left launches behind on a device that cannot cancel them: ends the process.
  // Where there is none, their ends are waited for.
  std::function<void()> abandon;
};

// One device context. Run is called once; it returns when the peer is gone or asks for the end (OK), or
// breaks the protocol (DATA_LOSS kProtocol). By then every launch is cancelled and done, and everything is
// unmapped.
//
// Frames are handled on the calling thread; launches go straight into the device's stream, so that one that
// is queued sees the allocations as they were when its frame arrived. Replies of launches are sent by the
// device's threads. On a device that cannot go on after a fault (CUDA) the loop ends once every launch is
// answered, so that the process ends and leaves the device to others.
class ExecutorLoop {
 public:
  // `devices` must outlive the loop.
  ExecutorLoop(UniqueFd socket, const DeviceRegistry* devices, const ExecutorLoopOptions& options);
  ~ExecutorLoop();
  ExecutorLoop(const ExecutorLoop&) = delete;
  ExecutorLoop& operator=(const ExecutorLoop&) = delete;

  absl::Status Run();

 private:
  struct LoadedKernel {
    std::unique_ptr<device::Module> module;
    const device::Kernel* kernel = nullptr;
  };
  // One launch frame: `remaining` repetitions are still in the stream.
  struct Job {
    uint64_t request_id = 0;
    uint64_t sequence = 0;
    uint32_t remaining = 0;
    std::shared_ptr<LoadedKernel> kernel;
    ScratchPool::Block global_scratch;
    ScratchPool::Block profile_scratch;
    device::LaunchOutcome outcome;  // of the first repetition that failed, else of the last
    std::string printed;            // of the first repetition
    std::vector<uint64_t> times_ns;
    bool context_lost = false;
  };

  absl::Status Serve();
  absl::Status HandleFrame(absl::string_view frame);
  absl::Status Handle(const internal::v1::ExecutorRequest& request);
  absl::Status HandleHello(uint64_t id, const internal::v1::HelloRequest& hello);
  absl::Status HandleMapArena(uint64_t id, const internal::v1::MapArenaRequest& map);
  // Why an arena may not lie there; OK when it may.
  absl::Status CheckArena(uint64_t arena, uint64_t bytes, uint64_t address) const;
  absl::Status HandleCreateArena(uint64_t id, const internal::v1::CreateArenaRequest& create);
  absl::Status HandleMapForeign(uint64_t id, const internal::v1::MapForeignRequest& map);
  absl::Status HandleMapStaging(uint64_t id, const internal::v1::MapStagingRequest& map);
  absl::Status HandleTransfer(uint64_t id, const internal::v1::TransferRequest& transfer);
  absl::Status HandleUnmapStaging(uint64_t id, const internal::v1::UnmapStagingRequest& unmap);
  absl::Status HandleLoadKernel(uint64_t id, const internal::v1::LoadKernelRequest& load);
  absl::Status HandleLaunch(uint64_t id, const internal::v1::LaunchRequest& launch);
  absl::Status StartLaunch(uint64_t id, const internal::v1::LaunchRequest& launch);
  absl::Status HandleSynchronize(uint64_t id);
  void OnRepetitionDone(Job* job, device::Stream* stream, device::LaunchOutcome outcome);
  void ReplyToLaunch(Job* job);
  void Reply(uint64_t id, const absl::Status& status);
  void Send(const internal::v1::ExecutorReply& reply, int descriptor = -1);
  void EndIfLost();
  void CollectFinished();
  void Teardown();

  const UniqueFd socket_;
  const DeviceRegistry* const devices_;
  const ExecutorLoopOptions options_;

  // The calling thread's.
  FrameReader reader_{true};
  bool shutdown_ = false;
  bool ends_with_context_ = false;
  std::string device_name_;
  std::string session_;
  internal::v1::ExecutorRequest request_;  // kept: its memory is used again

  Mutex send_mu_;
  std::string send_buffer_ ABSL_GUARDED_BY(send_mu_);

  // Held while a launch goes into the stream and while a launch ends the context, so that none slips in
  // between the two. Before mu_.
  Mutex submit_mu_;
  Mutex mu_ ABSL_ACQUIRED_AFTER(submit_mu_);
  uint64_t issued_ ABSL_GUARDED_BY(mu_) = 0;
  std::set<uint64_t> outstanding_ ABSL_GUARDED_BY(mu_);  // numbers from issued_
  std::vector<std::pair<uint64_t, uint64_t>> synchronizes_
      ABSL_GUARDED_BY(mu_);                               // (issued before, request id)
  std::optional<uint64_t> lost_by_ ABSL_GUARDED_BY(mu_);  // sequence of the launch that ended the context
  std::vector<std::shared_ptr<Job>> finished_ ABSL_GUARDED_BY(mu_);  // kernels and scratch to let go of

  // The calling thread's, in the order in which they may come to life; destroyed by Teardown.
  std::unique_ptr<device::Device> device_;
  std::unique_ptr<TransferQueue> transfers_;
  std::unique_ptr<ScratchPool> scratch_;
  std::map<uint64_t, std::unique_ptr<device::Arena>> arenas_;
  std::map<uint64_t, std::shared_ptr<LoadedKernel>> kernels_;
  std::unique_ptr<device::Stream> stream_;
};

}  // namespace trun

#endif  // TRUN_SERVER_EXECUTOR_RUNTIME_EXECUTOR_LOOP_H_
