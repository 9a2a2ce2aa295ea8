#include "server/device/cuda/fake_driver/fake_streams.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <thread>
#include <utility>

namespace trun::fake_cuda {
namespace {

constexpr int kReserved = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

}  // namespace

Context& Context::Get() {
  static Context* const context = new Context;
  return *context;
}

void Context::Retain() {
  MutexLock lock(&mu_);
  ++users_;
}

void Context::Release() {
  MutexLock lock(&mu_);
  if (--users_ == 0) error_.store(CUDA_SUCCESS);
}

void Context::SetError(CUresult error) {
  CUresult none = CUDA_SUCCESS;
  error_.compare_exchange_strong(none, error);
}

void Context::Reset() {
  MutexLock lock(&mu_);
  for (const auto& [address, mapping] : mappings_) {
    if (!UnmapLocked(address, mapping)) std::abort();
  }
  mappings_.clear();
  printed_.clear();
  users_ = 0;
  held_ = false;
  changed_.SignalAll();
  error_.store(CUDA_SUCCESS);
}

CUdeviceptr Context::Reserve(size_t bytes, CUdeviceptr hint) {
  MutexLock lock(&mu_);
  const auto next = reservations_.lower_bound(hint);
  const bool is_free =
      hint != 0 && (next == reservations_.end() || next->first >= hint + bytes) &&
      (next == reservations_.begin() || std::prev(next)->first + std::prev(next)->second.bytes <= hint);
  void* const wanted = reinterpret_cast<void*>(is_free ? hint : 0);
  void* const at = mmap(wanted, bytes, PROT_NONE, kReserved, -1, 0);
  if (is_free && at != wanted) {  // the thread sanitizer has its own use for it
    if (at != MAP_FAILED) munmap(at, bytes);
    reservations_[hint] = {bytes, false};
    return hint;
  }
  if (at == MAP_FAILED) return 0;
  const auto address = reinterpret_cast<CUdeviceptr>(at);
  reservations_[address] = {bytes, true};
  return address;
}

void Context::FreeReservation(CUdeviceptr address) {
  MutexLock lock(&mu_);
  const auto it = reservations_.find(address);
  if (it == reservations_.end()) return;
  if (it->second.of_host) munmap(reinterpret_cast<void*>(address), it->second.bytes);
  reservations_.erase(it);
}

bool Context::IsOfHost(CUdeviceptr address) {
  const auto next = reservations_.upper_bound(address);
  if (next == reservations_.begin()) return false;
  const auto it = std::prev(next);
  return it->second.of_host && address - it->first < it->second.bytes;
}

bool Context::Map(CUdeviceptr address, size_t bytes, int fd) {
  MutexLock lock(&mu_);
  const bool of_host = IsOfHost(address);
  void* const at = mmap(of_host ? reinterpret_cast<void*>(address) : nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_SHARED | (of_host ? MAP_FIXED : 0), fd, 0);
  if (at == MAP_FAILED) return false;
  mappings_[address] = {bytes, static_cast<char*>(at)};
  return true;
}

bool Context::UnmapLocked(CUdeviceptr address, const Mapping& mapping) {
  if (!IsOfHost(address)) return munmap(mapping.host, mapping.bytes) == 0;
  return mmap(mapping.host, mapping.bytes, PROT_NONE, kReserved | MAP_FIXED, -1, 0) != MAP_FAILED;
}

bool Context::Unmap(CUdeviceptr address) {
  MutexLock lock(&mu_);
  const auto it = mappings_.find(address);
  if (it == mappings_.end()) return false;
  const Mapping mapping = it->second;
  mappings_.erase(it);
  return UnmapLocked(address, mapping);
}

void Context::AddMapping(CUdeviceptr address, size_t bytes, char* host) {
  MutexLock lock(&mu_);
  mappings_[address] = {bytes, host};
}

void Context::RemoveMapping(CUdeviceptr address) {
  MutexLock lock(&mu_);
  mappings_.erase(address);
}

char* Context::Host(CUdeviceptr address, size_t bytes) {
  MutexLock lock(&mu_);
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin()) return nullptr;
  --it;
  const uint64_t offset = address - it->first;
  const bool is_whole = offset <= it->second.bytes && bytes <= it->second.bytes - offset;
  return is_whole ? it->second.host + offset : nullptr;
}

void Context::Hold(bool held) {
  MutexLock lock(&mu_);
  held_ = held;
  changed_.SignalAll();
}

void Context::AwaitRelease() {
  MutexLock lock(&mu_);
  while (held_) changed_.Wait(&mu_);
}

void Context::Print(const std::string& text) {
  MutexLock lock(&mu_);
  printed_ += text;
}

void Context::ShowPrinted() {
  MutexLock lock(&mu_);
  std::fputs(std::exchange(printed_, "").c_str(), stdout);
  std::fflush(stdout);
}

CUresult Context::Synchronize() {
  ShowPrinted();
  return error();
}

void Event::Happen() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  milliseconds_.store(std::chrono::duration<double, std::milli>(now).count());
  done_.store(true);
}

Stream* Stream::Create() {
  auto* const stream = new Stream;
  std::thread([stream] { stream->Loop(); }).detach();
  return stream;
}

CUresult Stream::Push(std::function<CUresult()> operation) {
  MutexLock lock(&mu_);
  queue_.push_back(std::move(operation));
  changed_.SignalAll();
  return CUDA_SUCCESS;
}

CUresult Stream::Record(Event* event) {
  event->Reset();
  return Push([event] {
    event->Happen();
    return CUDA_SUCCESS;
  });
}

CUresult Stream::Synchronize() {
  {
    MutexLock lock(&mu_);
    while (!queue_.empty() || running_) changed_.Wait(&mu_);
  }
  Context::Get().ShowPrinted();
  return Context::Get().error();
}

void Stream::Destroy() {
  MutexLock lock(&mu_);
  ending_ = true;
  changed_.SignalAll();
}

void Stream::Loop() {
  mu_.Lock();
  while (true) {
    while (queue_.empty() && !ending_) changed_.Wait(&mu_);
    if (queue_.empty()) break;
    const std::function<CUresult()> operation = std::move(queue_.front());
    queue_.pop_front();
    running_ = true;
    mu_.Unlock();
    if (Context::Get().error() == CUDA_SUCCESS) {
      const CUresult result = operation();
      if (result != CUDA_SUCCESS) Context::Get().SetError(result);
    }
    mu_.Lock();
    running_ = false;
    changed_.SignalAll();
  }
  mu_.Unlock();
  delete this;
}

}  // namespace trun::fake_cuda
