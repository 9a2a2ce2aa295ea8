// The daemon's log: one line per event that an operator wants to know of, never one per launch.
//
// All functions are thread-safe. Before InitLog, and in processes that never call it, lines go to stderr.
#ifndef TRUN_COMMON_TELEMETRY_LOG_H_
#define TRUN_COMMON_TELEMETRY_LOG_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace trun {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warning", "error". False when `name` is none of them.
bool LogLevelFromName(absl::string_view name, LogLevel* level);

// Sends lines to `path` (mode 0600, appended; at 16 MiB it is renamed to PATH.1, three are kept), or to
// stderr when the path is empty. REQUIRES: called before threads that log are started, or never.
absl::Status InitLog(const std::string& path, LogLevel level);

// A line feed or control character in `text` is written as a space: text of clients cannot forge lines.
void Log(LogLevel level, absl::string_view text);
inline void LogInfo(absl::string_view text) { Log(LogLevel::kInfo, text); }
inline void LogWarning(absl::string_view text) { Log(LogLevel::kWarning, text); }
inline void LogError(absl::string_view text) { Log(LogLevel::kError, text); }
// Everything logged so far is in the file when this returns.
void FlushLog();

}  // namespace trun

#endif  // TRUN_COMMON_TELEMETRY_LOG_H_
