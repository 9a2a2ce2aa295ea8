#ifndef TRUN_CLIENT_TOOLCHAINS_H_
#define TRUN_CLIENT_TOOLCHAINS_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {
inline namespace client {

class Connection;

struct ToolchainInfo {
  std::string name;     // "3.9.0", or the name given on adoption
  std::string version;  // Triton's
  std::string id;       // digest of all that can change its output
  std::string path;
  bool adopted = false;
  std::string unusable_reason;  // empty: usable
  uint32_t warm_workers = 0;
  uint32_t busy_workers = 0;
  std::vector<std::string> ptxas_versions;
};

struct CompileOptionInfo {
  std::string name;
  std::string type;  // "int", "bool", "str", "tuple", ...
  std::string default_json;
};

// The daemon's compilers. Thread-safe, copyable; shares the connection of the Client it came from.
// Every call may end with UNAVAILABLE.
class Toolchains {
 public:
  // Called with what is being done, for people, and a fraction from 0 to 1 that never decreases.
  using Progress = std::function<void(absl::string_view step, double fraction)>;

  absl::StatusOr<std::vector<ToolchainInfo>> List() const;
  // INVALID_ARGUMENT: no such version. ALREADY_EXISTS. UNAVAILABLE: the package index cannot be reached.
  absl::StatusOr<ToolchainInfo> Install(const std::string& version, const Progress& progress = nullptr) const;
  // `python`: an environment's folder or its python; it is never changed.
  // FAILED_PRECONDITION/TOOLCHAIN_BROKEN.
  absl::StatusOr<ToolchainInfo> Adopt(const std::string& python, const std::string& name = "") const;
  // Forgets it, and deletes it where trun installed it. NOT_FOUND/TOOLCHAIN_NOT_FOUND.
  absl::Status Remove(const std::string& name) const;
  // Every compile option with its default. NOT_FOUND/TOOLCHAIN_NOT_FOUND.
  absl::StatusOr<std::vector<CompileOptionInfo>> DescribeOptions(const std::string& name) const;

 private:
  friend class Client;
  explicit Toolchains(std::shared_ptr<Connection> connection) : connection_(std::move(connection)) {}
  std::shared_ptr<Connection> connection_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_TOOLCHAINS_H_
