#include "server/device/emulator/test_launcher.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>

namespace trun::device {
namespace {

[[noreturn]] void Die(const std::string& what) {
  fprintf(stderr, "test_launcher: %s\n", what.c_str());
  abort();
}

}  // namespace

TestLauncher::TestLauncher(int arch, int threads, size_t arena_bytes) : arena_bytes_(arena_bytes) {
  EmulatorOptions options;
  options.arch = arch;
  options.threads = threads;
  auto device = CreateEmulatorDevice(options);
  if (!device.ok()) Die(std::string(device.status().message()));
  device_ = std::move(device).value();
  if (!device_->SetChecks(ChecksOfEnvironment()).ok()) std::abort();
  UniqueFd fd(memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC));
  if (!fd.valid() || ftruncate(fd.get(), static_cast<off_t>(arena_bytes)) != 0) Die("memfd_create");
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) Die("F_ADD_SEALS");
  void* host = mmap(nullptr, arena_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (host == MAP_FAILED) Die("mmap");
  host_ = static_cast<uint8_t*>(host);
  auto arena = device_->MapArena(fd, arena_bytes, kArena);
  if (!arena.ok()) Die(std::string(arena.status().message()));
  arena_ = std::move(arena).value();
  auto stream = device_->CreateStream();
  if (!stream.ok()) Die(std::string(stream.status().message()));
  stream_ = std::move(stream).value();
}

TestLauncher::~TestLauncher() {
  stream_.reset();
  modules_.clear();
  arena_.reset();
  munmap(host_, arena_bytes_);
}

TestTensor TestLauncher::Allocate(size_t bytes) {
  TestTensor tensor;
  if (used_ + bytes > arena_bytes_) Die("the arena is full");
  tensor.address = kArena + used_;
  tensor.host = host_ + used_;
  tensor.bytes = bytes;
  tensor.id = next_id_++;
  used_ = (used_ + bytes + 256 + 255) / 256 * 256;
  const absl::Status status = device_->AddAllocation(tensor.id, tensor.address, bytes);
  if (!status.ok()) Die(std::string(status.message()));
  return tensor;
}

absl::StatusOr<const Kernel*> TestLauncher::Load(absl::string_view ptx) {
  auto module = device_->LoadModule(ptx);
  if (!module.ok()) return module.status();
  modules_.push_back(std::move(module).value());
  return modules_.back()->GetKernel("");
}

LaunchOutcome TestLauncher::Launch(const Kernel* kernel, const LaunchDimensions& dimensions,
                                   const TestParameters& parameters, absl::Duration deadline) {
  LaunchRequest request;
  request.kernel = kernel;
  request.dimensions = dimensions;
  request.parameters = parameters.bytes();
  request.deadline = deadline;
  request.unwritten = unwritten_;
  std::mutex mutex;
  std::condition_variable ready;
  bool done = false;
  LaunchOutcome result;
  stream_->Launch(request, [&](LaunchOutcome outcome) {
    std::lock_guard<std::mutex> lock(mutex);
    result = std::move(outcome);
    done = true;
    ready.notify_all();
  });
  std::unique_lock<std::mutex> lock(mutex);
  ready.wait(lock, [&] { return done; });
  return result;
}

CheckOptions ChecksOfEnvironment() {
  const char* const value = std::getenv("TRUN_TEST_CHECKS");
  const std::string names = value == nullptr ? "" : value;
  CheckOptions checks;
  checks.uninitialized = names.find("uninit") != std::string::npos;
  checks.races = names.find("race") != std::string::npos;
  checks.late_async = names.find("async") != std::string::npos;
  return checks;
}

std::string ReadTestData(const std::string& name) {
  std::ifstream file("testdata/" + name, std::ios::binary);
  if (!file) Die("no testdata/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace trun::device
