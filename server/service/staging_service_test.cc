// Staging areas over the wire: who may have them, what of them may be copied, and what a client gets to map.
#include <unistd.h>

#include "server/device/shared_memory.h"
#include "server/service/service_fixture.h"

namespace trun {
namespace {

TEST_F(ServiceTest, WhereTensorsAreSharedMemoryThereIsNoStagingArea) {
  v1::CreateStagingRequest request;
  request.set_session(Open());
  request.set_bytes(4096);
  v1::CreateStagingResponse response;
  const absl::Status status =
      Call(*staging_stub_, &v1::StagingService::Stub::CreateStaging, request, &response);
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedTarget);
}

// Sessions on a device whose memory only it can touch.
class StagingServiceTest : public ServiceTest {
 protected:
  static constexpr uint64_t kGranule = uint64_t{2} << 20;

  StagingServiceTest() {
    executors_.UseDeviceMemory();
    session_ = Open();
    tensor_ = Allocate(session_, 1024);
  }

  absl::Status Create(const std::string& session, uint64_t bytes, v1::CreateStagingResponse* response) {
    v1::CreateStagingRequest request;
    request.set_session(session);
    request.set_bytes(bytes);
    return Call(*staging_stub_, &v1::StagingService::Stub::CreateStaging, request, response);
  }
  v1::CreateStagingResponse Create(uint64_t bytes = 1) {
    v1::CreateStagingResponse response;
    const absl::Status status = Create(session_, bytes, &response);
    EXPECT_TRUE(status.ok()) << status;
    return response;
  }
  v1::TransferRequest TransferOf(const std::string& staging, uint64_t bytes = 4096) {
    v1::TransferRequest request;
    request.set_session(session_);
    request.set_staging(staging);
    request.set_direction(v1::TRANSFER_DIRECTION_TO_TENSOR);
    v1::TransferRange* range = request.add_ranges();
    range->set_tensor(tensor_);
    range->set_bytes(bytes);
    return request;
  }
  absl::Status Transfer(const v1::TransferRequest& request) {
    v1::TransferResponse response;
    return Call(*staging_stub_, &v1::StagingService::Stub::Transfer, request, &response);
  }
  absl::Status Free(const std::string& session, const std::string& staging) {
    v1::FreeStagingRequest request;
    request.set_session(session);
    request.set_staging(staging);
    v1::FreeStagingResponse response;
    return Call(*staging_stub_, &v1::StagingService::Stub::FreeStaging, request, &response);
  }

  std::string session_, tensor_;
};

TEST_F(StagingServiceTest, RequestsThatMakeNoSenseAreRefused) {
  v1::CreateStagingResponse none;
  for (const uint64_t bytes : {uint64_t{0}, (uint64_t{16} << 30) + 1, ~uint64_t{0}}) {
    const absl::Status status = Create(session_, bytes, &none);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bytes;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << bytes;
  }
  const std::string staging = Create().staging();
  v1::TransferRequest odd = TransferOf(staging);
  for (const int direction : {0, 3, -1}) {
    odd.set_direction(static_cast<v1::TransferDirection>(direction));
    EXPECT_EQ(Transfer(odd).code(), absl::StatusCode::kInvalidArgument) << direction;
    EXPECT_EQ(GetReason(Transfer(odd)), Reason::kArgument) << direction;
  }
  odd = TransferOf(staging);
  odd.clear_ranges();
  EXPECT_EQ(Transfer(odd).code(), absl::StatusCode::kInvalidArgument) << "no range";
  for (int i = 0; i < 1025; ++i) *odd.add_ranges() = TransferOf(staging, 4).ranges(0);
  EXPECT_EQ(Transfer(odd).code(), absl::StatusCode::kInvalidArgument) << "1025 ranges";
  odd.mutable_ranges()->RemoveLast();
  EXPECT_TRUE(Transfer(odd).ok());
}

TEST_F(StagingServiceTest, RangesPastTheEndOfTheAreaOrTheTensorAreRefused) {
  const v1::CreateStagingResponse staging = Create();
  ASSERT_EQ(staging.bytes(), kGranule) << "rounded up";
  const auto move = [&](uint64_t staging_offset, uint64_t tensor_offset, uint64_t bytes) {
    v1::TransferRequest request = TransferOf(staging.staging(), bytes);
    request.mutable_ranges(0)->set_staging_offset(staging_offset);
    request.mutable_ranges(0)->set_tensor_offset(tensor_offset);
    return Transfer(request);
  };
  for (const absl::Status& status : {move(kGranule - 8, 0, 16), move(~uint64_t{0}, 0, 16), move(0, 4088, 16),
                                     move(0, ~uint64_t{0}, 16), move(16, 0, ~uint64_t{0})}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << status;
  }
  EXPECT_TRUE(move(kGranule - 16, 4080, 16).ok());
}

TEST_F(StagingServiceTest, AnAreaOfAnotherSessionOrTenantOrAFreedOneIsNotFound) {
  const std::string staging = Create().staging();
  const std::string other = Open();
  EXPECT_EQ(GetReason(Free(other, staging)), Reason::kHandle);
  v1::TransferRequest foreign = TransferOf(staging);
  foreign.set_session(other);
  EXPECT_EQ(GetReason(Transfer(foreign)), Reason::kHandle);
  foreign = TransferOf(staging);
  foreign.mutable_ranges(0)->set_tensor(Allocate(other, 16));
  EXPECT_EQ(GetReason(Transfer(foreign)), Reason::kHandle) << "a tensor of another session";
  peers_.Set(Caller{1001, "uid:1001", false});
  v1::CreateStagingResponse none;
  EXPECT_EQ(GetReason(Create(session_, 1, &none)), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(Transfer(TransferOf(staging))), Reason::kSessionExpired);
  EXPECT_EQ(GetReason(Free(session_, staging)), Reason::kSessionExpired);
  peers_.Set(Caller{1000, "uid:1000", true});
  EXPECT_TRUE(Free(session_, staging).ok()) << "nothing of that touched it";
  EXPECT_EQ(GetReason(Free(session_, staging)), Reason::kHandle);
  EXPECT_EQ(GetReason(Transfer(TransferOf(staging))), Reason::kHandle);
}

TEST_F(StagingServiceTest, AnAreaThatNobodyCouldMapIsFreedAgain) {
  for (size_t i = 0; i < 40; ++i) Create();
  session_ = Open();
  v1::CreateStagingResponse none;
  absl::Status status;
  size_t made = 0;
  for (; made < 40 && status.ok(); ++made) status = Create(session_, 1, &none);
  EXPECT_EQ(made, TokenStore::kMaxTokensPerUser - 40 + 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(GetReason(status), Reason::kQuota);
  EXPECT_EQ(executors_.staging_areas(), static_cast<int>(TokenStore::kMaxTokensPerUser - 40));
}

TEST_F(StagingServiceTest, WhileDrainingThereAreNoNewAreasAndCopiesGoOn) {
  const std::string staging = Create().staging();
  gate_.StartDraining();
  v1::CreateStagingResponse none;
  EXPECT_EQ(GetReason(Create(session_, 1, &none)), Reason::kDraining);
  EXPECT_TRUE(Transfer(TransferOf(staging)).ok());
  EXPECT_TRUE(Free(session_, staging).ok());
}

TEST_F(StagingServiceTest, WhyTheDriverRegistersNoMemoryIsSaid) {
  executors_.RefuseToRegister("no more locked memory");
  EXPECT_EQ(Create().unregistered_reason(), "no more locked memory");
}

TEST_F(StagingServiceTest, TheTokenIsOneOfASealedDescriptorAndBytesGoBothWays) {
  const v1::CreateStagingResponse staging = Create();
  EXPECT_EQ(GetReason(tokens_.Take(staging.token(), 1001).status()), Reason::kHandle) << "another user";
  auto descriptors = tokens_.Take(staging.token(), 1000);
  ASSERT_TRUE(descriptors.ok()) << descriptors.status();
  ASSERT_EQ(descriptors->size(), 1u);
  EXPECT_EQ(GetReason(tokens_.Take(staging.token(), 1000).status()), Reason::kHandle) << "a second time";
  EXPECT_NE(ftruncate(descriptors->front().get(), 0), 0) << "a peer could take pages away";
  const device::MappedMemory ours = *device::MappedMemory::Map(descriptors->front(), staging.bytes());
  for (int i = 0; i < 4096; ++i) ours.data()[100 + i] = static_cast<char>(i * 31 >> 2);
  v1::TransferRequest request = TransferOf(staging.staging());
  request.mutable_ranges(0)->set_staging_offset(100);
  ASSERT_TRUE(Transfer(request).ok());
  request.set_direction(v1::TRANSFER_DIRECTION_FROM_TENSOR);
  request.mutable_ranges(0)->set_staging_offset(1 << 20);
  ASSERT_TRUE(Transfer(request).ok());
  EXPECT_EQ(absl::string_view(ours.data() + 100, 4096), absl::string_view(ours.data() + (1 << 20), 4096));
}

}  // namespace
}  // namespace trun
