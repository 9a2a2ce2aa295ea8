// The executor against a peer that does not keep to the protocol. What a good peer gets is the conformance
// suite's.
#include "server/executor/runtime/executor_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstring>
#include <thread>

#include "common/base/status.h"
#include "server/device/fake_device.h"
#include "server/device/shared_memory.h"
#include "server/executor/protocol/messages.h"

namespace trun {
namespace {

using internal::v1::ExecutorReply;
using internal::v1::ExecutorRequest;

class ExecutorLoopTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer_.reset(ends[1]);
    ASSERT_TRUE(devices_.Register("fake:0", [] { return device::CreateFakeDevice(); }).ok());
    EXPECT_FALSE(devices_.Register("fake:0", [] { return device::CreateFakeDevice(); }).ok());
    ExecutorLoopOptions options;
    options.scratch_address = device::kFakeScratch;
    options.scratch_limit = 16 << 20;
    thread_ = std::thread([this, socket = ends[0], options] {
      ended_ = ExecutorLoop(UniqueFd(socket), &devices_, options).Run();
    });
  }
  void TearDown() override {
    if (thread_.joinable()) End().IgnoreError();  // the test did not look: it ends here
  }
  absl::Status End() {
    peer_.reset();
    thread_.join();
    return ended_;
  }

  void Send(const ExecutorRequest& request, int descriptor = -1) {
    std::string bytes;
    ASSERT_TRUE(AppendFrame(request, &bytes).ok());
    ASSERT_TRUE(SendAll(peer_.get(), bytes, descriptor).ok());
  }
  // Empty when the executor ended the connection.
  ExecutorReply Next() {
    ExecutorReply reply;
    absl::string_view frame;
    while (!reader_.Next(&frame)) {
      if (!reader_.Receive(peer_.get(), true).ok()) return reply;
    }
    EXPECT_TRUE(reply.ParseFromArray(frame.data(), static_cast<int>(frame.size())));
    return reply;
  }
  ExecutorReply Call(ExecutorRequest request, int descriptor = -1) {
    request.set_request_id(++id_);
    Send(request, descriptor);
    ExecutorReply reply = Next();
    return reply;
  }
  ExecutorReply Hello(const std::string& device = "fake:0", const std::string& session = "s") {
    ExecutorRequest request;
    request.mutable_hello()->set_protocol_version(kExecutorProtocolVersion);
    request.mutable_hello()->set_device(device);
    request.mutable_hello()->set_session(session);
    return Call(request);
  }
  ExecutorReply Load(uint64_t kernel, const std::string& image) {
    ExecutorRequest request;
    request.mutable_load_kernel()->set_kernel(kernel);
    request.mutable_load_kernel()->set_image(image);
    return Call(request);
  }
  static ExecutorRequest LaunchOf(uint64_t kernel) {
    ExecutorRequest request;
    request.mutable_launch()->set_sequence(1);
    request.mutable_launch()->set_kernel(kernel);
    EncodeDimensions({}, request.mutable_launch());
    request.mutable_launch()->set_deadline_ns(1'000'000'000);
    return request;
  }

  DeviceRegistry devices_;
  UniqueFd peer_;
  FrameReader reader_{true};
  uint64_t id_ = 0;
  absl::Status ended_;
  std::thread thread_;
};

TEST_F(ExecutorLoopTest, AnythingBeforeHelloEndsIt) {
  ExecutorRequest request;
  request.mutable_synchronize();
  EXPECT_EQ(Call(request).request_id(), 0u);
  EXPECT_EQ(GetReason(End()), Reason::kProtocol);
}

TEST_F(ExecutorLoopTest, BytesThatAreNoMessageEndIt) {
  ASSERT_TRUE(SendAll(peer_.get(), absl::string_view("\x03\0\0\0\xff\xff\xff", 7), -1).ok());
  EXPECT_EQ(Next().request_id(), 0u);
  EXPECT_EQ(GetReason(End()), Reason::kProtocol);
}

TEST_F(ExecutorLoopTest, AnArenaWithoutItsDescriptorEndsIt) {
  Hello();
  ExecutorRequest request;
  request.mutable_map_arena()->set_bytes(4096);
  EXPECT_EQ(Call(request).request_id(), 0u);
  EXPECT_EQ(GetReason(End()), Reason::kProtocol);
}

TEST_F(ExecutorLoopTest, ALaunchWithoutAGridEndsIt) {
  Hello();
  ExecutorRequest request = LaunchOf(1);
  request.mutable_launch()->clear_grid();
  EXPECT_EQ(Call(request).request_id(), 0u);
  EXPECT_EQ(GetReason(End()), Reason::kProtocol);
}

TEST_F(ExecutorLoopTest, ASecondSessionEndsItButASpareMayBeTakenOnce) {
  EXPECT_TRUE(Hello("fake:0", "").has_hello());
  EXPECT_TRUE(Hello("fake:0", "s-1").has_hello());
  EXPECT_EQ(Hello("fake:0", "s-2").request_id(), 0u);
  EXPECT_EQ(GetReason(End()), Reason::kProtocol);
}

TEST_F(ExecutorLoopTest, AnUnknownDeviceOrVersionIsSaidSo) {
  EXPECT_EQ(Hello("cuda:7").status().code(), static_cast<int>(absl::StatusCode::kNotFound));
  ExecutorRequest request;
  request.mutable_hello()->set_protocol_version(kExecutorProtocolVersion + 1);
  const internal::v1::Status refused = Call(request).status();
  EXPECT_EQ(refused.reason(), "PROTOCOL");
  EXPECT_THAT(refused.message(), testing::HasSubstr("of another release than trund"));
}

TEST_F(ExecutorLoopTest, AnUnsealedArenaIsRefused) {
  Hello();
  const UniqueFd unsealed(memfd_create("unsealed", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(unsealed.get(), 4096), 0);
  ExecutorRequest request;
  request.mutable_map_arena()->set_arena(1);
  request.mutable_map_arena()->set_bytes(4096);
  request.mutable_map_arena()->set_address(device::kFakeAddresses);
  EXPECT_EQ(Call(request, unsealed.get()).status().code(),
            static_cast<int>(absl::StatusCode::kInvalidArgument));
  request.mutable_map_arena()->set_address(device::kFakeScratch);
  const UniqueFd sealed = *device::CreateSealedMemory(4096);
  EXPECT_EQ(Call(request, sealed.get()).status().code(), static_cast<int>(absl::StatusCode::kInvalidArgument))
      << "scratch lies there";
}

TEST_F(ExecutorLoopTest, IdsOfScratchAreNobodyElses) {
  Hello();
  ExecutorRequest add;
  add.mutable_add_allocation()->set_id(uint64_t{1} << 63);
  EXPECT_EQ(Call(add).status().reason(), "ARGUMENT");
}

TEST_F(ExecutorLoopTest, HiddenParametersGetZeroedScratchOnEveryLaunch) {
  Hello();
  ASSERT_TRUE(Load(1, "z zero 8 8").has_load_kernel());
  ExecutorRequest launch = LaunchOf(1);
  launch.mutable_launch()->set_profile_scratch_bytes(64);
  launch.mutable_launch()->set_profile_scratch_align(128);
  for (int round = 0; round < 3; ++round) {
    const ExecutorReply reply = Call(launch);
    EXPECT_EQ(reply.status().code(), 0) << reply.status().message();
  }
}

TEST_F(ExecutorLoopTest, PrintedTextComesWithItsLaunchOnceForAllRepetitions) {
  Hello();
  ASSERT_TRUE(Load(1, "p print").has_load_kernel());
  ExecutorRequest launch = LaunchOf(1);
  launch.mutable_launch()->set_repetitions(5);
  const ExecutorReply reply = Call(launch);
  EXPECT_EQ(reply.launch().printed(), "hello from p\n");
  EXPECT_EQ(reply.launch().device_time_ns_size(), 5);
}

TEST_F(ExecutorLoopTest, ALostContextIsSaidOnceAndEveryLaterLaunchNamesItsCulprit) {
  Hello();
  ASSERT_TRUE(Load(1, "l lose").has_load_kernel());
  EXPECT_TRUE(Call(LaunchOf(1)).launch().context_lost());
  const ExecutorReply later = Call(LaunchOf(1));
  EXPECT_EQ(later.status().reason(), "CONTEXT_LOST");
  EXPECT_EQ(later.status().details().at("sequence"), "1");
}

TEST_F(ExecutorLoopTest, APeerThatLeavesAHungLaunchBehindEndsItAtOnce) {
  Hello();
  ASSERT_TRUE(Load(1, "h hang").has_load_kernel());
  ExecutorRequest launch = LaunchOf(1);
  launch.mutable_launch()->set_deadline_ns(3'600'000'000'000);
  launch.set_request_id(++id_);
  Send(launch);
  EXPECT_TRUE(End().ok());
}

TEST_F(ExecutorLoopTest, AnArenaThatItMakesComesBackAsADescriptorAndTakesBytesThroughStagingMemory) {
  Hello();
  constexpr uint64_t kAddress = device::kFakeAddresses, kBytes = 2 << 20;
  ExecutorRequest create;
  create.mutable_create_arena()->set_arena(1);
  create.mutable_create_arena()->set_bytes(kBytes);
  create.mutable_create_arena()->set_address(kAddress);
  ASSERT_TRUE(Call(create).has_create_arena());
  const UniqueFd memory = reader_.TakeDescriptor();
  ASSERT_TRUE(memory.valid());
  EXPECT_EQ(Call(create).status().code(), static_cast<int>(absl::StatusCode::kAlreadyExists));
  EXPECT_FALSE(reader_.TakeDescriptor().valid());

  const UniqueFd staging = *device::CreateSealedMemory(8192);
  const device::MappedMemory ours = *device::MappedMemory::Map(staging, 8192);
  ExecutorRequest map;
  map.mutable_map_staging()->set_bytes(8192);
  map.set_request_id(++id_);
  Send(map, staging.get());
  EXPECT_EQ(Next().status().code(), 0);
  std::memcpy(ours.data() + 4096, "bytes of a tensor", 17);
  ExecutorRequest transfer;
  transfer.mutable_transfer()->set_address(kAddress + 100);
  transfer.mutable_transfer()->set_bytes(17);
  transfer.mutable_transfer()->set_staging_offset(4096);
  transfer.mutable_transfer()->set_to_device(true);
  EXPECT_EQ(Call(transfer).status().code(), 0);
  ExecutorRequest copy;
  copy.mutable_copy()->set_from(kAddress + 100);
  copy.mutable_copy()->set_to(kAddress + 200);
  copy.mutable_copy()->set_bytes(17);
  EXPECT_EQ(Call(copy).status().code(), 0);
  ExecutorRequest fill;
  fill.mutable_fill()->set_address(kAddress + 200);
  fill.mutable_fill()->set_bytes(4);
  fill.mutable_fill()->set_pattern("-+");
  EXPECT_EQ(Call(fill).status().code(), 0);
  transfer.mutable_transfer()->set_address(kAddress + 200);
  transfer.mutable_transfer()->set_staging_offset(0);
  transfer.mutable_transfer()->set_to_device(false);
  EXPECT_EQ(Call(transfer).status().code(), 0);
  EXPECT_EQ(std::string(ours.data(), 17), "-+-+s of a tensor");
  transfer.mutable_transfer()->set_bytes(8193);
  Send(transfer);
  EXPECT_EQ(GetReason(End()), Reason::kProtocol) << "past the end of the staging memory";
}

TEST_F(ExecutorLoopTest, StagingMemoryThatCouldShrinkEndsIt) {
  Hello();
  const UniqueFd open(memfd_create("unsealed", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(open.get(), 8192), 0);
  ExecutorRequest map;
  map.mutable_map_staging()->set_bytes(8192);
  map.set_request_id(++id_);
  Send(map, open.get());
  EXPECT_EQ(GetReason(End()), Reason::kProtocol);
}

TEST_F(ExecutorLoopTest, ShutdownIsAnsweredAndEndsIt) {
  Hello();
  ExecutorRequest request;
  request.mutable_shutdown();
  EXPECT_EQ(Call(request).request_id(), id_);
  EXPECT_TRUE(End().ok());
}

}  // namespace
}  // namespace trun
