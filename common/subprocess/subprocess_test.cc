#include "common/subprocess/subprocess.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace trun {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

UniqueFd MakeFile() { return UniqueFd(memfd_create("out", MFD_CLOEXEC)); }

std::string Contents(const UniqueFd& fd) {
  std::string text(1 << 16, '\0');
  const ssize_t got = pread(fd.get(), text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<size_t>(got) : 0);
  return text;
}

SubprocessOptions Shell(const std::string& script) {
  SubprocessOptions options;
  options.argv = {"/bin/sh", "-c", script};
  options.env = {{"PATH", "/usr/bin:/bin"}};
  return options;
}

// Runs a script to its end and returns what it printed.
std::string Output(SubprocessOptions options) {
  UniqueFd out = MakeFile();
  options.stdout_fd = out.get();
  auto child = Subprocess::Start(options);
  EXPECT_TRUE(child.ok()) << child.status();
  if (!child.ok()) return "";
  auto exit = (*child)->Wait(absl::Seconds(30));
  EXPECT_TRUE(exit.ok()) << exit.status();
  return Contents(out);
}

TEST(SubprocessTest, AMissingProgramIsNotFound) {
  SubprocessOptions options;
  options.argv = {"/nonexistent/program"};
  EXPECT_EQ(Subprocess::Start(options).status().code(), absl::StatusCode::kNotFound);
}

TEST(SubprocessTest, AFileThatIsNotExecutableIsPermissionDenied) {
  SubprocessOptions options;
  options.argv = {"/etc/passwd"};
  EXPECT_EQ(Subprocess::Start(options).status().code(), absl::StatusCode::kPermissionDenied);
}

TEST(SubprocessTest, AMissingWorkingDirectoryIsNamed) {
  SubprocessOptions options = Shell("true");
  options.working_directory = "/nonexistent";
  const absl::Status status = Subprocess::Start(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("/nonexistent"));
}

TEST(SubprocessTest, NoProgramOrALowDescriptorNumberIsInvalid) {
  EXPECT_EQ(Subprocess::Start({}).status().code(), absl::StatusCode::kInvalidArgument);
  SubprocessOptions options = Shell("true");
  options.descriptors = {{2, 2}};
  EXPECT_EQ(Subprocess::Start(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(SubprocessTest, ADescriptorThatIsNotOpenIsAnError) {
  SubprocessOptions options = Shell("true");
  options.descriptors = {{3, 987}};
  EXPECT_FALSE(Subprocess::Start(options).ok());
}

TEST(SubprocessTest, WaitGivesTheExitCodeAndGivesItAgain) {
  auto child = Subprocess::Start(Shell("exit 3"));
  ASSERT_TRUE(child.ok());
  for (int i = 0; i < 2; ++i) {
    auto exit = (*child)->Wait(absl::Seconds(30));
    ASSERT_TRUE(exit.ok());
    EXPECT_EQ(exit->ToString(), "exit code 3");
  }
  EXPECT_TRUE((*child)->Signal(SIGKILL).ok());
}

TEST(SubprocessTest, WaitPastItsTimeoutIsDeadlineExceededAndASignalEndsTheChild) {
  auto child = Subprocess::Start(Shell("sleep 100"));
  ASSERT_TRUE(child.ok());
  EXPECT_EQ((*child)->Wait(absl::Milliseconds(5)).status().code(), absl::StatusCode::kDeadlineExceeded);
  ASSERT_TRUE((*child)->Signal(SIGTERM).ok());
  auto exit = (*child)->Wait(absl::Seconds(30));
  ASSERT_TRUE(exit.ok());
  EXPECT_TRUE(exit->signaled);
  EXPECT_THAT(exit->ToString(), HasSubstr("signal 15"));
}

TEST(SubprocessTest, NothingIsInheritedButWhatIsNamed) {
  UniqueFd leaked(open("/dev/null", O_RDONLY));  // not even close-on-exec
  ASSERT_TRUE(leaked.valid());
  ASSERT_EQ(setenv("TRUN_TEST_SECRET", "1", 1), 0);
  UniqueFd a = MakeFile(), b = MakeFile();
  SubprocessOptions options = Shell("env; echo a >&5; echo b >&3; ls /proc/self/fd");
  // Crossed on purpose: each target is a number that another source may have.
  options.descriptors = {{3, b.get()}, {5, a.get()}};
  options.env["KEPT"] = "yes";
  const std::string out = Output(options);
  EXPECT_THAT(out, HasSubstr("KEPT=yes"));
  EXPECT_THAT(out, ::testing::Not(HasSubstr("SECRET")));
  EXPECT_EQ(Contents(a), "a\n");
  EXPECT_EQ(Contents(b), "b\n");
  std::vector<std::string> fds;
  for (absl::string_view line : absl::StrSplit(out, '\n', absl::SkipEmpty())) {
    int number;
    if (absl::SimpleAtoi(line, &number)) fds.emplace_back(line);
  }
  EXPECT_THAT(fds, ElementsAre("0", "1", "2", "3", "4", "5"));  // 4 is ls reading the folder
}

TEST(SubprocessTest, DescriptorsMaySwapNumbers) {
  UniqueFd a = MakeFile(), b = MakeFile();
  SubprocessOptions options = Shell("echo a >&8; echo b >&9");
  UniqueFd eight(fcntl(b.get(), F_DUPFD_CLOEXEC, 100)), nine(fcntl(a.get(), F_DUPFD_CLOEXEC, 100));
  ASSERT_EQ(dup2(b.get(), 8), 8);
  ASSERT_EQ(dup2(a.get(), 9), 9);
  options.descriptors = {{8, 9}, {9, 8}};
  Output(options);
  close(8);
  close(9);
  EXPECT_EQ(Contents(a), "a\n");
  EXPECT_EQ(Contents(b), "b\n");
}

TEST(SubprocessTest, ASignalIgnoredHereIsNotIgnoredInTheChild) {
  const auto before = signal(SIGPIPE, SIG_IGN);
  auto child = Subprocess::Start(Shell("kill -PIPE $$; exit 0"));
  signal(SIGPIPE, before);
  ASSERT_TRUE(child.ok());
  auto exit = (*child)->Wait(absl::Seconds(30));
  ASSERT_TRUE(exit.ok());
  EXPECT_TRUE(exit->signaled);
}

TEST(SubprocessTest, TheAddressSpaceLimitHolds) {
  SubprocessOptions options = Shell("ulimit -v; ulimit -c");
  options.address_space_limit = uint64_t{1} << 30;
  EXPECT_EQ(Output(options), "1048576\n0\n");
}

TEST(SubprocessTest, TheChildHasASessionOfItsOwn) {
  UniqueFd out = MakeFile();
  SubprocessOptions options = Shell("cut -d' ' -f 5,6 /proc/$$/stat");
  options.stdout_fd = out.get();
  auto child = Subprocess::Start(options);
  ASSERT_TRUE(child.ok());
  ASSERT_TRUE((*child)->Wait(absl::Seconds(30)).ok());
  const std::string pid = std::to_string((*child)->pid());
  EXPECT_EQ(Contents(out), pid + " " + pid + "\n");
}

// True until the process is gone (or a zombie that its new parent has not yet reaped).
bool Alive(pid_t pid) {
  UniqueFd stat(open(("/proc/" + std::to_string(pid) + "/stat").c_str(), O_RDONLY | O_CLOEXEC));
  if (!stat.valid()) return false;
  const std::string text = Contents(stat);
  const size_t end = text.rfind(')');
  return end != std::string::npos && text.compare(end, 3, ") Z") != 0;
}

bool GoneSoon(pid_t pid) {
  for (int i = 0; i < 1000; ++i) {
    if (!Alive(pid)) return true;
    usleep(10000);
  }
  return false;
}

TEST(SubprocessTest, WhatAChildLeavesBehindInItsGroupEndsWithIt) {
  UniqueFd out = MakeFile();
  SubprocessOptions options = Shell("sleep 100 & echo $!");
  options.stdout_fd = out.get();
  auto child = Subprocess::Start(options);
  ASSERT_TRUE(child.ok());
  ASSERT_TRUE((*child)->Wait(absl::Seconds(30)).ok());
  int grandchild = 0;
  ASSERT_TRUE(absl::SimpleAtoi(absl::StripAsciiWhitespace(Contents(out)), &grandchild));
  EXPECT_TRUE(GoneSoon(grandchild));
}

TEST(SubprocessTest, TheDestructorKillsAndReaps) {
  auto child = Subprocess::Start(Shell("sleep 100"));
  ASSERT_TRUE(child.ok());
  const pid_t pid = (*child)->pid();
  child->reset();
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(SubprocessTest, ADetachedChildOutlivesItsObject) {
  SubprocessOptions options = Shell("sleep 100");
  options.die_with_parent = false;
  auto child = Subprocess::Start(options);
  ASSERT_TRUE(child.ok());
  const pid_t pid = (*child)->pid();
  (*child)->Detach();
  child->reset();
  EXPECT_TRUE(Alive(pid));
  ASSERT_EQ(kill(pid, SIGKILL), 0);
  ASSERT_TRUE(GoneSoon(pid));
  Output(Shell("true"));  // starting another reaps it
  EXPECT_EQ(kill(pid, 0), -1);
}

TEST(SubprocessTest, AChildOutlivesTheThreadThatStartedIt) {
  std::unique_ptr<Subprocess> child;
  std::thread([&] {
    auto started = Subprocess::Start(Shell("sleep 0.2; exit 7"));
    ASSERT_TRUE(started.ok());
    child = *std::move(started);
  }).join();
  ASSERT_NE(child, nullptr);
  auto exit = child->Wait(absl::Seconds(30));
  ASSERT_TRUE(exit.ok());
  EXPECT_EQ(exit->ToString(), "exit code 7");
}

TEST(SubprocessTest, ManyThreadsMayStartAndWaitAtOnce) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 5; ++i) {
        auto child = Subprocess::Start(Shell("exit " + std::to_string(t)));
        ASSERT_TRUE(child.ok());
        auto exit = (*child)->Wait(absl::Seconds(30));
        ASSERT_TRUE(exit.ok());
        EXPECT_EQ(exit->code, t);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace trun
