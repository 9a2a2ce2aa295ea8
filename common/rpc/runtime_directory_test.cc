#include "common/rpc/runtime_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "common/base/status.h"
#include "gtest/gtest.h"

namespace trun {
namespace {

class RuntimeDirectoryTest : public testing::Test {
 protected:
  RuntimeDirectoryTest() {
    char path[] = "/tmp/trun_test_XXXXXX";
    EXPECT_NE(mkdtemp(path), nullptr);
    environment_.temp = path;
    environment_.uid = geteuid();
  }
  ~RuntimeDirectoryTest() override { std::filesystem::remove_all(environment_.temp); }
  std::string Expected() const { return environment_.temp + "/trun-" + std::to_string(environment_.uid); }

  RuntimeEnvironment environment_;
};

TEST_F(RuntimeDirectoryTest, AFolderThatOthersCanEnterIsRefused) {
  ASSERT_EQ(mkdir(Expected().c_str(), 0700), 0);
  ASSERT_EQ(chmod(Expected().c_str(), 0755), 0);
  EXPECT_EQ(GetReason(RuntimeDirectory(environment_).status()), Reason::kNotPermitted);
}

TEST_F(RuntimeDirectoryTest, ASymbolicLinkIsRefused) {
  ASSERT_EQ(mkdir((environment_.temp + "/real").c_str(), 0700), 0);
  ASSERT_EQ(symlink((environment_.temp + "/real").c_str(), Expected().c_str()), 0);
  EXPECT_EQ(GetReason(RuntimeDirectory(environment_).status()), Reason::kNotPermitted);
}

TEST_F(RuntimeDirectoryTest, AFileInItsPlaceIsRefused) {
  fclose(fopen(Expected().c_str(), "w"));
  EXPECT_EQ(GetReason(RuntimeDirectory(environment_).status()), Reason::kNotPermitted);
}

TEST_F(RuntimeDirectoryTest, AFolderOfAnotherUserIsRefused) {
  ASSERT_EQ(mkdir(Expected().c_str(), 0700), 0);
  EXPECT_EQ(GetReason(MakePrivateDirectory(Expected(), environment_.uid + 1)), Reason::kNotPermitted);
}

TEST_F(RuntimeDirectoryTest, WithoutXdgRuntimeDirAnOwnedFolderIsMade) {
  ASSERT_EQ(RuntimeDirectory(environment_).value(), Expected());
  struct stat info;
  ASSERT_EQ(stat(Expected().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_EQ(RuntimeDirectory(environment_).value(), Expected()) << "a second look finds the same";
}

TEST_F(RuntimeDirectoryTest, XdgRuntimeDirIsUsedWhereItIsAFolderOfThisUser) {
  environment_.xdg_runtime_dir = environment_.temp + "/missing";
  EXPECT_EQ(RuntimeDirectory(environment_).value(), Expected());
  ASSERT_EQ(mkdir(environment_.xdg_runtime_dir.c_str(), 0700), 0);
  EXPECT_EQ(DaemonSocketPath(environment_).value(), environment_.xdg_runtime_dir + "/trun/trund.sock");
}

TEST_F(RuntimeDirectoryTest, TrunAddressOverridesAll) {
  environment_.trun_address = "unix:/run/x.sock";
  EXPECT_EQ(DaemonSocketPath(environment_).value(), "/run/x.sock");
  environment_.trun_address = "host:1234";
  EXPECT_EQ(DaemonSocketPath(environment_).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(RuntimeDirectoryTest, APathTooLongForASocketIsRefusedWithTheLimit) {
  const absl::Status status = ParseAddress("/" + std::string(107, 'x')).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetDetails(status)["limit"], "107");
  EXPECT_EQ(ParseAddress("unix:///a/b").value(), "/a/b");
  EXPECT_FALSE(ParseAddress("unix:a/b").ok());
  EXPECT_FALSE(ParseAddress("").ok());
}

}  // namespace
}  // namespace trun
