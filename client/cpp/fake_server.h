// A daemon of the wire format alone, in this process: keeps real tensors, answers what a test tells it to,
// remembers what it was asked. For tests of the client library.
#ifndef TRUN_CLIENT_CPP_FAKE_SERVER_H_
#define TRUN_CLIENT_CPP_FAKE_SERVER_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "trun/v1/compile.pb.h"
#include "trun/v1/device.pb.h"
#include "trun/v1/launch.pb.h"

namespace trun {

// Thread-safe. Serves gRPC on `socket_path` and descriptors on `socket_path`.fds until it is destroyed.
class FakeServer {
 public:
  using TensorBytes = absl::Span<char>;

  explicit FakeServer(const std::string& socket_path);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  // The next calls of that method ("Launch", "OpenSession", ...) end with `status`; OK takes it back.
  void Fail(const std::string& method, const absl::Status& status);
  // What Compile and ListDevices answer.
  void SetKernel(const v1::CompiledKernel& kernel);
  void SetDevice(const v1::DeviceInfo& device);
  // What a launch does with the tensors it names, in the order of its arguments.
  void OnLaunch(std::function<void(const v1::LaunchRequest&, const std::vector<TensorBytes>&)> launch);
  // A device whose memory cannot be mapped: sessions name no descriptor socket.
  void SetMappable(bool mappable);
  void SetLease(int milliseconds);

  int Calls(const std::string& method) const;
  v1::CompileRequest LastCompile() const;
  v1::LaunchRequest LastLaunch() const;
  int live_tensors() const;
  int live_sessions() const;
  int live_kernels() const;

 private:
  struct State;
  struct Services;
  std::unique_ptr<State> state_;
  std::unique_ptr<Services> services_;
};

}  // namespace trun

#endif  // TRUN_CLIENT_CPP_FAKE_SERVER_H_
