#include "trun/client.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "client/cpp/daemon_starter.h"
#include "client/cpp/fake_server.h"
#include "client/cpp/host_copy.h"
#include "common/rpc/status_mapping.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace trun {
namespace {

using ::testing::HasSubstr;

// A folder that goes with the test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    char path[] = "/tmp/trun-client-test-XXXXXX";
    path_ = mkdtemp(path);
  }
  ~TemporaryFolder() { std::system(("rm -rf " + path_).c_str()); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() : server_(folder_ / "trund.sock") {
    v1::CompiledKernel kernel;
    kernel.mutable_info()->set_name("add");
    v1::KernelArgument* x = kernel.mutable_info()->add_arguments();
    x->set_name("x");
    x->set_kind(v1::ARGUMENT_KIND_POINTER);
    x->set_dtype(v1::DTYPE_F32);
    kernel.set_cached(true);
    server_.SetKernel(kernel);
  }

  Client Connect() {
    ClientOptions options;
    options.address = "unix:" + folder_ / "trund.sock";
    absl::StatusOr<Client> client = Client::Connect(options);
    EXPECT_TRUE(client.ok()) << client.status();
    return *std::move(client);
  }
  Session Open() {
    Client client = Connect();
    absl::StatusOr<Session> session = client.OpenSession();
    EXPECT_TRUE(session.ok()) << session.status();
    return *std::move(session);
  }
  CompileOptions Ttir() {
    CompileOptions options;
    options.file_name = "add.ttir";
    return options;
  }

  TemporaryFolder folder_;
  FakeServer server_;
};

TEST_F(ClientTest, AnAddressNobodyListensOnIsUnavailableAndStartsNothing) {
  ClientOptions options;
  options.address = "unix:" + folder_ / "nobody.sock";
  options.trund = "/bin/false";
  const absl::Status status = Client::Connect(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(status), Reason::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("nobody.sock"));
}

TEST_F(ClientTest, AnAddressThatIsNoneIsAnInvalidArgument) {
  ClientOptions options;
  options.address = "tcp:1.2.3.4:5";
  EXPECT_EQ(Client::Connect(options).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ClientTest, ASessionEndsWithItsObjectAndOnlyOnce) {
  {
    Session session = Open();
    EXPECT_EQ(session.device(), "emulator:0");
    EXPECT_EQ(server_.live_sessions(), 1);
    Session moved = std::move(session);
  }
  EXPECT_EQ(server_.live_sessions(), 0);
  EXPECT_EQ(server_.Calls("CloseSession"), 1);
}

TEST_F(ClientTest, AfterCloseEveryCallSaysSoAndDestructorsAreSilent) {
  Session session = Open();
  absl::StatusOr<Tensor> tensor = session.Allocate(ScalarType::kF32, {4});
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
  ASSERT_TRUE(tensor.ok() && kernel.ok());
  EXPECT_TRUE(session.Close().ok());
  EXPECT_EQ(GetReason(session.Close()), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(session.Allocate(ScalarType::kF32, {4}).status()), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(tensor->Write("abcd")), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(kernel->Launch({}, {}).status()), Reason::kSessionExpired);
  tensor = absl::UnknownError("gone");
  kernel = absl::UnknownError("gone");
  EXPECT_EQ(server_.Calls("Free"), 0);
  EXPECT_EQ(server_.Calls("ReleaseKernel"), 0);
}

TEST_F(ClientTest, TheLeaseIsRenewedWhileNothingElseHappens) {
  server_.SetLease(150);
  Session session = Open();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (server_.Calls("KeepAlive") < 3 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_GE(server_.Calls("KeepAlive"), 3);
}

TEST_F(ClientTest, AnErrorKeepsReasonDetailsAndFault) {
  Session session = Open();
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
  ASSERT_TRUE(kernel.ok());
  v1::FaultReport fault;
  fault.set_kernel_name("add");
  fault.set_ptx_line(42);
  fault.add_program(3);
  fault.set_nearest_tensor_offset(-4);
  server_.Fail(
      "Launch",
      WithFault(FailedPrecondition(Reason::kIllegalAddress, "store out of bounds", {{"line", "7"}}), fault));
  const absl::Status status = kernel->Launch({}, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kIllegalAddress);
  EXPECT_EQ(GetDetails(status).at("line"), "7");
  const std::optional<FaultReport> report = GetFaultReport(status);
  ASSERT_TRUE(report.has_value());
  EXPECT_EQ(report->kernel_name, "add");
  EXPECT_EQ(report->ptx_line, 42u);
  EXPECT_EQ(report->program, std::vector<uint32_t>{3});
  EXPECT_EQ(report->nearest_tensor_offset, -4);
  EXPECT_FALSE(GetFaultReport(absl::InternalError("x")).has_value());
}

TEST_F(ClientTest, SmallAndLargeTensorsComeBackAsTheyWereWritten) {
  Session session = Open();
  for (const uint64_t bytes : {uint64_t{1}, uint64_t{4096}, uint64_t{3} << 20}) {
    std::string data(bytes, '\0');
    for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 131 + i / 4096);
    absl::StatusOr<Tensor> tensor = session.Allocate(ScalarType::kU8, {bytes});
    ASSERT_TRUE(tensor.ok());
    ASSERT_TRUE(tensor->Write(data).ok());
    absl::StatusOr<std::string> back = tensor->Read();
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_TRUE(*back == data) << bytes;
  }
  EXPECT_EQ(server_.Calls("ExportDescriptors"), 1) << "only the large one is worth a descriptor";
}

TEST_F(ClientTest, MemoryThatCannotBeMappedIsStreamed) {
  server_.SetMappable(false);
  Session session = Open();
  const uint64_t bytes = (3 << 20) + 17;
  const std::string data(bytes, 'q');
  absl::StatusOr<Tensor> tensor = session.Allocate(ScalarType::kU8, {bytes});
  ASSERT_TRUE(tensor.ok());
  ASSERT_TRUE(tensor->Write(data).ok());
  EXPECT_EQ(*tensor->Read(), data);
  EXPECT_EQ(tensor->Map().status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(server_.Calls("ExportDescriptors"), 0);
}

TEST_F(ClientTest, AMappedTensorIsTheMemoryThatLaunchesSee) {
  Session session = Open();
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
  absl::StatusOr<Tensor> tensor = session.Allocate(ScalarType::kF32, {1024});
  ASSERT_TRUE(kernel.ok() && tensor.ok());
  absl::StatusOr<absl::Span<char>> memory = tensor->Map();
  ASSERT_TRUE(memory.ok()) << memory.status();
  (*memory)[5] = 'x';
  server_.OnLaunch([](const v1::LaunchRequest&, const std::vector<FakeServer::TensorBytes>& tensors) {
    tensors[0][6] = static_cast<char>(tensors[0][5] + 1);
  });
  absl::StatusOr<LaunchResult> result = kernel->Launch({1}, {*tensor});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ((*memory)[6], 'y');
  EXPECT_EQ(result->device_time, absl::Nanoseconds(1500));
  EXPECT_EQ(result->warp_instructions, 7u);
}

TEST_F(ClientTest, SharedMemoryIsReadOnlyBehindAFenceAfterQueuedLaunches) {
  Session session = Open();
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
  absl::StatusOr<Tensor> tensor = session.Allocate(ScalarType::kU8, {1 << 20});
  ASSERT_TRUE(kernel.ok() && tensor.ok());
  ASSERT_TRUE(tensor->Write(std::string(1 << 20, 'a')).ok());
  EXPECT_EQ(server_.Calls("Read"), 0) << "nothing was queued";
  ASSERT_TRUE(kernel->LaunchAsync({1}, {*tensor}).ok());
  ASSERT_TRUE(tensor->Read().ok());
  EXPECT_EQ(server_.Calls("Read"), 1) << "a Read on the server waits for the launch";
  ASSERT_TRUE(session.Synchronize().ok());
  ASSERT_TRUE(tensor->Read().ok());
  EXPECT_EQ(server_.Calls("Read"), 1) << "after Synchronize nothing is outstanding";
}

TEST_F(ClientTest, RangesPastTheEndAreRefusedWithoutACall) {
  Session session = Open();
  absl::StatusOr<Tensor> tensor = session.Allocate(ScalarType::kF32, {4});
  ASSERT_TRUE(tensor.ok());
  EXPECT_EQ(tensor->Write("abc", 14).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(tensor->Write("abc", ~uint64_t{0}).code(), absl::StatusCode::kOutOfRange);
  std::string out(17, '\0');
  EXPECT_EQ(tensor->Read(absl::MakeSpan(&out[0], out.size())).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(server_.Calls("Write") + server_.Calls("Read"), 0);
}

TEST_F(ClientTest, FillCopyAndFreeReachTheServer) {
  Session session = Open();
  absl::StatusOr<Tensor> a = session.Allocate(ScalarType::kU8, {6});
  absl::StatusOr<Tensor> b = session.Allocate(ScalarType::kU8, {6});
  absl::StatusOr<Tensor> c = session.Allocate(ScalarType::kU8, {7});
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  ASSERT_TRUE(a->Fill("xy").ok());
  ASSERT_TRUE(b->CopyFrom(*a).ok());
  EXPECT_EQ(*b->Read(), "xyxyxy");
  EXPECT_EQ(c->CopyFrom(*a).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(server_.live_tensors(), 3);
  ASSERT_TRUE(a->Free().ok());
  EXPECT_EQ(a->Free().code(), absl::StatusCode::kFailedPrecondition);
  *b = *std::move(c);
  EXPECT_EQ(server_.live_tensors(), 1);
}

TEST_F(ClientTest, ACompileReportsItsStagesAndPassesItsOptions) {
  Session session = Open();
  CompileOptions options = Ttir();
  options.options["num_warps"] = "8";
  options.toolchain = "3.9.0";
  options.deadline = absl::Seconds(90);
  std::vector<std::string> events;
  options.on_stage = [&](const StageEvent& event) {
    events.push_back(std::string(LevelName(event.level)) + (event.done ? " done" : " started"));
  };
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", options);
  ASSERT_TRUE(kernel.ok()) << kernel.status();
  EXPECT_THAT(events, ::testing::ElementsAre("ptx started", "ptx done"));
  EXPECT_EQ(kernel->info().stages.size(), 1u);
  EXPECT_EQ(kernel->info().arguments[0].name, "x");
  const v1::CompileRequest request = server_.LastCompile();
  EXPECT_EQ(request.level(), v1::LEVEL_TTIR);
  EXPECT_EQ(request.options().at("num_warps"), "8");
  EXPECT_EQ(request.deadline().seconds(), 90);
  EXPECT_EQ(request.ir(), "module {}");
  EXPECT_EQ(*kernel->GetArtifact(Level::kPtx), "first second");
}

TEST_F(ClientTest, AFileOfNoKnownLevelIsRefusedWithoutACall) {
  Session session = Open();
  CompileOptions options;
  options.file_name = "kernel.txt";
  const absl::Status status = session.Compile("x", options).status();
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedLevel);
  EXPECT_EQ(server_.Calls("Compile"), 0);
  EXPECT_EQ(session.CompileFile(folder_ / "absent.ttir").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ClientTest, LargeFilesAreUploadedOnceAndTooLargeOnesNever) {
  Session session = Open();
  const std::string large(5 << 20, 'm');
  for (int i = 0; i < 2; ++i) {
    absl::StatusOr<Kernel> kernel = session.Compile(large, Ttir());
    ASSERT_TRUE(kernel.ok()) << kernel.status();
  }
  EXPECT_EQ(server_.Calls("FindMissing"), 2);
  EXPECT_EQ(server_.Calls("Upload"), 1);
  EXPECT_EQ(server_.LastCompile().source_case(), v1::CompileRequest::kDigest);
  const absl::Status status = session.Compile(std::string((64 << 20) + 1, 'm'), Ttir()).status();
  EXPECT_EQ(GetReason(status), Reason::kTooLarge);
  EXPECT_EQ(server_.Calls("Compile"), 2);
}

TEST_F(ClientTest, KernelHandlesAreReleasedWithTheirObjects) {
  Session session = Open();
  {
    absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
    ASSERT_TRUE(kernel.ok());
    EXPECT_EQ(server_.live_kernels(), 1);
  }
  EXPECT_EQ(server_.live_kernels(), 0);
}

TEST_F(ClientTest, EveryKindOfArgumentReachesTheServerAsItself) {
  Session session = Open();
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
  absl::StatusOr<Tensor> tensor = session.Allocate(ScalarType::kF32, {64, 32});
  ASSERT_TRUE(kernel.ok() && tensor.ok());
  TensorDescriptor descriptor{{tensor->handle(), 0}, {64, 32}, {32, 1}, {16, 16}, true, {}, true};
  TensorDescriptor columns{{tensor->handle(), 0}, {2, 32, 32}, {1024, 32, 1}, {8, 32}, false, {}, false};
  columns.im2col = Im2col{{-3}, {4}, {1, 2, 1}};
  LaunchOptions options;
  options.deadline = absl::Milliseconds(2500);
  ASSERT_TRUE(kernel
                  ->Launch({2, 3, 4},
                           {Argument(*tensor, 16), 5, -7, uint64_t{1} << 63, 2.5f, nullptr, true, descriptor,
                            columns},
                           options)
                  .ok());
  const v1::LaunchRequest request = server_.LastLaunch();
  EXPECT_THAT(request.grid(), ::testing::ElementsAre(2, 3, 4));
  ASSERT_EQ(request.arguments_size(), 9);
  EXPECT_EQ(request.arguments(0).tensor().offset(), 16u);
  EXPECT_EQ(request.arguments(1).int_value(), 5);
  EXPECT_EQ(request.arguments(2).int_value(), -7);
  EXPECT_EQ(request.arguments(3).uint_value(), uint64_t{1} << 63);
  EXPECT_EQ(request.arguments(4).float_value(), 2.5);
  EXPECT_TRUE(request.arguments(5).null_pointer());
  EXPECT_EQ(request.arguments(6).int_value(), 1);
  EXPECT_TRUE(request.arguments(7).tensor_descriptor().padding_nan());
  EXPECT_TRUE(request.arguments(7).tensor_descriptor().round_f32_to_tf32());
  EXPECT_FALSE(request.arguments(7).tensor_descriptor().has_im2col());
  const v1::Im2col& box = request.arguments(8).tensor_descriptor().im2col();
  EXPECT_THAT(box.lower_corner(), ::testing::ElementsAre(-3));
  EXPECT_THAT(box.upper_corner(), ::testing::ElementsAre(4));
  EXPECT_THAT(box.element_strides(), ::testing::ElementsAre(1, 2, 1));
  EXPECT_EQ(request.deadline().nanos(), 500000000);
  EXPECT_TRUE(request.wait());
}

TEST_F(ClientTest, AStreamOfLaunchesAnswersInOrderAndEndsCleanly) {
  Session session = Open();
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
  absl::StatusOr<LaunchStream> stream = session.OpenLaunchStream();
  ASSERT_TRUE(kernel.ok() && stream.ok());
  for (int i = 0; i < 200; ++i) ASSERT_TRUE(stream->Launch(*kernel, {1}, {i}).ok());
  ASSERT_TRUE(stream->Launch(*kernel, {1}, {Argument(TensorAt{"nonsense", 0})}).ok());
  ASSERT_TRUE(stream->DoneLaunching().ok());
  for (uint64_t i = 1; i <= 200; ++i) {
    absl::StatusOr<LaunchResult> result = stream->Next();
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(result->sequence, i);
  }
  EXPECT_EQ(GetReason(stream->Next().status()), Reason::kHandle) << "the failed launch's own status";
  EXPECT_EQ(stream->Next().status().code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(stream->Launch(*kernel, {1}, {}).code(), absl::StatusCode::kFailedPrecondition);
}

TEST_F(ClientTest, AStreamLeftInTheMiddleCancelsAndDoesNotHang) {
  Session session = Open();
  absl::StatusOr<Kernel> kernel = session.Compile("module {}", Ttir());
  absl::StatusOr<LaunchStream> stream = session.OpenLaunchStream();
  ASSERT_TRUE(kernel.ok() && stream.ok());
  for (int i = 0; i < 10; ++i) ASSERT_TRUE(stream->Launch(*kernel, {1}, {}).ok());
}

TEST_F(ClientTest, ProgressOfAnInstallationNeverGoesBack) {
  Client client = Connect();
  std::vector<double> fractions;
  absl::StatusOr<ToolchainInfo> installed = client.toolchains().Install(
      "3.6.0", [&](absl::string_view, double fraction) { fractions.push_back(fraction); });
  ASSERT_TRUE(installed.ok());
  EXPECT_EQ(installed->name, "3.6.0");
  EXPECT_THAT(fractions, ::testing::ElementsAre(0.5, 0.5, 1.0));
}

TEST_F(ClientTest, AnImportWhoseSourceFailsIsCancelledNotFinished) {
  Client client = Connect();
  int chunks = 0;
  const absl::Status status = client.cache()
                                  .Import([&]() -> absl::StatusOr<std::string> {
                                    if (++chunks == 1) return std::string("half");
                                    return absl::DataLossError("disk");
                                  })
                                  .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  std::string exported;
  EXPECT_TRUE(client.cache()
                  .Export({},
                          [&](absl::string_view data) {
                            exported.append(data.data(), data.size());
                            return absl::OkStatus();
                          })
                  .ok());
  EXPECT_EQ(exported, "exported");
}

// A program in the place of trund.
std::string Script(const TemporaryFolder& folder, const std::string& body) {
  const std::string path = folder / "trund";
  std::ofstream(path) << "#!/bin/sh\n" << body << "\n";
  chmod(path.c_str(), 0700);
  return path;
}

TEST(DaemonStarterTest, ADaemonThatEndsAtOnceIsReportedWithItsLog) {
  TemporaryFolder folder;
  DaemonStart start;
  start.socket_path = folder / "trund.sock";
  start.trund = Script(folder, "echo the cache folder is locked >&2; exit 3");
  const absl::Status status = EnsureDaemon(start).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()), HasSubstr("exit code 3"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("the cache folder is locked"));
}

TEST(DaemonStarterTest, ADaemonThatNeverGetsReadyIsEndedAtTheDeadline) {
  TemporaryFolder folder;
  DaemonStart start;
  start.socket_path = folder / "trund.sock";
  start.trund = Script(folder, "echo waiting; exec sleep 600");
  start.timeout = absl::Milliseconds(300);
  const absl::Status status = EnsureDaemon(start).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(status.message()), HasSubstr("waiting"));
}

TEST(DaemonStarterTest, AProgramThatIsNotThereIsReported) {
  TemporaryFolder folder;
  DaemonStart start;
  start.socket_path = folder / "trund.sock";
  start.trund = folder / "absent";
  EXPECT_FALSE(EnsureDaemon(start).ok());
}

TEST(DaemonStarterTest, ClientsThatStartAtOnceGetOneDaemon) {
  TemporaryFolder folder;
  DaemonStart start;
  start.socket_path = folder / "trund.sock";
  // The stand-in counts its starts, and this process listens in its place once it is there.
  start.trund = Script(folder, "echo start >> " + (folder / "starts") + "; while [ ! -S " +
                                   start.socket_path + " ]; do sleep 0.01; done; echo >&3; exec sleep 1");
  std::vector<std::thread> clients;
  std::vector<absl::StatusOr<bool>> results(4, absl::UnknownError(""));
  for (auto& result : results) clients.emplace_back([&] { result = EnsureDaemon(start); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  struct stat info;
  while (stat((folder / "starts").c_str(), &info) != 0 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  FakeServer server(start.socket_path);
  for (std::thread& client : clients) client.join();
  int started = 0;
  for (const auto& result : results) {
    ASSERT_TRUE(result.ok()) << result.status();
    started += *result ? 1 : 0;
  }
  EXPECT_EQ(started, 1);
  EXPECT_EQ(LogTail(folder / "starts", 10), "start\n");
}

TEST(HostCopyTest, EveryByteAndNoOtherIsCopiedAtAnyAlignmentAndSize) {
  std::string from(500, '\0');
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<char>(i * 7 + 1);
  for (size_t at = 0; at < 70; ++at) {
    for (const size_t bytes : {0, 1, 15, 63, 64, 65, 127, 128, 200, 300}) {
      std::string to(600, '-');
      CopyPastCaches(&to[at], &from[at % 3], bytes);
      EXPECT_EQ(to.substr(at, bytes), from.substr(at % 3, bytes));
      EXPECT_EQ(
          static_cast<size_t>(std::count(to.begin(), to.end(), '-')) -
              static_cast<size_t>(std::count(from.begin() + at % 3, from.begin() + at % 3 + bytes, '-')),
          to.size() - bytes);
    }
  }
}

TEST(DaemonStarterTest, TheLogsTailHasTheLastLinesOnly) {
  TemporaryFolder folder;
  std::ofstream(folder / "log") << "one\ntwo\nthree\nfour\n";
  EXPECT_EQ(LogTail(folder / "log", 2), "three\nfour\n");
  EXPECT_EQ(LogTail(folder / "log", 10), "one\ntwo\nthree\nfour\n");
  EXPECT_EQ(LogTail(folder / "absent", 2), "");
  std::ofstream(folder / "open") << "one\ntwo";
  off_t end = -1;
  EXPECT_EQ(LogTail(folder / "open", 1, &end), "two");
  EXPECT_EQ(end, 7) << "whoever follows goes on there";
  EXPECT_EQ(LogTail(folder / "absent", 1, &end), "");
  EXPECT_EQ(end, 0);
}

}  // namespace
}  // namespace trun
