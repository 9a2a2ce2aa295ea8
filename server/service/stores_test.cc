// What the services keep between calls: uploads, tokens, the gate, the pool; and what they decode.
#include <fcntl.h>
#include <sys/mman.h>

#include <atomic>
#include <thread>

#include "common/base/fake_clock.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/cache/fake_kernel_cache.h"
#include "server/service/call_gate.h"
#include "server/service/call_pool.h"
#include "server/service/token_store.h"
#include "server/service/tuning_store.h"
#include "server/service/upload_store.h"
#include "server/service/wire.h"

namespace trun {
namespace {

class TuningStoreTest : public testing::Test {
 protected:
  static device::DeviceInfo Device(const std::string& name) {
    device::DeviceInfo info;
    info.name = name;
    info.target = Target{"cuda", 80, 32};
    return info;
  }
  const std::string key_ = std::string(64, 'a');
  const device::DeviceInfo gpu_ = Device("a GPU");
  FakeKernelCache cache_;
  TuningStore store_{&cache_};
};

TEST_F(TuningStoreTest, AKeyThatIsNoDigestAndAValueThatIsTooLargeAreRefused) {
  EXPECT_EQ(GetReason(store_.Find("a", gpu_, "best").status()), Reason::kArgument);
  EXPECT_EQ(GetReason(store_.Store("a", gpu_, "best", "{}")), Reason::kArgument);
  const absl::Status status = store_.Store("a", gpu_, key_, std::string((64 << 10) + 1, 'x'));
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(status), Reason::kTooLarge);
  EXPECT_EQ(GetDetails(status)["limit"], "65536");
}

TEST_F(TuningStoreTest, AChoiceIsFoundByItsTenantForItsKindOfDeviceOnly) {
  EXPECT_EQ(*store_.Find("a", gpu_, key_), "");
  ASSERT_TRUE(store_.Store("a", gpu_, key_, "{\"config\":1}").ok());
  ASSERT_TRUE(store_.Store("a", gpu_, key_, "{\"config\":2}").ok());
  EXPECT_EQ(*store_.Find("a", gpu_, key_), "{\"config\":2}");
  EXPECT_EQ(*store_.Find("b", gpu_, key_), "");
  EXPECT_EQ(*store_.Find("a", Device("an emulator"), key_), "");
}

class UploadStoreTest : public testing::Test {
 protected:
  absl::StatusOr<Digest> Put(const std::string& tenant, const std::string& data) {
    UploadStore::Upload upload(&store_, tenant);
    TRUN_RETURN_IF_ERROR(upload.Append(data));
    return upload.Finish();
  }
  FakeClock clock_;
  UploadStore store_{UploadLimits{100, 250, 400, absl::Hours(1)}, &clock_};
};

TEST_F(UploadStoreTest, AFileOverTheLimitNamesTheLimitAndChargesNothing) {
  for (int i = 0; i < 10; ++i) {
    UploadStore::Upload upload(&store_, "a");
    ASSERT_TRUE(upload.Append(std::string(60, 'x')).ok());
    const absl::Status status = upload.Append(std::string(60, 'x'));
    EXPECT_EQ(GetReason(status), Reason::kTooLarge);
    EXPECT_EQ(GetDetails(status)["limit"], "100");
  }
  EXPECT_TRUE(Put("a", std::string(100, 'y')).ok());
}

TEST_F(UploadStoreTest, AnEmptyFileIsRefused) {
  EXPECT_EQ(Put("a", "").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(UploadStoreTest, ATenantOverItsLimitIsRefusedUntilItsFilesAreAnHourOld) {
  ASSERT_TRUE(Put("a", std::string(100, '1')).ok());
  ASSERT_TRUE(Put("a", std::string(100, '2')).ok());
  EXPECT_EQ(GetReason(Put("a", std::string(100, '3')).status()), Reason::kQuota);
  EXPECT_TRUE(Put("b", std::string(100, '3')).ok()) << "another tenant has its own limit";
  EXPECT_TRUE(Put("c", std::string(100, '3')).ok());
  EXPECT_EQ(GetReason(Put("d", std::string(100, '3')).status()), Reason::kQuota) << "all tenants together";
  clock_.Advance(absl::Minutes(61));
  EXPECT_TRUE(Put("a", std::string(100, '3')).ok());
}

TEST_F(UploadStoreTest, AUseKeepsAFile) {
  const Digest digest = Put("a", std::string(100, '1')).value();
  ASSERT_TRUE(Put("a", std::string(100, '2')).ok());
  clock_.Advance(absl::Minutes(59));
  ASSERT_TRUE(store_.Find("a", digest).ok());
  clock_.Advance(absl::Minutes(59));
  ASSERT_TRUE(Put("a", std::string(100, '3')).ok());
  EXPECT_TRUE(store_.Find("a", digest).ok());
}

TEST_F(UploadStoreTest, AFileIsFoundByItsTenantOnlyAndSentTwiceIsChargedOnce) {
  const Digest digest = Put("a", std::string(100, '1')).value();
  EXPECT_EQ(Put("a", std::string(100, '1')).value(), digest);
  EXPECT_EQ(Put("a", std::string(100, '1')).value(), digest);
  EXPECT_EQ(*store_.Find("a", digest).value(), std::string(100, '1'));
  EXPECT_EQ(GetReason(store_.Find("b", digest).status()), Reason::kHandle);
  EXPECT_TRUE(Put("a", std::string(100, '2')).ok());
}

class TokenStoreTest : public testing::Test {
 protected:
  std::vector<UniqueFd> Descriptors(int count) {
    std::vector<UniqueFd> made;
    for (int i = 0; i < count; ++i) made.emplace_back(memfd_create("t", MFD_CLOEXEC));
    return made;
  }
  FakeClock clock_;
  TokenStore store_{&clock_};
};

TEST_F(TokenStoreTest, AnUnknownUsedExpiredOrForeignTokenHasOneAnswer) {
  const std::string token = store_.Put(7, Descriptors(2)).value();
  const absl::Status foreign = store_.Take(token, 8).status();
  EXPECT_EQ(foreign.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(store_.Take(std::string(64, '0'), 7).status(), foreign);
  EXPECT_EQ(store_.Take(token, 7)->size(), 2u) << "another user's try leaves it in place";
  EXPECT_EQ(store_.Take(token, 7).status(), foreign);
  const std::string late = store_.Put(7, Descriptors(1)).value();
  clock_.Advance(absl::Seconds(10));
  EXPECT_EQ(store_.Take(late, 7).status(), foreign);
}

TEST_F(TokenStoreTest, ExpiredTokensCloseTheirDescriptors) {
  std::vector<UniqueFd> made = Descriptors(1);
  const int number = made[0].get();
  ASSERT_TRUE(store_.Put(7, std::move(made)).ok());
  clock_.Advance(TokenStore::kValid);
  store_.DropExpired();
  EXPECT_EQ(fcntl(number, F_GETFD), -1);
}

TEST_F(TokenStoreTest, AUserHasABoundedNumberOfTokens) {
  for (size_t i = 0; i < TokenStore::kMaxTokensPerUser; ++i) ASSERT_TRUE(store_.Put(7, {}).ok());
  EXPECT_EQ(GetReason(store_.Put(7, {}).status()), Reason::kQuota);
  EXPECT_TRUE(store_.Put(8, {}).ok());
}

TEST_F(TokenStoreTest, TokensHave256BitsAndNeverRepeat) {
  const std::string first = store_.Put(7, {}).value();
  EXPECT_EQ(first.size(), 64u);
  EXPECT_NE(store_.Put(7, {}).value(), first);
}

TEST(CallGate, KeepsNewWorkOutWhileDrainingAndKnowsWhenItIsIdle) {
  CallGate gate;
  ASSERT_TRUE(gate.Enter(WhileDraining::kRefused).ok());
  gate.StartDraining();
  const absl::Status refused = gate.Enter(WhileDraining::kRefused);
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(refused), Reason::kDraining);
  EXPECT_TRUE(gate.Enter(WhileDraining::kServed).ok());
  EXPECT_EQ(gate.in_flight(), 2);
  EXPECT_FALSE(gate.WaitIdle(absl::Milliseconds(1)));
  std::thread leaver([&gate] {
    gate.Leave();
    gate.Leave();
  });
  EXPECT_TRUE(gate.WaitIdle(absl::Seconds(60)));
  leaver.join();
}

TEST(CallGate, WhatIsCutIsToldSoAndWhatFailedByItselfIsNot) {
  CallGate gate;
  const absl::Status closed =
      MakeError(absl::StatusCode::kCancelled, Reason::kCancelled, "the session ended");
  const absl::Status hung = DeadlineExceeded(Reason::kHungKernel, "it hung");
  gate.StartDraining();
  EXPECT_EQ(gate.Explain(closed), closed) << "its client closed it";
  gate.Cut();
  const absl::Status told = gate.Explain(closed);
  EXPECT_EQ(told.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(told), Reason::kDraining);
  EXPECT_EQ(GetReason(gate.Explain(Unavailable(Reason::kWorkerLost, "killed"))), Reason::kDraining);
  EXPECT_EQ(gate.Explain(hung), hung);
  EXPECT_TRUE(gate.Explain(absl::OkStatus()).ok());
}

TEST(CallPool, RefusesMoreThanMayWaitAndRunsTheRest) {
  std::atomic<int> ran{0};
  CallGate hold;
  ASSERT_TRUE(hold.Enter(WhileDraining::kServed).ok());
  {
    CallPool pool("calls", 2, 3);
    int taken = 0;
    absl::Status refused;
    while (refused.ok()) {
      refused = pool.Submit([&] {
        hold.WaitIdle(absl::Seconds(60));
        ++ran;
      });
      taken += refused.ok();
    }
    EXPECT_EQ(GetReason(refused), Reason::kQuota);
    EXPECT_GE(taken, 3);
    EXPECT_LE(taken, 5);
    hold.Leave();
    pool.Shutdown();
    EXPECT_EQ(ran.load(), taken);
    EXPECT_EQ(GetReason(pool.Submit([] {})), Reason::kDraining);
  }
}

TEST(Wire, DurationsThatAreNegativeMalformedOrAbsurdAreRefused) {
  const auto decode = [](int64_t seconds, int32_t nanos) {
    google::protobuf::Duration wire;
    wire.set_seconds(seconds);
    wire.set_nanos(nanos);
    return DecodeDuration(wire, "deadline", absl::Hours(1));
  };
  for (const auto& [seconds, nanos] : std::vector<std::pair<int64_t, int32_t>>{{-1, 0},
                                                                               {0, -1},
                                                                               {1, -1},
                                                                               {-1, 1},
                                                                               {0, 1000000000},
                                                                               {3601, 0},
                                                                               {INT64_MAX, 0},
                                                                               {INT64_MIN, INT32_MIN}}) {
    const absl::Status status = decode(seconds, nanos).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << seconds << " " << nanos;
    EXPECT_EQ(GetDetails(status)["field"], "deadline");
  }
  EXPECT_EQ(decode(3600, 0).value(), absl::Hours(1));
  EXPECT_EQ(decode(0, 5).value(), absl::Nanoseconds(5));
}

TEST(Wire, NumbersThatAreNoLevelOrElementTypeAreRefused) {
  EXPECT_FALSE(DecodeLevel(static_cast<v1::Level>(99), "level").ok());
  EXPECT_FALSE(DecodeLevel(static_cast<v1::Level>(-1), "level").ok());
  v1::TensorSpec spec;
  EXPECT_TRUE(DecodeTensorSpec(spec).ok());  // bytes of no type
  spec.set_dtype(static_cast<v1::Dtype>(1000));
  EXPECT_FALSE(DecodeTensorSpec(spec).ok());
  spec.set_dtype(v1::DTYPE_F32);
  for (int i = 0; i < 65; ++i) spec.add_shape(1);
  EXPECT_FALSE(DecodeTensorSpec(spec).ok());
}

TEST(Wire, ALaunchKeepsWhatWasLeftOutForTheSessionToRefuse) {
  v1::LaunchRequest wire;
  for (int i = 0; i < 1000; ++i) wire.add_grid(1);
  wire.add_arguments();
  wire.add_arguments()->set_null_pointer(false);
  wire.add_arguments()->set_null_pointer(true);
  wire.add_arguments()->set_uint_value(~uint64_t{0});
  const SessionLaunch launch = DecodeLaunch(wire).value();
  EXPECT_EQ(launch.grid.size(), 4u);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(launch.arguments[0]));
  EXPECT_TRUE(std::holds_alternative<std::monostate>(launch.arguments[1]));
  EXPECT_TRUE(std::holds_alternative<NullPointer>(launch.arguments[2]));
  EXPECT_EQ(std::get<uint64_t>(launch.arguments[3]), ~uint64_t{0});
  for (int i = 0; i < 5000; ++i) wire.add_arguments();
  EXPECT_EQ(GetReason(DecodeLaunch(wire).status()), Reason::kArgument);
}

TEST(Wire, TextThatIsNotUtf8StillMakesAMessage) {
  LaunchResult result;
  result.printed =
      "a\xff"
      "b";
  v1::LaunchResult wire;
  EncodeResult(result, &wire);
  v1::LaunchResult parsed;
  EXPECT_TRUE(parsed.ParseFromString(wire.SerializeAsString()));
  EXPECT_EQ(parsed.printed(), "a?b");
}

}  // namespace
}  // namespace trun
