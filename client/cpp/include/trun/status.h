// What every fallible call of the client library returns, and how to read it.
//
// A non-OK absl::Status carries, beside code and message, the server's reason (GetReason), its named details
// (GetDetails: "line", "argument", "limit", ...) and, where a kernel stopped, a FaultReport (GetFaultReport).
// All functions are thread-safe.
#ifndef TRUN_CLIENT_STATUS_H_
#define TRUN_CLIENT_STATUS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/status.h"

namespace trun {
inline namespace client {

// The other half of a report that speaks of two instructions: trun.v1.OtherAccess.
struct OtherAccess {
  std::string role;  // "earlier write", "earlier read", ...; empty: there is none
  std::string instruction;
  uint32_t ptx_line = 0;
  std::string source_file;
  uint32_t source_line = 0;
  std::vector<uint32_t> program;  // x, y, z
  std::vector<uint32_t> thread;   // x, y, z
};

// Where and why a kernel stopped: trun.v1.FaultReport. Unknown fields are zero or empty.
struct FaultReport {
  uint64_t sequence = 0;  // the launch that did it
  std::string kernel_name;
  std::string instruction;
  uint32_t ptx_line = 0;
  std::string source_file;
  uint32_t source_line = 0;
  std::vector<uint32_t> program;  // x, y, z
  std::vector<uint32_t> thread;   // x, y, z
  uint64_t address = 0;
  uint32_t access_bytes = 0;
  std::string space;  // "global", "shared", ...
  bool is_write = false;
  std::string nearest_tensor;  // handle of the nearest live or freed tensor of the session
  int64_t nearest_tensor_offset = 0;
  uint64_t nearest_tensor_bytes = 0;
  std::string message;
  OtherAccess other;      // of a race the access before it, of an uninitialised value where it came from
  std::string trace_end;  // the last lines of the launch's trace, at most 2 KiB
};

// Empty where the status carries none.
std::optional<FaultReport> GetFaultReport(const absl::Status& status);

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_STATUS_H_
