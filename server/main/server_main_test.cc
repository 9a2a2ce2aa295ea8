// The parts of the daemon's process: options, lock, acceptor, connections.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/main/child_processes.h"
#include "server/main/connection_table.h"
#include "server/main/grpc_endpoint.h"
#include "server/main/instance_lock.h"
#include "server/main/server_options.h"
#include "server/main/unix_acceptor.h"

namespace trun {
namespace {

using ::testing::HasSubstr;

class ServerMainTest : public testing::Test {
 protected:
  ServerMainTest() {
    char path[] = "/tmp/trun_test_XXXXXX";
    EXPECT_NE(mkdtemp(path), nullptr);
    folder_ = path;
  }
  ~ServerMainTest() override { std::filesystem::remove_all(folder_); }

  static std::variant<ServerOptions, ExitNow> Parse(std::vector<std::string> flags) {
    flags.insert(flags.begin(), "trund");
    std::vector<char*> argv;
    for (std::string& flag : flags) argv.push_back(flag.data());
    return ParseServerOptions(static_cast<int>(argv.size()), argv.data());
  }
  static int ExitOf(std::vector<std::string> flags) {
    testing::internal::CaptureStderr();
    testing::internal::CaptureStdout();
    const auto parsed = Parse(std::move(flags));
    output_ = testing::internal::GetCapturedStdout() + testing::internal::GetCapturedStderr();
    const ExitNow* exit = std::get_if<ExitNow>(&parsed);
    return exit == nullptr ? -1 : exit->code;
  }

  std::string folder_;
  static inline std::string output_;
};

TEST_F(ServerMainTest, WrongFlagsAreToldAndExitWith2) {
  for (const std::vector<std::string>& flags :
       std::vector<std::vector<std::string>>{{"--no-such-flag"},
                                             {"--emulator", "sm_xyz"},
                                             {"--drain-deadline", "-1s"},
                                             {"--drain-deadline", "inf"},
                                             {"--idle-timeout", "soon"},
                                             {"--cache-limit", "lots"},
                                             {"--max-sessions", "0"},
                                             {"--log-level", "loud"},
                                             {"--ready-fd", "1"},
                                             {"--config", "/nowhere/at/all"}}) {
    EXPECT_EQ(ExitOf(flags), 2) << flags[0];
    EXPECT_FALSE(output_.empty());
  }
}

TEST_F(ServerMainTest, ANameInTheConfigurationFileThatIsNoFlagIsTold) {
  const std::string path = folder_ + "/trund.toml";
  const std::map<std::string, std::string> wrong = {
      {"max-sesions = 3\n", "'max-sesions' in the file given to --config is no flag"},
      {"max_sessions = 3\n", "'max_sessions' in the file given to --config is no flag"},
      {"[limits]\nmax-sessions = 3\n", "'limits' in the file given to --config is a section"}};
  for (const auto& [text, said] : wrong) {
    std::ofstream(path) << "private = true\n" << text;
    EXPECT_EQ(ExitOf({"--config", path}), 2) << text;
    EXPECT_THAT(output_, HasSubstr(said));
  }
}

TEST_F(ServerMainTest, FlagsWinOverTheConfigurationFile) {
  const std::string path = folder_ + "/trund.toml";
  std::ofstream(path) << "max-sessions = 3\ndrain-deadline = \"3s\"\nemulator = [\"sm_75\"]\n";
  for (const bool file_first : {true, false}) {
    std::vector<std::string> flags = {"--max-sessions", "5", "--emulator", "sm_90"};
    flags.insert(file_first ? flags.begin() : flags.end(), {"--config", path});
    const auto parsed = Parse(flags);
    const ServerOptions& options = std::get<ServerOptions>(parsed);
    EXPECT_EQ(options.max_sessions, 5u);
    EXPECT_EQ(options.emulators, (std::vector<int>{90}));
    EXPECT_EQ(options.drain_deadline, absl::Seconds(3));
  }
}

// What `pattern` finds in the text, its first group.
std::set<std::string> FindAll(const std::string& text, const std::string& pattern) {
  const std::regex expression(pattern, std::regex::multiline);
  std::set<std::string> found;
  for (std::sregex_iterator i(text.begin(), text.end(), expression), end; i != end; ++i)
    found.insert((*i)[1].str());
  return found;
}

TEST_F(ServerMainTest, TheTableOfTheOperatorsManualHasEveryFlagOfTheHelpAndNoOther) {
  EXPECT_EQ(ExitOf({"--help"}), 0);
  const std::set<std::string> flags = FindAll(output_, "^  (?:-h,)?(--[a-z-]+)");
  EXPECT_GT(flags.size(), 20u) << output_;
  std::ifstream file("docs/operations.md");
  std::stringstream manual;
  manual << file.rdbuf();
  std::string rows;
  for (const std::string& row : FindAll(manual.str(), "^\\| (`--[^|]*)\\|")) rows += row;
  std::set<std::string> documented = FindAll(rows, "`(--[a-z-]+)");
  documented.insert("--config");  // in the sentence above the table
  EXPECT_EQ(documented, flags);
}

TEST_F(ServerMainTest, HelpAndVersionExitWith0) {
  EXPECT_EQ(ExitOf({"--help"}), 0);
  EXPECT_THAT(output_, HasSubstr("SIGTERM"));
  EXPECT_EQ(ExitOf({"--version"}), 0);
  EXPECT_THAT(output_, HasSubstr("trund "));
}

TEST_F(ServerMainTest, DefaultsAreSafeOnABoxThatOthersUseToo) {
  const auto parsed = Parse({});
  const ServerOptions* options = std::get_if<ServerOptions>(&parsed);
  ASSERT_NE(options, nullptr);
  EXPECT_FALSE(options->allow_unconfined_frontend);
  EXPECT_FALSE(options->private_daemon);
  EXPECT_EQ(options->log_level, LogLevel::kInfo);
  // Nothing is without a bound: disk, memory (0: half of the host's), sessions, time.
  EXPECT_EQ(options->cache_limit, uint64_t{10} << 30);
  EXPECT_EQ(options->memory_limit, 0u);
  EXPECT_EQ(options->compile_memory, uint64_t{8} << 30);
  EXPECT_EQ(options->max_sessions, 256u);
  EXPECT_EQ(options->compile_deadline, absl::Minutes(2));
  EXPECT_EQ(options->drain_deadline, absl::Seconds(10));
  EXPECT_EQ(options->idle_timeout, absl::Minutes(10));
  EXPECT_EQ(options->metrics_file, "");
}

TEST_F(ServerMainTest, FlagsAndTheConfigurationFileSetTheSameThings) {
  std::ofstream(folder_ + "/trund.toml")
      << "cache-limit = \"2GiB\"\ndrain-deadline = \"3s\"\nprivate = true\n"
      << "emulator = [\"sm_75\", \"sm_90\"]\n"
      << "toolchains-dir = [\"/a\", \"/b\"]\n";
  const auto from_file = Parse({"--config", folder_ + "/trund.toml"});
  const ServerOptions& options = std::get<ServerOptions>(from_file);
  EXPECT_EQ(options.cache_limit, uint64_t{2} << 30);
  EXPECT_EQ(options.drain_deadline, absl::Seconds(3));
  EXPECT_TRUE(options.private_daemon);
  EXPECT_EQ(options.emulators, (std::vector<int>{75, 90}));
  EXPECT_EQ(options.toolchain_dirs, (std::vector<std::string>{"/a", "/b"}));
  const auto from_flags = Parse({"--cache-limit", "1MiB", "--emulator", "sm_75,sm_90", "--toolchains-dir",
                                 "/a", "--toolchains-dir", "/b"});
  EXPECT_EQ(std::get<ServerOptions>(from_flags).cache_limit, uint64_t{1} << 20);
  EXPECT_EQ(std::get<ServerOptions>(from_flags).emulators, (std::vector<int>{75, 90}));
  EXPECT_EQ(std::get<ServerOptions>(from_flags).toolchain_dirs, (std::vector<std::string>{"/a", "/b"}));
  EXPECT_EQ(std::get<ServerOptions>(Parse({})).emulators, (std::vector<int>{80, 90}));
}

TEST_F(ServerMainTest, AMissingExecutorOrALongSocketPathIsSaidBeforeAnythingStarts) {
  ServerOptions options;
  options.cache_dir = folder_ + "/cache";
  options.toolchain_dirs = {folder_ + "/toolchains"};
  options.socket = folder_ + "/" + std::string(90, 's');
  EXPECT_EQ(ResolveServerOptions(options).code(), absl::StatusCode::kInvalidArgument);
  options.socket = folder_ + "/s";
  options.executor = folder_ + "/none";
  EXPECT_EQ(ResolveServerOptions(options).code(), absl::StatusCode::kFailedPrecondition);
  options.executor = "/bin/true";
  EXPECT_TRUE(ResolveServerOptions(options).ok());
  struct stat info;
  ASSERT_EQ(stat((folder_ + "/cache").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
}

TEST_F(ServerMainTest, ASecondDaemonIsToldWhoHasTheSocket) {
  absl::StatusOr<InstanceLock> first = InstanceLock::Take(folder_ + "/l");
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status second = InstanceLock::Take(folder_ + "/l").status();
  EXPECT_EQ(second.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetDetails(second)["pid"], std::to_string(getpid()));
  {
    const InstanceLock ended = std::move(first).value();
  }
  EXPECT_TRUE(InstanceLock::Take(folder_ + "/l").ok());
}

TEST_F(ServerMainTest, ALockThatIsASymbolicLinkIsRefused) {
  ASSERT_EQ(symlink("/etc/passwd", (folder_ + "/l").c_str()), 0);
  EXPECT_FALSE(InstanceLock::Take(folder_ + "/l").ok());
}

TEST_F(ServerMainTest, ASocketThatWasLeftBehindIsReplacedAndAFileIsNot) {
  const std::string path = folder_ + "/s";
  const auto ignore = [](UniqueFd, const PeerCredentials&) {};
  std::ofstream(path) << "precious";
  EXPECT_FALSE(UnixAcceptor::Start(path, false, ignore).ok());
  ASSERT_EQ(unlink(path.c_str()), 0);
  {
    const UniqueFd left_behind = ListenUnix(path).value();
  }
  std::promise<uid_t> user;
  absl::StatusOr<std::unique_ptr<UnixAcceptor>> acceptor =
      UnixAcceptor::Start(path, true, [&](UniqueFd connection, const PeerCredentials& peer) {
        EXPECT_NE(fcntl(connection.get(), F_GETFL) & O_NONBLOCK, 0);
        user.set_value(peer.uid);
      });
  ASSERT_TRUE(acceptor.ok()) << acceptor.status();
  struct stat info;
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  const UniqueFd client = ConnectUnix(path).value();
  EXPECT_EQ(user.get_future().get(), geteuid());
  (*acceptor)->Stop();
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_FALSE(ConnectUnix(path).ok());
}

TEST_F(ServerMainTest, TheHealthOfADeviceMayBeToldAfterTheShutdown) {
  Metrics metrics;
  ServiceContext context;
  context.metrics = &metrics;
  auto endpoint = GrpcEndpoint::Create(context);
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  (*endpoint)->Shutdown(absl::ZeroDuration());
  (*endpoint)->SetDeviceServing("emulator:0", true);
  (*endpoint)->SetServing(false);
}

TEST_F(ServerMainTest, AConnectionIsKnownUntilItIsClosedWhateverTakesItsNumber) {
  ConnectionTable table(500);
  EXPECT_EQ(table.Find("fd:3").status().code(), absl::StatusCode::kUnauthenticated);
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const std::string peer = "fd:" + std::to_string(ends[0]);
  ASSERT_TRUE(table.Add(ends[0], PeerCredentials{1, 1000, 1000}).ok());
  EXPECT_EQ(table.Find(peer)->tenant, "uid:1000");
  EXPECT_FALSE(table.Find(peer)->is_owner);
  EXPECT_EQ(table.Sweep(), 1u);
  close(ends[0]);
  const UniqueFd other(open("/dev/null", O_RDONLY));
  EXPECT_EQ(table.Sweep(), 0u);
  EXPECT_FALSE(table.Find(peer).ok());
  ASSERT_TRUE(table.Add(ends[1], PeerCredentials{1, 500, 500}).ok());
  EXPECT_TRUE(table.Find("fd:" + std::to_string(ends[1]))->is_owner);
  close(ends[1]);
}

}  // namespace
}  // namespace trun
