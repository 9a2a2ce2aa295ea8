// What trund remembers of a toolchain, in a folder of its own: one NAME.json each
// (docs/formats/toolchain-manifest.md).
#ifndef TRUN_SERVER_TOOLCHAIN_TRITON_MANIFEST_H_
#define TRUN_SERVER_TOOLCHAIN_TRITON_MANIFEST_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

struct ToolchainManifest {
  std::string name;
  std::string path;  // the environment's folder
  std::string python;
  std::string version;
  std::string digest;  // TritonEnvironment::digest when this was written
  std::vector<std::string> ptxas_versions;
  bool adopted = false;
};

// True for [A-Za-z0-9._+-]{1,64} that does not begin with a dot: fit for a file name.
bool IsToolchainName(absl::string_view name);

// Written to a temporary file and renamed. FromErrno's statuses.
absl::Status WriteManifest(const std::string& folder, const ToolchainManifest& manifest);
// By name. A file that does not parse is left out: its toolchain is looked at again.
std::map<std::string, ToolchainManifest> ReadManifests(const std::string& folder);
void DeleteManifest(const std::string& folder, absl::string_view name);

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_TRITON_MANIFEST_H_
