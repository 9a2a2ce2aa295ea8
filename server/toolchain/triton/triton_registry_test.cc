// The registry over environments made of empty files: what it finds, remembers, refuses and deletes. No
// network.
#include "server/toolchain/triton/triton_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/digest.h"
#include "common/base/status.h"
#include "server/toolchain/triton/environment.h"
#include "server/toolchain/triton/installer.h"

namespace trun {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

void Write(const fs::path& path, const std::string& text, bool executable = false) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
  if (executable) fs::permissions(path, fs::perms::owner_all);
}

// Greets as a worker of `version`, in a few bytes of shell: enough for Check().
std::string Python(const std::string& version) {
  const std::string header = absl::StrCat(R"({"op":"hello","protocol":1,"triton":")", version, R"("})");
  const std::string length = absl::StrCat("\\", header.size() / 64, header.size() / 8 % 8, header.size() % 8);
  return absl::StrCat("#!/bin/sh\nprintf '", length, "\\000\\000\\000\\000\\000\\000\\000%s' '", header,
                      "' >&3\nexec cat <&3\n");
}

class TritonRegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/trun-registry-test-XXXXXX";
    ASSERT_NE(mkdtemp(folder), nullptr);
    root_ = folder;
    options_.toolchain_directories = {(root_ / "toolchains").string()};
    options_.state_directory = (root_ / "state").string();
    options_.scratch_directory = (root_ / "run").string();
  }
  void TearDown() override { fs::remove_all(root_); }

  // A folder that looks like an environment with that Triton.
  fs::path MakeEnvironment(const fs::path& path, const std::string& version) {
    const fs::path packages = path / "lib/python3.11/site-packages";
    Write(path / "bin/python", Python(version), true);
    Write(packages / "triton/__init__.py",
          absl::StrCat("\"\"\"isort:skip_file\"\"\"\n__version__ = '", version, "'\n"));
    Write(packages / "triton/_C/libtriton.so", "code");
    Write(packages / "triton/backends/nvidia/bin/ptxas", "#!/bin/sh\necho release 12.8, V12.8.93\n", true);
    return path;
  }
  std::unique_ptr<TritonRegistry> Open() {
    auto registry = TritonRegistry::Create(options_);
    EXPECT_TRUE(registry.ok()) << registry.status();
    if (!registry.ok()) return nullptr;
    (*registry)->List();  // the look at the folders is over
    return *std::move(registry);
  }
  std::string IdOf(const std::string& name) {
    auto found = Open()->Find(name);
    return found.ok() ? (*found)->info().id : "";
  }

  fs::path root_;
  TritonRegistryOptions options_;
};

TEST_F(TritonRegistryTest, AnUnknownNameIsNotFoundAndSaysHowToInstall) {
  const absl::Status status = Open()->Find("3.6.0").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(GetReason(status), Reason::kToolchainNotFound);
  EXPECT_EQ(GetDetails(status)["toolchain"], "3.6.0");
  EXPECT_THAT(std::string(status.message()), HasSubstr("trun-client toolchains install 3.6.0"));
  EXPECT_EQ(GetReason(Open()->Remove("3.6.0")), Reason::kToolchainNotFound);
}

TEST_F(TritonRegistryTest, AnEnvironmentThatTakesLongToLookAtHoldsNobodyButWhoAsksForToolchains) {
  MakeEnvironment(root_ / "toolchains/3.9.0", "3.9.0");
  std::promise<void> go_on, asks;
  options_.make_frontend = [go = go_on.get_future().share()](
                               const std::string&) -> absl::StatusOr<std::shared_ptr<SourceFrontend>> {
    go.wait();
    return std::shared_ptr<SourceFrontend>();
  };
  auto registry = std::async(std::launch::async, [&] { return TritonRegistry::Create(options_); });
  const bool returned = registry.wait_for(std::chrono::seconds(60)) == std::future_status::ready;
  if (!returned) go_on.set_value();
  ASSERT_TRUE(returned) << "Create waits for the look";
  auto made = registry.get();
  ASSERT_TRUE(made.ok()) << made.status();
  auto listed = std::async(std::launch::async, [&] {
    asks.set_value();
    return (*made)->List().size();
  });
  asks.get_future().wait();
  EXPECT_EQ(listed.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  go_on.set_value();
  EXPECT_EQ(listed.get(), 1u) << "a list is whole, or waits";
  EXPECT_TRUE((*made)->Find("3.9.0").ok());
}

TEST_F(TritonRegistryTest, EnvironmentsInTheFolderAreFoundNewestFirst) {
  for (const char* version : {"3.4.0", "3.10.0", "3.9.0"})
    MakeEnvironment(root_ / "toolchains" / version, version);
  fs::create_directories(root_ / "toolchains/.installing-3.6.0-1/bin");
  auto registry = Open();
  std::vector<std::string> names;
  for (const auto& toolchain : registry->List()) {
    const ToolchainInfo info = toolchain->info();
    names.push_back(info.name);
    EXPECT_TRUE(info.usable.ok()) << info.usable;
    EXPECT_THAT(info.ptxas_versions, ElementsAre("12.8.93"));
    EXPECT_EQ(info.id.size(), 64u);
    EXPECT_FALSE(info.adopted);
  }
  EXPECT_THAT(names, ElementsAre("3.10.0", "3.9.0", "3.4.0"));
}

TEST_F(TritonRegistryTest, WhatADeadDaemonWasInstallingIsSweptAndWhatALivingOneInstallsIsNot) {
  constexpr int kDead = 999999999;
  const fs::path folder = root_ / "toolchains";
  const fs::path living = folder / absl::StrCat(".installing-3.6.0-", getppid());
  // One that had this process's number before is dead too: nothing is being installed yet.
  for (const std::string& name :
       {absl::StrCat(".installing-3.6.0-", kDead), absl::StrCat(".installing-3.6.0-rc1-", kDead),
        absl::StrCat(".installing-3.7.0-", getpid())}) {
    Write(folder / name / "tmp/wheel", "half");
  }
  Write(living / "tmp/wheel", "half");
  Write(folder / ".installing-", "somebody else's");
  Write(folder / ".installing-3.6.0-x/y", "somebody else's");
  EXPECT_TRUE(Open()->List().empty());
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder)) left.push_back(entry.path().filename().string());
  EXPECT_THAT(left, UnorderedElementsAre(living.filename().string(), ".installing-", ".installing-3.6.0-x"));
  EXPECT_TRUE(fs::exists(living / "tmp/wheel"));
}

TEST_F(TritonRegistryTest, AManifestThatAKilledDaemonHadNotFinishedIsSwept) {
  MakeEnvironment(root_ / "toolchains/3.9.0", "3.9.0");
  const fs::path manifests = root_ / "state/toolchains";
  Write(manifests / "3.9.0.json.999999999.new", "{");
  const std::string living = absl::StrCat("3.9.0.json.", getppid(), ".new");
  Write(manifests / living, "{");
  EXPECT_EQ(Open()->List().size(), 1u);
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(manifests))
    left.push_back(entry.path().filename().string());
  EXPECT_THAT(left, UnorderedElementsAre("3.9.0.json", living));
}

TEST_F(TritonRegistryTest, ABrokenEnvironmentIsListedWithItsReason) {
  fs::create_directories(root_ / "toolchains/3.1.0");
  MakeEnvironment(root_ / "toolchains/3.2.0", "3.2.0");
  fs::remove_all(root_ / "toolchains/3.2.0/lib/python3.11/site-packages/triton/backends");
  auto registry = Open();
  for (const char* name : {"3.1.0", "3.2.0"}) {
    auto found = registry->Find(name);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(GetReason((*found)->info().usable), Reason::kToolchainBroken);
    EXPECT_EQ(GetReason((*found)->Options("cuda").status()), Reason::kToolchainBroken);
  }
}

TEST_F(TritonRegistryTest, TheIdChangesWithAnyFileButNotWithByteCodeOrPlace) {
  const fs::path environment = MakeEnvironment(root_ / "toolchains/3.9.0", "3.9.0");
  const fs::path package = environment / "lib/python3.11/site-packages/triton";
  const std::string before = IdOf("3.9.0");
  ASSERT_FALSE(before.empty());
  Write(package / "__pycache__/x.pyc", "byte code");
  EXPECT_EQ(IdOf("3.9.0"), before);
  Write(package / "_C/libtriton.so", "edit");
  EXPECT_NE(IdOf("3.9.0"), before);
  Write(package / "_C/libtriton.so", "code");
  EXPECT_EQ(IdOf("3.9.0"), before);
  MakeEnvironment(root_ / "elsewhere", "3.9.0");
  EXPECT_EQ(InspectEnvironment((root_ / "elsewhere").string())->digest,
            InspectEnvironment((root_ / "toolchains/3.9.0").string())->digest);
}

TEST_F(TritonRegistryTest, AFileOfRecordNeedNotBeReadUnlessItIsNewer) {
  const fs::path environment = MakeEnvironment(root_ / "toolchains/3.9.0", "3.9.0");
  const fs::path packages = environment / "lib/python3.11/site-packages";
  const std::string plain = InspectEnvironment(environment.string())->digest;
  std::string hash = absl::WebSafeBase64Escape(Digest::Of("code").bytes());
  while (!hash.empty() && hash.back() == '=') hash.pop_back();
  Write(packages / "triton-3.9.0.dist-info/RECORD",
        absl::StrCat("triton/_C/libtriton.so,sha256=", hash, ",4\n"));
  EXPECT_EQ(InspectEnvironment(environment.string())->digest, plain);
  // Same size, edited later than RECORD: its own bytes count.
  Write(packages / "triton/_C/libtriton.so", "EDIT");
  fs::last_write_time(packages / "triton/_C/libtriton.so",
                      fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_NE(InspectEnvironment(environment.string())->digest, plain);
}

TEST_F(TritonRegistryTest, AnAdoptedEnvironmentIsRememberedAndNeverWrittenTo) {
  const fs::path environment = MakeEnvironment(root_ / "mine", "3.5.1");
  const auto listing = [&] {
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(environment)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  };
  const std::vector<std::string> before = listing();
  for (const fs::path& path : {environment, environment / "bin/python"}) {
    auto registry = Open();
    auto adopted = registry->Adopt(path.string(), "work");
    ASSERT_TRUE(adopted.ok()) << adopted.status();
    EXPECT_TRUE((*adopted)->info().adopted);
    EXPECT_EQ((*adopted)->info().version, "3.5.1");
    EXPECT_EQ(registry->Adopt(path.string(), "work").status().code(), absl::StatusCode::kAlreadyExists);
    registry.reset();
    registry = Open();
    auto found = registry->Find("work");
    ASSERT_TRUE(found.ok());
    EXPECT_TRUE((*found)->info().adopted);
    EXPECT_TRUE(registry->Remove("work").ok());
    EXPECT_FALSE(Open()->Find("work").ok());
    EXPECT_EQ(listing(), before);
  }
  auto registry = Open();
  auto adopted = registry->Adopt(environment.string(), "");
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  EXPECT_EQ((*adopted)->info().name, "3.5.1");
}

TEST_F(TritonRegistryTest, WhatCannotBeAdoptedIsRefused) {
  auto registry = Open();
  fs::create_directories(root_ / "empty");
  EXPECT_EQ(GetReason(registry->Adopt((root_ / "empty").string(), "x").status()), Reason::kToolchainBroken);
  EXPECT_EQ(GetReason(registry->Adopt("/nonexistent", "x").status()), Reason::kToolchainBroken);
  const fs::path environment = MakeEnvironment(root_ / "mine", "3.5.1");
  for (const char* name : {"../x", ".hidden", "a b", "a/b"}) {
    EXPECT_EQ(GetReason(registry->Adopt(environment.string(), name).status()), Reason::kArgument) << name;
  }
  Write(environment / "bin/python", "#!/bin/sh\necho 'ImportError: no' >&2\nexit 1\n", true);
  const absl::Status status = registry->Adopt(environment.string(), "x").status();
  EXPECT_EQ(GetReason(status), Reason::kToolchainBroken);
  EXPECT_THAT(std::string(status.message()), HasSubstr("ImportError: no"));
  EXPECT_FALSE(Open()->Find("x").ok());
}

TEST_F(TritonRegistryTest, ARemovedToolchainLivesUntilItsLastUserEnds) {
  const fs::path environment = MakeEnvironment(root_ / "toolchains/3.9.0", "3.9.0");
  auto registry = Open();
  std::shared_ptr<Toolchain> user = *registry->Find("3.9.0");
  ASSERT_TRUE(registry->Remove("3.9.0").ok());
  EXPECT_FALSE(registry->Find("3.9.0").ok());
  EXPECT_TRUE(fs::exists(environment / "bin/python"));
  user.reset();
  EXPECT_FALSE(fs::exists(environment));
}

TEST_F(TritonRegistryTest, ARemovalThatADeadDaemonBeganIsFinished) {
  const fs::path environment = MakeEnvironment(root_ / "toolchains/3.9.0", "3.9.0");
  Write(environment / ".trun-removed", "");
  EXPECT_FALSE(Open()->Find("3.9.0").ok());
  EXPECT_FALSE(fs::exists(environment));
}

TEST_F(TritonRegistryTest, FoldersOfDeadDaemonsWorkersAreSwept) {
  fs::create_directories(root_ / "run/worker-999999999-abcdef");
  fs::create_directories(root_ / absl::StrCat("run/worker-", getpid(), "-abcdef"));
  Open();
  EXPECT_FALSE(fs::exists(root_ / "run/worker-999999999-abcdef"));
  EXPECT_TRUE(fs::exists(root_ / absl::StrCat("run/worker-", getpid(), "-abcdef")));
}

TEST_F(TritonRegistryTest, ManifestsThatDoNotParseAreLeftOut) {
  Write(root_ / "state/toolchains/a.json", "{");
  Write(root_ / "state/toolchains/b.json", R"({"format":1,"name":"../b","path":"/","adopted":true})");
  Write(root_ / "state/toolchains/c.json", R"({"format":9,"name":"c","adopted":true})");
  EXPECT_TRUE(Open()->List().empty());
}

TEST_F(TritonRegistryTest, InstallRefusesWhatIsNoVersionOrIsThereAlready) {
  MakeEnvironment(root_ / "toolchains/3.9.0", "3.9.0");
  auto registry = Open();
  const auto ignore = [](const ToolchainProgress&) {};
  for (const char* version : {"", "latest", "--index-url=x", "3.9.0/../x", "3"}) {
    EXPECT_EQ(registry->Install(version, ignore).status().code(), absl::StatusCode::kInvalidArgument)
        << version;
  }
  EXPECT_EQ(registry->Install("3.9.0", ignore).status().code(), absl::StatusCode::kAlreadyExists);
}

// A python whose `-m venv PATH` copies this environment and whose `-m pip` does what `pip` says.
std::string FakePython(const fs::path& environment, const std::string& pip) {
  return absl::StrCat("#!/bin/sh\ncase \"$2\" in\nvenv) cp -r ", environment.string(),
                      "/. \"$3\"; mv \"$3/bin/pip-python\" \"$3/bin/python\";;\npip) ", pip, ";;\n*) exec ",
                      environment.string(), "/bin/python;;\nesac\n");
}

TEST_F(TritonRegistryTest, InstallReportsProgressAndPutsAWholeEnvironmentIntoPlace) {
  const fs::path model = MakeEnvironment(root_ / "model", "3.6.0");
  const std::string pip =
      "echo 'Downloading triton-3.6.0-cp311-x.whl (188.3 MB)'; echo 'Installing collected packages: triton'";
  Write(model / "bin/pip-python", FakePython(model, pip), true);
  Write(root_ / "python", FakePython(model, pip), true);
  options_.python = (root_ / "python").string();
  auto registry = Open();
  double last = 0;
  std::vector<std::string> steps;
  auto installed = registry->Install("3.6.0", [&](const ToolchainProgress& progress) {
    EXPECT_GE(progress.fraction, last);
    last = progress.fraction;
    steps.push_back(progress.step);
  });
  ASSERT_TRUE(installed.ok()) << installed.status();
  EXPECT_EQ(last, 1.0);
  EXPECT_EQ(steps.front(), "making a virtual environment");
  EXPECT_EQ(steps.back(), "done");
  EXPECT_TRUE(registry->Find("3.6.0").ok());
  EXPECT_TRUE(Open()->Find("3.6.0").ok());
  int entries = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(root_ / "toolchains")) ++entries;
  EXPECT_EQ(entries, 1);  // nothing half-made
}

TEST_F(TritonRegistryTest, AFailedInstallLeavesNothing) {
  const fs::path model = MakeEnvironment(root_ / "model", "3.6.0");
  const std::string pip = "echo 'ERROR: No matching distribution found for triton==3.6.0'; exit 1";
  Write(model / "bin/pip-python", FakePython(model, pip), true);
  Write(root_ / "python", FakePython(model, pip), true);
  options_.python = (root_ / "python").string();
  auto registry = Open();
  const absl::Status status = registry->Install("3.6.0", [](const ToolchainProgress&) {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_TRUE(fs::is_empty(root_ / "toolchains"));
  EXPECT_FALSE(registry->Find("3.6.0").ok());

  options_.python = "/nonexistent/python";
  EXPECT_EQ(GetReason(Open()->Install("3.6.0", [](const ToolchainProgress&) {}).status()),
            Reason::kToolchainBroken);
}

TEST(PipTest, ItsFailuresHaveReasons) {
  const absl::Status no_version = StatusOfPip("9.0",
                                              "ERROR: Could not find a version that satisfies the "
                                              "requirement triton==9.0 (from versions: 3.0.0, 3.1.0)\n");
  EXPECT_EQ(no_version.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(no_version.message()), HasSubstr("there are: 3.0.0, 3.1.0"));
  EXPECT_EQ(StatusOfPip("3.6.0",
                        "WARNING: Retrying (Retry(total=1)) after NewConnectionError\n"
                        "ERROR: Could not find a version (from versions: none)")
                .code(),
            absl::StatusCode::kUnavailable);
  EXPECT_EQ(StatusOfPip("3.6.0", "OSError: [Errno 28] No space left on device").code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(StatusOfPip("3.6.0", "Traceback").code(), absl::StatusCode::kFailedPrecondition);
}

TEST(PipTest, ItsOutputGivesStepAndSize) {
  EXPECT_EQ(ParsePipOutput("").download_bytes, 0);
  const PipState state =
      ParsePipOutput("Collecting triton==3.6.0\n  Downloading triton-3.6.0-cp311.whl (188.3 MB)\n");
  EXPECT_EQ(state.step, "downloading triton 3.6.0 (188.3 MB)");
  EXPECT_NEAR(state.download_bytes, 188.3e6, 1);
  EXPECT_TRUE(ParsePipOutput("Installing collected packages: x\n").installing);
}

TEST(PipTest, OfAMirrorsAddressTheNameIsWhatFollowsTheLastSlash) {
  for (absl::string_view address :
       {"http://127.0.0.1:81/simple-2/triton-3.6.0-py3-none-any.whl",
        "https://m/a-1/b/triton-3.6.0-x.whl?k=a/b", "https://user:****@m/triton-3.6.0-x.whl#sha256=0a-1"}) {
    const PipState state = ParsePipOutput(absl::StrCat("  Downloading ", address, " (1.2 MB)\n"));
    EXPECT_EQ(state.step, "downloading triton 3.6.0 (1.2 MB)") << address;
    EXPECT_NEAR(state.download_bytes, 1.2e6, 1) << address;
  }
}

TEST(PipTest, TheMetadataOfAWheelIsNoDownloadToMeasure) {
  const PipState state = ParsePipOutput("  Downloading triton-3.6.0-cp312-x.whl.metadata (1.7 kB)\n");
  EXPECT_EQ(state.step, "asking the package index");
  EXPECT_EQ(state.download_bytes, 0);
}

}  // namespace
}  // namespace trun
