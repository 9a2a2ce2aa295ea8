#include "server/device/cuda/cuda_device.h"

#include <cuda.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "server/device/cuda/driver_under_test.h"

namespace trun::device {
namespace {

constexpr uint64_t kBase = 0x2000'0000'0000;
constexpr uint64_t kBytes = uint64_t{2} << 20;

std::vector<std::byte> Packed(uint64_t first) {
  std::vector<std::byte> bytes(8);
  std::memcpy(bytes.data(), &first, 8);
  return bytes;
}

std::vector<std::byte> Packed(uint64_t first, uint32_t second) {
  std::vector<std::byte> bytes(12);
  std::memcpy(bytes.data(), &first, 8);
  std::memcpy(bytes.data() + 8, &second, 4);
  return bytes;
}

class CudaDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override { Open(false); }

  void Open(bool capture) {
    stream_.reset();
    arena_.reset();
    device_.reset();
    auto device = CreateDeviceUnderTest(capture);
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = *std::move(device);
    auto memory = device_->CreateMemory(kBytes);
    ASSERT_TRUE(memory.ok()) << memory.status();
    memory_ = *std::move(memory);
    auto arena = device_->MapArena(memory_, kBytes, kBase);
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    auto stream = device_->CreateStream();
    ASSERT_TRUE(stream.ok()) << stream.status();
    stream_ = *std::move(stream);
  }

  std::unique_ptr<Module> Load(const std::string& file) {
    auto module = device_->LoadModule(TestData(file));
    EXPECT_TRUE(module.ok()) << module.status();
    return module.ok() ? *std::move(module) : nullptr;
  }

  void Queue(const Module& module, const std::string& name, const std::vector<std::byte>& parameters,
             LaunchDimensions dimensions = {}, absl::Duration deadline = absl::Seconds(30)) {
    LaunchRequest request;
    request.kernel = *module.GetKernel(name);
    request.parameters = parameters;
    request.dimensions = dimensions;
    request.deadline = deadline;
    stream_->Launch(request, [this](LaunchOutcome outcome) {
      std::lock_guard<std::mutex> lock(mu_);
      outcomes_.push_back(std::move(outcome));
    });
  }

  std::vector<LaunchOutcome> Outcomes() {
    stream_->Synchronize();
    std::lock_guard<std::mutex> lock(mu_);
    return std::exchange(outcomes_, {});
  }

  std::vector<uint32_t> Words(size_t count) {
    std::vector<uint32_t> words(count);
    const absl::Status read =
        device_->ReadMemory(kBase, absl::MakeSpan(reinterpret_cast<char*>(words.data()), 4 * count));
    EXPECT_TRUE(read.ok()) << read;
    return words;
  }

  std::unique_ptr<Device> device_;
  UniqueFd memory_;
  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Stream> stream_;
  std::mutex mu_;
  std::vector<LaunchOutcome> outcomes_;
};

// Three launches that are right, one that faults, two behind it.
class CudaFaultTest : public CudaDeviceTest {
 protected:
  void ExpectFault(const std::string& kernel, Reason reason) {
    auto good = Load("conformance.sm_90.cubin");
    auto bad = Load("faults.sm_90.cubin");
    ASSERT_NE(good, nullptr);
    ASSERT_NE(bad, nullptr);
    LaunchDimensions dimensions;
    dimensions.block = {64, 1, 1};
    for (uint32_t addend = 0; addend < 3; ++addend) Queue(*good, "fill", Packed(kBase, addend), dimensions);
    Queue(*bad, kernel, Packed(kBase));
    for (uint32_t addend = 0; addend < 2; ++addend) Queue(*good, "fill", Packed(kBase, 9), dimensions);
    const std::vector<LaunchOutcome> outcomes = Outcomes();
    ASSERT_EQ(outcomes.size(), 6u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(outcomes[i].status.ok()) << i << ": " << outcomes[i].status;
      EXPECT_FALSE(outcomes[i].context_lost);
    }
    EXPECT_EQ(GetReason(outcomes[3].status), reason) << outcomes[3].status;
    EXPECT_TRUE(outcomes[3].context_lost);
    EXPECT_FALSE(outcomes[3].fault.message.empty());
    for (size_t i = 4; i < 6; ++i) {
      EXPECT_EQ(GetReason(outcomes[i].status), Reason::kContextLost) << outcomes[i].status;
      EXPECT_FALSE(outcomes[i].context_lost) << "the context is lost once";
    }
    EXPECT_EQ(GetReason(device_->LoadModule(TestData("conformance.sm_90.cubin")).status()),
              Reason::kContextLost);
    EXPECT_FALSE(device_->ReadMemory(kBase, {}).ok());
  }
};

TEST_F(CudaFaultTest, AnIllegalAddressIsItsOwnLaunchsFault) {
  ExpectFault("illegal", Reason::kIllegalAddress);
}
TEST_F(CudaFaultTest, AMisalignedAddressIsItsOwnLaunchsFault) {
  ExpectFault("misaligned", Reason::kMisalignedAddress);
}
TEST_F(CudaFaultTest, ATrapIsItsOwnLaunchsFault) { ExpectFault("trap", Reason::kDeviceAssert); }
TEST_F(CudaFaultTest, AFailedAssertIsItsOwnLaunchsFault) { ExpectFault("assert", Reason::kDeviceAssert); }

TEST_F(CudaDeviceTest, TheTextOfAFailedAssertComesWithItsFault) {
  Open(true);
  auto bad = Load("faults.sm_90.cubin");
  ASSERT_NE(bad, nullptr);
  Queue(*bad, "assert", Packed(kBase));
  const std::vector<LaunchOutcome> outcomes = Outcomes();
  stream_.reset();
  arena_.reset();
  device_.reset();  // gives standard output back
  ASSERT_EQ(outcomes.size(), 1u);
  EXPECT_EQ(GetReason(outcomes[0].status), Reason::kDeviceAssert);
  EXPECT_NE(outcomes[0].fault.message.find("index < 4"), std::string::npos) << outcomes[0].fault.message;
  EXPECT_NE(outcomes[0].status.message().find("index < 4"), absl::string_view::npos) << outcomes[0].status;
}

TEST_F(CudaDeviceTest, WhatAKernelPrintsComesWithItsOwnLaunch) {
  Open(true);
  auto printer = Load("print.sm_90.cubin");
  auto good = Load("conformance.sm_90.cubin");
  for (uint32_t value = 1; value <= 3; ++value) {
    std::vector<std::byte> parameters(4);
    std::memcpy(parameters.data(), &value, 4);
    Queue(*printer, "print", parameters);
    Queue(*good, "fill", Packed(kBase, value));
  }
  const std::vector<LaunchOutcome> outcomes = Outcomes();
  printer.reset();
  good.reset();
  stream_.reset();
  arena_.reset();
  device_.reset();
  ASSERT_EQ(outcomes.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_TRUE(outcomes[i].status.ok()) << outcomes[i].status;
    EXPECT_EQ(outcomes[i].printed, i % 2 == 1 ? "" : "value " + std::to_string(i / 2 + 1) + "\n");
  }
}

// Dependent launches, all of them queued before the first can go: one that prints runs alone, and is held.
class CudaDependentLaunchTest : public CudaDeviceTest {
 protected:
  void SetUp() override {
    Open(true);
    printer_ = Load("print.sm_90.cubin");
    good_ = Load("conformance.sm_90.cubin");
    bad_ = Load("faults.sm_90.cubin");
    dependent_.block = {32, 1, 1};
    dependent_.programmatic_dependent_launch = true;
    HoldDriver(true);
    Queue(*printer_, "print", std::vector<std::byte>(4));
  }
  void TearDown() override {
    HoldDriver(false);
    stream_.reset();
    arena_.reset();
    printer_.reset();
    good_.reset();
    bad_.reset();
    device_.reset();
  }

  std::unique_ptr<Module> printer_, good_, bad_;
  LaunchDimensions dependent_;
};

TEST_F(CudaDependentLaunchTest, LaunchesThatFollowEachOtherGoWithNothingBetweenThem) {
  const std::string log = ::testing::TempDir() + "/dependent-launches";
  unlink(log.c_str());
  setenv("TRUN_FAKE_CUDA_LOG", log.c_str(), 1);
  for (uint32_t i = 1; i <= 3; ++i) Queue(*good_, "fill", Packed(kBase, i), dependent_);
  LaunchDimensions plain;
  plain.block = {32, 1, 1};
  Queue(*good_, "fill", Packed(kBase, 4), plain);
  HoldDriver(false);
  const std::vector<LaunchOutcome> outcomes = Outcomes();
  unsetenv("TRUN_FAKE_CUDA_LOG");
  ASSERT_EQ(outcomes.size(), 5u);
  for (const LaunchOutcome& outcome : outcomes) EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(Words(2), std::vector<uint32_t>({4, 5}));
  if (OnARealGpu()) return;  // they may have come too late there to follow each other
  EXPECT_EQ(outcomes[2].statistics.device_time, absl::ZeroDuration()) << "the first has the time of all";
  EXPECT_EQ(outcomes[3].statistics.device_time, absl::ZeroDuration());
  std::string calls;
  std::ifstream file(log);
  for (std::string call; std::getline(file, call);) {
    if (call == "cuEventRecord") calls += 'e';
    if (call == "cuLaunchKernelEx") calls += 'k';
    if (call == "cuStreamWriteValue64_v2" || call == "cuStreamWriteValue64") calls += 'w';
  }
  EXPECT_NE(calls.find("ekkkewekew"), std::string::npos) << calls;
}

TEST_F(CudaDependentLaunchTest, AFaultIsOfTheFirstOfThemWhichSaysThatOthersMayBeItsCause) {
  Queue(*good_, "fill", Packed(kBase, 1), dependent_);
  Queue(*bad_, "illegal", Packed(kBase), dependent_);
  Queue(*good_, "fill", Packed(kBase, 1), dependent_);
  if (OnARealGpu()) GTEST_SKIP() << "they may come too late there to follow each other";
  HoldDriver(false);
  const std::vector<LaunchOutcome> outcomes = Outcomes();
  ASSERT_EQ(outcomes.size(), 4u);
  EXPECT_TRUE(outcomes[0].status.ok());
  EXPECT_EQ(GetReason(outcomes[1].status), Reason::kIllegalAddress) << outcomes[1].status;
  EXPECT_NE(outcomes[1].status.message().find("that may overlap it (launch_pdl)"), absl::string_view::npos)
      << outcomes[1].status;
  EXPECT_TRUE(outcomes[1].context_lost);
  for (size_t i = 2; i < 4; ++i) EXPECT_EQ(GetReason(outcomes[i].status), Reason::kContextLost);
}

TEST_F(CudaDependentLaunchTest, ALaunchThatWantsItsOwnTimeHasIt) {
  for (uint32_t i = 1; i <= 3; ++i) {
    const std::vector<std::byte> parameters = Packed(kBase, i);
    LaunchRequest request;
    request.kernel = *good_->GetKernel("fill");
    request.parameters = parameters;
    request.dimensions = dependent_;
    request.own_time = true;
    stream_->Launch(request, [this](LaunchOutcome outcome) {
      std::lock_guard<std::mutex> lock(mu_);
      outcomes_.push_back(std::move(outcome));
    });
  }
  HoldDriver(false);
  const std::vector<LaunchOutcome> outcomes = Outcomes();
  ASSERT_EQ(outcomes.size(), 4u);
  for (size_t i = 1; i < 4; ++i) EXPECT_GT(outcomes[i].statistics.device_time, absl::ZeroDuration());
}

TEST_F(CudaDeviceTest, AHungKernelIsNamedAndThoseBehindItDidNotRun) {
  auto module = Load("conformance.sm_90.cubin");
  LaunchDimensions dimensions;
  dimensions.block = {32, 1, 1};
  Queue(*module, "fill", Packed(kBase, 0), dimensions);
  Queue(*module, "forever", Packed(kBase), dimensions, absl::Milliseconds(100));
  Queue(*module, "fill", Packed(kBase, 1), dimensions);
  const std::vector<LaunchOutcome> outcomes = Outcomes();
  ASSERT_EQ(outcomes.size(), 3u);
  EXPECT_TRUE(outcomes[0].status.ok());
  EXPECT_EQ(GetReason(outcomes[1].status), Reason::kHungKernel);
  EXPECT_TRUE(outcomes[1].context_lost);
  EXPECT_EQ(GetReason(outcomes[2].status), Reason::kContextLost);
}

TEST_F(CudaDeviceTest, AThousandLaunchesAreDoneInTheirOrderAndTimed) {
  auto module = Load("conformance.sm_90.cubin");
  LaunchDimensions dimensions;
  dimensions.grid = {4, 1, 1};
  dimensions.block = {64, 1, 1};
  for (uint32_t i = 0; i < 1000; ++i) Queue(*module, "fill", Packed(kBase, i), dimensions);
  const std::vector<LaunchOutcome> outcomes = Outcomes();
  ASSERT_EQ(outcomes.size(), 1000u);
  for (const LaunchOutcome& outcome : outcomes) {
    ASSERT_TRUE(outcome.status.ok()) << outcome.status;
    EXPECT_GT(outcome.statistics.device_time, absl::ZeroDuration());
    EXPECT_LT(outcome.statistics.device_time, absl::Seconds(1));
  }
  EXPECT_EQ(Words(2), std::vector<uint32_t>({999, 1000}));
}

TEST_F(CudaDeviceTest, PointersInMemoryHoldInTheNextDeviceToo) {
  const uint64_t target = kBase + 4096;
  ASSERT_TRUE(
      device_->WriteMemory(kBase, absl::MakeConstSpan(reinterpret_cast<const char*>(&target), 8)).ok());
  for (int round = 0; round < 2; ++round) {
    auto module = Load("faults.sm_90.cubin");
    Queue(*module, "chase", Packed(kBase));
    EXPECT_TRUE(Outcomes().at(0).status.ok());
    module.reset();
    stream_.reset();
    arena_.reset();
    device_.reset();
    auto device = CreateDeviceUnderTest();
    ASSERT_TRUE(device.ok());
    device_ = *std::move(device);
    arena_ = *device_->MapArena(memory_, kBytes, kBase);
    stream_ = *device_->CreateStream();
  }
  std::vector<uint32_t> words(1);
  ASSERT_TRUE(device_->ReadMemory(target, absl::MakeSpan(reinterpret_cast<char*>(words.data()), 4)).ok());
  EXPECT_EQ(words[0], 2u);
}

TEST_F(CudaDeviceTest, ClustersLargeSharedMemoryAndCooperativeGridsRun) {
  if (!OnARealGpu()) GTEST_SKIP() << "the fake driver has no such kernels: needs a GPU (TRUN_TEST_LIBCUDA)";
  auto module = Load("hopper.sm_90.cubin");
  ASSERT_NE(module, nullptr);
  for (const uint32_t size : {2u, 8u, 16u}) {
    LaunchDimensions dimensions;
    dimensions.grid = {32, 1, 1};
    dimensions.cluster = {size, 1, 1};
    Queue(*module, "cluster_rank", Packed(kBase), dimensions);
    const LaunchOutcome outcome = Outcomes().at(0);
    ASSERT_TRUE(outcome.status.ok()) << size << ": " << outcome.status;
    const std::vector<uint32_t> ranks = Words(32);
    for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(ranks[i], i % size);
  }
  LaunchDimensions large;
  large.grid = {8, 1, 1};
  large.dynamic_shared_bytes = device_->info().max_shared_bytes;
  Queue(*module, "shared_end", Packed(kBase, large.dynamic_shared_bytes - 4), large);
  EXPECT_TRUE(Outcomes().at(0).status.ok());
  EXPECT_EQ(Words(8), std::vector<uint32_t>({0, 1, 2, 3, 4, 5, 6, 7}));
  ASSERT_TRUE(device_->FillMemory(kBase, 4096, std::string(1, '\0')).ok());
  LaunchDimensions grid;
  grid.grid = {device_->info().multiprocessors, 1, 1};
  grid.cooperative = true;
  Queue(*module, "grid_barrier", Packed(kBase), grid, absl::Seconds(10));
  EXPECT_TRUE(Outcomes().at(0).status.ok());
  grid.grid = {1u << 20, 1, 1};
  Queue(*module, "grid_barrier", Packed(kBase), grid, absl::Seconds(10));
  const LaunchOutcome refused = Outcomes().at(0);
  EXPECT_EQ(GetReason(refused.status), Reason::kLaunchShape) << refused.status;
  EXPECT_FALSE(refused.context_lost);
}

// What the fake driver was asked for while this object lives, in order.
class DriverLog {
 public:
  DriverLog() : path_(::testing::TempDir() + "/driver-calls-" + std::to_string(getpid())) {
    unlink(path_.c_str());
    setenv("TRUN_FAKE_CUDA_LOG", path_.c_str(), 1);
  }
  ~DriverLog() {
    unsetenv("TRUN_FAKE_CUDA_LOG");
    unlink(path_.c_str());
  }
  // The calls since the last time that were asked for.
  std::vector<std::string> Take() {
    std::vector<std::string> calls;
    std::ifstream file(path_);
    for (std::string call; std::getline(file, call);) calls.push_back(call);
    unlink(path_.c_str());
    return calls;
  }

 private:
  const std::string path_;
};

int64_t CountOf(const std::vector<std::string>& calls, const std::string& prefix) {
  return std::count_if(calls.begin(), calls.end(),
                       [&](const std::string& call) { return call.compare(0, prefix.size(), prefix) == 0; });
}

TEST_F(CudaDeviceTest, AKernelIsLoadedWholeWithItsModuleAndALaunchLoadsNothing) {
  if (OnARealGpu()) GTEST_SKIP() << "only the fake driver says what it was asked for";
  DriverLog log;
  const auto module = Load("conformance.sm_90.cubin");
  ASSERT_NE(module, nullptr);
  const std::vector<std::string> loading = log.Take();
  EXPECT_EQ(CountOf(loading, "cuModuleLoad"), 1);
  // The driver loads lazily, at the first launch, unless each function is asked for.
  EXPECT_GT(CountOf(loading, "cuFuncLoad"), 1);
  EXPECT_EQ(CountOf(loading, "cuFuncLoad"), CountOf(loading, "cuModuleGetFunction"));
  EXPECT_EQ(CountOf(loading, "cuLaunchKernel"), 0);
  for (uint32_t i = 0; i < 3; ++i) Queue(*module, "fill", Packed(kBase, i));
  for (const LaunchOutcome& outcome : Outcomes()) EXPECT_TRUE(outcome.status.ok()) << outcome.status;
  const std::vector<std::string> launching = log.Take();
  EXPECT_EQ(CountOf(launching, "cuLaunchKernelEx"), 3);
  for (const char* const prefix : {"cuModule", "cuFunc", "cuLibrary", "cuLink"}) {
    EXPECT_EQ(CountOf(launching, prefix), 0) << prefix;
  }
}

TEST_F(CudaDeviceTest, PtxIsRefusedBeforeTheDriverSeesIt) {
  const std::string ptx = TestData("conformance.ptx");
  ASSERT_NE(ptx.find(".version"), std::string::npos);
  DriverLog log;
  for (const std::string& image : {ptx, ptx + std::string(1, '\0'), std::string("\177ELF") + ptx}) {
    const absl::Status status = device_->LoadModule(image).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kInvalidIr) << status;
  }
  const std::vector<std::string> calls = log.Take();
  for (const char* const prefix : {"cuModule", "cuLibrary", "cuLink"}) {
    EXPECT_EQ(CountOf(calls, prefix), 0) << prefix;
  }
  EXPECT_NE(Load("conformance.sm_90.cubin"), nullptr) << "the context is whole";
}

TEST_F(CudaDeviceTest, DamagedCubinsAreRefused) {
  const std::string good = TestData("conformance.sm_90.cubin");
  ASSERT_GT(good.size(), 1000u);
  for (size_t length = 0; length < good.size(); length += 97) {
    EXPECT_FALSE(device_->LoadModule(good.substr(0, length)).ok()) << length;
  }
}

TEST_F(CudaDeviceTest, MemoryThatIsNoMultipleOfAGranuleIsRefused) {
  EXPECT_EQ(device_->CreateMemory(4096).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(device_->CreateMemory(0).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(GetReason(device_->CreateMemory(uint64_t{1} << 50).status()), Reason::kOutOfMemory);
}

TEST_F(CudaDeviceTest, ADescriptorThatIsNoMemoryOfTheDriverIsRefusedAndCostsNoContext) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd file(memfd_create("some-file", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(file.get(), static_cast<off_t>(kBytes)), 0);
  for (const UniqueFd* given : {&null, &file}) {
    const absl::Status status = device_->MapArena(*given, kBytes, kBase + (uint64_t{1} << 30)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument);
  }
  EXPECT_EQ(device_->MapArena(memory_, 2 * kBytes, kBase + (uint64_t{1} << 30)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(device_->MapArena(memory_, kBytes, kBase + (uint64_t{1} << 30)).ok());
  EXPECT_TRUE(device_->FillMemory(kBase, 16, "x").ok()) << "the context is whole";
}

TEST_F(CudaDeviceTest, AHandleOfNoOtherProcessIsRefusedAndCostsNoContext) {
  for (const std::string& handle : {std::string(), std::string(63, 'x'), std::string(65, 'x'),
                                    std::string(64, 'x'), std::string(64, '\0')}) {
    const absl::Status status = device_->MapForeign(handle, kBytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_EQ(GetReason(status), Reason::kArgument);
  }
  EXPECT_TRUE(device_->FillMemory(kBase, 16, "x").ok());
}

TEST(CudaDriverTest, ALibraryThatIsNotThereSaysWhatToDo) {
  CudaOptions options;
  options.library = "/nonexistent/libcuda.so.1";
  const auto device = CreateCudaDevice(options);
  EXPECT_EQ(GetReason(device.status()), Reason::kUnavailable);
  EXPECT_NE(device.status().message().find("TRUN_LIBCUDA"), absl::string_view::npos);
}

TEST(CudaDriverTest, ANumberThatIsNoDeviceIsNotFound) {
  ResetDriver();
  CudaOptions options;
  options.library = DriverLibrary();
  options.index = 64;
  EXPECT_EQ(CreateCudaDevice(options).status().code(), absl::StatusCode::kNotFound);
}

// What the fake is told to say; the library is opened anew under another path.
class FakeDriverTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (OnARealGpu()) GTEST_SKIP() << "only the fake driver can be told to fail";
    ResetDriver();
  }
  void TearDown() override {
    for (const char* name : {"TRUN_FAKE_CUDA_FAIL", "TRUN_FAKE_CUDA_VERSION", "TRUN_FAKE_CUDA_DEVICES"})
      unsetenv(name);
  }
  // What the driver was asked for a tensor map, or why it was not.
  static std::string Told(const Device& device, const TensorMapFields& fields) {
    const std::string path = ::testing::TempDir() + "tensor-maps-" + std::to_string(getpid());
    setenv("TRUN_FAKE_CUDA_LOG", path.c_str(), 1);
    const auto map = device.EncodeTensorMap(fields);
    unsetenv("TRUN_FAKE_CUDA_LOG");
    std::ifstream log(path);
    std::string line, last;
    while (std::getline(log, line)) last = line;
    unlink(path.c_str());
    return map.ok() ? last : std::string(map.status().message());
  }
  static absl::StatusOr<std::unique_ptr<Device>> OpenAnew() {
    static int opened = 0;
    std::string path = DriverLibrary();
    path.insert(path.rfind('/'), std::string(static_cast<size_t>(++opened), '/'));
    CudaOptions options;
    options.library = path;
    return CreateCudaDevice(options);
  }
};

TEST_F(FakeDriverTest, WithoutAGpuTheReasonIsGiven) {
  setenv("TRUN_FAKE_CUDA_DEVICES", "0", 1);
  const auto device = OpenAnew();
  EXPECT_EQ(GetReason(device.status()), Reason::kUnavailable);
  EXPECT_NE(device.status().message().find("CUDA_VISIBLE_DEVICES"), absl::string_view::npos)
      << device.status();
}

TEST_F(FakeDriverTest, EveryGpuIsADeviceOfItsOwnNumber) {
  setenv("TRUN_FAKE_CUDA_DEVICES", "3", 1);
  EXPECT_EQ(*CountCudaDevices(DriverLibrary()), 3);
  CudaOptions options;
  options.library = DriverLibrary();
  for (const int index : {0, 2}) {
    options.index = index;
    const auto device = CreateCudaDevice(options);
    ASSERT_TRUE(device.ok()) << device.status();
    EXPECT_EQ((*device)->info().name, "fake GPU " + std::to_string(index));
  }
  options.index = 3;
  const auto none = CreateCudaDevice(options);
  EXPECT_EQ(none.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(none.status().message().find("3 devices"), absl::string_view::npos) << none.status();
}

TEST_F(FakeDriverTest, ADriverThatIsTooOldIsRefused) {
  setenv("TRUN_FAKE_CUDA_VERSION", "11080", 1);
  const auto device = OpenAnew();
  EXPECT_EQ(GetReason(device.status()), Reason::kUnavailable);
  EXPECT_NE(device.status().message().find("11.8"), absl::string_view::npos) << device.status();
}

TEST_F(FakeDriverTest, ParametersAreReadFromTheCubinWhereTheDriverDoesNotTell) {
  const auto newer = OpenAnew();
  ASSERT_TRUE(newer.ok()) << newer.status();
  setenv("TRUN_FAKE_CUDA_VERSION", "12000", 1);
  setenv("TRUN_FAKE_CUDA_FAIL", "cuFuncGetParamInfo=1", 1);
  const auto older = OpenAnew();
  ASSERT_TRUE(older.ok()) << older.status();
  unsetenv("TRUN_FAKE_CUDA_FAIL");
  const auto told = (*newer)->LoadModule(TestData("conformance.sm_90.cubin"));
  setenv("TRUN_FAKE_CUDA_FAIL", "cuFuncGetParamInfo=1", 1);
  const auto read = (*older)->LoadModule(TestData("conformance.sm_90.cubin"));
  ASSERT_TRUE(told.ok() && read.ok()) << told.status() << read.status();
  const KernelAttributes& by_driver = (*(*told)->GetKernel("fill"))->attributes();
  const KernelAttributes& by_cubin = (*(*read)->GetKernel("fill"))->attributes();
  ASSERT_EQ(by_driver.parameters.size(), 2u);
  ASSERT_EQ(by_cubin.parameters.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(by_driver.parameters[i].offset, by_cubin.parameters[i].offset);
    EXPECT_EQ(by_driver.parameters[i].bytes, by_cubin.parameters[i].bytes);
  }
  EXPECT_EQ(by_driver.parameter_bytes, by_cubin.parameter_bytes);
}

// Memory as another process has it. The driver opens none of its own process's, which the fake does.
class ForeignMemoryTest : public FakeDriverTest {
 protected:
  void SetUp() override {
    FakeDriverTest::SetUp();
    if (IsSkipped()) return;
    device_ = OpenAnew().value();
    void* const library = dlopen(DriverLibrary().c_str(), RTLD_NOW | RTLD_LOCAL);
    const auto allocate =
        reinterpret_cast<CUresult (*)(CUdeviceptr*, size_t)>(dlsym(library, "cuMemAlloc_v2"));
    const auto handle_of =
        reinterpret_cast<CUresult (*)(CUipcMemHandle*, CUdeviceptr)>(dlsym(library, "cuIpcGetMemHandle"));
    ASSERT_TRUE(allocate != nullptr && handle_of != nullptr);
    CUipcMemHandle handle;
    ASSERT_EQ(allocate(&owned_, kBytes), CUDA_SUCCESS);
    ASSERT_EQ(handle_of(&handle, owned_), CUDA_SUCCESS);
    handle_.assign(reinterpret_cast<const char*>(&handle), sizeof(handle));
  }
  void TearDown() override {
    unsetenv("TRUN_FAKE_CUDA_OWNER");
    FakeDriverTest::TearDown();
  }
  std::unique_ptr<Device> device_;
  CUdeviceptr owned_ = 0;
  std::string handle_;
};

TEST_F(ForeignMemoryTest, LessThanWasSaidOrAnotherGpusIsRefused) {
  const absl::Status less = device_->MapForeign(handle_, kBytes + 1).status();
  EXPECT_EQ(less.code(), absl::StatusCode::kInvalidArgument) << less;
  setenv("TRUN_FAKE_CUDA_OWNER", "1", 1);
  const absl::Status elsewhere = device_->MapForeign(handle_, kBytes).status();
  EXPECT_EQ(elsewhere.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(elsewhere.message().find("GPU 1"), absl::string_view::npos) << elsewhere;
}

TEST_F(ForeignMemoryTest, ARefusalOfTheDriverIsTheHandlesFault) {
  for (const char* result :
       {"cuIpcOpenMemHandle_v2=800", "cuIpcOpenMemHandle_v2=801", "cuIpcOpenMemHandle_v2=999"}) {
    setenv("TRUN_FAKE_CUDA_FAIL", result, 1);
    EXPECT_EQ(GetReason(device_->MapForeign(handle_, kBytes).status()), Reason::kArgument) << result;
  }
  setenv("TRUN_FAKE_CUDA_FAIL", "cuIpcOpenMemHandle_v2=2", 1);
  EXPECT_EQ(GetReason(device_->MapForeign(handle_, kBytes).status()), Reason::kOutOfMemory);
  unsetenv("TRUN_FAKE_CUDA_FAIL");
  EXPECT_TRUE(device_->MapForeign(handle_, kBytes).ok());
}

TEST_F(ForeignMemoryTest, ItIsTheOwnersMemoryUntilItIsLetGoOf) {
  auto foreign = device_->MapForeign(handle_, kBytes);
  ASSERT_TRUE(foreign.ok()) << foreign.status();
  const uint64_t at = (*foreign)->address();
  EXPECT_NE(at, owned_);
  ASSERT_TRUE(device_->FillMemory(at, 16, "x").ok());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(owned_), 16), std::string(16, 'x'));
  EXPECT_EQ(device_->FillMemory(at, kBytes + 1, "x").code(), absl::StatusCode::kOutOfRange);
  foreign->reset();
  EXPECT_EQ(device_->FillMemory(at, 16, "x").code(), absl::StatusCode::kOutOfRange);
}

TEST_F(FakeDriverTest, TensorMapsReachTheDriverFieldByField) {
  const auto device = OpenAnew();
  ASSERT_TRUE(device.ok());
  TensorMapFields fields;
  fields.address = kBase + 16;
  fields.element = 8;  // f32 with subnormals flushed: of the driver number 10
  fields.swizzle = 2;
  fields.extents = {64, 9, 14, 2};
  fields.strides = {256, 2304, 32256};
  fields.box = {16, 8, 4, 1};
  EXPECT_EQ(Told(**device, fields),
            "tiled element 10 address 0x200000000010 extents 64,9,14,2 strides 256,2304,32256 steps 1,1,1,1 "
            "interleave 0 swizzle 2 promotion 2 fill 0 box 16,8,4,1");
  fields.nan_fill = true;
  fields.box = {16, 512};
  fields.im2col = Im2colBox{{-1, -2}, {3, -4}, {1, 2, 5, 1}};
  EXPECT_EQ(Told(**device, fields),
            "im2col element 10 address 0x200000000010 extents 64,9,14,2 strides 256,2304,32256 steps 1,2,5,1 "
            "interleave 0 swizzle 2 promotion 2 fill 1 lower -1,-2 upper 3,-4 channels 16 pixels 512");
  fields.box[1] = 2000;
  EXPECT_EQ(Told(**device, fields), "no tensor map has 2000 pixels a column: there are 1 to 1024")
      << "the driver was not asked";
}

TEST_F(FakeDriverTest, ADriverThatRefusesATensorMapOrMakesNoneSaysSo) {
  const auto device = OpenAnew();
  ASSERT_TRUE(device.ok());
  TensorMapFields fields;
  fields.address = kBase;
  fields.element = 6;
  fields.extents = {64, 9, 2};
  fields.strides = {128, 1152};
  fields.box = {64, 32};
  fields.im2col = Im2colBox{{-1}, {-1}, {1, 2, 1}};
  setenv("TRUN_FAKE_CUDA_FAIL", "cuTensorMapEncodeIm2col=1", 1);
  const absl::Status refused = (*device)->EncodeTensorMap(fields).status();
  EXPECT_EQ(GetReason(refused), Reason::kArgument) << refused;
  EXPECT_NE(refused.message().find("im2col from (-1) to (-1) by (1, 2, 1)"), absl::string_view::npos)
      << refused;
}

TEST_F(FakeDriverTest, WhereTheDriverRegistersNoMemoryItSaysSoAndCopiesWork) {
  setenv("TRUN_FAKE_CUDA_FAIL", "cuMemHostRegister_v2=801", 1);
  const auto device = OpenAnew();
  ASSERT_TRUE(device.ok());
  EXPECT_NE((*device)->info().pinning_refused, "");
  const UniqueFd memory = *(*device)->CreateMemory(kBytes);
  const auto arena = (*device)->MapArena(memory, kBytes, kBase);
  ASSERT_TRUE(arena.ok()) << arena.status();
  std::vector<char> bytes(4096, 'x'), back(4096);
  EXPECT_FALSE((*device)->PinMemory(absl::MakeSpan(bytes)).ok());
  EXPECT_TRUE((*device)->WriteMemory(kBase + 3, bytes).ok());
  EXPECT_TRUE((*device)->ReadMemory(kBase + 3, absl::MakeSpan(back)).ok());
  EXPECT_EQ(back, bytes);
}

TEST_F(FakeDriverTest, RefusalsOfTheDriverComeOutWithTheirReason) {
  auto device = OpenAnew();
  ASSERT_TRUE(device.ok());
  setenv("TRUN_FAKE_CUDA_FAIL", "cuMemCreate=2", 1);
  EXPECT_EQ(GetReason((*device)->CreateMemory(kBytes).status()), Reason::kOutOfMemory);
  setenv("TRUN_FAKE_CUDA_FAIL", "cuMemExportToShareableHandle=801", 1);
  EXPECT_EQ((*device)->CreateMemory(kBytes).status().code(), absl::StatusCode::kUnimplemented);
  setenv("TRUN_FAKE_CUDA_FAIL", "cuModuleLoadData=209", 1);
  EXPECT_EQ(GetReason((*device)->LoadModule(TestData("conformance.sm_90.cubin")).status()),
            Reason::kUnsupportedTarget);
  setenv("TRUN_FAKE_CUDA_FAIL", "cuStreamCreate=304", 1);
  EXPECT_EQ(GetReason((*device)->CreateStream().status()), Reason::kNotPermitted);
}

}  // namespace
}  // namespace trun::device
