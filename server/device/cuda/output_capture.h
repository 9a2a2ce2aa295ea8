#ifndef TRUN_SERVER_DEVICE_CUDA_OUTPUT_CAPTURE_H_
#define TRUN_SERVER_DEVICE_CUDA_OUTPUT_CAPTURE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "common/base/unique_fd.h"

namespace trun::device {

// Takes this process's standard output, to which the driver writes what kernels print (and its error output,
// where a failed assert is told), for as long as it lives. One at a time. Thread-safe.
class OutputCapture {
 public:
  // FAILED_PRECONDITION when no memory file can be made.
  static absl::StatusOr<std::unique_ptr<OutputCapture>> Start();
  ~OutputCapture();
  OutputCapture(const OutputCapture&) = delete;
  OutputCapture& operator=(const OutputCapture&) = delete;

  // What was written since the last call, at most 1 MiB of it.
  std::string Take();

 private:
  OutputCapture(UniqueFd file, UniqueFd out, UniqueFd error)
      : file_(std::move(file)), saved_out_(std::move(out)), saved_error_(std::move(error)) {}

  const UniqueFd file_;
  const UniqueFd saved_out_;
  const UniqueFd saved_error_;
  Mutex mu_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_CUDA_OUTPUT_CAPTURE_H_
