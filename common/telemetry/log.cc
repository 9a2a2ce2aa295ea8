#include "common/telemetry/log.h"

#include <sys/stat.h>

#include <memory>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "spdlog/sinks/rotating_file_sink.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace trun {
namespace {

constexpr size_t kFileBytes = size_t{16} << 20;
constexpr size_t kFilesKept = 3;
constexpr char kPattern[] = "%Y-%m-%dT%H:%M:%S.%e%z %L %P %v";

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

std::shared_ptr<spdlog::logger>& Logger() {
  static auto* const logger = [] {
    auto made = std::make_shared<spdlog::logger>("trun", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern(kPattern);
    return new std::shared_ptr<spdlog::logger>(std::move(made));
  }();
  return *logger;
}

}  // namespace

bool LogLevelFromName(absl::string_view name, LogLevel* level) {
  if (name == "debug") {
    *level = LogLevel::kDebug;
  } else if (name == "info") {
    *level = LogLevel::kInfo;
  } else if (name == "warning") {
    *level = LogLevel::kWarning;
  } else if (name == "error") {
    *level = LogLevel::kError;
  } else {
    return false;
  }
  return true;
}

absl::Status InitLog(const std::string& path, LogLevel level) {
  if (!path.empty()) {
    try {
      const mode_t before = umask(077);
      auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, kFileBytes, kFilesKept);
      umask(before);
      Logger() = std::make_shared<spdlog::logger>("trun", std::move(sink));
    } catch (const spdlog::spdlog_ex& error) {
      return MakeError(absl::StatusCode::kFailedPrecondition, Reason::kUnavailable,
                       absl::StrCat("the log file ", path, " cannot be written: ", error.what()));
    }
    Logger()->set_pattern(kPattern);
  }
  Logger()->set_level(ToSpdlog(level));
  Logger()->flush_on(spdlog::level::info);
  return absl::OkStatus();
}

void Log(LogLevel level, absl::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  Logger()->log(ToSpdlog(level), "{}", line);
}

void FlushLog() { Logger()->flush(); }

}  // namespace trun
