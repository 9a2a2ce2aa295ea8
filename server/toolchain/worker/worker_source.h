// The compile worker's Python source, built into the binary: what runs is always what this build was tested
// with.
#ifndef TRUN_SERVER_TOOLCHAIN_WORKER_WORKER_SOURCE_H_
#define TRUN_SERVER_TOOLCHAIN_WORKER_WORKER_SOURCE_H_

#include "absl/strings/string_view.h"

namespace trun {

// The bytes of trun_worker.py.
absl::string_view WorkerSource();

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_WORKER_WORKER_SOURCE_H_
