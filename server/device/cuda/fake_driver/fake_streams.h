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

  // Addresses of the device: `hint`, or where that is zero or taken, others. They are the host's too, so that
  // a test's program can look at its memory, unless the host has no room there. 0: there are none.
  CUdeviceptr Reserve(size_t bytes, CUdeviceptr hint);
  void FreeReservation(CUdeviceptr address);
  // Memory of a descriptor, in a reservation. False: the kernel refused.
  bool Map(CUdeviceptr address, size_t bytes, int fd);
  bool Unmap(CUdeviceptr address);
  // The device's memory at `address` lies at `host`, and is the caller's.
  void AddMapping(CUdeviceptr address, size_t bytes, char* host);
  void RemoveMapping(CUdeviceptr address);
  // Where the device's memory lies in this process; null where not all of it is mapped.
  char* Host(CUdeviceptr address, size_t bytes);

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
  struct Mapping {
    size_t bytes = 0;
    char* host = nullptr;
  };
  struct Reservation {
    size_t bytes = 0;
    bool of_host = false;
  };
  bool IsOfHost(CUdeviceptr address) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool UnmapLocked(CUdeviceptr address, const Mapping& mapping) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::map<CUdeviceptr, Reservation> reservations_ ABSL_GUARDED_BY(mu_);
  std::map<CUdeviceptr, Mapping> mappings_ ABSL_GUARDED_BY(mu_);
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
