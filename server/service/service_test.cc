// The services but that of staging areas.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <thread>

#include "server/device/shared_memory.h"
#include "server/service/service_fixture.h"

namespace trun {
namespace {

using ::testing::HasSubstr;

TEST_F(ServiceTest, AConnectionOfNobodyKnownGetsNothing) {
  peers_.Set(MakeError(absl::StatusCode::kUnauthenticated, Reason::kNotPermitted, "nobody known"));
  v1::ListSessionsResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(FromGrpcStatus(session_stub_->ListSessions(&context, {}, &response)).code(),
            absl::StatusCode::kUnauthenticated);
}

TEST_F(ServiceTest, AnotherProtocolVersionIsRefusedWithTheOneThatIsSpoken) {
  v1::OpenSessionRequest request;
  request.set_protocol_version(99);
  v1::OpenSessionResponse response;
  grpc::ClientContext context;
  const absl::Status status = FromGrpcStatus(session_stub_->OpenSession(&context, request, &response));
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetDetails(status)["protocol_version"], "1");
}

TEST_F(ServiceTest, LeasesThatAreNegativeOrAbsurdAreRefused) {
  for (const int64_t seconds : {int64_t{-1}, int64_t{3601}, INT64_MAX, INT64_MIN}) {
    v1::OpenSessionRequest request;
    request.set_protocol_version(1);
    request.mutable_lease()->set_seconds(seconds);
    v1::OpenSessionResponse response;
    grpc::ClientContext context;
    EXPECT_EQ(FromGrpcStatus(session_stub_->OpenSession(&context, request, &response)).code(),
              absl::StatusCode::kInvalidArgument)
        << seconds;
  }
}

TEST_F(ServiceTest, ASessionOfAnotherTenantIsNotFoundAndNotListed) {
  const std::string session = Open();
  peers_.Set(Caller{1001, "uid:1001", false});
  v1::KeepAliveRequest request;
  request.set_session(session);
  v1::KeepAliveResponse response;
  grpc::ClientContext context;
  EXPECT_EQ(GetReason(FromGrpcStatus(session_stub_->KeepAlive(&context, request, &response))),
            Reason::kSessionExpired);
  v1::ListSessionsResponse listed;
  grpc::ClientContext list;
  ASSERT_TRUE(session_stub_->ListSessions(&list, {}, &listed).ok());
  EXPECT_EQ(listed.sessions_size(), 0);
}

TEST_F(ServiceTest, WhileDrainingNewWorkIsRefusedAndResultsCanStillBeRead) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 4);
  gate_.StartDraining();
  v1::OpenSessionRequest open;
  open.set_protocol_version(1);
  v1::OpenSessionResponse opened;
  grpc::ClientContext first;
  const absl::Status refused = FromGrpcStatus(session_stub_->OpenSession(&first, open, &opened));
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(GetReason(refused), Reason::kDraining);
  EXPECT_EQ(GetReason(Compile({})), Reason::kDraining);
  v1::ReadRequest read;
  read.set_session(session);
  read.set_tensor(tensor);
  grpc::ClientContext second;
  auto stream = tensor_stub_->Read(&second, read);
  v1::ReadResponse chunk;
  EXPECT_TRUE(stream->Read(&chunk));
  EXPECT_EQ(chunk.data(), std::string(16, '\0'));
  EXPECT_FALSE(stream->Read(&chunk));
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, AnImportNeedsATokenOfItsOwnUserForOneDescriptor) {
  v1::ImportRequest request;
  request.set_session(Open());
  request.set_bytes(4 << 20);
  request.mutable_exported()->set_device_address(uint64_t{0x5000'0000'0000});
  const auto import = [&](std::string token) {
    request.mutable_exported()->set_token(std::move(token));
    v1::ImportResponse response;
    grpc::ClientContext context;
    return FromGrpcStatus(tensor_stub_->Import(&context, request, &response));
  };
  EXPECT_EQ(GetReason(import("nonsense")), Reason::kHandle);
  EXPECT_EQ(GetReason(import(tokens_.Put(4711, {}).value())), Reason::kHandle) << "another user's";
  EXPECT_EQ(GetReason(import(tokens_.Put(1000, {}).value())), Reason::kArgument) << "no descriptor";
  std::vector<UniqueFd> one;
  one.emplace_back(open("/dev/null", O_RDWR | O_CLOEXEC));
  const absl::Status no_gpu = import(tokens_.Put(1000, std::move(one)).value());
  EXPECT_EQ(no_gpu.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(no_gpu), Reason::kUnsupportedTarget);
}

TEST_F(ServiceTest, AnIpcHandleIsTheDaemonsOwnUsersAlone) {
  v1::ImportRequest request;
  request.set_bytes(4096);
  request.set_ipc_handle("x");
  const auto import = [&] {
    request.set_session(Open());
    v1::ImportResponse response;
    grpc::ClientContext context;
    return FromGrpcStatus(tensor_stub_->Import(&context, request, &response));
  };
  EXPECT_EQ(GetReason(import()), Reason::kUnsupportedTarget) << "there is no GPU, and that is all";
  peers_.Set(Caller{1001, "uid:1001", false});
  const absl::Status foreign = import();
  EXPECT_EQ(foreign.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(GetReason(foreign), Reason::kNotPermitted);
}

TEST_F(ServiceTest, CompileRequestsThatMakeNoSenseAreRefusedBeforeAnythingRuns) {
  v1::CompileRequest request;
  EXPECT_EQ(GetReason(Compile(request)), Reason::kSessionExpired);
  request.set_session(Open());
  EXPECT_EQ(GetReason(Compile(request)), Reason::kInvalidIr) << "neither a level nor a file";
  request.set_level(static_cast<v1::Level>(77));
  EXPECT_EQ(Compile(request).code(), absl::StatusCode::kInvalidArgument);
  request.set_level(v1::LEVEL_TTIR);
  EXPECT_EQ(GetReason(Compile(request)), Reason::kInvalidIr) << "no file";
  request.set_digest("nonsense");
  EXPECT_EQ(Compile(request).code(), absl::StatusCode::kInvalidArgument);
  request.set_digest(std::string(64, 'a'));
  EXPECT_EQ(GetReason(Compile(request)), Reason::kHandle);
  request.set_ir(std::string(kMaxInlineIrBytes + 1, 'x'));
  const absl::Status large = Compile(request);
  EXPECT_EQ(large.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(GetReason(large), Reason::kTooLarge);
  EXPECT_EQ(GetDetails(large)["limit"], std::to_string(kMaxInlineIrBytes));
  request.set_ir("x");
  request.mutable_deadline()->set_seconds(-5);
  EXPECT_EQ(Compile(request).code(), absl::StatusCode::kInvalidArgument);
  request.clear_deadline();
  request.set_level(v1::LEVEL_CUBIN);
  const absl::Status cubin = Compile(request);
  EXPECT_EQ(cubin.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(cubin), Reason::kUnsupportedLevel);
}

TEST_F(ServiceTest, AnUploadPastTheLimitNamesItAndAFileIsMissingUntilItWasSent) {
  const std::string session = Open();
  const auto upload = [&](size_t bytes, v1::UploadResponse* response) {
    grpc::ClientContext context;
    auto stream = compile_stub_->Upload(&context, response);
    v1::UploadRequest request;
    request.set_session(session);
    for (size_t sent = 0; sent < bytes; sent += request.data().size()) {
      request.set_data(std::string(std::min(bytes - sent, kMaxChunkBytes), 'x'));
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    return FromGrpcStatus(stream->Finish());
  };
  v1::UploadResponse response;
  const absl::Status large = upload(kMaxFileBytes + 1, &response);
  EXPECT_EQ(GetReason(large), Reason::kTooLarge);
  EXPECT_EQ(GetDetails(large)["limit"], std::to_string(kMaxFileBytes));
  EXPECT_EQ(GetReason(upload(0, &response)), Reason::kInvalidIr);
  v1::FindMissingRequest find;
  find.set_session(session);
  find.add_digests(Digest::Of(std::string(3000000, 'x')).ToHex());
  v1::FindMissingResponse missing;
  grpc::ClientContext before;
  ASSERT_TRUE(compile_stub_->FindMissing(&before, find, &missing).ok());
  EXPECT_EQ(missing.missing_size(), 1);
  ASSERT_TRUE(upload(3000000, &response).ok());
  EXPECT_EQ(response.digest(), find.digests(0));
  missing.Clear();
  grpc::ClientContext after;
  ASSERT_TRUE(compile_stub_->FindMissing(&after, find, &missing).ok());
  EXPECT_EQ(missing.missing_size(), 0);
}

TEST_F(ServiceTest, TensorRangesAreCheckedAndLargeTensorsArriveWhole) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 800000);
  const std::string data = [] {
    std::string bytes(3200000, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 31 >> 3);
    return bytes;
  }();
  const auto write = [&](uint64_t offset, absl::string_view bytes, size_t chunk) {
    grpc::ClientContext context;
    v1::WriteResponse response;
    auto stream = tensor_stub_->Write(&context, &response);
    v1::WriteRequest request;
    request.set_session(session);
    request.set_tensor(tensor);
    request.set_offset(offset);
    do {
      request.set_data(std::string(bytes.substr(0, chunk)));
      bytes.remove_prefix(std::min(chunk, bytes.size()));
      if (!stream->Write(request)) break;
      request.Clear();
    } while (!bytes.empty());
    stream->WritesDone();
    return FromGrpcStatus(stream->Finish());
  };
  EXPECT_EQ(write(3199999, "ab", 2).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(write(~uint64_t{0}, "ab", 2).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(GetReason(write(0, data, kMaxChunkBytes + 1)), Reason::kTooLarge);
  ASSERT_TRUE(write(0, data, kMaxChunkBytes).ok());
  v1::ReadRequest read;
  read.set_session(session);
  read.set_tensor(tensor);
  read.set_offset(3199999);
  read.set_bytes(2);
  v1::ReadResponse chunk;
  {
    grpc::ClientContext context;
    auto stream = tensor_stub_->Read(&context, read);
    EXPECT_FALSE(stream->Read(&chunk));
    EXPECT_EQ(FromGrpcStatus(stream->Finish()).code(), absl::StatusCode::kOutOfRange);
  }
  read.set_offset(0);
  read.set_bytes(0);
  grpc::ClientContext context;
  auto stream = tensor_stub_->Read(&context, read);
  std::string back;
  while (stream->Read(&chunk)) back += chunk.data();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(back, data);
}

TEST_F(ServiceTest, ADescriptorOfMoreDimensionsThanAnyTensorHasIsRefused) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 4);
  v1::TensorDescriptor shape, corner, steps;
  for (int i = 0; i < 65; ++i) {
    shape.add_shape(1);
    corner.mutable_im2col()->add_lower_corner(-1);
    steps.mutable_im2col()->add_element_strides(1);
  }
  for (const v1::TensorDescriptor& bad : {shape, corner, steps}) {
    v1::LaunchRequest request = LaunchOf(session, AddKernel(session, "image"), tensor);
    *request.mutable_arguments(0)->mutable_tensor_descriptor() = bad;
    v1::LaunchResponse response;
    const absl::Status status = Call(*launch_stub_, &v1::LaunchService::Stub::Launch, request, &response);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument) << status;
  }
}

TEST_F(ServiceTest, AFaultOfALaunchArrivesWithItsReportAndItsNumber) {
  const std::string session = Open();
  v1::LaunchResponse response;
  grpc::ClientContext context;
  const absl::Status status = FromGrpcStatus(launch_stub_->Launch(
      &context, LaunchOf(session, AddKernel(session, "faulty"), Allocate(session, 4)), &response));
  EXPECT_EQ(GetReason(status), Reason::kIllegalAddress);
  ASSERT_TRUE(GetFault(status).has_value());
  EXPECT_EQ(GetFault(status)->instruction(), "st.global.b32");
  EXPECT_EQ(GetFault(status)->sequence(), 1u);
  EXPECT_EQ(GetFault(status)->program(2), 3u);
}

TEST_F(ServiceTest, ALaunchThatItsClientGaveUpEndsAtOnceAndIsForgotten) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  executors_.Hold();
  v1::LaunchResponse response;
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  EXPECT_EQ(launch_stub_->Launch(&context, launch, &response).error_code(),
            grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(gate_.WaitIdle(absl::Seconds(60)));
  executors_.Release();
  v1::SynchronizeRequest synchronize;
  synchronize.set_session(session);
  v1::SynchronizeResponse done;
  grpc::ClientContext after;
  const absl::Status synchronized = FromGrpcStatus(launch_stub_->Synchronize(&after, synchronize, &done));
  EXPECT_TRUE(synchronized.ok()) << synchronized;
  EXPECT_EQ(done.last_sequence(), 1u);
}

TEST_F(ServiceTest, WaitingCallsHoldNoThread) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  executors_.Hold();
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < kThreads + 3; ++i) {
    clients.emplace_back([&] {
      v1::LaunchResponse response;
      grpc::ClientContext context;
      if (launch_stub_->Launch(&context, launch, &response).ok() && response.result().printed() == "hello\n")
        ++good;
    });
  }
  while (launches_.load() < kThreads + 3) std::this_thread::yield();
  EXPECT_FALSE(Allocate(session, 4).empty())
      << "a pool thread is free although more launches wait than it has";
  executors_.Release();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good.load(), kThreads + 3);
}

TEST_F(ServiceTest, AStreamAnswersEveryLaunchInOrderAndWaitsForRoom) {
  const std::string session = Open();
  const std::string tensor = Allocate(session, 4);
  const v1::LaunchRequest good = LaunchOf(session, AddKernel(session, "image"), tensor);
  v1::LaunchRequest bad = good;
  bad.clear_arguments();
  executors_.Hold();
  grpc::ClientContext context;
  auto stream = launch_stub_->LaunchStream(&context);
  constexpr int kCount = 100;  // many times what the session queues
  std::thread writer([&] {
    for (int i = 0; i < kCount; ++i) {
      v1::LaunchRequest request = i % 10 == 3 ? bad : good;
      if (i > 0) request.clear_session();
      EXPECT_TRUE(stream->Write(request));
    }
    stream->WritesDone();
  });
  while (launches_.load() < 5) std::this_thread::yield();
  executors_.Release();
  v1::LaunchResponse response;
  uint64_t sequence = 0;
  for (int i = 0; i < kCount; ++i) {
    ASSERT_TRUE(stream->Read(&response));
    if (i % 10 == 3) {
      EXPECT_EQ(response.status().reason(), "ARGUMENT");
    } else {
      EXPECT_EQ(response.status().code(), 0) << response.status().message();
      EXPECT_EQ(response.sequence(), ++sequence);
    }
  }
  EXPECT_FALSE(stream->Read(&response));
  writer.join();
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ServiceTest, AStreamWhoseClientVanishesEnds) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  executors_.Hold();
  {
    grpc::ClientContext context;
    auto stream = launch_stub_->LaunchStream(&context);
    for (int i = 0; i < 20; ++i) stream->Write(launch);
    while (launches_.load() < 8) std::this_thread::yield();
    context.TryCancel();
    EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
  executors_.Release();
  EXPECT_TRUE(gate_.WaitIdle(absl::Seconds(60)));
}

TEST_F(ServiceTest, AStreamOfLaunchesOnWhichNothingRunsEndsWithTheDrain) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  grpc::ClientContext context;
  auto idle = launch_stub_->LaunchStream(&context);
  v1::LaunchResponse response;
  ASSERT_TRUE(idle->Write(launch) && idle->Read(&response));
  gate_.StartDraining();
  // The answer may be here before the server knows that it has left.
  while (!gate_.WaitIdle(absl::Milliseconds(1))) gate_.EndIdleCalls(absl::Hours(1));
  EXPECT_FALSE(idle->Read(&response));
  const absl::Status ended = FromGrpcStatus(idle->Finish());
  EXPECT_EQ(ended.code(), absl::StatusCode::kUnavailable) << ended;
  EXPECT_EQ(GetReason(ended), Reason::kDraining) << ended;
}

TEST_F(ServiceTest, AStreamThatRunsALaunchWhenTheDrainBeginsAnswersItAndEndsThen) {
  const std::string session = Open();
  const v1::LaunchRequest launch = LaunchOf(session, AddKernel(session, "image"), Allocate(session, 4));
  executors_.Hold();
  grpc::ClientContext context;
  auto stream = launch_stub_->LaunchStream(&context);
  ASSERT_TRUE(stream->Write(launch));
  // Counted is not yet queued: a drain that came between would refuse it.
  while (sessions_->WaitForLaunches(absl::ZeroDuration())) std::this_thread::yield();
  gate_.StartDraining();
  sessions_->StartDraining();
  gate_.EndIdleCalls(absl::ZeroDuration());
  ASSERT_TRUE(stream->Write(launch)) << "a stream with work on it stays";
  while (launches_.load() < 2) std::this_thread::yield();
  gate_.EndIdleCalls(absl::ZeroDuration());
  EXPECT_FALSE(gate_.WaitIdle(absl::ZeroDuration()));
  executors_.Release();
  v1::LaunchResponse response;
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status().code(), 0) << response.status().message();
  ASSERT_TRUE(stream->Read(&response));
  EXPECT_EQ(response.status().reason(), "DRAINING") << "work that came after the drain began";
  while (!gate_.WaitIdle(absl::Milliseconds(1))) gate_.EndIdleCalls(absl::Hours(1));
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(GetReason(FromGrpcStatus(stream->Finish())), Reason::kDraining);
}

TEST_F(ServiceTest, AStreamOfBytesIsEndedByADrainOnlyWhenItsClientHasPausedTooLong) {
  const std::string session = Open();
  v1::WriteRequest chunk;
  chunk.set_session(session);
  chunk.set_tensor(Allocate(session, 1024));
  chunk.set_data(std::string(1024, 'x'));
  grpc::ClientContext going_context, paused_context;
  v1::WriteResponse going_response, paused_response;
  auto going = tensor_stub_->Write(&going_context, &going_response);
  auto paused = tensor_stub_->Write(&paused_context, &paused_response);
  ASSERT_TRUE(going->Write(chunk) && paused->Write(chunk));
  grpc::ClientContext upload_context, import_context;
  v1::UploadResponse uploaded;
  v1::ImportCacheResponse imported;
  v1::UploadRequest half;
  half.set_session(session);
  half.set_data("half of a file");
  auto upload = compile_stub_->Upload(&upload_context, &uploaded);
  auto import = admin_stub_->ImportCache(&import_context, &imported);
  ASSERT_TRUE(upload->Write(half));
  while (gate_.in_flight() < 4) std::this_thread::yield();
  gate_.StartDraining();
  gate_.EndIdleCalls(absl::Hours(1));
  ASSERT_TRUE(going->Write(chunk) && going->WritesDone());
  const absl::Status whole = FromGrpcStatus(going->Finish());
  EXPECT_TRUE(whole.ok()) << whole;
  EXPECT_EQ(going_response.bytes(), 2048u);
  while (!gate_.WaitIdle(absl::Milliseconds(1))) gate_.EndIdleCalls(absl::Milliseconds(20));
  for (const absl::Status& ended : {FromGrpcStatus(paused->Finish()), FromGrpcStatus(upload->Finish()),
                                    FromGrpcStatus(import->Finish())}) {
    EXPECT_EQ(ended.code(), absl::StatusCode::kUnavailable) << ended;
    EXPECT_EQ(GetReason(ended), Reason::kDraining) << ended;
  }
}

TEST_F(ServiceTest, OnlyTheOwnerLooksAfterTheDaemon) {
  peers_.Set(Caller{1001, "uid:1001", false});
  v1::DrainResponse response;
  grpc::ClientContext foreign;
  EXPECT_EQ(FromGrpcStatus(admin_stub_->Drain(&foreign, {}, &response)).code(),
            absl::StatusCode::kPermissionDenied);
  v1::VerifyCacheResponse verified;
  grpc::ClientContext verify;
  EXPECT_EQ(GetReason(FromGrpcStatus(admin_stub_->VerifyCache(&verify, {}, &verified))),
            Reason::kNotPermitted);
  peers_.Set(Caller{1000, "uid:1000", true});
  v1::DrainRequest request;
  request.mutable_deadline()->set_seconds(7);
  grpc::ClientContext owner;
  EXPECT_TRUE(admin_stub_->Drain(&owner, request, &response).ok());
  EXPECT_EQ(drained_.get_future().get(), absl::Seconds(7));
}

TEST_F(ServiceTest, CacheEntriesAreNamedByAnUnambiguousPrefix) {
  CacheEntry entry;
  entry.kernel_name = "k";
  entry.tenant = "uid:1000";
  entry.metadata_json = "{\"a\":1}";
  entry.artifacts[Level::kPtx] = std::string(2500000, 'p');
  const CacheKey key = Digest::Of("one");
  ASSERT_TRUE(cache_.Put(key, entry, absl::InfiniteDuration()).ok());
  v1::GetCacheEntryRequest request;
  v1::GetCacheEntryResponse response;
  const auto get = [&](const std::string& prefix) {
    request.set_key(prefix);
    grpc::ClientContext context;
    return FromGrpcStatus(admin_stub_->GetCacheEntry(&context, request, &response));
  };
  EXPECT_EQ(get(key.ToHex().substr(0, 5)).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(get("zzzzzzzz").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(get(std::string(64, '0')).code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(get(key.ToHex().substr(0, 6)).ok());
  EXPECT_EQ(response.entry().key(), key.ToHex());
  EXPECT_EQ(response.metadata_json(), "{\"a\":1}");
  peers_.Set(Caller{1001, "uid:1001", false});
  EXPECT_EQ(get(key.ToHex()).code(), absl::StatusCode::kNotFound) << "another tenant's entry";
  peers_.Set(Caller{1000, "uid:1000", false});
  v1::GetCacheBlobRequest blob;
  blob.set_key(key.ToHex());
  blob.set_level(v1::LEVEL_PTX);
  grpc::ClientContext context;
  auto stream = admin_stub_->GetCacheBlob(&context, blob);
  v1::GetCacheBlobResponse chunk;
  std::string bytes;
  while (stream->Read(&chunk)) bytes += chunk.data();
  EXPECT_TRUE(stream->Finish().ok());
  EXPECT_EQ(bytes, entry.artifacts[Level::kPtx]);
}

TEST_F(ServiceTest, ACacheGoesOutAsAStreamAndComesBackAndADamagedOneIsRefusedWhole) {
  CacheEntry entry;
  entry.kernel_name = "k";
  for (int i = 0; i < 20; ++i) {
    entry.artifacts[Level::kPtx] = std::string(300000, static_cast<char>('a' + i));
    ASSERT_TRUE(cache_.Put(Digest::Of(std::to_string(i)), entry, absl::InfiniteDuration()).ok());
  }
  context_.facts.cache_path = "/tmp";
  grpc::ClientContext out;
  auto stream = admin_stub_->ExportCache(&out, {});
  v1::ExportCacheResponse part;
  std::vector<std::string> parts;
  while (stream->Read(&part)) parts.push_back(part.data());
  ASSERT_TRUE(stream->Finish().ok());
  const auto import = [&](v1::ImportCacheResponse* response) {
    grpc::ClientContext context;
    auto upload = admin_stub_->ImportCache(&context, response);
    v1::ImportCacheRequest request;
    for (const std::string& data : parts) {
      request.set_data(data);
      if (!upload->Write(request)) break;
    }
    upload->WritesDone();
    return FromGrpcStatus(upload->Finish());
  };
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(cache_.Remove(Digest::Of(std::to_string(i)), false).ok());
  v1::ImportCacheResponse response;
  const std::string whole = parts.back();
  parts.back()[parts.back().size() / 2] ^= 1;
  EXPECT_EQ(GetReason(import(&response)), Reason::kCorrupt);
  EXPECT_EQ(cache_.Statistics().entries, 15u);
  parts.back() = whole;
  const absl::Status imported = import(&response);
  ASSERT_TRUE(imported.ok()) << imported;
  EXPECT_EQ(response.imported(), 5u);
  EXPECT_EQ(response.already_there(), 15u);
}

TEST_F(ServiceTest, CallsAreCounted) {
  Open();
  EXPECT_TRUE(gate_.WaitIdle(absl::Seconds(60)));
  EXPECT_THAT(metrics_.Text(),
              HasSubstr("trun_rpcs_total{method=\"SessionService/OpenSession\",code=\"OK\"} 1"));
}

}  // namespace
}  // namespace trun
