#include "client/cli/cache_transfer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "client/cli/progress.h"
#include "client/cli/text.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"

namespace trun::cli {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

}  // namespace

absl::StatusOr<uint64_t> ExportToFile(const std::string& file, const std::vector<std::string>& keys,
                                      const Cache& cache, const Console& console) {
  const bool standard_output = file == "-";
  const std::string temporary = absl::StrCat(file, ".part");
  UniqueFd fd(standard_output ? dup(STDOUT_FILENO)
                              : open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd.valid()) return FromErrno(errno, absl::StrCat("cannot write '", file, "'"), Reason::kUnspecified);
  uint64_t written = 0;
  absl::Status status;
  {
    Progress progress(console, "exporting");
    status = cache.Export(keys, [&](absl::string_view data) -> absl::Status {
      while (!data.empty()) {
        const ssize_t n = write(fd.get(), data.data(), data.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return FromErrno(errno, absl::StrCat("cannot write '", file, "'"), Reason::kUnspecified);
        data.remove_prefix(static_cast<size_t>(n));
        written += static_cast<uint64_t>(n);
      }
      progress.Update(FormatBytes(written), -1);
      return absl::OkStatus();
    });
  }
  if (standard_output) {
    TRUN_RETURN_IF_ERROR(status);
    return written;
  }
  if (status.ok() && rename(temporary.c_str(), file.c_str()) != 0) {
    status = FromErrno(errno, absl::StrCat("cannot write '", file, "'"), Reason::kUnspecified);
  }
  if (!status.ok()) {
    unlink(temporary.c_str());
    return status;
  }
  return written;
}

absl::StatusOr<CacheImportResult> ImportFromFile(const std::string& file, const Cache& cache,
                                                 const Console& console) {
  UniqueFd fd(file == "-" ? dup(STDIN_FILENO) : open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return FromErrno(errno, absl::StrCat("cannot open '", file, "'"), Reason::kUnspecified);
  struct stat info;
  const uint64_t size =
      fstat(fd.get(), &info) == 0 && S_ISREG(info.st_mode) ? static_cast<uint64_t>(info.st_size) : 0;
  uint64_t sent = 0;
  Progress progress(console, "importing");
  return cache.Import([&]() -> absl::StatusOr<std::string> {
    std::string chunk(kChunkBytes, '\0');
    ssize_t n;
    do {
      n = read(fd.get(), &chunk[0], chunk.size());
    } while (n < 0 && errno == EINTR);
    if (n < 0) return FromErrno(errno, absl::StrCat("cannot read '", file, "'"), Reason::kUnspecified);
    chunk.resize(static_cast<size_t>(n));
    sent += static_cast<uint64_t>(n);
    progress.Update(FormatBytes(sent),
                    size == 0 ? -1 : static_cast<double>(sent) / static_cast<double>(size));
    return chunk;
  });
}

}  // namespace trun::cli
