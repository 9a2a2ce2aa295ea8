// One kernel with a mistake for each kind of report: docs/emulator-reports.md shows what is said of it, and
// has to be what is said of it. TRUN_RENEW_REPORTS=FILE writes the page anew.
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

const char kHead[] =
    "# Reports of the emulator\n\n"
    "One kernel for each kind, with what is said of it. The kernels are "
    "`server/device/emulator/testdata/reports/*.ptx`\n"
    "(PTX by hand, with the line numbers of the source that is shown). "
    "`server/device/emulator/reports_test.cc` runs "
    "them,\nholds this page to what they give, and renews it: `TRUN_RENEW_REPORTS=docs/emulator-reports.md "
    "emulator_reports_test`,\nrun from `server/device/emulator`. `trun-client` prints the same as a compiler "
    "prints an "
    "error: the source line, then\nthe access, the tensor it missed, the PTX line and the other half as "
    "notes.\n";

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
      {"stack", Reason::kIllegalAddress, {}, 32, 4},
      {"half_a_barrier", Reason::kBarrierDivergence},
      {"parted", Reason::kBarrierDivergence},
      {"no_arrival", Reason::kHungKernel, {}, 32, 1, 1, 90},
      {"endless", Reason::kHungKernel},
      {"trapped", Reason::kDeviceAssert},
      {"masked_load", Reason::kUninitializedRead, uninit, 32, 20},
      {"unwritten_shared", Reason::kUninitializedRead, uninit},
      {"no_barrier", Reason::kRace, race, 64},
      {"counter", Reason::kRace, race, 1, 1, 4},
      {"no_wait", Reason::kRace, async},
      {"traced", Reason::kUnspecified, {}, 32, 10, 1, 80, false, trace},
  };
}

std::string ReadFile(const std::string& name) {
  std::ifstream file(name, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The comment lines that a kernel's file begins with: the title, then the source.
std::string Heading(const std::string& ptx) {
  std::string title, source;
  for (const absl::string_view line : absl::StrSplit(ptx, '\n')) {
    if (line.substr(0, 3) != "// ") break;
    if (line.substr(0, 5) == "//   ") {
      absl::StrAppend(&source, line.substr(5), "\n");
    } else {
      title = std::string(line.substr(3));
    }
  }
  return absl::StrCat("\n## ", title, "\n\n```python\n", source, "```\n\n");
}

std::string Section(const Case& c) {
  const std::string ptx = ReadTestData(absl::StrCat("reports/", c.name, ".ptx"));
  TestLauncher launcher(c.arch, 1);
  std::vector<uint32_t> values(c.elements == 0 ? 1 : c.elements);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint32_t>(i);
  if (std::string(c.name) == "endless") values.assign(values.size(), 0);
  const TestTensor x = launcher.Upload(values);
  const auto kernel = launcher.Load(ptx);
  EXPECT_TRUE(kernel.ok()) << c.name << ": " << kernel.status();
  if (!kernel.ok()) return "";
  if (c.freed) {
    EXPECT_TRUE(launcher.device().RemoveAllocation(x.id).ok());
  }
  LaunchRequest request;
  request.kernel = *kernel;
  request.dimensions.block = (*kernel)->attributes().required_block;
  request.dimensions.grid = {c.grid, 1, 1};
  const TestParameters parameters = TestParameters().Add(c.elements == 0 ? uint64_t{0} : x.address).Add(c.n);
  request.parameters = parameters.bytes();
  request.deadline = std::string(c.name) == "endless" ? absl::Milliseconds(100) : absl::Minutes(5);
  LaunchOutcome plain;
  if (c.checks.any()) {
    // Only the check sees it.
    launcher.stream().Launch(request, [&plain](LaunchOutcome done) { plain = std::move(done); });
    launcher.stream().Synchronize();
    EXPECT_TRUE(plain.status.ok()) << c.name << ": " << plain.status;
  }
  request.checks = c.checks;
  request.trace = c.trace;
  LaunchOutcome outcome;
  launcher.stream().Launch(request, [&outcome](LaunchOutcome done) { outcome = std::move(done); });
  launcher.stream().Synchronize();
  EXPECT_EQ(GetReason(outcome.status), c.reason) << c.name << ": " << outcome.status;
  std::string said = outcome.trace;
  if (!outcome.status.ok()) said = absl::StrCat(ReasonName(c.reason), ": ", outcome.fault.message, "\n");
  return absl::StrCat(Heading(ptx), "```\n", said, "```\n");
}

TEST(ReportsTest, EveryKindIsSaidAsThePageShowsIt) {
  std::string page = kHead;
  for (const Case& c : Cases()) page += Section(c);
  if (const char* file = std::getenv("TRUN_RENEW_REPORTS"); file != nullptr) {
    std::ofstream(file, std::ios::binary) << page;
    return;
  }
  EXPECT_EQ(page, ReadFile("../../../docs/emulator-reports.md"));
}

}  // namespace
}  // namespace trun::device
