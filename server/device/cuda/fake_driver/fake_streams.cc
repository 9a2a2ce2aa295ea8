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

bool Context::Unmap(uint64_t address, uint64_t bytes) {
  return mmap(reinterpret_cast<void*>(address), bytes, PROT_NONE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
}

void Context::Reset() {
  MutexLock lock(&mu_);
  for (const auto& [address, bytes] : mappings_) {
    if (!Unmap(address, bytes)) std::abort();
  }
  mappings_.clear();
  printed_.clear();
  users_ = 0;
  held_ = false;
  changed_.SignalAll();
  error_.store(CUDA_SUCCESS);
}

void Context::AddMapping(CUdeviceptr address, size_t bytes) {
  MutexLock lock(&mu_);
  mappings_[address] = bytes;
}

void Context::RemoveMapping(CUdeviceptr address) {
  MutexLock lock(&mu_);
  mappings_.erase(address);
}

bool Context::Covers(CUdeviceptr address, size_t bytes) {
  MutexLock lock(&mu_);
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin()) return false;
  --it;
  const uint64_t offset = address - it->first;
  return offset <= it->second && bytes <= it->second - offset;
}

CUresult Context::Copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, int device_sides) {
  if ((device_sides & 1) != 0 && !Covers(to, bytes)) return CUDA_ERROR_ILLEGAL_ADDRESS;
  if ((device_sides & 2) != 0 && !Covers(from, bytes)) return CUDA_ERROR_ILLEGAL_ADDRESS;
  std::memcpy(reinterpret_cast<void*>(to), reinterpret_cast<const void*>(from), bytes);
  return CUDA_SUCCESS;
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
