#include "server/executor/control/socket_executor.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "common/base/clock.h"
#include "common/base/status.h"
#include "server/executor/protocol/messages.h"

namespace trun {
namespace {

using internal::v1::ExecutorReply;
using internal::v1::ExecutorRequest;

constexpr size_t kMaxPrinted = size_t{1} << 20;
constexpr size_t kMaxRefusal = 1024;

bool IsPlain(const ExecutorReply& reply) { return reply.reply_case() == ExecutorReply::REPLY_NOT_SET; }
bool IsHello(const ExecutorReply& reply) { return reply.has_hello(); }
bool IsLoadKernel(const ExecutorReply& reply) { return reply.has_load_kernel(); }
bool IsCreateArena(const ExecutorReply& reply) { return reply.has_create_arena(); }
bool IsMapStaging(const ExecutorReply& reply) {
  return reply.has_map_staging() && reply.map_staging().unregistered().size() <= kMaxRefusal;
}
bool IsMapForeign(const ExecutorReply& reply) {
  return reply.has_map_foreign() && reply.map_foreign().address() != 0;
}
bool IsLaunch(const ExecutorReply& reply) { return reply.has_launch(); }

absl::Status Lost(absl::string_view what) { return Unavailable(Reason::kExecutorLost, what); }

absl::Status BehindLost(uint64_t sequence) {
  return MakeError(absl::StatusCode::kAborted, Reason::kContextLost,
                   absl::StrCat("launch ", sequence, " ended this executor; this launch did not run"),
                   {{"sequence", absl::StrCat(sequence)}});
}

ExecutorLaunchResult Failed(absl::Status status) {
  ExecutorLaunchResult result;
  result.status = std::move(status);
  return result;
}

}  // namespace

SocketExecutor::SocketExecutor(UniqueFd socket, std::unique_ptr<ExecutorHost> host,
                               const SocketExecutorOptions& options)
    : options_(options),
      socket_(std::move(socket)),
      host_(std::move(host)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      thread_([this] { Loop(); }) {}

SocketExecutor::~SocketExecutor() {
  {
    MutexLock lock(&mu_);
    stopping_ = true;
  }
  Wake();
  thread_.join();
}

absl::Status SocketExecutor::health() const {
  MutexLock lock(&mu_);
  return health_;
}

void SocketExecutor::OnLost(std::function<void(absl::Status)> callback) {
  MutexLock lock(&mu_);
  if (health_.ok()) {
    on_lost_.push_back(std::move(callback));
    return;
  }
  deferred_.push_back([callback = std::move(callback), status = health_] { callback(status); });
  Wake();
}

void SocketExecutor::Wake() {
  const uint64_t one = 1;
  (void)!write(wake_.get(), &one, sizeof(one));
}

absl::Status SocketExecutor::Flush() {
  while (!outgoing_.empty()) {
    Outgoing& first = outgoing_.front();
    const int descriptor = first.sent == 0 ? first.descriptor.get() : -1;
    TRUN_ASSIGN_OR_RETURN(
        const size_t sent,
        SendSome(socket_.get(), absl::string_view(first.bytes).substr(first.sent), descriptor));
    if (sent == 0) return absl::OkStatus();
    first.sent += sent;
    if (first.sent == first.bytes.size()) outgoing_.pop_front();
  }
  return absl::OkStatus();
}

absl::Status SocketExecutor::Post(ExecutorRequest* request, int descriptor, Pending pending) {
  if (ended_) return health_;
  const uint64_t id = next_request_++;
  request->set_request_id(id);
  buffer_.clear();
  TRUN_RETURN_IF_ERROR(AppendFrame(*request, &buffer_));
  UniqueFd duplicate;
  size_t sent = 0;
  bool broken = false;
  if (outgoing_.empty()) {
    const absl::StatusOr<size_t> now = SendSome(socket_.get(), buffer_, descriptor);
    // A peer that is gone is the reader's business: it fails what is pending, this request too.
    broken = !now.ok();
    if (now.ok()) sent = *now;
  }
  if (!broken && sent < buffer_.size()) {
    if (descriptor >= 0 && sent == 0) {
      duplicate.reset(fcntl(descriptor, F_DUPFD_CLOEXEC, 0));
      if (!duplicate.valid()) return FromErrno(errno, "keeping an arena's descriptor");
    }
    outgoing_.push_back({buffer_.substr(sent), 0, std::move(duplicate)});
    Wake();
  }
  if (pending.launch != nullptr) {
    if (launches_.empty()) head_since_ = Clock::Real()->Now();
    launches_.push_back(id);
    // The thread sleeps until the oldest launch is overdue; a first launch shortens that.
    if (launches_.size() == 1) Wake();
  }
  pending_.emplace(id, std::move(pending));
  return absl::OkStatus();
}

absl::Status SocketExecutor::Call(ExecutorRequest* request, int descriptor, Check check,
                                  absl::Duration timeout, Reply* reply, UniqueFd* received) {
  struct Waiting {
    Mutex mu;
    CondVar done;
    bool is_done ABSL_GUARDED_BY(mu) = false;
    absl::Status status ABSL_GUARDED_BY(mu);
    Reply reply ABSL_GUARDED_BY(mu);
    UniqueFd received ABSL_GUARDED_BY(mu);
  };
  auto waiting = std::make_shared<Waiting>();
  Pending pending;
  pending.check = check;
  pending.done = [waiting](absl::Status status, const Reply& answer, UniqueFd descriptor) {
    MutexLock lock(&waiting->mu);
    waiting->received = std::move(descriptor);
    waiting->status = std::move(status);
    waiting->reply = answer;
    waiting->is_done = true;
    waiting->done.SignalAll();
  };
  {
    MutexLock lock(&mu_);
    TRUN_RETURN_IF_ERROR(Post(request, descriptor, std::move(pending)));
  }
  const auto until = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(timeout);
  bool gave_up = false;
  MutexLock lock(&waiting->mu);
  while (!waiting->is_done) {
    if (gave_up) {
      waiting->done.Wait(&waiting->mu);
    } else if (!waiting->done.WaitUntil(&waiting->mu, until) && !waiting->is_done) {
      gave_up = true;
      MutexLock own(&mu_);
      if (give_up_.ok()) {
        give_up_ = Unavailable(Reason::kUnavailable,
                               absl::StrCat("it did not answer within ", absl::FormatDuration(timeout)));
      }
      Wake();
    }
  }
  *reply = std::move(waiting->reply);
  if (received != nullptr) *received = std::move(waiting->received);
  return waiting->status;
}

absl::Status SocketExecutor::Hello(absl::string_view device, absl::string_view session) {
  ExecutorRequest request;
  request.mutable_hello()->set_protocol_version(kExecutorProtocolVersion);
  request.mutable_hello()->set_device(std::string(device));
  request.mutable_hello()->set_session(std::string(session));
  Reply reply;
  TRUN_RETURN_IF_ERROR(Call(&request, -1, IsHello, options_.reply_timeout, &reply));
  TRUN_ASSIGN_OR_RETURN(info_, DecodeDeviceInfo(reply.hello()));
  return absl::OkStatus();
}

absl::Status SocketExecutor::MapArena(uint64_t arena, const UniqueFd& fd, uint64_t bytes, uint64_t address) {
  ExecutorRequest request;
  request.mutable_map_arena()->set_arena(arena);
  request.mutable_map_arena()->set_bytes(bytes);
  request.mutable_map_arena()->set_address(address);
  Reply reply;
  return Call(&request, fd.get(), IsPlain, options_.reply_timeout, &reply);
}

absl::Status SocketExecutor::UnmapArena(uint64_t arena) {
  ExecutorRequest request;
  request.mutable_unmap_arena()->set_arena(arena);
  Reply reply;
  return Call(&request, -1, IsPlain, options_.reply_timeout, &reply);
}

absl::StatusOr<UniqueFd> SocketExecutor::CreateArena(uint64_t arena, uint64_t bytes, uint64_t address) {
  ExecutorRequest request;
  request.mutable_create_arena()->set_arena(arena);
  request.mutable_create_arena()->set_bytes(bytes);
  request.mutable_create_arena()->set_address(address);
  Reply reply;
  UniqueFd memory;
  TRUN_RETURN_IF_ERROR(Call(&request, -1, IsCreateArena, options_.load_timeout, &reply, &memory));
  return memory;
}

absl::StatusOr<uint64_t> SocketExecutor::MapForeign(uint64_t arena, absl::string_view handle,
                                                    uint64_t bytes) {
  ExecutorRequest request;
  request.mutable_map_foreign()->set_arena(arena);
  request.mutable_map_foreign()->set_bytes(bytes);
  request.mutable_map_foreign()->set_handle(std::string(handle));
  Reply reply;
  TRUN_RETURN_IF_ERROR(Call(&request, -1, IsMapForeign, options_.load_timeout, &reply));
  return reply.map_foreign().address();
}

void SocketExecutor::MapStaging(uint64_t area, const UniqueFd& fd, uint64_t bytes,
                                std::function<void(absl::StatusOr<std::string>)> done) {
  ExecutorRequest request;
  request.mutable_map_staging()->set_bytes(bytes);
  request.mutable_map_staging()->set_area(area);
  Pending pending;
  pending.check = IsMapStaging;
  pending.done = [done](absl::Status status, const Reply& reply, UniqueFd) {
    if (!status.ok()) {
      done(std::move(status));
    } else {
      done(reply.map_staging().unregistered());
    }
  };
  MutexLock lock(&mu_);
  absl::Status posted = Post(&request, fd.get(), std::move(pending));
  if (posted.ok()) {
    NoteTransfer(request.request_id());
    return;
  }
  deferred_.push_back([done = std::move(done), posted = std::move(posted)] { done(posted); });
  Wake();
}

void SocketExecutor::UnmapStaging(uint64_t area, std::function<void(absl::Status)> done) {
  ExecutorRequest request;
  request.mutable_unmap_staging()->set_area(area);
  MutexLock lock(&mu_);
  const uint64_t id = PostPlain(&request, std::move(done));
  if (id != 0) NoteTransfer(id);
}

void SocketExecutor::Transfer(const StagingRange& range, uint64_t address, bool to_device,
                              std::function<void(absl::Status)> done) {
  ExecutorRequest request;
  internal::v1::TransferRequest* const transfer = request.mutable_transfer();
  transfer->set_address(address);
  transfer->set_bytes(range.bytes);
  transfer->set_area(range.area);
  transfer->set_staging_offset(range.offset);
  transfer->set_to_device(to_device);
  MutexLock lock(&mu_);
  const uint64_t id = PostPlain(&request, std::move(done));
  if (id != 0) NoteTransfer(id);
}

void SocketExecutor::NoteTransfer(uint64_t request) {
  transfers_[request] = Clock::Real()->Now() + options_.load_timeout;
  Wake();  // the thread sleeps until something is overdue
}

absl::Status SocketExecutor::Fill(uint64_t address, uint64_t bytes, absl::string_view pattern) {
  ExecutorRequest request;
  request.mutable_fill()->set_address(address);
  request.mutable_fill()->set_bytes(bytes);
  request.mutable_fill()->set_pattern(std::string(pattern));
  Reply reply;
  return Call(&request, -1, IsPlain, options_.load_timeout, &reply);
}

absl::Status SocketExecutor::Copy(uint64_t to, uint64_t from, uint64_t bytes) {
  ExecutorRequest request;
  request.mutable_copy()->set_to(to);
  request.mutable_copy()->set_from(from);
  request.mutable_copy()->set_bytes(bytes);
  Reply reply;
  return Call(&request, -1, IsPlain, options_.load_timeout, &reply);
}

absl::Status SocketExecutor::AddAllocation(uint64_t id, uint64_t address, uint64_t bytes) {
  ExecutorRequest request;
  request.mutable_add_allocation()->set_id(id);
  request.mutable_add_allocation()->set_address(address);
  request.mutable_add_allocation()->set_bytes(bytes);
  Reply reply;
  return Call(&request, -1, IsPlain, options_.reply_timeout, &reply);
}

absl::Status SocketExecutor::RemoveAllocation(uint64_t id) {
  ExecutorRequest request;
  request.mutable_remove_allocation()->set_id(id);
  Reply reply;
  return Call(&request, -1, IsPlain, options_.reply_timeout, &reply);
}

absl::StatusOr<device::KernelAttributes> SocketExecutor::LoadKernel(uint64_t kernel, absl::string_view image,
                                                                    absl::string_view name) {
  ExecutorRequest request;
  request.mutable_load_kernel()->set_kernel(kernel);
  request.mutable_load_kernel()->set_image(std::string(image));
  request.mutable_load_kernel()->set_name(std::string(name));
  Reply reply;
  TRUN_RETURN_IF_ERROR(Call(&request, -1, IsLoadKernel, options_.load_timeout, &reply));
  absl::StatusOr<device::KernelAttributes> attributes = DecodeKernelAttributes(reply.load_kernel());
  if (!attributes.ok()) {
    MutexLock lock(&mu_);
    if (give_up_.ok()) give_up_ = attributes.status();
    Wake();
    return Lost(attributes.status().message());
  }
  return attributes;
}

absl::Status SocketExecutor::UnloadKernel(uint64_t kernel) {
  ExecutorRequest request;
  request.mutable_unload_kernel()->set_kernel(kernel);
  Reply reply;
  return Call(&request, -1, IsPlain, options_.reply_timeout, &reply);
}

void SocketExecutor::Launch(ExecutorLaunch launch, std::function<void(ExecutorLaunchResult)> done) {
  const uint32_t repetitions = std::max<uint32_t>(launch.repetitions, 1);
  ExecutorRequest request;
  internal::v1::LaunchRequest* const out = request.mutable_launch();
  out->set_sequence(launch.sequence);
  out->set_kernel(launch.kernel);
  EncodeDimensions(launch.dimensions, out);
  for (ExecutorArgument& argument : launch.arguments) {
    if (const uint64_t* address = std::get_if<uint64_t>(&argument)) {
      out->add_arguments()->set_address(*address);
    } else if (const auto* map = std::get_if<device::TensorMapFields>(&argument)) {
      EncodeTensorMap(*map, out->add_arguments()->mutable_tensor_map());
    } else {
      out->add_arguments()->set_scalar(std::move(std::get<std::string>(argument)));
    }
  }
  out->set_global_scratch_bytes(launch.global_scratch_bytes);
  out->set_global_scratch_align(launch.global_scratch_align);
  out->set_profile_scratch_bytes(launch.profile_scratch_bytes);
  out->set_profile_scratch_align(launch.profile_scratch_align);
  out->set_deadline_ns(
      static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Nanoseconds(launch.deadline), 0)));
  out->set_repetitions(repetitions);
  EncodeWatch(launch.checks, launch.unwritten, launch.trace, out);

  Pending pending;
  pending.check = IsLaunch;
  pending.launch = std::make_unique<PendingLaunch>();
  pending.launch->sequence = launch.sequence;
  pending.launch->repetitions = repetitions;
  pending.launch->budget = launch.deadline * repetitions + options_.hang_grace;
  pending.launch->done = done;
  MutexLock lock(&mu_);
  absl::Status posted = Post(&request, -1, std::move(pending));
  if (posted.ok()) return;
  deferred_.push_back([done = std::move(done), posted = std::move(posted)] { done(Failed(posted)); });
  Wake();
}

void SocketExecutor::Synchronize(std::function<void(absl::Status)> done) {
  ExecutorRequest request;
  request.mutable_synchronize();
  MutexLock lock(&mu_);
  PostPlain(&request, std::move(done));
}

uint64_t SocketExecutor::PostPlain(ExecutorRequest* request, std::function<void(absl::Status)> done) {
  Pending pending;
  pending.check = IsPlain;
  pending.done = [done](absl::Status status, const Reply&, UniqueFd) { done(std::move(status)); };
  absl::Status posted = Post(request, -1, std::move(pending));
  if (posted.ok()) return request->request_id();
  deferred_.push_back([done = std::move(done), posted = std::move(posted)] { done(posted); });
  Wake();
  return 0;
}

absl::Duration SocketExecutor::UntilHang() {
  if (launches_.empty()) return absl::InfiniteDuration();
  const auto it = pending_.find(launches_.front());
  if (it == pending_.end()) return absl::InfiniteDuration();
  return head_since_ + it->second.launch->budget - Clock::Real()->Now();
}

absl::Duration SocketExecutor::UntilTransferIsOverdue() {
  if (transfers_.empty()) return absl::InfiniteDuration();
  const absl::Duration left = transfers_.begin()->second - Clock::Real()->Now();
  if (left <= absl::ZeroDuration() && give_up_.ok()) {
    give_up_ = Unavailable(Reason::kUnavailable, absl::StrCat("it did not move bytes within ",
                                                              absl::FormatDuration(options_.load_timeout)));
  }
  return left;
}

void SocketExecutor::Loop() {
  while (true) {
    RunDeferred();
    absl::Duration left;
    short events = POLLIN;
    bool ended = false;
    absl::Status give_up;
    {
      MutexLock lock(&mu_);
      if (stopping_) break;
      ended = ended_;
      left = std::min(UntilHang(), UntilTransferIsOverdue());
      give_up = give_up_;
      if (!outgoing_.empty()) events |= POLLOUT;
    }
    if (!ended && (!give_up.ok() || left <= absl::ZeroDuration())) {
      EndAndFailAll(give_up, give_up.ok());
      continue;
    }
    pollfd ready[2] = {{wake_.get(), POLLIN, 0}, {ended ? -1 : socket_.get(), events, 0}};
    int timeout = -1;
    if (left < absl::Hours(24)) {
      timeout = static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(left, absl::Milliseconds(1))));
    }
    if (poll(ready, 2, timeout) < 0 && errno != EINTR) break;
    if ((ready[0].revents & POLLIN) != 0) {
      uint64_t count = 0;
      (void)!read(wake_.get(), &count, sizeof(count));
    }
    if (ended || ready[1].revents == 0) continue;
    absl::Status status = absl::OkStatus();
    if ((ready[1].revents & ~POLLOUT) != 0) {
      const absl::StatusOr<bool> some = reader_.Receive(socket_.get(), false);
      status = some.status();
      absl::string_view frame;
      while (status.ok() && reader_.Next(&frame)) status = HandleReply(frame);
    }
    if (status.ok() && (ready[1].revents & POLLOUT) != 0) {
      MutexLock lock(&mu_);
      status = Flush();
    }
    if (!status.ok()) EndAndFailAll(status, false);
  }
  EndAndFailAll(MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the session ended"), false);
  RunDeferred();
}

absl::Status SocketExecutor::HandleReply(absl::string_view frame) {
  Reply reply;
  if (!reply.ParseFromArray(frame.data(), static_cast<int>(frame.size()))) {
    return ProtocolError("a frame that is no ExecutorReply");
  }
  absl::Status said;
  TRUN_RETURN_IF_ERROR(DecodeStatus(reply.status(), &said));
  Pending pending;
  {
    MutexLock lock(&mu_);
    const auto it = pending_.find(reply.request_id());
    if (it == pending_.end())
      return ProtocolError(absl::StrCat("an answer to request ", reply.request_id(), ", which is none"));
    if (said.ok() ? !it->second.check(reply)
                  : reply.reply_case() != Reply::REPLY_NOT_SET && !it->second.check(reply)) {
      return ProtocolError("an answer of another kind than its request");
    }
    pending = std::move(it->second);
    pending_.erase(it);
    transfers_.erase(reply.request_id());
    if (pending.launch != nullptr) {
      launches_.erase(std::find(launches_.begin(), launches_.end(), reply.request_id()));
      head_since_ = Clock::Real()->Now();
    }
  }
  if (pending.launch != nullptr) return FinishLaunch(reply, std::move(said), pending.launch.get());
  UniqueFd descriptor;
  if (reply.has_create_arena()) {
    descriptor = reader_.TakeDescriptor();
    if (!descriptor.valid()) {
      said = Lost("the executor made an arena and sent no descriptor of it");
      pending.done(said, reply, UniqueFd());
      return ProtocolError("an arena without its descriptor");
    }
  }
  pending.done(std::move(said), reply, std::move(descriptor));
  return absl::OkStatus();
}

absl::Status SocketExecutor::FinishLaunch(const Reply& reply, absl::Status status, PendingLaunch* launch) {
  ExecutorLaunchResult result;
  result.status = std::move(status);
  const internal::v1::LaunchReply& in = reply.launch();
  absl::Status bad = absl::OkStatus();
  const auto times = static_cast<uint64_t>(in.device_time_ns_size());
  if (result.status.ok() ? times != launch->repetitions : times > launch->repetitions) {
    bad = ProtocolError(absl::StrCat(times, " device times for ", launch->repetitions, " repetitions"));
  } else if (in.printed().size() > kMaxPrinted) {
    bad = ProtocolError("too much printed text");
  } else if (in.trace().size() > device::kMaxTraceBytes) {
    bad = ProtocolError("too long a trace");
  } else if (!result.status.ok() && in.has_fault()) {
    absl::StatusOr<device::FaultReport> fault = DecodeFault(in.fault());
    if (fault.ok()) {
      result.fault = *std::move(fault);
    } else {
      bad = fault.status();
    }
  }
  if (!bad.ok()) {
    launch->done(Failed(Lost(
        absl::StrCat("the executor's answer to launch ", launch->sequence, " is broken: ", bad.message()))));
    return bad;
  }
  constexpr uint64_t kMaxNanoseconds = std::numeric_limits<int64_t>::max();
  for (const uint64_t nanoseconds : in.device_time_ns()) {
    result.device_times.push_back(
        absl::Nanoseconds(static_cast<int64_t>(std::min(nanoseconds, kMaxNanoseconds))));
  }
  result.warp_instructions = in.warp_instructions();
  result.printed = in.printed();
  result.trace = in.trace();
  std::vector<std::function<void(absl::Status)>> on_lost;
  absl::Status health;
  if (in.context_lost()) {
    MutexLock lock(&mu_);
    MarkLost(MakeError(absl::StatusCode::kAborted, Reason::kContextLost,
                       absl::StrCat("launch ", launch->sequence, " ended the executor's context")));
    on_lost.swap(on_lost_);
    health = health_;
  }
  launch->done(std::move(result));
  for (const auto& callback : on_lost) callback(health);
  return absl::OkStatus();
}

void SocketExecutor::MarkLost(absl::Status status) {
  if (health_.ok()) health_ = std::move(status);
}

// `hung`: the oldest launch is overdue. Ends the host; everything pending fails, the oldest launch as the one
// that did it and the others as not run.
void SocketExecutor::EndAndFailAll(const absl::Status& why, bool hung) {
  {
    MutexLock lock(&mu_);
    if (ended_) return;
  }
  const std::string end = host_->End(/*gone=*/GetReason(why) == Reason::kExecutorLost);
  const bool stopped = absl::IsCancelled(why);
  std::map<uint64_t, Pending> pending;
  std::vector<std::function<void(absl::Status)>> on_lost;
  absl::Status health;
  std::optional<uint64_t> culprit;
  {
    MutexLock lock(&mu_);
    ended_ = true;
    pending.swap(pending_);
    if (!launches_.empty() && health_.ok()) culprit = pending.at(launches_.front()).launch->sequence;
    launches_.clear();
    transfers_.clear();
    outgoing_.clear();
    std::string what = absl::StrCat("the executor ended (", end, ")");
    if (hung) {
      what = absl::StrCat("the executor did not end launch ", *culprit, " at its deadline and was killed");
    } else if (!why.ok() && GetReason(why) != Reason::kExecutorLost) {
      what = absl::StrCat("the executor was killed: ", why.message());
    }
    MarkLost(stopped ? why : Lost(what));
    on_lost.swap(on_lost_);
    health = health_;
  }
  for (auto& [id, request] : pending) {
    if (request.launch == nullptr) {
      request.done(stopped ? why : health, Reply(), UniqueFd());
      continue;
    }
    const uint64_t sequence = request.launch->sequence;
    absl::Status status = health;
    if (stopped) {
      status = why;
    } else if (culprit.has_value() && sequence != *culprit) {
      status = BehindLost(*culprit);
    } else if (hung) {
      status =
          DeadlineExceeded(Reason::kHungKernel, absl::StrCat("launch ", sequence,
                                                             " passed its deadline, and its executor did "
                                                             "not answer any more and was killed"));
    } else if (culprit.has_value()) {
      status = Annotate(health, absl::StrCat("in launch ", sequence));
    }
    request.launch->done(Failed(std::move(status)));
  }
  for (const auto& callback : on_lost) callback(health);
}

void SocketExecutor::RunDeferred() {
  std::vector<std::function<void()>> deferred;
  {
    MutexLock lock(&mu_);
    deferred.swap(deferred_);
  }
  for (const auto& callback : deferred) callback();
}

}  // namespace trun
