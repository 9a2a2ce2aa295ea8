#include "server/executor/runtime/executor_loop.h"

#include <sys/socket.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/executor/protocol/messages.h"
#include "server/executor/runtime/parameter_packing.h"

namespace trun {
namespace {

using internal::v1::ExecutorReply;
using internal::v1::ExecutorRequest;

constexpr uint32_t kMaxRepetitions = 10'000;
constexpr size_t kMaxPrinted = size_t{1} << 20;

absl::Status UnknownKernel(uint64_t kernel) {
  return NotFound(Reason::kHandle, absl::StrCat("no kernel ", kernel, " is loaded"));
}

absl::Status ContextLost(uint64_t sequence) {
  return MakeError(absl::StatusCode::kAborted, Reason::kContextLost,
                   absl::StrCat("launch ", sequence, " ended this executor; this launch did not run"),
                   {{"sequence", absl::StrCat(sequence)}});
}

}  // namespace

ExecutorLoop::ExecutorLoop(UniqueFd socket, const DeviceRegistry* devices, const ExecutorLoopOptions& options)
    : socket_(std::move(socket)), devices_(devices), options_(options) {}

ExecutorLoop::~ExecutorLoop() { Teardown(); }

absl::Status ExecutorLoop::Run() {
  const absl::Status status = Serve();
  Teardown();
  if (GetReason(status) == Reason::kExecutorLost) return absl::OkStatus();  // trund closed the connection
  return status;
}

absl::Status ExecutorLoop::Serve() {
  while (!shutdown_) {
    TRUN_RETURN_IF_ERROR(reader_.Receive(socket_.get(), true).status());
    CollectFinished();
    absl::string_view frame;
    while (!shutdown_ && reader_.Next(&frame)) TRUN_RETURN_IF_ERROR(HandleFrame(frame));
  }
  return absl::OkStatus();
}

absl::Status ExecutorLoop::HandleFrame(absl::string_view frame) {
  if (!request_.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
    return ProtocolError("a frame that is no ExecutorRequest");
  }
  return Handle(request_);
}

absl::Status ExecutorLoop::Handle(const ExecutorRequest& request) {
  const uint64_t id = request.request_id();
  if (device_ == nullptr && !request.has_hello() && !request.has_shutdown())
    return ProtocolError("no hello came first");
  switch (request.request_case()) {
    case ExecutorRequest::kHello:
      return HandleHello(id, request.hello());
    case ExecutorRequest::kMapArena:
      return HandleMapArena(id, request.map_arena());
    case ExecutorRequest::kCreateArena:
      return HandleCreateArena(id, request.create_arena());
    case ExecutorRequest::kMapForeign:
      return HandleMapForeign(id, request.map_foreign());
    case ExecutorRequest::kMapStaging:
      return HandleMapStaging(id, request.map_staging());
    case ExecutorRequest::kTransfer:
      return HandleTransfer(id, request.transfer());
    case ExecutorRequest::kUnmapStaging:
      return HandleUnmapStaging(id, request.unmap_staging());
    case ExecutorRequest::kFill: {
      const auto& fill = request.fill();
      Reply(id, device_->FillMemory(fill.address(), fill.bytes(), fill.pattern()));
      return absl::OkStatus();
    }
    case ExecutorRequest::kCopy:
      Reply(id, device_->CopyMemory(request.copy().to(), request.copy().from(), request.copy().bytes()));
      return absl::OkStatus();
    case ExecutorRequest::kUnmapArena:
      Reply(id, arenas_.erase(request.unmap_arena().arena()) == 1
                    ? absl::OkStatus()
                    : NotFound(Reason::kHandle, absl::StrCat("no arena ", request.unmap_arena().arena())));
      return absl::OkStatus();
    case ExecutorRequest::kAddAllocation: {
      const auto& add = request.add_allocation();
      Reply(id, add.id() >> 63 != 0
                    ? InvalidArgument(Reason::kArgument, "ids with the top bit set are the executor's")
                    : device_->AddAllocation(add.id(), add.address(), add.bytes()));
      return absl::OkStatus();
    }
    case ExecutorRequest::kRemoveAllocation: {
      const uint64_t allocation = request.remove_allocation().id();
      Reply(id, allocation >> 63 != 0
                    ? InvalidArgument(Reason::kArgument, "ids with the top bit set are the executor's")
                    : device_->RemoveAllocation(allocation));
      return absl::OkStatus();
    }
    case ExecutorRequest::kLoadKernel:
      return HandleLoadKernel(id, request.load_kernel());
    case ExecutorRequest::kUnloadKernel:
      // Launches in the stream hold the module: it goes when they are done.
      Reply(id, kernels_.erase(request.unload_kernel().kernel()) == 1
                    ? absl::OkStatus()
                    : UnknownKernel(request.unload_kernel().kernel()));
      return absl::OkStatus();
    case ExecutorRequest::kLaunch:
      return HandleLaunch(id, request.launch());
    case ExecutorRequest::kSynchronize:
      return HandleSynchronize(id);
    case ExecutorRequest::kShutdown:
      Reply(id, absl::OkStatus());
      shutdown_ = true;
      return absl::OkStatus();
    case ExecutorRequest::REQUEST_NOT_SET:
      break;
  }
  return ProtocolError("a request without a kind");
}

absl::Status ExecutorLoop::HandleHello(uint64_t id, const internal::v1::HelloRequest& hello) {
  if (hello.protocol_version() != kExecutorProtocolVersion) {
    Reply(id, FailedPrecondition(Reason::kProtocol,
                                 absl::StrCat("this executor speaks version ", kExecutorProtocolVersion,
                                              " of the protocol, not ", hello.protocol_version(),
                                              ": it is of another release than trund")));
    shutdown_ = true;
    return absl::OkStatus();
  }
  if (!session_.empty()) return ProtocolError("a second session for one executor");
  if (device_ == nullptr) {
    auto device = devices_->Open(hello.device());
    if (device.ok()) {
      auto stream = (*device)->CreateStream();
      if (!stream.ok()) {
        Reply(id, stream.status());
        return absl::OkStatus();
      }
      device_ = std::move(*device);
      transfers_ = std::make_unique<TransferQueue>(device_.get());
      stream_ = std::move(*stream);
      device_name_ = hello.device();
      ends_with_context_ = device_->info().kind == device::DeviceKind::kCuda;
      scratch_ =
          std::make_unique<ScratchPool>(device_.get(), options_.scratch_address, options_.scratch_limit);
    } else {
      Reply(id, device.status());
      return absl::OkStatus();
    }
  } else if (hello.device() != device_name_) {
    return ProtocolError("a second device for one executor");
  }
  session_ = hello.session();
  ExecutorReply reply;
  reply.set_request_id(id);
  EncodeDeviceInfo(device_->info(), reply.mutable_hello());
  Send(reply);
  return absl::OkStatus();
}

absl::Status ExecutorLoop::CheckArena(uint64_t arena, uint64_t bytes, uint64_t address) const {
  const uint64_t end = address + bytes;
  if (bytes == 0 || end < address ||
      (address < options_.scratch_address + options_.scratch_limit && options_.scratch_address < end)) {
    return InvalidArgument(Reason::kArgument, "an arena that is empty or lies where scratch does");
  }
  if (arenas_.count(arena) == 0) return absl::OkStatus();
  return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument,
                   absl::StrCat("arena ", arena, " is mapped already"));
}

absl::Status ExecutorLoop::HandleCreateArena(uint64_t id, const internal::v1::CreateArenaRequest& create) {
  absl::Status status = CheckArena(create.arena(), create.bytes(), create.address());
  UniqueFd memory;
  if (status.ok()) {
    absl::StatusOr<UniqueFd> made = device_->CreateMemory(create.bytes());
    status = made.status();
    if (made.ok()) memory = *std::move(made);
  }
  if (status.ok()) {
    auto arena = device_->MapArena(memory, create.bytes(), create.address());
    status = arena.status();
    if (arena.ok()) arenas_[create.arena()] = *std::move(arena);
  }
  if (!status.ok()) {
    Reply(id, status);
    return absl::OkStatus();
  }
  ExecutorReply reply;
  reply.set_request_id(id);
  reply.mutable_create_arena();
  Send(reply, memory.get());
  return absl::OkStatus();
}

absl::Status ExecutorLoop::HandleMapForeign(uint64_t id, const internal::v1::MapForeignRequest& map) {
  if (arenas_.count(map.arena()) != 0) {
    Reply(id, MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument,
                        absl::StrCat("arena ", map.arena(), " is mapped already")));
    return absl::OkStatus();
  }
  auto arena = device_->MapForeign(map.handle(), map.bytes());
  if (!arena.ok()) {
    Reply(id, arena.status());
    return absl::OkStatus();
  }
  ExecutorReply reply;
  reply.set_request_id(id);
  reply.mutable_map_foreign()->set_address((*arena)->address());
  arenas_[map.arena()] = *std::move(arena);
  Send(reply);
  return absl::OkStatus();
}

absl::Status ExecutorLoop::HandleMapStaging(uint64_t id, const internal::v1::MapStagingRequest& map) {
  const UniqueFd memory = reader_.TakeDescriptor();
  if (!memory.valid()) return ProtocolError("staging memory without its descriptor");
  const absl::Status taken =
      transfers_->Map(map.area(), memory, map.bytes(), [this, id](std::string unregistered) {
        ExecutorReply reply;
        reply.set_request_id(id);
        reply.mutable_map_staging()->set_unregistered(std::move(unregistered));
        Send(reply);
      });
  if (absl::IsInvalidArgument(taken)) return ProtocolError(taken.message());
  if (!taken.ok()) Reply(id, taken);
  return absl::OkStatus();
}

absl::Status ExecutorLoop::HandleTransfer(uint64_t id, const internal::v1::TransferRequest& transfer) {
  const TransferQueue::Range range = {transfer.area(), transfer.staging_offset(), transfer.bytes(),
                                      transfer.address(), transfer.to_device()};
  const absl::Status taken =
      transfers_->Transfer(range, [this, id](const absl::Status& status) { Reply(id, status); });
  // trund has checked the range: a peer that sends another one is not trund.
  return taken.ok() ? taken : ProtocolError(taken.message());
}

absl::Status ExecutorLoop::HandleUnmapStaging(uint64_t id, const internal::v1::UnmapStagingRequest& unmap) {
  const absl::Status taken =
      transfers_->Unmap(unmap.area(), [this, id](const absl::Status& status) { Reply(id, status); });
  if (!taken.ok()) Reply(id, taken);
  return absl::OkStatus();
}

absl::Status ExecutorLoop::HandleMapArena(uint64_t id, const internal::v1::MapArenaRequest& map) {
  const UniqueFd memory = reader_.TakeDescriptor();
  if (!memory.valid()) return ProtocolError("an arena without its descriptor");
  const absl::Status allowed = CheckArena(map.arena(), map.bytes(), map.address());
  if (!allowed.ok()) {
    Reply(id, allowed);
    return absl::OkStatus();
  }
  auto arena = device_->MapArena(memory, map.bytes(), map.address());
  if (arena.ok()) arenas_[map.arena()] = std::move(*arena);
  Reply(id, arena.status());
  return absl::OkStatus();
}

absl::Status ExecutorLoop::HandleLoadKernel(uint64_t id, const internal::v1::LoadKernelRequest& load) {
  if (kernels_.count(load.kernel()) != 0) {
    Reply(id, MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument,
                        absl::StrCat("kernel ", load.kernel(), " is loaded already")));
    return absl::OkStatus();
  }
  auto module = device_->LoadModule(load.image());
  if (!module.ok()) {
    Reply(id, module.status());
    return absl::OkStatus();
  }
  auto kernel = (*module)->GetKernel(load.name());
  if (!kernel.ok()) {
    Reply(id, kernel.status());
    return absl::OkStatus();
  }
  auto loaded = std::make_shared<LoadedKernel>();
  loaded->module = std::move(*module);
  loaded->kernel = *kernel;
  ExecutorReply reply;
  reply.set_request_id(id);
  EncodeKernelAttributes(loaded->kernel->attributes(), reply.mutable_load_kernel());
  kernels_[load.kernel()] = std::move(loaded);
  Send(reply);
  return absl::OkStatus();
}

absl::Status ExecutorLoop::HandleLaunch(uint64_t id, const internal::v1::LaunchRequest& launch) {
  const absl::Status started = StartLaunch(id, launch);
  if (GetReason(started) == Reason::kProtocol) return started;
  if (!started.ok()) Reply(id, started);
  return absl::OkStatus();
}

absl::Status ExecutorLoop::StartLaunch(uint64_t id, const internal::v1::LaunchRequest& launch) {
  TRUN_ASSIGN_OR_RETURN(const device::LaunchDimensions dimensions, DecodeDimensions(launch));
  TRUN_ASSIGN_OR_RETURN(const device::TraceOptions trace, DecodeTrace(launch));
  const uint32_t repetitions = std::max<uint32_t>(launch.repetitions(), 1);
  if (repetitions > kMaxRepetitions) return ProtocolError("too many repetitions");
  MutexLock submit(&submit_mu_);
  {
    MutexLock lock(&mu_);
    if (lost_by_.has_value()) return ContextLost(*lost_by_);
  }
  const auto it = kernels_.find(launch.kernel());
  if (it == kernels_.end()) return UnknownKernel(launch.kernel());
  CollectFinished();
  auto job = std::make_shared<Job>();
  job->request_id = id;
  job->sequence = launch.sequence();
  job->remaining = repetitions;
  job->kernel = it->second;
  const device::KernelAttributes& attributes = job->kernel->kernel->attributes();
  TRUN_ASSIGN_OR_RETURN(const int hidden, HiddenParameters(attributes, launch.arguments_size()));
  if (hidden >= 1) {
    TRUN_ASSIGN_OR_RETURN(job->global_scratch,
                          scratch_->Acquire(launch.global_scratch_bytes(), launch.global_scratch_align()));
  }
  if (hidden >= 2) {
    auto profile = scratch_->Acquire(launch.profile_scratch_bytes(), launch.profile_scratch_align());
    if (!profile.ok()) {
      scratch_->Release(job->global_scratch);
      return profile.status();
    }
    job->profile_scratch = *profile;
  }
  auto parameters = PackParameters(*device_, attributes, launch.arguments(), job->global_scratch.address,
                                   job->profile_scratch.address);
  if (!parameters.ok()) {
    scratch_->Release(job->global_scratch);
    scratch_->Release(job->profile_scratch);
    return parameters.status();
  }
  job->times_ns.reserve(repetitions);
  uint64_t number = 0;
  {
    MutexLock lock(&mu_);
    number = ++issued_;
    outstanding_.insert(number);
  }
  device::LaunchRequest request;
  request.kernel = job->kernel->kernel;
  request.dimensions = dimensions;
  request.parameters = *parameters;
  request.deadline = absl::Nanoseconds(static_cast<int64_t>(std::min<uint64_t>(
      launch.deadline_ns(), static_cast<uint64_t>(absl::ToInt64Nanoseconds(absl::Hours(24))))));
  request.own_time = repetitions > 1;
  request.checks = DecodeChecks(launch);
  request.unwritten = launch.checks().unwritten();
  request.trace = trace;
  for (uint32_t i = 0; i < repetitions; ++i) {
    stream_->Launch(request, [this, job, number, stream = stream_.get()](device::LaunchOutcome outcome) {
      OnRepetitionDone(job.get(), stream, std::move(outcome));
      if (job->remaining != 0) return;
      ReplyToLaunch(job.get());
      std::vector<uint64_t> synchronized;
      {
        MutexLock lock(&mu_);
        outstanding_.erase(number);
        finished_.push_back(job);
        const uint64_t done_before = outstanding_.empty() ? ~uint64_t{0} : *outstanding_.begin();
        std::erase_if(synchronizes_, [&](const auto& waiting) {
          if (waiting.first >= done_before) return false;
          synchronized.push_back(waiting.second);
          return true;
        });
      }
      for (const uint64_t request_id : synchronized) Reply(request_id, absl::OkStatus());
      EndIfLost();
    });
  }
  return absl::OkStatus();
}

// Repetitions of a job end one after the other: they are in one stream.
void ExecutorLoop::OnRepetitionDone(Job* job, device::Stream* stream, device::LaunchOutcome outcome) {
  --job->remaining;
  if (!job->outcome.status.ok()) return;  // an earlier repetition failed, and that is the result
  if (job->times_ns.empty()) job->printed = outcome.printed.substr(0, kMaxPrinted);
  if (outcome.status.ok()) {
    job->times_ns.push_back(static_cast<uint64_t>(absl::ToInt64Nanoseconds(outcome.statistics.device_time)));
    job->outcome = std::move(outcome);
    return;
  }
  if (outcome.context_lost || GetReason(outcome.status) == Reason::kHungKernel) {
    MutexLock submit(&submit_mu_);
    MutexLock lock(&mu_);
    if (!lost_by_.has_value()) {
      lost_by_ = job->sequence;
      job->context_lost = true;
      // A device that cannot cancel ends its launches by itself, or with this process.
      stream->Cancel().IgnoreError();
    }
  }
  {
    MutexLock lock(&mu_);
    if (lost_by_.has_value() && *lost_by_ != job->sequence) outcome.status = ContextLost(*lost_by_);
  }
  job->outcome = std::move(outcome);
}

void ExecutorLoop::ReplyToLaunch(Job* job) {
  ExecutorReply reply;
  reply.set_request_id(job->request_id);
  if (!job->outcome.status.ok()) EncodeStatus(job->outcome.status, reply.mutable_status());
  internal::v1::LaunchReply* const launch = reply.mutable_launch();
  launch->mutable_device_time_ns()->Add(job->times_ns.begin(), job->times_ns.end());
  launch->set_warp_instructions(job->outcome.statistics.warp_instructions);
  launch->set_printed(std::move(job->printed));
  launch->set_context_lost(job->context_lost);
  launch->set_trace(std::move(job->outcome.trace));
  if (!job->outcome.status.ok()) EncodeFault(job->outcome.fault, launch->mutable_fault());
  Send(reply);
}

absl::Status ExecutorLoop::HandleSynchronize(uint64_t id) {
  {
    MutexLock lock(&mu_);
    if (!outstanding_.empty()) {
      synchronizes_.emplace_back(issued_, id);
      return absl::OkStatus();
    }
  }
  Reply(id, absl::OkStatus());
  return absl::OkStatus();
}

void ExecutorLoop::Reply(uint64_t id, const absl::Status& status) {
  ExecutorReply reply;
  reply.set_request_id(id);
  if (!status.ok()) EncodeStatus(status, reply.mutable_status());
  Send(reply);
}

// The reader sees the end of the connection, and the process ends behind it.
void ExecutorLoop::EndIfLost() {
  if (!ends_with_context_) return;
  MutexLock lock(&mu_);
  if (lost_by_.has_value() && outstanding_.empty()) shutdown(socket_.get(), SHUT_RD);
}

void ExecutorLoop::Send(const ExecutorReply& reply, int descriptor) {
  MutexLock lock(&send_mu_);
  send_buffer_.clear();
  // A reply is at most 1 MiB of printed text and some fields; a peer that is gone is noticed by the reader.
  if (AppendFrame(reply, &send_buffer_).ok()) SendAll(socket_.get(), send_buffer_, descriptor).IgnoreError();
}

void ExecutorLoop::CollectFinished() {
  std::vector<std::shared_ptr<Job>> finished;
  {
    MutexLock lock(&mu_);
    finished.swap(finished_);
  }
  for (const std::shared_ptr<Job>& job : finished) {
    scratch_->Release(job->global_scratch);
    scratch_->Release(job->profile_scratch);
    job->kernel.reset();  // here and not wherever the device drops its callback: the module may go with it
  }
}

void ExecutorLoop::Teardown() {
  if (stream_ != nullptr && !stream_->Cancel().ok() && options_.abandon) {
    bool left_behind = false;
    {
      MutexLock lock(&mu_);
      left_behind = !outstanding_.empty();
    }
    if (left_behind) options_.abandon();
  }
  transfers_.reset();
  stream_.reset();
  CollectFinished();
  kernels_.clear();
  arenas_.clear();
  scratch_.reset();
  device_.reset();
}

}  // namespace trun
