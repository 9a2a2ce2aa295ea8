#ifndef TRUN_CLIENT_CLI_LOG_FOLLOWER_H_
#define TRUN_CLIENT_CLI_LOG_FOLLOWER_H_

#include <string>

#include "absl/status/status.h"
#include "client/cli/console.h"

namespace trun::cli {

// Prints what is appended to a file from now on, as it comes, until the file is removed or standard output
// ends.
absl::Status FollowLog(const std::string& path, Console& console);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_LOG_FOLLOWER_H_
