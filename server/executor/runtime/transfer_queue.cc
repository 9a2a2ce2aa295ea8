#include "server/executor/runtime/transfer_queue.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

// One copies on the device while the other hands its next copy over.
constexpr int kThreads = 2;
constexpr size_t kMaxRefusal = 1024;

absl::Status NoSuchArea(uint64_t area) {
  return NotFound(Reason::kHandle, absl::StrCat("no staging area ", area));
}

}  // namespace

TransferQueue::TransferQueue(device::Device* device) : device_(device) {}

TransferQueue::~TransferQueue() {
  std::deque<Task> left;
  {
    MutexLock lock(&mu_);
    closing_ = true;
    left.swap(tasks_);
    changed_.SignalAll();
  }
  for (std::thread& thread : threads_) thread.join();
  const absl::Status cancelled =
      MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the executor ends");
  for (const Task& task : left) {
    if (task.mapped) task.mapped(std::string(cancelled.message()));
    if (task.done) task.done(cancelled);
  }
  MutexLock lock(&mu_);
  for (const auto& [number, area] : areas_) {
    if (area->pinned) device_->UnpinMemory(absl::MakeSpan(area->memory.data(), area->memory.bytes()));
  }
}

absl::Status TransferQueue::Map(uint64_t area, const UniqueFd& fd, uint64_t bytes,
                                std::function<void(std::string)> done) {
  struct stat facts{};
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (bytes == 0 || fstat(fd.get(), &facts) != 0 || static_cast<uint64_t>(facts.st_size) < bytes ||
      seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return InvalidArgument(Reason::kArgument, "staging memory that is too short or not sealed");
  }
  if (areas_.count(area) != 0) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("staging area ", area, " is there already"));
  }
  if (areas_.size() >= kMaxAreas) return ResourceExhausted(Reason::kQuota, "too many staging areas");
  auto made = std::make_shared<Area>();
  TRUN_ASSIGN_OR_RETURN(made->memory, device::MappedMemory::Map(fd, bytes));
  areas_[area] = made;
  while (threads_.size() < kThreads) threads_.emplace_back([this] { Work(); });
  Task task;
  task.kind = Task::Kind::kMap;
  task.area = std::move(made);
  task.mapped = std::move(done);
  Add(std::move(task));
  return absl::OkStatus();
}

absl::Status TransferQueue::Unmap(uint64_t area, std::function<void(absl::Status)> done) {
  const auto it = areas_.find(area);
  if (it == areas_.end()) return NoSuchArea(area);
  Task task;
  task.kind = Task::Kind::kUnmap;
  task.area = std::move(it->second);
  task.done = std::move(done);
  areas_.erase(it);
  Add(std::move(task));
  return absl::OkStatus();
}

absl::Status TransferQueue::Transfer(const Range& range, std::function<void(absl::Status)> done) {
  const auto it = areas_.find(range.area);
  if (it == areas_.end()) return NoSuchArea(range.area);
  const uint64_t size = it->second->memory.bytes();
  if (range.offset > size || range.bytes > size - range.offset) {
    return MakeError(absl::StatusCode::kOutOfRange, Reason::kArgument,
                     absl::StrCat(range.bytes, " bytes from byte ", range.offset,
                                  " on end past the staging area, which has ", size));
  }
  Task task;
  task.area = it->second;
  task.range = range;
  task.done = std::move(done);
  Add(std::move(task));
  return absl::OkStatus();
}

void TransferQueue::Add(Task task) {
  MutexLock lock(&mu_);
  tasks_.push_back(std::move(task));
  changed_.SignalAll();
}

bool TransferQueue::TakeTask(Task* task) {
  for (auto it = tasks_.begin(); it != tasks_.end(); ++it) {
    const bool may_run = it->kind == Task::Kind::kMap ||
                         (it->kind == Task::Kind::kTransfer && it->area->ready) ||
                         (it->kind == Task::Kind::kUnmap && it->area->ready && it->area->running == 0);
    if (!may_run) continue;
    *task = std::move(*it);
    tasks_.erase(it);
    if (task->kind == Task::Kind::kTransfer) ++task->area->running;
    return true;
  }
  return false;
}

void TransferQueue::Work() {
  while (true) {
    Task task;
    {
      MutexLock lock(&mu_);
      while (!closing_ && !TakeTask(&task)) changed_.Wait(&mu_);
      if (task.area == nullptr) return;
    }
    Run(task);
  }
}

void TransferQueue::Run(Task& task) {
  Area& area = *task.area;
  const absl::Span<char> memory = absl::MakeSpan(area.memory.data(), area.memory.bytes());
  if (task.kind == Task::Kind::kMap) {
    const absl::Status pinned = device_->PinMemory(memory);
    {
      MutexLock lock(&mu_);
      area.ready = true;
      area.pinned = pinned.ok();
      changed_.SignalAll();
    }
    task.mapped(std::string(pinned.message().substr(0, kMaxRefusal)));
    return;
  }
  if (task.kind == Task::Kind::kUnmap) {
    bool pinned = false;
    {
      MutexLock lock(&mu_);
      pinned = std::exchange(area.pinned, false);
    }
    if (pinned) device_->UnpinMemory(memory);
    task.area.reset();  // unmapped before anybody is told so
    task.done(absl::OkStatus());
    return;
  }
  const absl::Span<char> bytes = memory.subspan(task.range.offset, task.range.bytes);
  absl::Status status = task.range.to_device ? device_->WriteMemory(task.range.address, bytes)
                                             : device_->ReadMemory(task.range.address, bytes);
  {
    MutexLock lock(&mu_);
    --area.running;
    changed_.SignalAll();
  }
  task.done(std::move(status));
}

}  // namespace trun
