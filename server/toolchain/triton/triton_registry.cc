#include "server/toolchain/triton/triton_registry.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/digest.h"
#include "common/base/status.h"
#include "server/toolchain/triton/environment.h"
#include "server/toolchain/triton/installer.h"
#include "server/toolchain/worker/worker_source.h"

namespace trun {
namespace {

namespace fs = std::filesystem;

constexpr char kRemovedMark[] = ".trun-removed";

absl::Status MakeFolder(const std::string& path, mode_t mode) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) return FromErrno(error.value(), absl::StrCat("cannot make ", path), Reason::kUnavailable);
  if (chmod(path.c_str(), mode) != 0) {
    return FromErrno(errno, absl::StrCat("cannot protect ", path), Reason::kUnavailable);
  }
  return absl::OkStatus();
}

// [3, 10, 0] of "3.10.0": so that versions sort as numbers.
std::vector<int> VersionKey(const std::string& version) {
  std::vector<int> key;
  for (absl::string_view part : absl::StrSplit(version, absl::ByAnyChar(".+-"))) {
    int number = -1;
    if (!absl::SimpleAtoi(part, &number)) number = -1;
    key.push_back(number);
  }
  return key;
}

bool IsVersion(absl::string_view version) {
  return IsToolchainName(version) && absl::ascii_isdigit(static_cast<unsigned char>(version[0])) &&
         absl::StrContains(version, '.');
}

// Folders that workers of a daemon that is no more left behind: worker-PID-XXXXXX.
void SweepScratch(const std::string& scratch) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(scratch, error)) {
    const std::vector<std::string> parts = absl::StrSplit(entry.path().filename().string(), '-');
    pid_t pid = 0;
    if (parts.size() != 3 || parts[0] != "worker" || !absl::SimpleAtoi(parts[1], &pid)) continue;
    std::error_code ignored;
    if (kill(pid, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), ignored);
  }
}

// Manifests that a killed daemon had not finished: NAME.json.PID.new.
void SweepManifests(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::vector<std::string> parts = absl::StrSplit(entry.path().filename().string(), '.');
    pid_t pid = 0;
    if (parts.size() < 4 || parts.back() != "new" || !absl::SimpleAtoi(parts[parts.size() - 2], &pid))
      continue;
    std::error_code ignored;
    if (pid == getpid() || (kill(pid, 0) != 0 && errno == ESRCH)) fs::remove(entry.path(), ignored);
  }
}

// What a daemon or install.sh that was killed left half made: .installing-VERSION-PID. A folder with our own
// number is of one that had it before.
void SweepInstalls(const std::string& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    pid_t pid = 0;
    if (!absl::StartsWith(name, ".installing-") ||
        !absl::SimpleAtoi(name.substr(name.rfind('-') + 1), &pid) || pid <= 0) {
      continue;
    }
    std::error_code ignored;
    if (pid == getpid() || (kill(pid, 0) != 0 && errno == ESRCH)) fs::remove_all(entry.path(), ignored);
  }
}

// Another daemon may be starting from the same folder: what it reads is always a whole file.
absl::Status WriteWhole(const std::string& path, absl::string_view text) {
  const std::string temporary = absl::StrCat(path, ".", getpid());
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();
  if (file && rename(temporary.c_str(), path.c_str()) == 0) return absl::OkStatus();
  return FromErrno(errno, absl::StrCat("cannot write ", path), Reason::kUnavailable);
}

absl::Status Taken(const std::string& name) {
  return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument,
                   absl::StrCat("there is a toolchain named ", name, " already"), {{"argument", name}});
}

absl::Status Unknown(absl::string_view name) {
  return NotFound(Reason::kToolchainNotFound,
                  absl::StrCat("there is no toolchain ", name, "; `trun-client toolchains install ", name,
                               "` installs it, `trun-client toolchains` lists what there is"),
                  {{"toolchain", std::string(name)}});
}

}  // namespace

absl::StatusOr<std::unique_ptr<TritonRegistry>> TritonRegistry::Create(TritonRegistryOptions options) {
  std::unique_ptr<TritonRegistry> registry(new TritonRegistry(std::move(options)));
  TRUN_RETURN_IF_ERROR(registry->Prepare());
  registry->scan_ = std::thread([scanned = registry.get()] { scanned->Scan(); });
  return registry;
}

TritonRegistry::~TritonRegistry() {
  if (scan_.joinable()) scan_.join();
}

absl::Status TritonRegistry::Prepare() {
  manifests_ = absl::StrCat(options_.state_directory, "/toolchains");
  TRUN_RETURN_IF_ERROR(MakeFolder(manifests_, 0700));
  TRUN_RETURN_IF_ERROR(MakeFolder(options_.scratch_directory, 0700));
  SweepScratch(options_.scratch_directory);
  SweepManifests(manifests_);
  Hasher hasher;
  for (const WorkerFile& file : WorkerFiles()) hasher.Add(file.path).Add(file.text);
  worker_digest_ = hasher.Finish().ToHex();
  worker_folder_ = absl::StrCat(options_.scratch_directory, "/trun_worker-", worker_digest_.substr(0, 16));
  TRUN_RETURN_IF_ERROR(MakeFolder(worker_folder_, 0700));
  TRUN_RETURN_IF_ERROR(MakeFolder(worker_folder_ + "/trun_worker", 0700));
  for (const WorkerFile& file : WorkerFiles()) {
    TRUN_RETURN_IF_ERROR(WriteWhole(absl::StrCat(worker_folder_, "/", file.path), file.text));
  }
  return absl::OkStatus();
}

void TritonRegistry::Scan() {
  const std::map<std::string, ToolchainManifest> known = ReadManifests(manifests_);
  std::map<std::string, std::shared_ptr<TritonToolchain>> found;
  for (const std::string& folder : options_.toolchain_directories) {
    SweepInstalls(folder);
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      std::error_code ignored;
      if (!entry.is_directory(ignored) || !IsToolchainName(name) || found.count(name) != 0) continue;
      if (fs::exists(entry.path() / kRemovedMark, ignored)) {
        fs::remove_all(entry.path(), ignored);
        continue;
      }
      const auto manifest = known.find(name);
      found[name] =
          Load(name, entry.path().string(), false, manifest != known.end() ? &manifest->second : nullptr);
    }
  }
  for (const auto& [name, manifest] : known) {
    if (manifest.adopted && found.count(name) == 0) found[name] = Load(name, manifest.path, true, &manifest);
  }
  MutexLock lock(&mu_);
  toolchains_ = std::move(found);
  scanned_ = true;
  scanned_changed_.SignalAll();
}

void TritonRegistry::AwaitScan() {
  while (!scanned_) scanned_changed_.Wait(&mu_);
}

std::shared_ptr<TritonToolchain> TritonRegistry::Load(const std::string& name, const std::string& path,
                                                      bool adopted, const ToolchainManifest* known) {
  TritonToolchainOptions options;
  options.info.name = name;
  options.info.path = path;
  options.info.adopted = adopted;
  options.memory_limit_bytes = options_.memory_limit_bytes;
  // An adopted python is kept by name: its folder may hold several.
  const bool own_python = adopted && known != nullptr && !known->python.empty();
  absl::StatusOr<TritonEnvironment> environment = InspectEnvironment(own_python ? known->python : path);
  if (environment.ok()) {
    options.info.path = environment->path;
    options.info.version = environment->version;
    options.info.id =
        Hasher().Add("trun-toolchain-1").Add(environment->digest).Add(worker_digest_).Finish().ToHex();
    if (options_.make_frontend != nullptr) {
      auto frontend = options_.make_frontend(environment->python);
      if (frontend.ok()) {
        options.frontend = *std::move(frontend);
      } else {
        options.info.usable = frontend.status();
      }
    }
    options.pool.command.argv = {environment->python, "-s", "-B", "-X", "utf8", worker_folder_};
    if (known != nullptr && known->digest == environment->digest && !known->ptxas_versions.empty()) {
      options.info.ptxas_versions = known->ptxas_versions;
    } else {
      absl::StatusOr<std::vector<std::string>> versions = PtxasVersions(*environment);
      if (versions.ok()) {
        options.info.ptxas_versions = *versions;
        // A manifest that cannot be written costs the next start a ptxas --version; an adopted one is checked
        // by Adopt.
        WriteManifest(manifests_, {name, environment->path, environment->python, environment->version,
                                   environment->digest, *versions, adopted})
            .IgnoreError();
      } else {
        options.info.usable = versions.status();
      }
    }
  } else {
    options.info.usable = Annotate(environment.status(), absl::StrCat("toolchain ", name));
    if (known != nullptr) options.info.version = known->version;
  }
  options.pool.command.scratch_directory = options_.scratch_directory;
  options.pool.max_workers = options_.max_workers;
  options.pool.idle_retirement = options_.idle_retirement;
  return std::make_shared<TritonToolchain>(std::move(options));
}

absl::StatusOr<std::shared_ptr<Toolchain>> TritonRegistry::Find(absl::string_view name) {
  MutexLock lock(&mu_);
  AwaitScan();
  const auto it = toolchains_.find(std::string(name));
  if (it == toolchains_.end()) return Unknown(name);
  return std::shared_ptr<Toolchain>(it->second);
}

std::vector<std::shared_ptr<Toolchain>> TritonRegistry::List() {
  std::vector<std::pair<std::vector<int>, std::shared_ptr<Toolchain>>> sorted;
  {
    MutexLock lock(&mu_);
    AwaitScan();
    for (const auto& [name, toolchain] : toolchains_) {
      sorted.emplace_back(VersionKey(toolchain->info().version), toolchain);
    }
  }
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second->info().name < b.second->info().name;
  });
  std::vector<std::shared_ptr<Toolchain>> list;
  for (auto& [key, toolchain] : sorted) list.push_back(std::move(toolchain));
  return list;
}

absl::Status TritonRegistry::Reserve(const std::string& name) {
  MutexLock lock(&mu_);
  AwaitScan();
  if (toolchains_.count(name) != 0 || !reserved_.insert(name).second) return Taken(name);
  return absl::OkStatus();
}

void TritonRegistry::Release(const std::string& name) {
  MutexLock lock(&mu_);
  reserved_.erase(name);
}

absl::StatusOr<std::shared_ptr<Toolchain>> TritonRegistry::Install(
    absl::string_view version, const std::function<void(const ToolchainProgress&)>& on_progress) {
  const std::string name(version);
  if (!IsVersion(version)) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("'", version, "' is no version, as 3.9.0 is"),
                           {{"argument", "version"}});
  }
  if (options_.toolchain_directories.empty()) {
    return FailedPrecondition(Reason::kToolchainBroken, "this daemon has no folder to install toolchains in");
  }
  TRUN_RETURN_IF_ERROR(Reserve(name));
  const auto release = absl::MakeCleanup([&] { Release(name); });
  const std::string& folder = options_.toolchain_directories[0];
  TRUN_RETURN_IF_ERROR(InstallTriton({options_.python, folder, name}, on_progress));
  on_progress({"starting it", 0.97});
  std::shared_ptr<TritonToolchain> toolchain = Load(name, absl::StrCat(folder, "/", name), false, nullptr);
  if (absl::Status works = toolchain->Check(); !works.ok()) {
    DeleteManifest(manifests_, name);
    toolchain->DeleteWhenUnused();
    return works;
  }
  on_progress({"done", 1.0});
  MutexLock lock(&mu_);
  toolchains_[name] = toolchain;
  return std::shared_ptr<Toolchain>(toolchain);
}

absl::StatusOr<std::shared_ptr<Toolchain>> TritonRegistry::Adopt(absl::string_view path,
                                                                 absl::string_view name) {
  TRUN_ASSIGN_OR_RETURN(const TritonEnvironment environment, InspectEnvironment(path));
  const std::string chosen(name.empty() ? absl::string_view(environment.version) : name);
  if (!IsToolchainName(chosen)) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat("'", chosen, "' is no name for a toolchain: letters, digits and ._+- only"),
        {{"argument", "name"}});
  }
  TRUN_RETURN_IF_ERROR(Reserve(chosen));
  const auto release = absl::MakeCleanup([&] { Release(chosen); });
  ToolchainManifest manifest;
  manifest.python = environment.python;
  std::shared_ptr<TritonToolchain> toolchain = Load(chosen, environment.path, true, &manifest);
  if (absl::Status works = toolchain->Check(); !works.ok()) {
    DeleteManifest(manifests_, chosen);
    return works;
  }
  MutexLock lock(&mu_);
  toolchains_[chosen] = toolchain;
  return std::shared_ptr<Toolchain>(toolchain);
}

absl::Status TritonRegistry::Remove(absl::string_view name) {
  std::shared_ptr<TritonToolchain> removed;  // its last reference may end its workers: not under the lock
  {
    MutexLock lock(&mu_);
    AwaitScan();
    const auto it = toolchains_.find(std::string(name));
    if (it == toolchains_.end()) return Unknown(name);
    const ToolchainInfo info = it->second->info();
    if (!info.adopted) {
      // From here on it is gone, even should the daemon die before the files are.
      std::ofstream mark(absl::StrCat(info.path, "/", kRemovedMark));
      if (!mark) return FromErrno(errno, absl::StrCat("cannot delete ", info.path), Reason::kNotPermitted);
      it->second->DeleteWhenUnused();
    }
    removed = std::move(it->second);
    toolchains_.erase(it);
  }
  DeleteManifest(manifests_, name);
  return absl::OkStatus();
}

}  // namespace trun
