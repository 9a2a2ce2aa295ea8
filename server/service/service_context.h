// What the services are given: where their calls go. They keep nothing themselves.
#ifndef TRUN_SERVER_SERVICE_SERVICE_CONTEXT_H_
#define TRUN_SERVER_SERVICE_SERVICE_CONTEXT_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/telemetry/metrics.h"
#include "server/cache/kernel_cache.h"
#include "server/compile/compile_pipeline.h"
#include "server/executor/control/executor_control.h"
#include "server/service/call_gate.h"
#include "server/service/call_pool.h"
#include "server/service/kernel_table.h"
#include "server/service/peer_directory.h"
#include "server/service/token_store.h"
#include "server/service/upload_store.h"
#include "server/session/session_registry.h"
#include "server/toolchain/toolchain_registry.h"

namespace trun {

// What GetServerInfo and OpenSession say of the daemon.
struct ServerFacts {
  std::string version;
  std::string socket;
  std::string descriptor_socket;
  std::string cache_path;
  std::string log_path;
  bool private_daemon = false;
  absl::Time started;  // of the Clock
};

// Plain; nothing in it is owned, and all of it outlives the services.
struct ServiceContext {
  SessionRegistry* sessions = nullptr;
  CompilePipeline* pipeline = nullptr;
  ToolchainRegistry* toolchains = nullptr;
  KernelCache* cache = nullptr;
  ExecutorFactory* executors = nullptr;
  const PeerDirectory* peers = nullptr;
  Metrics* metrics = nullptr;
  CallGate* gate = nullptr;
  CallPool* workers = nullptr;    // for calls that wait on an executor or a disk
  CallPool* compilers = nullptr;  // for calls that wait on a compile
  UploadStore* uploads = nullptr;
  TokenStore* tokens = nullptr;
  KernelTable* kernels = nullptr;
  std::atomic<uint64_t>* launches = nullptr;  // taken so far
  Clock* clock = nullptr;
  absl::Duration compile_deadline = absl::Seconds(120);  // where a Compile names none
  ServerFacts facts;
  std::string no_gpu_reason;  // why the daemon has no GPU; empty where it has one, or none was asked for
  // Starts the daemon's end and returns at once; zero: with the daemon's own drain deadline.
  std::function<void(absl::Duration)> drain;
};

}  // namespace trun

#endif  // TRUN_SERVER_SERVICE_SERVICE_CONTEXT_H_
