#include "server/main/server.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "common/rpc/descriptor_socket.h"
#include "common/rpc/limits.h"
#include "common/rpc/runtime_directory.h"
#include "common/telemetry/log.h"
#include "server/executor/control/canary/canary.h"
#include "server/main/child_processes.h"
#include "server/main/gpu_probe.h"
#include "server/toolchain/frontend/zygote_frontend.h"

namespace trun {
namespace {

constexpr size_t kWorkerThreads = 128;
constexpr size_t kCompilerThreads = 128;
constexpr size_t kExporterThreads = 8;
constexpr size_t kMaxQueuedCalls = 4096;
constexpr size_t kMaxQueuedExports = 256;
constexpr size_t kMaxConnections = 1024;
constexpr uint64_t kCacheMemoryBytes = uint64_t{256} << 20;
constexpr uint64_t kMaxUploadedBytes = uint64_t{1} << 30;
constexpr absl::Duration kTick = absl::Seconds(1);
constexpr absl::Duration kMetricsPeriod = absl::Seconds(10);
constexpr absl::Duration kHealthPeriod = absl::Seconds(30);
constexpr absl::Duration kCanaryDeadline = absl::Seconds(10);
// How long a daemon that drains waits for the next call of a client whose work has ended: to read its
// results.
constexpr absl::Duration kReadingPause = absl::Milliseconds(500);
// How long it waits for the next message of a stream on which nothing runs: a Write that goes on comes to its
// end, one that is only held open does not hold the drain.
constexpr absl::Duration kStreamPause = absl::Milliseconds(250);
// How long calls that are cut may take to tell their clients.
constexpr absl::Duration kFarewell = absl::Milliseconds(500);
constexpr char kVersion[] = TRUN_VERSION;

// Sessions keep descriptors (an arena, a socket each); the soft limit is often 1,024.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) LogWarning("the limit of open files could not be raised");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Server>> Server::Create(const ServerOptions& options) {
  std::unique_ptr<Server> server(new Server(options));
  TRUN_RETURN_IF_ERROR(server->Start());
  return server;
}

absl::Status Server::Start() {
  TRUN_ASSIGN_OR_RETURN(lock_, InstanceLock::Take(DaemonLockPath(options_.socket)));
  TRUN_RETURN_IF_ERROR(InitLog(options_.log_file, options_.log_level));
  LogInfo(absl::StrCat("trund ", kVersion, " starts as process ", getpid(), " on ", options_.socket));
  RaiseDescriptorLimit();
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGTERM);
  sigaddset(&ends, SIGINT);
  signals_ = UniqueFd(signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK));
  wake_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!signals_.valid() || !wake_.valid()) return FromErrno(errno, "making a signalfd and an eventfd");
  TRUN_RETURN_IF_ERROR(OpenStores());
  TRUN_RETURN_IF_ERROR(StartExecutors());
  return Listen();
}

absl::Status Server::OpenStores() {
  RocksDbKernelCacheOptions cache;
  cache.path = absl::StrCat(options_.cache_dir, "/kernels");
  cache.limit_bytes = options_.cache_limit;
  TRUN_ASSIGN_OR_RETURN(disk_cache_, RocksDbKernelCache::Open(cache));
  cache_ = std::make_unique<TieredKernelCache>(disk_cache_.get(), kCacheMemoryBytes);

  TritonRegistryOptions toolchains;
  toolchains.toolchain_directories = options_.toolchain_dirs;
  toolchains.state_directory = absl::StrCat(options_.cache_dir, "/toolchains");
  toolchains.scratch_directory = absl::StrCat(options_.cache_dir, "/scratch");
  toolchains.python = options_.python;
  toolchains.max_workers = options_.compile_workers;
  toolchains.memory_limit_bytes = options_.compile_memory;
  toolchains.make_frontend =
      [this, scratch = toolchains.scratch_directory](
          const std::string& python) -> absl::StatusOr<std::shared_ptr<SourceFrontend>> {
    ZygoteFrontendOptions frontend;
    frontend.python = python;
    frontend.scratch_directory = scratch;
    frontend.max_zygotes = options_.compile_workers;
    frontend.allow_unconfined = options_.allow_unconfined_frontend;
    return ZygoteFrontend::Create(frontend);
  };
  TRUN_ASSIGN_OR_RETURN(toolchains_, TritonRegistry::Create(toolchains));

  CompilePipelineOptions pipeline;
  pipeline.max_ir_bytes = kMaxFileBytes;
  pipeline.max_metadata_bytes = kMaxMetadataJsonBytes;
  pipeline.default_deadline = options_.compile_deadline;
  pipeline_ = std::make_unique<CompilePipeline>(cache_.get(), toolchains_.get(), Clock::Real(), pipeline);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int>> Server::ChooseGpus() {
  bool all = false, must = false;
  std::vector<int> gpus;
  for (absl::string_view device : options_.devices) {
    int number = 0;
    all = all || device == "auto" || device == "cuda";
    must = must || device == "cuda";
    if (absl::ConsumePrefix(&device, "cuda:") && absl::SimpleAtoi(device, &number)) gpus.push_back(number);
  }
  must = must || !gpus.empty();
  if (!all && !must) return gpus;
  const absl::StatusOr<int> count = ProbeGpus(options_.executor, options_.libcuda);
  if (!count.ok()) {
    if (must) return count.status();
    no_gpu_reason_ = std::string(count.status().message());
    return gpus;
  }
  for (const int gpu : gpus) {
    if (gpu < *count) continue;
    return FailedPrecondition(Reason::kArgument, absl::StrCat("--devices names cuda:", gpu,
                                                              "; the driver shows ", *count, " GPUs"));
  }
  for (int gpu = 0; all && gpu < *count; ++gpu) {
    if (std::find(gpus.begin(), gpus.end(), gpu) == gpus.end()) gpus.push_back(gpu);
  }
  return gpus;
}

absl::Status Server::StartExecutors() {
  SubprocessExecutorFactoryOptions executors;
  executors.canary = [](ExecutorControl* executor) { return RunCanary(executor, kCanaryDeadline); };
  TRUN_ASSIGN_OR_RETURN(const std::vector<int> gpus, ChooseGpus());
  for (const int gpu : gpus) {
    executors.devices.push_back(CudaExecutorCommand(options_.executor, gpu, options_.libcuda));
  }
  const auto& wanted = options_.devices;
  const bool emulate = std::find(wanted.begin(), wanted.end(), "auto") != wanted.end() ||
                       std::find(wanted.begin(), wanted.end(), "emulator") != wanted.end();
  for (size_t i = 0; emulate && i < options_.emulators.size(); ++i) {
    executors.devices.push_back(EmulatorExecutorCommand(options_.executor, static_cast<int>(i),
                                                        options_.emulators[i], options_.emulator_threads, 0));
  }
  TRUN_ASSIGN_OR_RETURN(executors_, SubprocessExecutorFactory::Create(executors));
  SessionRegistryOptions sessions;
  sessions.max_sessions = options_.max_sessions;
  sessions.max_sessions_per_tenant = std::min(sessions.max_sessions_per_tenant, options_.max_sessions);
  sessions.tenant_memory_bytes = options_.memory_limit;
  sessions.default_device = executors.devices.front().device;
  sessions_ = SessionRegistry::Create(sessions, executors_.get(), Clock::Real());
  return absl::OkStatus();
}

absl::Status Server::Listen() {
  Clock* const clock = Clock::Real();
  connections_ = std::make_unique<ConnectionTable>(geteuid());
  uploads_ = std::make_unique<UploadStore>(
      UploadLimits{kMaxFileBytes, kMaxUploadedBytesPerTenant, kMaxUploadedBytes}, clock);
  tokens_ = std::make_unique<TokenStore>(clock);
  workers_ = std::make_unique<CallPool>("calls", kWorkerThreads, kMaxQueuedCalls);
  compilers_ = std::make_unique<CallPool>("compiles", kCompilerThreads, kMaxQueuedCalls);
  exporters_ = std::make_unique<CallPool>("exports", kExporterThreads, kMaxQueuedExports);

  context_.sessions = sessions_.get();
  context_.pipeline = pipeline_.get();
  context_.toolchains = toolchains_.get();
  context_.cache = cache_.get();
  context_.executors = executors_.get();
  context_.peers = connections_.get();
  context_.metrics = &metrics_;
  context_.gate = &gate_;
  context_.workers = workers_.get();
  context_.compilers = compilers_.get();
  context_.uploads = uploads_.get();
  context_.tokens = tokens_.get();
  context_.kernels = &kernels_;
  context_.launches = &launches_;
  context_.clock = clock;
  context_.compile_deadline = options_.compile_deadline;
  context_.facts = {kVersion,           options_.socket,   DescriptorSocketPath(options_.socket),
                    options_.cache_dir, options_.log_file, options_.private_daemon,
                    clock->Now()};
  context_.no_gpu_reason = no_gpu_reason_;
  context_.drain = [this](absl::Duration deadline) { RequestDrain(deadline); };
  AddMetrics();
  TRUN_ASSIGN_OR_RETURN(endpoint_, GrpcEndpoint::Create(context_));
  endpoint_->SetServing(true);
  CheckDevices();

  TRUN_ASSIGN_OR_RETURN(
      descriptor_acceptor_,
      UnixAcceptor::Start(
          context_.facts.descriptor_socket, false, [this](UniqueFd accepted, const PeerCredentials& peer) {
            auto connection = std::make_shared<UniqueFd>(std::move(accepted));
            // A connection that finds the queue full is closed: its client asks again.
            exporters_
                ->Submit([this, connection, peer] {
                  absl::StatusOr<DescriptorRequest> request = ReadDescriptorRequest(connection->get());
                  if (!request.ok()) return;
                  if (request->deposited.valid()) {
                    std::vector<UniqueFd> given;
                    given.push_back(std::move(request->deposited));
                    const absl::Status told =
                        SendToken(connection->get(), tokens_->Put(peer.uid, std::move(given)));
                    if (!told.ok()) LogWarning(absl::StrCat("a deposit failed: ", told.message()));
                    return;
                  }
                  const absl::StatusOr<std::vector<UniqueFd>> held = tokens_->Take(request->token, peer.uid);
                  std::vector<int> numbers;
                  if (held.ok()) {
                    for (const UniqueFd& fd : *held) numbers.push_back(fd.get());
                  }
                  const absl::Status sent = SendDescriptors(connection->get(), held.status(), numbers);
                  if (!sent.ok()) LogWarning(absl::StrCat("an export failed: ", sent.message()));
                })
                .IgnoreError();
          }));
  TRUN_ASSIGN_OR_RETURN(
      acceptor_,
      UnixAcceptor::Start(options_.socket, true, [this](UniqueFd connection, const PeerCredentials& peer) {
        if (connections_->Sweep() >= kMaxConnections) {
          return LogWarning(absl::StrCat("a connection of user ", peer.uid, " was closed: ", kMaxConnections,
                                         " are open already"));
        }
        if (connections_->Add(connection.get(), peer).ok()) endpoint_->Serve(std::move(connection));
      }));
  LogInfo(absl::StrCat("serving; cache ", options_.cache_dir));
  // Looked at beside: a session, a launch, a kernel in PTX need none. What does waits.
  TRUN_RETURN_IF_ERROR(
      workers_->Submit([this] { LogInfo(absl::StrCat(toolchains_->List().size(), " toolchains found")); }));
  if (options_.ready_fd >= 0) {
    UniqueFd ready(options_.ready_fd);
    if (write(ready.get(), "R", 1) != 1) LogWarning("nobody reads the ready descriptor");
  }
  return absl::OkStatus();
}

void Server::AddMetrics() {
  const auto gauge = [this](const char* name, const char* help, std::function<double()> read) {
    metrics_.AddValue(Metrics::Kind::kGauge, name, help, std::move(read));
  };
  const auto counter = [this](const char* name, const char* help, std::function<double()> read) {
    metrics_.AddValue(Metrics::Kind::kCounter, name, help, std::move(read));
  };
  gauge("trun_sessions", "Open sessions", [this] { return sessions_->open_sessions(); });
  gauge("trun_connections", "Open connections", [this] { return connections_->Sweep(); });
  gauge("trun_calls", "Calls under way", [this] { return gate_.in_flight(); });
  counter("trun_launches_total", "Launches taken", [this] { return launches_.load(); });
  counter("trun_compiles_total", "Compiles asked for", [this] { return pipeline_->Statistics().requests; });
  counter("trun_compiles_cached_total", "Compiles answered from the cache",
          [this] { return pipeline_->Statistics().cached; });
  counter("trun_compiles_failed_total", "Compiles that failed",
          [this] { return pipeline_->Statistics().failed; });
  counter("trun_stages_total", "Stages run by toolchains",
          [this] { return pipeline_->Statistics().stages_run; });
  gauge("trun_cache_entries", "Entries of the cache", [this] { return cache_->Statistics().entries; });
  gauge("trun_cache_disk_bytes", "Bytes of the cache's folder",
        [this] { return cache_->Statistics().disk_bytes; });
  counter("trun_cache_hits_total", "Hits of the cache", [this] { return cache_->Statistics().hits; });
  counter("trun_cache_misses_total", "Misses of the cache", [this] { return cache_->Statistics().misses; });
  counter("trun_cache_healed_total", "Damaged entries that became misses",
          [this] { return cache_->Statistics().healed; });
  counter("trun_cache_evicted_total", "Entries evicted", [this] { return cache_->Statistics().evicted; });
}

void Server::RequestDrain(absl::Duration deadline) {
  drain_request_ns_.store(absl::ToInt64Nanoseconds(deadline));
  const uint64_t one = 1;
  while (write(wake_.get(), &one, sizeof(one)) < 0 && errno == EINTR) {
  }
}

bool Server::WaitForSignal(absl::Duration timeout) {
  std::array<pollfd, 2> waited = {{{signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
  poll(waited.data(), waited.size(), static_cast<int>(absl::ToInt64Milliseconds(timeout)));
  uint64_t count;
  while (read(wake_.get(), &count, sizeof(count)) > 0) {
  }
  bool signalled = false;
  signalfd_siginfo info;
  while (read(signals_.get(), &info, sizeof(info)) == sizeof(info)) {
    LogInfo(absl::StrCat("signal ", info.ssi_signo, " from process ", info.ssi_pid));
    signalled = true;
  }
  return signalled;
}

void Server::CheckDevices() {
  if (checking_devices_.exchange(true)) return;
  const bool look = Clock::Real()->Now() >= next_health_check_;
  if (look) next_health_check_ = Clock::Real()->Now() + kHealthPeriod;
  // Waits for the first spare executor of each device: not on this thread, which listens for signals.
  const absl::Status taken = workers_->Submit([this, look] {
    if (look) executors_->CheckHealth();
    for (const ExecutorFactory::DeviceDescription& device : executors_->Devices()) {
      endpoint_->SetDeviceServing(device.device, device.usable.ok());
    }
    checking_devices_.store(false);
  });
  if (!taken.ok()) checking_devices_.store(false);
}

void Server::WriteMetrics() {
  if (options_.metrics_file.empty() || Clock::Real()->Now() < next_metrics_) return;
  next_metrics_ = Clock::Real()->Now() + kMetricsPeriod;
  const absl::Status written = metrics_.WriteFile(options_.metrics_file);
  if (!written.ok()) LogWarning(absl::StrCat("the metrics file: ", written.message()));
}

bool Server::Maintain() {
  tokens_->DropExpired();
  CheckDevices();
  WriteMetrics();
  const absl::Time now = Clock::Real()->Now();
  if (connections_->Sweep() > 0 || sessions_->open_sessions() > 0 || gate_.in_flight() > 0) last_busy_ = now;
  return options_.private_daemon && now - last_busy_ >= options_.idle_timeout;
}

void Server::Run() {
  last_busy_ = Clock::Real()->Now();
  absl::Duration deadline = options_.drain_deadline;
  while (true) {
    if (WaitForSignal(std::min(kTick, std::max(options_.idle_timeout, absl::Milliseconds(10))))) break;
    const int64_t asked = drain_request_ns_.load();
    if (asked >= 0) {
      LogInfo("a client asked for the end");
      if (asked > 0) deadline = absl::Nanoseconds(asked);
      break;
    }
    if (Maintain()) {
      LogInfo(absl::StrCat("idle for ", absl::FormatDuration(options_.idle_timeout), ": ending"));
      break;
    }
  }
  Drain(deadline);
}

void Server::Drain(absl::Duration deadline) {
  Clock* const clock = Clock::Real();
  absl::Time cut = clock->Now() + deadline;
  LogInfo(absl::StrCat("draining, for ", absl::FormatDuration(deadline), " at most"));
  gate_.StartDraining();
  sessions_->StartDraining();
  endpoint_->SetServing(false);
  uint64_t calls = 0;
  absl::Time quiet_since = clock->Now();
  while (clock->Now() < cut) {
    gate_.EndIdleCalls(kStreamPause);
    const bool idle =
        gate_.WaitIdle(absl::Milliseconds(50)) && sessions_->WaitForLaunches(absl::ZeroDuration());
    if (!idle || gate_.entered() != calls) quiet_since = clock->Now();
    calls = gate_.entered();
    const bool read = clock->Now() - quiet_since >= kReadingPause || sessions_->open_sessions() == 0 ||
                      connections_->Sweep() == 0;
    if (idle && read) break;
    if (WaitForSignal(absl::Milliseconds(10))) cut = clock->Now();
  }
  gate_.Cut();
  sessions_->Drain(absl::ZeroDuration());
  acceptor_->Stop();
  descriptor_acceptor_->Stop();
  {
    // Work past its deadline, or whose client has gone, ends with the process that does it.
    std::optional<ChildReaper> reaper;
    if (gate_.in_flight() > 0) LogWarning(absl::StrCat(gate_.in_flight(), " calls are cut"));
    if (workers_->unfinished() + compilers_->unfinished() > 0) reaper.emplace();
    gate_.WaitIdle(kFarewell);
    endpoint_->Shutdown(absl::ZeroDuration());
    workers_->Shutdown();
    compilers_->Shutdown();
    exporters_->Shutdown();
  }
  next_metrics_ = absl::InfinitePast();
  WriteMetrics();
  LogInfo("drained");
}

Server::~Server() {
  // After a failed start; all of it has happened already after Run.
  acceptor_.reset();
  descriptor_acceptor_.reset();
  if (endpoint_ != nullptr) endpoint_->Shutdown(absl::ZeroDuration());
  for (CallPool* pool : {workers_.get(), compilers_.get(), exporters_.get()}) {
    if (pool != nullptr) pool->Shutdown();
  }
  endpoint_.reset();
}

}  // namespace trun
