// The fake driver's context, streams and events.
#ifndef TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_STREAMS_H_
#define TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_STREAMS_H_

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "common/base/mutex.h"

namespace trun::fake_cuda {

// The one context: what is mapped, what was printed and not yet shown, and the error that ended it. An error
// ends it until its last user has released it. Thread-safe.
class Context {
 public:
  static Context& Get();

  void Retain();
  void Release();
  CUresult error() const { return error_.load(); }
  void SetError(CUresult error);

  // Forgets the error, and unmaps what a lost context left behind; reserved addresses stay reserved.
  void Reset();

  void AddMapping(CUdeviceptr address, size_t bytes);
  void RemoveMapping(CUdeviceptr address);
  // Gives the pages behind a mapping back and keeps the addresses reserved. False: the kernel refused.
  static bool Unmap(uint64_t address, uint64_t bytes);
  bool Covers(CUdeviceptr address, size_t bytes);
  // Bit 0 of `device_sides`: the target is the device's, bit 1: the source.
  CUresult Copy(CUdeviceptr to, CUdeviceptr from, size_t bytes, int device_sides);

  // While held, kernels of streams do not begin.
  void Hold(bool held);
  void AwaitRelease();

  void Print(const std::string& text);
  // Writes what was printed to standard output (an assert's text too), as the driver does when it is waited
  // for.
  void ShowPrinted();
  CUresult Synchronize();

 private:
  std::atomic<CUresult> error_{CUDA_SUCCESS};
  Mutex mu_;
  CondVar changed_;
  bool held_ ABSL_GUARDED_BY(mu_) = false;
  int users_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<CUdeviceptr, size_t> mappings_ ABSL_GUARDED_BY(mu_);
  std::string printed_ ABSL_GUARDED_BY(mu_);
};

class Event {
 public:
  bool done() const { return done_.load(); }
  double milliseconds() const { return milliseconds_.load(); }
  void Reset() { done_.store(false); }
  void Happen();

 private:
  std::atomic<bool> done_{true};
  std::atomic<double> milliseconds_{0};
};

// Operations in order on a thread of their own. Nothing runs once the context has an error. Thread-safe.
class Stream {
 public:
  static Stream* Create();
  CUresult Push(std::function<CUresult()> operation);
  CUresult Record(Event* event);
  CUresult Synchronize();
  // Deletes it when it is idle; a stream whose kernel hangs stays.
  void Destroy();

 private:
  void Loop();

  Mutex mu_;
  CondVar changed_;
  std::deque<std::function<CUresult()>> queue_ ABSL_GUARDED_BY(mu_);
  bool running_ ABSL_GUARDED_BY(mu_) = false;
  bool ending_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace trun::fake_cuda

#endif  // TRUN_SERVER_DEVICE_CUDA_FAKE_DRIVER_FAKE_STREAMS_H_
