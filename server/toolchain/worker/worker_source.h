// The compile worker's Python source, built into the binary: what runs is always what this build was tested
// with.
#ifndef TRUN_SERVER_TOOLCHAIN_WORKER_WORKER_SOURCE_H_
#define TRUN_SERVER_TOOLCHAIN_WORKER_WORKER_SOURCE_H_

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace trun {

struct WorkerFile {
  absl::string_view path;  // relative to the folder that Python is started with
  absl::string_view text;
};

// Every file of the worker: __main__.py and the package trun_worker.
absl::Span<const WorkerFile> WorkerFiles();

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_WORKER_WORKER_SOURCE_H_
