#include "server/toolchain/triton/environment.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <sstream>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/digest.h"
#include "common/base/status.h"
#include "common/base/unique_fd.h"
#include "common/subprocess/subprocess.h"

namespace trun {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSmallFile = size_t{16} << 20;

absl::Status Broken(absl::string_view message) {
  return FailedPrecondition(Reason::kToolchainBroken, message);
}

std::optional<std::string> ReadFile(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// lib/python3.N/site-packages (or dist-packages) of an environment.
std::vector<fs::path> PackageFolders(const fs::path& root) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const char* lib : {"lib", "lib64"}) {
    for (const auto& entry : fs::directory_iterator(root / lib, error)) {
      if (!absl::StartsWith(entry.path().filename().string(), "python3")) continue;
      for (const char* packages : {"site-packages", "dist-packages"})
        folders.push_back(entry.path() / packages);
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

struct Recorded {
  std::string sha256;  // hex
  uint64_t size = 0;
};

// RECORD of the wheel: "path,sha256=URLSAFE_BASE64,size", as PEP 376 and PEP 427 say.
std::map<std::string, Recorded> ReadRecord(const fs::path& file) {
  std::map<std::string, Recorded> recorded;
  const std::optional<std::string> text = ReadFile(file);
  if (!text) return recorded;
  for (absl::string_view line : absl::StrSplit(*text, '\n', absl::SkipEmpty())) {
    std::vector<absl::string_view> fields = absl::StrSplit(absl::StripAsciiWhitespace(line), ',');
    if (fields.size() != 3 || !absl::ConsumePrefix(&fields[1], "sha256=")) continue;
    Recorded entry;
    std::string raw;
    if (!absl::WebSafeBase64Unescape(fields[1], &raw) || raw.size() != Digest::kBytes ||
        !absl::SimpleAtoi(fields[2], &entry.size)) {
      continue;
    }
    entry.sha256 = absl::BytesToHexString(raw);
    recorded.emplace(std::string(fields[0]), std::move(entry));
  }
  return recorded;
}

absl::StatusOr<std::string> HashFile(const fs::path& path, uint64_t size) {
  if (size == 0) return Digest::Of("").ToHex();
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return Broken(absl::StrCat("cannot read ", path.string()));
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  if (data == MAP_FAILED) return Broken(absl::StrCat("cannot read ", path.string()));
  const std::string hex = Digest::Of(absl::string_view(static_cast<const char*>(data), size)).ToHex();
  munmap(data, size);
  return hex;
}

absl::StatusOr<std::string> DigestOf(const fs::path& package, const fs::path& record_file) {
  const std::map<std::string, Recorded> recorded = ReadRecord(record_file);
  struct stat record_state{};
  const bool has_record = stat(record_file.c_str(), &record_state) == 0;
  std::map<std::string, std::string> files;
  std::error_code error;
  for (fs::recursive_directory_iterator it(package, error), end; it != end; it.increment(error)) {
    if (error) break;
    const fs::path& path = it->path();
    if (path.filename() == "__pycache__") {
      it.disable_recursion_pending();
      continue;
    }
    struct stat state{};
    if (path.extension() == ".pyc" || stat(path.c_str(), &state) != 0 || !S_ISREG(state.st_mode)) continue;
    // As RECORD has it. fs::relative would ask the system about each part of both paths: most of a daemon's
    // start.
    const std::string name = path.lexically_relative(package.parent_path()).string();
    const auto entry = recorded.find(name);
    const bool trusted = has_record && entry != recorded.end() &&
                         entry->second.size == static_cast<uint64_t>(state.st_size) &&
                         state.st_mtim.tv_sec <= record_state.st_mtim.tv_sec;
    if (trusted) {
      files[name] = entry->second.sha256;
    } else {
      TRUN_ASSIGN_OR_RETURN(files[name], HashFile(path, static_cast<uint64_t>(state.st_size)));
    }
  }
  if (error) return Broken(absl::StrCat("cannot read ", package.string(), ": ", error.message()));
  Hasher hasher;
  for (const auto& [name, sha256] : files) hasher.Add(name).Add(sha256);
  return hasher.Finish().ToHex();
}

}  // namespace

absl::StatusOr<TritonEnvironment> InspectEnvironment(absl::string_view path) {
  TritonEnvironment environment;
  fs::path root{std::string(path)};
  std::error_code error;
  if (!fs::exists(root, error)) return Broken(absl::StrCat("there is nothing at ", path));
  root = fs::absolute(root, error);  // symbolic links stay: a venv's python is one, out of the venv
  if (!fs::is_directory(root, error)) {
    environment.python = root.string();
    root = root.parent_path().parent_path();
  }
  environment.path = root.lexically_normal().string();
  for (const char* name : {"bin/python", "bin/python3"}) {
    if (environment.python.empty() && fs::exists(root / name, error))
      environment.python = (root / name).string();
  }
  if (environment.python.empty() || access(environment.python.c_str(), X_OK) != 0) {
    return Broken(absl::StrCat(path, " has no bin/python: it is no Python environment"));
  }
  for (const fs::path& packages : PackageFolders(root)) {
    const std::optional<std::string> init = ReadFile(packages / "triton" / "__init__.py");
    if (!init || init->size() > kMaxSmallFile) continue;
    std::smatch found;
    static const std::regex version(R"re(__version__\s*=\s*['"]([0-9][\w.+-]{0,60})['"])re");
    if (!std::regex_search(*init, found, version)) continue;
    environment.version = found[1];
    environment.triton = (packages / "triton").string();
    break;
  }
  if (environment.triton.empty()) {
    return Broken(absl::StrCat("there is no Triton in ", environment.path,
                               " (looked for lib/python3*/site-packages/triton)"));
  }
  const fs::path package(environment.triton);
  for (const char* name : {"ptxas", "ptxas-blackwell"}) {
    const fs::path binary = package / "backends/nvidia/bin" / name;
    if (fs::exists(binary, error)) environment.ptxas.push_back(binary.string());
  }
  if (environment.ptxas.empty())
    return Broken(absl::StrCat("the Triton in ", environment.path, " has no ptxas"));
  fs::path record;
  for (const auto& entry : fs::directory_iterator(package.parent_path(), error)) {
    const std::string name = entry.path().filename().string();
    if (absl::StartsWith(name, "triton-") && absl::EndsWith(name, ".dist-info"))
      record = entry.path() / "RECORD";
  }
  TRUN_ASSIGN_OR_RETURN(environment.digest, DigestOf(package, record));
  return environment;
}

absl::StatusOr<std::vector<std::string>> PtxasVersions(const TritonEnvironment& environment) {
  std::vector<std::string> versions;
  for (const std::string& ptxas : environment.ptxas) {
    UniqueFd out(memfd_create("ptxas-version", MFD_CLOEXEC));
    SubprocessOptions options;
    options.argv = {ptxas, "--version"};
    options.stdout_fd = out.get();
    absl::StatusOr<std::unique_ptr<Subprocess>> child = Subprocess::Start(options);
    if (!child.ok()) return Broken(child.status().message());
    const absl::StatusOr<ExitStatus> exit = (*child)->Wait(absl::Seconds(30));
    std::string text(4096, '\0');
    const ssize_t got = pread(out.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    std::smatch found;
    static const std::regex version(R"(V(\d+\.\d+\.\d+))");
    if (!exit.ok() || exit->signaled || exit->code != 0 || !std::regex_search(text, found, version)) {
      return Broken(absl::StrCat(ptxas, " --version does not work"));
    }
    versions.push_back(found[1]);
  }
  return versions;
}

}  // namespace trun
