// Memory of the client's own in a session whose tensors only the device can touch.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <cstring>
#include <future>

#include "common/base/fake_clock.h"
#include "common/base/status.h"
#include "server/device/shared_memory.h"
#include "server/executor/control/awaited.h"
#include "server/executor/control/fake_executor.h"
#include "server/session/address_space.h"
#include "server/session/session_registry.h"

namespace trun {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kAt = AddressSpace::kImportBegin;

std::shared_ptr<CompiledKernel> StoreKernel() {
  auto kernel = std::make_shared<CompiledKernel>();
  kernel->signature = {"store", {{"out", KernelArgument::Kind::kPointer, ScalarType::kI32, 8, 16, ""}}};
  kernel->metadata.name = "store";
  kernel->metadata.num_warps = 4;
  kernel->metadata.triton_version = "3.9.0";
  kernel->artifacts[Level::kPtx] = {Level::kPtx, "store"};
  return kernel;
}

class SessionImportTest : public ::testing::Test {
 protected:
  SessionImportTest() {
    device::KernelAttributes attributes;
    attributes.name = "store";
    for (uint32_t i = 0; i < 3; ++i) attributes.parameters.push_back({8 * i, 8, 8});
    attributes.parameter_bytes = 24;
    executors_.SetKernel("store", attributes, [](const ExecutorLaunch& launch, FakeExecutors* all) {
      ExecutorLaunchResult result;
      char* const to = all->At(std::get<uint64_t>(launch.arguments[0]), 4);
      if (to == nullptr) {
        result.status = Internal("the memory is not mapped");
      } else {
        std::memcpy(to, "seen", 4);
      }
      return result;
    });
    executors_.UseDeviceMemory();
    SessionRegistryOptions options;
    options.default_device = "fake:0";
    options.run_reaper = false;
    options.tenant_memory_bytes = 64 * kMiB;
    registry_ = SessionRegistry::Create(options, &factory_, &clock_);
    session_ = Open();
    kernel_ = session_->AddKernel(StoreKernel()).value();
  }
  std::shared_ptr<Session> Open() {
    return *registry_->Open({"uid:1", "test", "", absl::Seconds(30), 32 * kMiB});
  }
  // Memory as a client has it: both ends of the mapping are looked at.
  absl::StatusOr<TensorInfo> Import(const UniqueFd& memory, uint64_t bytes, uint64_t address) {
    MemoryImport import;
    import.bytes = bytes;
    import.address = address;
    import.descriptor.reset(dup(memory.get()));
    return session_->Import(std::move(import));
  }
  absl::StatusOr<TensorInfo> ImportForeign(const std::string& handle, uint64_t bytes) {
    MemoryImport import;
    import.bytes = bytes;
    import.handle = handle;
    return session_->Import(std::move(import));
  }
  bool NothingIsCharged() {
    const auto all = session_->Allocate({TensorSpec{ScalarType::kI8, {32 * kMiB}}});
    return all.ok() && session_->Free({all->at(0).handle}).ok();
  }
  absl::Status Store(const std::string& tensor, uint64_t offset = 0) {
    SessionLaunch launch;
    launch.kernel = kernel_;
    launch.grid = {1};
    launch.arguments = {TensorReference{tensor, offset}};
    Awaited<LaunchResult> result;
    TRUN_RETURN_IF_ERROR(session_->Launch(launch, result.callback()).status());
    return result.Wait().status;
  }

  FakeExecutors executors_;
  FakeExecutorFactory factory_{&executors_};
  FakeClock clock_;
  std::unique_ptr<SessionRegistry> registry_;
  std::shared_ptr<Session> session_;
  std::string kernel_;
  const UniqueFd memory_ = device::CreateSealedMemory(4 * kMiB).value();
};

TEST_F(SessionImportTest, AnAddressThatMayNotBeIsRefusedAndNothingIsMappedOrCharged) {
  const uint64_t window = AddressSpace::kWindow;
  for (const auto& [bytes, address] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, kAt},
           {4 * kMiB, kAt + kMiB},
           {3 * kMiB, kAt},
           {4 * kMiB, AddressSpace::kBegin},
           {4 * kMiB, 0},
           {4 * kMiB, kAt - 2 * kMiB},
           {4 * kMiB, AddressSpace::kImportEnd - 2 * kMiB},
           {4 * kMiB, AddressSpace::kImportEnd},
           {4 * kMiB, kAt + window - 2 * kMiB},
           {~uint64_t{0} - 2 * kMiB + 1, kAt},
       }) {
    const absl::Status status = Import(memory_, bytes, address).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << bytes << " at " << address << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument);
  }
  EXPECT_TRUE(executors_.arenas().empty());
  EXPECT_TRUE(NothingIsCharged());
}

TEST_F(SessionImportTest, MemoryThatTheExecutorRefusesIsNotKept) {
  const UniqueFd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(Import(nothing, 4 * kMiB, kAt).ok());
  EXPECT_EQ(GetReason(ImportForeign("nobody's", kMiB).status()), Reason::kArgument);
  EXPECT_EQ(GetReason(ImportForeign("", kMiB).status()), Reason::kArgument);
  EXPECT_EQ(GetReason(ImportForeign(std::string(65, 'x'), kMiB).status()), Reason::kArgument);
  EXPECT_TRUE(NothingIsCharged());
  EXPECT_TRUE(Import(memory_, 4 * kMiB, kAt).ok()) << "the address is free";
}

TEST_F(SessionImportTest, ASessionWhoseTensorsAreSharedMemoryTakesNoImport) {
  FakeExecutors shared;
  FakeExecutorFactory factory(&shared);
  SessionRegistryOptions options;
  options.default_device = "fake:0";
  options.run_reaper = false;
  const auto registry = SessionRegistry::Create(options, &factory, &clock_);
  session_ = *registry->Open({"uid:1", "test", "", absl::Seconds(30), 0});
  const absl::Status status = Import(memory_, 4 * kMiB, kAt).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GetReason(status), Reason::kUnsupportedTarget);
  session_.reset();
}

TEST_F(SessionImportTest, ImportsAreChargedAndBounded) {
  const UniqueFd large = device::CreateSealedMemory(30 * kMiB).value();
  const TensorInfo whole = Import(large, 30 * kMiB, kAt).value();
  EXPECT_EQ(GetReason(Import(memory_, 4 * kMiB, kAt + 64 * kMiB).status()), Reason::kQuota);
  EXPECT_EQ(GetReason(session_->Allocate({TensorSpec{ScalarType::kI8, {4 * kMiB}}}).status()),
            Reason::kQuota);
  ASSERT_TRUE(session_->Free({whole.handle}).ok());
  EXPECT_TRUE(NothingIsCharged());
  EXPECT_TRUE(Import(memory_, 4 * kMiB, kAt).ok());
}

TEST_F(SessionImportTest, TwoImportsDoNotOverlap) {
  const TensorInfo first = Import(memory_, 4 * kMiB, kAt).value();
  EXPECT_EQ(GetReason(Import(memory_, 4 * kMiB, kAt + 2 * kMiB).status()), Reason::kArgument);
  EXPECT_EQ(GetReason(Import(memory_, 4 * kMiB, kAt).status()), Reason::kArgument);
  ASSERT_TRUE(Import(memory_, 4 * kMiB, kAt + 4 * kMiB).ok());
  ASSERT_TRUE(session_->Free({first.handle}).ok());
  EXPECT_TRUE(Import(memory_, 4 * kMiB, kAt).ok());
}

TEST_F(SessionImportTest, ALaunchWritesTheClientsOwnMemoryAtItsAddress) {
  const TensorInfo tensor = Import(memory_, 4 * kMiB, kAt).value();
  EXPECT_EQ(tensor.device_address, kAt);
  EXPECT_EQ(tensor.bytes, 4 * kMiB);
  ASSERT_TRUE(Store(tensor.handle, 64).ok());
  EXPECT_EQ(std::get<uint64_t>(executors_.launches().back().arguments[0]), kAt + 64);
  const device::MappedMemory ours = *device::MappedMemory::Map(memory_, 4 * kMiB);
  EXPECT_EQ(std::string(ours.data() + 64, 4), "seen");
  EXPECT_EQ(GetReason(Store(tensor.handle, 4 * kMiB + 16)), Reason::kArgument) << "past its end";
  const auto other = Open();
  EXPECT_EQ(GetReason(other->GetTensor(tensor.handle).status()), Reason::kHandle);
}

TEST_F(SessionImportTest, AnImportIsInTheNextExecutorAtTheSameAddress) {
  const TensorInfo tensor = Import(memory_, 4 * kMiB, kAt).value();
  executors_.Kill();
  EXPECT_TRUE(Store(tensor.handle).ok());
  EXPECT_EQ(executors_.created(), 2);
  executors_.Kill();
  EXPECT_TRUE(Import(memory_, 4 * kMiB, kAt + 4 * kMiB).ok()) << "an import starts the next executor, too";
  EXPECT_EQ(executors_.arenas().size(), 2u);
}

TEST_F(SessionImportTest, AFreedImportIsLetGoOfAtOnceWhateverBecameOfItsExecutor) {
  const TensorInfo tensor = Import(memory_, 4 * kMiB, kAt).value();
  const TensorInfo other = Import(memory_, 4 * kMiB, kAt + 4 * kMiB).value();
  ASSERT_TRUE(session_->Free({tensor.handle}).ok());
  EXPECT_EQ(executors_.arenas().size(), 1u);
  executors_.Kill();
  ASSERT_TRUE(session_->Free({other.handle}).ok());
  EXPECT_TRUE(executors_.arenas().empty());
  EXPECT_TRUE(NothingIsCharged());
}

TEST_F(SessionImportTest, MemoryThatALaunchUsesIsLetGoOfBehindIt) {
  const TensorInfo tensor = Import(memory_, 4 * kMiB, kAt).value();
  executors_.Hold();
  SessionLaunch launch;
  launch.kernel = kernel_;
  launch.grid = {1};
  launch.arguments = {TensorReference{tensor.handle, 0}};
  Awaited<LaunchResult> result;
  ASSERT_TRUE(session_->Launch(launch, result.callback()).ok());
  ASSERT_TRUE(session_->Free({tensor.handle}).ok());
  EXPECT_EQ(executors_.arenas().size(), 1u);
  executors_.Release();
  EXPECT_TRUE(result.Wait().status.ok());
  EXPECT_TRUE(Import(memory_, 4 * kMiB, kAt).ok()) << "the address is free behind the launch";
}

TEST_F(SessionImportTest, NothingIsLetGoOfWhileAnotherLaunchRunsForWhichTheDriverWouldWait) {
  std::promise<void> begun, end;
  device::KernelAttributes attributes;
  attributes.name = "long";
  executors_.SetKernel("long", attributes, [&](const ExecutorLaunch&, FakeExecutors*) {
    begun.set_value();
    end.get_future().wait();
    return ExecutorLaunchResult();
  });
  auto kernel = std::make_shared<CompiledKernel>(*StoreKernel());
  kernel->signature = {"long", {}};
  kernel->metadata.name = "long";
  kernel->artifacts[Level::kPtx] = {Level::kPtx, "long"};
  const std::string other = session_->Allocate({TensorSpec{ScalarType::kI8, {64}}}).value()[0].handle;
  const TensorInfo freed = Import(memory_, 4 * kMiB, kAt).value();
  const TensorInfo used = Import(memory_, 4 * kMiB, kAt + 4 * kMiB).value();
  SessionLaunch launch;
  launch.kernel = session_->AddKernel(kernel).value();
  launch.grid = {1};
  Awaited<LaunchResult> result;
  executors_.Hold();
  SessionLaunch before = launch;
  before.kernel = kernel_;
  before.arguments = {TensorReference{freed.handle, 0}};
  Awaited<LaunchResult> first;
  ASSERT_TRUE(session_->Launch(before, first.callback()).ok());
  ASSERT_TRUE(session_->Free({freed.handle}).ok());
  ASSERT_TRUE(session_->Launch(launch, result.callback()).ok());
  executors_.Release();
  EXPECT_TRUE(first.Wait().status.ok()) << "the last that uses it";
  begun.get_future().wait();
  ASSERT_TRUE(session_->Free({other}).ok());
  EXPECT_EQ(executors_.arenas().size(), 3u) << "two imports and the session's own";
  end.set_value();
  EXPECT_TRUE(result.Wait().status.ok());
  EXPECT_TRUE(Store(used.handle).ok());
  EXPECT_EQ(executors_.arenas().size(), 2u) << "let go of before the next launch";
}

TEST_F(SessionImportTest, ForeignMemoryIsReachedWhereItsExecutorHasIt) {
  executors_.AddForeign("block", memory_, 4 * kMiB);
  EXPECT_EQ(GetReason(ImportForeign("block", 8 * kMiB).status()), Reason::kArgument) << "it has 4 MiB";
  const TensorInfo tensor = ImportForeign("block", 4 * kMiB).value();
  ASSERT_TRUE(Store(tensor.handle, 16).ok());
  const device::MappedMemory ours = *device::MappedMemory::Map(memory_, 4 * kMiB);
  EXPECT_EQ(std::string(ours.data() + 16, 4), "seen");
  ASSERT_TRUE(session_->Free({tensor.handle}).ok());
  EXPECT_TRUE(executors_.arenas().empty());
}

TEST_F(SessionImportTest, ForeignMemoryIsGoneWithItsExecutorUntilItIsImportedAgain) {
  executors_.AddForeign("block", memory_, 4 * kMiB);
  const TensorInfo tensor = ImportForeign("block", 4 * kMiB).value();
  executors_.Kill();
  for (int i = 0; i < 2; ++i) {
    const absl::Status lost = Store(tensor.handle);
    EXPECT_EQ(lost.code(), absl::StatusCode::kNotFound) << lost;
    EXPECT_EQ(GetReason(lost), Reason::kHandle);
  }
  const TensorInfo again = ImportForeign("block", 4 * kMiB).value();
  EXPECT_NE(again.device_address, tensor.device_address);
  EXPECT_TRUE(Store(again.handle).ok());
  ASSERT_TRUE(session_->Free({tensor.handle}).ok());
  EXPECT_TRUE(Store(again.handle).ok()) << "the executor never had the one that was freed";
  EXPECT_EQ(executors_.created(), 2);
}

TEST_F(SessionImportTest, BytesOfForeignMemoryAreItsOwnersBusiness) {
  executors_.AddForeign("block", memory_, 4 * kMiB);
  const std::string tensor = ImportForeign("block", 4 * kMiB).value().handle;
  const std::string own = session_->Allocate({TensorSpec{ScalarType::kI8, {64}}}).value()[0].handle;
  std::string bytes(64, ' ');
  for (const absl::Status& status :
       {session_->Read(tensor, 0, absl::MakeSpan(&bytes[0], 64)), session_->Write(tensor, 0, bytes),
        session_->Fill(tensor, 0, 64, "x"), session_->Copy(tensor, 0, own, 0, 64),
        session_->Copy(own, 0, tensor, 0, 64)}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
    EXPECT_EQ(GetReason(status), Reason::kUnsupportedTarget);
  }
}

TEST_F(SessionImportTest, AClosedSessionHasNoImports) {
  ASSERT_TRUE(Import(memory_, 4 * kMiB, kAt).ok());
  ASSERT_TRUE(registry_->Close(session_->id(), "uid:1").ok());
  EXPECT_EQ(GetReason(Import(memory_, 4 * kMiB, kAt + 4 * kMiB).status()), Reason::kSessionExpired);
}

}  // namespace
}  // namespace trun
