#ifndef TRUN_CLIENT_CLI_CACHE_TRANSFER_H_
#define TRUN_CLIENT_CLI_CACHE_TRANSFER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/console.h"
#include "trun/client.h"

namespace trun::cli {

// Cache entries to and from a file ("-": standard output, standard input), chunk by chunk, with a progress
// bar. An export that fails leaves no file behind, and none that was there is touched.
absl::StatusOr<uint64_t> ExportToFile(const std::string& file, const std::vector<std::string>& keys,
                                      const Cache& cache, const Console& console);
absl::StatusOr<CacheImportResult> ImportFromFile(const std::string& file, const Cache& cache,
                                                 const Console& console);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_CACHE_TRANSFER_H_
