// One kernel with a mistake for each kind of report. docs/emulator-reports.md shows what the command line
// says of them, and tests/integration/test_reports.py holds it to that.
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

struct Case {
  const char* name;
  Reason reason;  // kUnspecified: it ends well, and has a trace
  CheckOptions checks = {};
  uint32_t elements = 32;  // of the tensor; 0: the pointer is null
  uint32_t n = 1;
  uint32_t grid = 1;
  int arch = 80;
  bool freed = false;
  TraceOptions trace = {};
  bool unwritten = false;  // the tensor: nobody has written it
};

std::vector<Case> Cases() {
  const CheckOptions uninit = {true, false, false}, race = {false, true, false}, async = {false, false, true};
  TraceOptions trace;
  trace.lines = trace.registers = true;
  trace.thread = {7, 0, 0};
  return {
      {"scale", Reason::kIllegalAddress, {}, 31, 31},
      {"through_null", Reason::kIllegalAddress, {}, 0},
      {"misaligned", Reason::kMisalignedAddress},
      {"use_after_free", Reason::kUseAfterFree, {}, 32, 1, 1, 80, true},
      {"shared_bounds", Reason::kIllegalAddress},
      {"param_bounds", Reason::kIllegalAddress},
      {"constant_write", Reason::kIllegalAddress},
      {"stack", Reason::kIllegalAddress, {}, 32, 4},
      {"local_overflow", Reason::kIllegalAddress, {}, 32, 13},
      {"half_a_barrier", Reason::kBarrierDivergence},
      {"parted", Reason::kBarrierDivergence},
      {"no_arrival", Reason::kHungKernel, {}, 32, 1, 1, 90},
      {"endless", Reason::kHungKernel},
      {"trapped", Reason::kDeviceAssert},
      {"asserted", Reason::kDeviceAssert, {}, 32, 11},
      {"unwritten_register", Reason::kUninitializedRead, uninit},
      {"masked_load", Reason::kUninitializedRead, uninit, 32, 20},
      {"unwritten_shared", Reason::kUninitializedRead, uninit},
      {"accumulate", Reason::kUninitializedRead, uninit, 32, 1, 1, 80, false, {}, true},
      {"half_a_tile", Reason::kUninitializedRead, uninit, 512, 1, 1, 90},
      {"unwritten_copy", Reason::kUninitializedRead, uninit, 32, 1, 1, 90},
      {"no_barrier", Reason::kRace, race, 64},
      {"counter", Reason::kRace, race, 1, 1, 4},
      {"lanes", Reason::kRace, race},
      {"no_proxy_fence", Reason::kRace, race, 4, 1, 1, 90},
      {"no_global_fence", Reason::kRace, race, 32, 100, 1, 90},
      {"no_map_fence", Reason::kRace, race, 64, 32, 1, 90},
      {"no_wait", Reason::kRace, async},
      {"no_wait_at_end", Reason::kRace, async, 4, 1, 1, 90},
      {"no_product_wait", Reason::kRace, async, 128, 1, 1, 90},
      {"traced", Reason::kUnspecified, {}, 32, 10, 1, 80, false, trace},
  };
}

void Launch(const Case& c) {
  const std::string ptx = ReadTestData(absl::StrCat("reports/", c.name, ".ptx"));
  TestLauncher launcher(c.arch, 1);
  std::vector<uint32_t> values(c.elements == 0 ? 1 : c.elements);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint32_t>(i);
  if (std::string(c.name) == "endless") values.assign(values.size(), 0);
  const TestTensor x = launcher.Upload(values);
  const auto kernel = launcher.Load(ptx);
  EXPECT_TRUE(kernel.ok()) << c.name << ": " << kernel.status();
  if (!kernel.ok()) return;
  if (c.freed) {
    const TestTensor y = launcher.Allocate(128);
    std::memcpy(x.host, &y.address, sizeof y.address);
    EXPECT_TRUE(launcher.device().RemoveAllocation(y.id).ok());
  }
  LaunchRequest request;
  request.kernel = *kernel;
  request.dimensions.block = (*kernel)->attributes().required_block;
  request.dimensions.grid = {c.grid, 1, 1};
  const TestParameters parameters = TestParameters().Add(c.elements == 0 ? uint64_t{0} : x.address).Add(c.n);
  request.parameters = parameters.bytes();
  request.deadline = std::string(c.name) == "endless" ? absl::Milliseconds(100) : absl::Minutes(5);
  LaunchOutcome plain;
  if (c.checks.any() && !c.unwritten) {
    // Only the check sees it.
    launcher.stream().Launch(request, [&plain](LaunchOutcome done) { plain = std::move(done); });
    launcher.stream().Synchronize();
    EXPECT_TRUE(plain.status.ok()) << c.name << ": " << plain.status;
  }
  request.checks = c.checks;
  const std::vector<uint64_t> ids = {x.id};
  if (c.unwritten) request.unwritten = ids;
  request.trace = c.trace;
  LaunchOutcome outcome;
  launcher.stream().Launch(request, [&outcome](LaunchOutcome done) { outcome = std::move(done); });
  launcher.stream().Synchronize();
  EXPECT_EQ(GetReason(outcome.status), c.reason) << c.name << ": " << outcome.status;
  if (c.reason == Reason::kUnspecified) {
    EXPECT_FALSE(outcome.trace.empty()) << c.name;
  } else {
    EXPECT_NE(outcome.fault.ptx_line, 0u) << c.name;
    EXPECT_EQ(outcome.fault.source_file, "kernel.py") << c.name;
    EXPECT_FALSE(outcome.fault.instruction.empty()) << c.name;
  }
}

TEST(ReportsTest, EveryKindIsReportedWithItsReasonAndPlace) {
  for (const Case& c : Cases()) Launch(c);
}

TEST(ReportsTest, AnInstructionThatIsNotThereIsReportedAtLoad) {
  const auto kernel = TestLauncher(80, 1).Load(ReadTestData("reports/unsupported.ptx"));
  EXPECT_EQ(GetReason(kernel.status()), Reason::kUnsupportedInstruction) << kernel.status();
  EXPECT_EQ(GetDetails(kernel.status())["line"], "18");
  EXPECT_EQ(GetDetails(kernel.status())["instruction"], "tex.1d.v4.s32.s32");
}

}  // namespace
}  // namespace trun::device
