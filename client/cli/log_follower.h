#ifndef TRUN_CLIENT_CLI_LOG_FOLLOWER_H_
#define TRUN_CLIENT_CLI_LOG_FOLLOWER_H_

#include <sys/types.h>

#include <string>

#include "absl/status/status.h"
#include "client/cli/console.h"

namespace trun::cli {

// Prints what a file has after its first `from` bytes and what is appended to it, as it comes, until the file
// is removed or renamed, or standard output ends.
absl::Status FollowLog(const std::string& path, off_t from, Console& console);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_LOG_FOLLOWER_H_
