#include "server/toolchain/triton/manifest.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/toolchain/triton/worker_json.h"

namespace trun {
namespace {

namespace fs = std::filesystem;

std::string PathOf(const std::string& folder, absl::string_view name) {
  return absl::StrCat(folder, "/", name, ".json");
}

}  // namespace

bool IsToolchainName(absl::string_view name) {
  return !name.empty() && name.size() <= 64 && name[0] != '.' &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '+' ||
                  c == '-';
         });
}

absl::Status WriteManifest(const std::string& folder, const ToolchainManifest& manifest) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return FromErrno(error.value(), absl::StrCat("cannot make ", folder), Reason::kUnavailable);
  const nlohmann::json json = {
      {"format", 1},
      {"name", manifest.name},
      {"path", manifest.path},
      {"python", manifest.python},
      {"version", manifest.version},
      {"digest", manifest.digest},
      {"ptxas_versions", manifest.ptxas_versions},
      {"adopted", manifest.adopted},
  };
  const std::string target = PathOf(folder, manifest.name);
  const std::string temporary = absl::StrCat(target, ".", getpid(), ".new");
  std::ofstream file(temporary, std::ios::trunc);
  file << json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << "\n";
  file.close();
  if (!file || rename(temporary.c_str(), target.c_str()) != 0) {
    const int number = errno;
    unlink(temporary.c_str());
    return FromErrno(number, absl::StrCat("cannot write ", target), Reason::kUnavailable);
  }
  return absl::OkStatus();
}

std::map<std::string, ToolchainManifest> ReadManifests(const std::string& folder) {
  std::map<std::string, ToolchainManifest> manifests;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".json") continue;
    std::ifstream file(entry.path());
    std::ostringstream text;
    text << file.rdbuf();
    nlohmann::json json;
    if (!ParseJsonObject(text.str(), &json) || JsonInteger(json, "format", 0) != 1) continue;
    ToolchainManifest manifest;
    manifest.name = JsonString(json, "name");
    manifest.path = JsonString(json, "path");
    manifest.python = JsonString(json, "python");
    manifest.version = JsonString(json, "version");
    manifest.digest = JsonString(json, "digest");
    const auto versions = json.find("ptxas_versions");
    if (versions != json.end() && versions->is_array()) {
      for (const nlohmann::json& version : *versions) {
        if (version.is_string()) manifest.ptxas_versions.push_back(version.get<std::string>());
      }
    }
    const auto adopted = json.find("adopted");
    manifest.adopted = adopted != json.end() && adopted->is_boolean() && adopted->get<bool>();
    if (!IsToolchainName(manifest.name) || entry.path().stem() != manifest.name) continue;
    manifests[manifest.name] = std::move(manifest);
  }
  return manifests;
}

void DeleteManifest(const std::string& folder, absl::string_view name) {
  unlink(PathOf(folder, name).c_str());
}

}  // namespace trun
