#include "server/device/emulator/async/emulator_fixture.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

#include "common/base/unique_fd.h"
#include "nlohmann/json.hpp"
#include "server/device/emulator/emulator_device.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {

EmulatorFixture::EmulatorFixture(int arch) {
  EmulatorOptions options;
  options.arch = arch;
  options.threads = 1;
  auto device = CreateEmulatorDevice(options);
  EXPECT_TRUE(device.ok()) << device.status();
  device_ = *std::move(device);
  EXPECT_TRUE(device_->SetChecks(ChecksOfEnvironment()).ok());
  UniqueFd fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(fd.get(), kBytes), 0);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), 0);
  host_ = static_cast<uint8_t*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0));
  auto arena = device_->MapArena(fd, kBytes, kBase);
  EXPECT_TRUE(arena.ok()) << arena.status();
  arena_ = *std::move(arena);
}

EmulatorFixture::~EmulatorFixture() {
  arena_.reset();
  device_.reset();
  munmap(host_, kBytes);
}

uint64_t EmulatorFixture::Allocate(size_t bytes) {
  const uint64_t address = next_;
  next_ += (bytes + 511) / 256 * 256;
  EXPECT_LE(next_, kBase + kBytes);
  EXPECT_TRUE(device_->AddAllocation(next_id_++, address, bytes).ok());
  return address;
}

LaunchOutcome EmulatorFixture::RunText(const std::string& ptx, const LaunchDimensions& dimensions,
                                       const std::vector<uint64_t>& arguments,
                                       std::shared_ptr<LaunchObserver> observer) {
  LaunchOutcome outcome;
  auto module = device_->LoadModule(ptx);
  outcome.status = module.status();
  if (!module.ok()) return outcome;
  auto kernel = (*module)->GetKernel("");
  outcome.status = kernel.status();
  if (!kernel.ok()) return outcome;
  const KernelAttributes& attributes = (*kernel)->attributes();
  std::vector<std::byte> parameters(attributes.parameter_bytes);
  for (size_t i = 0; i < attributes.parameters.size() && i < arguments.size(); ++i) {
    std::memcpy(parameters.data() + attributes.parameters[i].offset, &arguments[i],
                attributes.parameters[i].bytes);
  }
  LaunchDimensions shape = dimensions;
  for (size_t i = 0; i < 3; ++i) {
    if (attributes.required_block[i] != 0) shape.block[i] = attributes.required_block[i];
  }
  auto stream = device_->CreateStream();
  outcome.status = stream.status();
  if (!stream.ok()) return outcome;
  LaunchRequest request;
  request.kernel = *kernel;
  request.dimensions = shape;
  request.parameters = parameters;
  request.observer = std::move(observer);
  (*stream)->Launch(request, [&outcome](LaunchOutcome done) { outcome = std::move(done); });
  (*stream)->Synchronize();
  return outcome;
}

LaunchOutcome EmulatorFixture::Run(const std::string& name, const std::array<uint64_t, 3>& grid,
                                   const std::vector<uint64_t>& arguments) {
  std::ifstream ptx(name + ".ptx"), json(name + ".json");
  EXPECT_TRUE(ptx.is_open() && json.is_open()) << name;
  std::stringstream text;
  text << ptx.rdbuf();
  const nlohmann::json metadata = nlohmann::json::parse(json);
  LaunchDimensions dimensions;
  for (size_t i = 0; i < 3; ++i) dimensions.grid[i] = static_cast<uint32_t>(grid[i]);
  dimensions.block = {metadata["num_warps"].get<uint32_t>() * 32, 1, 1};
  const uint32_t ctas = metadata["num_ctas"].get<uint32_t>();
  dimensions.cluster[0] = ctas;
  dimensions.grid[0] *= ctas;
  dimensions.dynamic_shared_bytes = metadata["shared"].get<uint32_t>();
  std::vector<uint64_t> all = arguments;
  EXPECT_EQ(arguments.size(), metadata["parameters"].size());
  const uint64_t scratch =
      metadata["global_scratch_size"].get<uint64_t>() * ctas * grid[0] * grid[1] * grid[2];
  all.push_back(scratch != 0 ? Allocate(scratch) : 0);
  all.push_back(0);
  return RunText(text.str(), dimensions, all);
}

}  // namespace trun::device
