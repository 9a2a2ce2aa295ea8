#include "client/cli/driver_check.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace trun::cli {
namespace {

using Verdict = Check::Verdict;

constexpr int kOldestDriver = 525;  // the first with CUDA 12.0

// 580 of "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  ..."; 0 where no word is a version.
int MajorVersion(const std::string& line) {
  for (const absl::string_view word : absl::StrSplit(line, ' ', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(word, '.');
    int major = 0, part = 0;
    if (parts.size() < 2 || parts.size() > 3 || !absl::SimpleAtoi(parts[0], &major)) continue;
    if (std::all_of(parts.begin(), parts.end(),
                    [&](absl::string_view p) { return absl::SimpleAtoi(p, &part); }))
      return major;
  }
  return 0;
}

// /dev/nvidia0, /dev/nvidia1, ...: one for each GPU that this user's container was given.
std::vector<std::string> GpuFiles(const std::string& folder) {
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.size() > 6 && name.compare(0, 6, "nvidia") == 0 &&
        std::all_of(name.begin() + 6, name.end(), [](char c) { return absl::ascii_isdigit(c); }))
      files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) files.push_back("nvidia0");  // named as missing
  return files;
}

}  // namespace

Check CheckDriver(const std::string& root) {
  const std::string devices = absl::StrCat(root, root == "/" ? "" : "/", "dev");
  Check check{"GPU driver", Verdict::kOk, "", ""};
  std::ifstream version(absl::StrCat(root, root == "/" ? "" : "/", "proc/driver/nvidia/version"));
  std::getline(version, check.found);
  if (access(absl::StrCat(devices, "/nvidiactl").c_str(), F_OK) != 0) {
    check.found = check.found.empty() ? "none: kernels run on the emulator" : check.found;
    if (version.is_open()) {
      check.verdict = Verdict::kWarning;
      check.help =
          "the driver is loaded but /dev/nvidiactl is not there: give the container the GPU's devices";
    }
    return check;
  }
  const int major = MajorVersion(check.found);
  if (check.found.empty()) check.found = "/dev/nvidiactl is there; its version is not told";
  if (major != 0 && major < kOldestDriver) {
    check.verdict = Verdict::kWarning;
    check.help = absl::StrCat("driver ", major, " is too old: CUDA 12.0 is needed, which begins with driver ",
                              kOldestDriver, "; update it");
  }
  std::vector<std::string> files = {"nvidiactl", "nvidia-uvm"};
  for (std::string& file : GpuFiles(devices)) files.push_back(std::move(file));
  for (const std::string& file : files) {
    if (access(absl::StrCat(devices, "/", file).c_str(), R_OK | W_OK) == 0) continue;
    const bool missing = errno == ENOENT;
    check.verdict = Verdict::kWarning;
    absl::StrAppend(&check.found, "; /dev/", file, missing ? " is not there" : " may not be opened");
    check.help = missing ? "nvidia-modprobe, or nvidia-smi as root, makes the device files"
                         : "add this user to the group that owns the device files, or relax their mode";
  }
  return check;
}

}  // namespace trun::cli
