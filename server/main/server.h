// The daemon: makes everything, in order, and takes it apart in the order written at Run.
#ifndef TRUN_SERVER_MAIN_SERVER_H_
#define TRUN_SERVER_MAIN_SERVER_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/unique_fd.h"
#include "common/telemetry/metrics.h"
#include "server/cache/rocksdb/rocksdb_kernel_cache.h"
#include "server/cache/tiered_kernel_cache.h"
#include "server/executor/control/subprocess_executor_factory.h"
#include "server/main/connection_table.h"
#include "server/main/grpc_endpoint.h"
#include "server/main/instance_lock.h"
#include "server/main/server_options.h"
#include "server/main/unix_acceptor.h"
#include "server/service/service_context.h"
#include "server/toolchain/triton/triton_registry.h"

namespace trun {

// Thread-compatible: one thread makes it, runs it and destroys it.
class Server {
 public:
  // Listens and serves when this returns. REQUIRES: SIGTERM and SIGINT are blocked in every thread, SIGPIPE
  // is ignored; ResolveServerOptions was called. UNAVAILABLE: another daemon has the socket.
  // FAILED_PRECONDITION kCacheLocked: another daemon has the cache.
  static absl::StatusOr<std::unique_ptr<Server>> Create(const ServerOptions& options);
  ~Server();

  // Returns after SIGTERM, SIGINT, a Drain call, or when a private daemon has been idle for long enough; by
  // then
  //   1. health says NOT_SERVING and new work is refused, while clients still reach the daemon to be told so;
  //   2. running calls and launches have ended, or the drain deadline (or a second signal) has passed;
  //   3. sessions are closed, which ends their executors and returns their memory;
  //   4. nobody can connect any more, calls that are left are cancelled, compiles that are left are ended
  //   with their
  //      workers, and no thread of a pool runs.
  // The destructor then takes apart, in this order: services, registry of sessions, spare executors,
  // pipeline, toolchains with their workers, cache (closed clean), lock.
  void Run();

 private:
  explicit Server(const ServerOptions& options) : options_(options) {}
  absl::Status Start();
  absl::Status OpenStores();
  absl::Status StartExecutors();
  // The GPUs asked for. Where `auto` finds none, the reason stands in no_gpu_reason_.
  absl::StatusOr<std::vector<int>> ChooseGpus();
  absl::Status Listen();
  void AddMetrics();
  void RequestDrain(absl::Duration deadline);
  // One round of what is to be done every second; true when a private daemon is to end.
  bool Maintain();
  void CheckDevices();
  void WriteMetrics();
  void Drain(absl::Duration deadline);
  // Waits for a signal or a wake-up; true when there was a signal.
  bool WaitForSignal(absl::Duration timeout);

  const ServerOptions options_;
  // Constructed in this order, destroyed in the reverse.
  std::optional<InstanceLock> lock_;
  UniqueFd signals_;  // signalfd
  UniqueFd wake_;     // eventfd: somebody asked for the end
  std::unique_ptr<RocksDbKernelCache> disk_cache_;
  std::unique_ptr<TieredKernelCache> cache_;
  std::unique_ptr<TritonRegistry> toolchains_;
  std::unique_ptr<CompilePipeline> pipeline_;
  std::unique_ptr<SubprocessExecutorFactory> executors_;
  std::unique_ptr<SessionRegistry> sessions_;
  Metrics metrics_;
  CallGate gate_;
  std::unique_ptr<ConnectionTable> connections_;
  std::unique_ptr<UploadStore> uploads_;
  std::unique_ptr<TokenStore> tokens_;
  KernelTable kernels_;
  std::atomic<uint64_t> launches_{0};
  ServiceContext context_;
  std::unique_ptr<GrpcEndpoint> endpoint_;
  std::unique_ptr<CallPool> workers_;
  std::unique_ptr<CallPool> compilers_;
  std::unique_ptr<CallPool> exporters_;  // of the descriptor socket
  std::unique_ptr<UnixAcceptor> descriptor_acceptor_;
  std::unique_ptr<UnixAcceptor> acceptor_;

  std::atomic<int64_t> drain_request_ns_{-1};  // -1: nobody asked; 0: with the daemon's own deadline
  std::atomic<bool> checking_devices_{false};
  std::string no_gpu_reason_;
  absl::Time next_health_check_ = absl::InfinitePast();
  absl::Time last_busy_;
  absl::Time next_metrics_;
};

}  // namespace trun

#endif  // TRUN_SERVER_MAIN_SERVER_H_
