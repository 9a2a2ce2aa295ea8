#include "client/cli/driver_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

namespace trun::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Verdict = Check::Verdict;

constexpr char kDriver[] =
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (builder@host)\n";

// A root folder with a driver of this version and the device files of one GPU.
class DriverCheckTest : public ::testing::Test {
 protected:
  void SetUp() override {
    root_ = std::filesystem::path(::testing::TempDir()) / ("driver-" + std::to_string(getpid()));
    std::filesystem::create_directories(root_ / "proc/driver/nvidia");
    std::filesystem::create_directories(root_ / "dev");
    for (const char* name : {"nvidiactl", "nvidia-uvm", "nvidia0"}) Write(root_ / "dev" / name, "");
    Write(root_ / "proc/driver/nvidia/version", kDriver);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  static void Write(const std::filesystem::path& path, const std::string& text) {
    std::ofstream(path) << text;
    std::filesystem::permissions(path, std::filesystem::perms(0666));
  }
  void Remove(const std::string& path) { ASSERT_TRUE(std::filesystem::remove(root_ / path)); }
  Check Found() const { return CheckDriver(root_.string()); }

  std::filesystem::path root_;
};

TEST_F(DriverCheckTest, NoDriverIsNoFaultAndIsSaid) {
  std::filesystem::remove_all(root_ / "proc");
  std::filesystem::remove_all(root_ / "dev");
  const Check check = Found();
  EXPECT_EQ(check.verdict, Verdict::kOk);
  EXPECT_THAT(check.found, AllOf(HasSubstr("none"), HasSubstr("emulator")));
  EXPECT_EQ(check.help, "");
}

TEST_F(DriverCheckTest, ADriverWithoutItsDevicesIsAContainersFault) {
  Remove("dev/nvidiactl");
  const Check check = Found();
  EXPECT_EQ(check.verdict, Verdict::kWarning);
  EXPECT_THAT(check.found, HasSubstr("580.159.04"));
  EXPECT_THAT(check.help, AllOf(HasSubstr("/dev/nvidiactl is not there"), HasSubstr("container")));
}

TEST_F(DriverCheckTest, EachDeviceFileThatIsMissingIsNamed) {
  Remove("dev/nvidia-uvm");
  Remove("dev/nvidia0");
  const Check check = Found();
  EXPECT_EQ(check.verdict, Verdict::kWarning);
  EXPECT_THAT(check.found, AllOf(HasSubstr("/dev/nvidia-uvm is not there"),
                                 HasSubstr("/dev/nvidia0 is not there"), Not(HasSubstr("nvidiactl"))));
  EXPECT_THAT(check.help, HasSubstr("nvidia-modprobe"));
}

TEST_F(DriverCheckTest, ADeviceFileThatThisUserMayNotOpenIsNamed) {
  Write(root_ / "dev/nvidia3", "");
  std::filesystem::permissions(root_ / "dev/nvidia3", std::filesystem::perms::none);
  Check check;
  // Root may open anything: one thread of this process becomes another user (the system call is the thread's
  // own).
  std::thread([&] {
    if (geteuid() == 0) {
      ASSERT_EQ(syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    }
    check = Found();
  }).join();
  EXPECT_EQ(check.verdict, Verdict::kWarning);
  EXPECT_THAT(check.found,
              AllOf(HasSubstr("/dev/nvidia3 may not be opened"), Not(HasSubstr("/dev/nvidia0"))));
  EXPECT_THAT(check.help, HasSubstr("group"));
}

TEST_F(DriverCheckTest, ADriverThatIsTooOldSaysWhichOneIsNeeded) {
  Write(root_ / "proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.256.02  Thu\n");
  const Check check = Found();
  EXPECT_EQ(check.verdict, Verdict::kWarning);
  EXPECT_THAT(check.found, HasSubstr("470.256.02"));
  EXPECT_THAT(check.help,
              AllOf(HasSubstr("driver 470 is too old"), HasSubstr("CUDA 12.0"), HasSubstr("525")));
}

TEST_F(DriverCheckTest, AVersionThatIsNotToldIsNoFault) {
  Remove("proc/driver/nvidia/version");
  const Check check = Found();
  EXPECT_EQ(check.verdict, Verdict::kOk);
  EXPECT_THAT(check.found, HasSubstr("its version is not told"));
}

TEST_F(DriverCheckTest, AWholeDriverIsNamedWithItsVersion) {
  const Check check = Found();
  EXPECT_EQ(check.verdict, Verdict::kOk) << check.found;
  EXPECT_THAT(check.found, HasSubstr("580.159.04"));
  EXPECT_EQ(check.help, "");
}

}  // namespace
}  // namespace trun::cli
