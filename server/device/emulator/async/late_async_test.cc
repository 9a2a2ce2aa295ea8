// --check=async: asynchronous work ends as late as its waits allow, right programs stay right, and each wait
// of Triton's sm_90 kernels that is taken out is found.
#include <bit>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/device/emulator/async/emulator_fixture.h"
#include "server/device/emulator/debug/debugger.h"
#include "server/device/emulator/numerics/convert.h"

namespace trun::device {
namespace {

std::string ReadText(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class LateAsyncTest : public EmulatorFixture {
 protected:
  LateAsyncTest() : EmulatorFixture(90) {
    CheckOptions checks;
    checks.late_async = true;
    EXPECT_TRUE(device().SetChecks(checks).ok());
  }

  uint64_t Ones(size_t halves) {
    const uint64_t address = Allocate(halves * 2);
    const uint16_t one = 0x3c00;
    for (size_t i = 0; i < halves; ++i) std::memcpy(Host(address) + i * 2, &one, 2);
    return address;
  }

  // Stops at a line and looks at shared memory there.
  std::shared_ptr<Debugger> Look(const std::vector<uint32_t>& lines, uint64_t address,
                                 std::vector<uint32_t>* seen) {
    auto debugger = std::make_shared<Debugger>([address, seen](const Stop& stop) {
      const auto bytes = stop.ReadMemory("shared", address, 4);
      uint32_t word = 0xdead;
      if (bytes.ok()) std::memcpy(&word, bytes->data(), 4);
      seen->push_back(word);
      return DebugAction::kContinue;
    });
    for (const uint32_t line : lines) {
      Breakpoint at;
      at.ptx_line = line;
      EXPECT_TRUE(debugger->Add(at).ok());
    }
    return debugger;
  }
};

// --- when things happen

const char kBulkLoad[] =
    ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n"
    ".reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %d<4>;\n"
    ".shared .align 128 .b8 s[128]; .shared .align 8 .b64 b;\n"
    "ld.param.u64 %d0, [p]; mov.u32 %r2, s; mov.u32 %r3, b;\n"
    "mbarrier.init.shared.b64 [%r3], 1;\n"
    "mbarrier.arrive.expect_tx.shared.b64 %d3, [%r3], 64;\n"
    "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%d0], 64, [%r3];\n"
    "nanosleep.u32 100;\n"  // 12
    "$again: mbarrier.try_wait.parity.shared.b64 %p1, [%r3], 0; @!%p1 bra $again;\n"
    "ld.shared.u32 %r4, [%r2];\n"  // 14
    "st.global.u32 [%d0+64], %r4;\nret;\n}\n";

TEST_F(LateAsyncTest, ABulkLoadIsMadeWhenSomeoneWaitsForItsPhase) {
  std::vector<uint32_t> seen;
  const uint64_t x = Allocate(128);
  const uint32_t value = 77;
  std::memcpy(Host(x), &value, 4);
  LaunchDimensions dimensions;
  dimensions.block = {1, 1, 1};
  const LaunchOutcome outcome = RunText(kBulkLoad, dimensions, {x}, Look({12, 14}, 0, &seen));
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(seen, testing::ElementsAre(0, 77));
  uint32_t stored = 0;
  std::memcpy(&stored, Host(x) + 64, 4);
  EXPECT_EQ(stored, 77u);
}

TEST_F(LateAsyncTest, ABulkStoreReadsAtItsReadWaitAndWritesAtItsWholeOne) {
  // The shared word is changed behind each wait; what lands is what stood there at the read wait.
  const auto kernel = [](const std::string& first, const std::string& second) {
    return absl::StrCat(
        ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n"
        ".reg .b32 %r<8>; .reg .b64 %d<4>;\n.shared .align 128 .b8 s[128];\n"
        "ld.param.u64 %d0, [p]; mov.u32 %r2, s; st.shared.u32 [%r2], 5;\n"
        "fence.proxy.async.shared::cta;\n"
        "cp.async.bulk.global.shared::cta.bulk_group [%d0], [%r2], 64; cp.async.bulk.commit_group;\n",
        first, "\nld.global.u32 %r5, [%d0]; st.global.u32 [%d0+64], %r5;\n", second,
        "\nld.global.u32 %r6, [%d0]; st.global.u32 [%d0+68], %r6;\nret;\n}\n");
  };
  const auto run = [&](const std::string& first, const std::string& second, uint32_t* stored) {
    const uint64_t x = Allocate(128);
    LaunchDimensions dimensions;
    dimensions.block = {1, 1, 1};
    const LaunchOutcome outcome = RunText(kernel(first, second), dimensions, {x});
    std::memcpy(stored, Host(x) + 64, 8);
    return outcome;
  };
  uint32_t stored[2] = {};
  LaunchOutcome outcome = run("cp.async.bulk.wait_group 0;", "st.shared.u32 [%r2], 6;", stored);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_THAT(stored, testing::ElementsAre(5, 5));
  // With .read alone the target may not be looked at yet; the source may be written.
  outcome = run("cp.async.bulk.wait_group.read 0;", "", stored);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  outcome = run("cp.async.bulk.wait_group 1;", "cp.async.bulk.wait_group 0;", stored);
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
}

TEST_F(LateAsyncTest, AThreadThatEndsBeforeItsBulkStoreHasReadIsReported) {
  const std::string kernel =
      ".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n"
      ".reg .b32 %r<8>; .reg .b64 %d<4>;\n.shared .align 128 .b8 s[128];\n"
      "ld.param.u64 %d0, [p]; mov.u32 %r2, s; st.shared.u32 [%r2], 5; fence.proxy.async.shared::cta;\n"
      "cp.async.bulk.global.shared::cta.bulk_group [%d0], [%r2], 64;\ncp.async.bulk.commit_group;\n"
      "cp.async.bulk.wait_group.read 0;\nret;\n}\n";
  const uint64_t x = Allocate(128);
  LaunchDimensions dimensions;
  dimensions.block = {1, 1, 1};
  LaunchOutcome outcome = RunText(kernel, dimensions, {x});
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  EXPECT_EQ(*Host(x), 5);  // written by the end of the thread
  outcome = RunText(absl::StrReplaceAll(kernel, {{"cp.async.bulk.wait_group.read 0;", ""}}), dimensions, {x});
  EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << outcome.status;
  EXPECT_EQ(outcome.fault.other.ptx_line, 9u);
  EXPECT_THAT(outcome.fault.message, testing::HasSubstr("cp.async.bulk.wait_group is missing"));
}

// --- each wait taken out of Triton's kernels

struct Mutant {
  std::string what;
  std::string ptx;
};

// One text for each proxy fence that something goes through: not those of tensor maps.
std::vector<Mutant> WithoutOneProxyFence(const std::string& ptx) {
  std::vector<std::string> lines = absl::StrSplit(ptx, '\n');
  std::vector<Mutant> mutants;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string line = lines[i];
    if (!absl::StartsWith(absl::StripLeadingAsciiWhitespace(line), "fence.proxy.async")) continue;
    lines[i] = "";
    mutants.push_back({absl::StrCat("line ", i + 1), absl::StrJoin(lines, "\n")});
    lines[i] = line;
  }
  return mutants;
}

// One text for each wait that waits for something, without it. Triton's .read waits behind the making of a
// tensor map have no bulk copy to wait for.
std::vector<Mutant> WithoutOneWait(const std::string& ptx) {
  std::vector<std::string> lines = absl::StrSplit(ptx, '\n');
  std::vector<Mutant> mutants;
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::string line = lines[i];
    const auto text = absl::StripLeadingAsciiWhitespace(line);
    if (absl::StartsWith(text, "mbarrier.try_wait")) {
      lines[i] = "setp.eq.u32 complete, 0, 0;";
    } else if (absl::StartsWith(text, "wgmma.wait_group") ||
               absl::StartsWith(text, "cp.async.bulk.wait_group") ||
               absl::StartsWith(text, "cp.async.wait_group")) {
      lines[i] = "";
    } else {
      continue;
    }
    mutants.push_back({absl::StrCat("line ", i + 1, ": ", line), absl::StrJoin(lines, "\n")});
    lines[i] = line;
  }
  return mutants;
}

struct MutantCase {
  const char* name;
  int bm, bn;
  size_t redundant;  // waits for what another wait, for the same consumer's earlier arrival, has shown
};

class MissingWaitTest : public LateAsyncTest, public testing::WithParamInterface<MutantCase> {};

TEST_P(MissingWaitTest, IsReportedOrGivesAnotherResult) {
  const MutantCase& p = GetParam();
  const std::string name = absl::StrCat("testdata/", p.name);
  const nlohmann::json metadata = nlohmann::json::parse(ReadText(name + ".json"));
  const uint32_t ctas = metadata["num_ctas"].get<uint32_t>();
  const auto m = static_cast<uint64_t>(p.bm), n = static_cast<uint64_t>(p.bn), k = uint64_t{320};
  const auto run = [&](const std::string& ptx, bool* right) {
    LaunchDimensions dimensions;
    dimensions.block = {metadata["num_warps"].get<uint32_t>() * 32, 1, 1};
    dimensions.cluster[0] = dimensions.grid[0] = ctas;
    dimensions.dynamic_shared_bytes = metadata["shared"].get<uint32_t>();
    const uint64_t a = Ones(m * k), b = Ones(k * n), c = Allocate(m * n * 2);
    const uint64_t scratch = metadata["global_scratch_size"].get<uint64_t>() * ctas;
    const LaunchOutcome outcome =
        RunText(ptx, dimensions, {a, b, c, m, n, k, scratch != 0 ? Allocate(scratch) : 0, 0});
    *right = outcome.status.ok();
    for (size_t i = 0; i < m * n; ++i) {
      uint16_t v;
      std::memcpy(&v, Host(c) + i * 2, 2);
      *right = *right && v == 0x5d00;  // 320
    }
    return outcome;
  };
  const std::string ptx = ReadText(name + ".ptx");
  bool right = false;
  ASSERT_TRUE(run(ptx, &right).status.ok());
  ASSERT_TRUE(right);
  std::vector<std::string> silent;
  for (const Mutant& mutant : WithoutOneWait(ptx)) {
    const LaunchOutcome outcome = run(mutant.ptx, &right);
    if (right) silent.push_back(mutant.what);
  }
  EXPECT_THAT(silent, testing::SizeIs(p.redundant));
}

INSTANTIATE_TEST_SUITE_P(Triton, MissingWaitTest,
                         testing::Values(MutantCase{"tma_matmul_fp16", 64, 128, 0},
                                         MutantCase{"tma_matmul_cluster", 128, 128, 0},
                                         MutantCase{"specialised_matmul", 128, 128, 2}),
                         [](const auto& info) { return std::string(info.param.name); });

// --- proxies

TEST_F(LateAsyncTest, AProxyFenceTakenOutOfAMatmulIsReportedWhereStoresGoThroughIt) {
  CheckOptions checks;
  checks.races = true;
  ASSERT_TRUE(device().SetChecks(checks).ok());
  struct Case {
    const char* name;
    std::vector<uint64_t> sizes;
    size_t without_stores;  // fences that only cp.async goes through, or over the place where a map was made
  };
  for (const Case& c : {Case{"tma_matmul_fp16", {64, 128, 64}, 1},
                        Case{"wgmma_fp16", {64, 64, 64, 64, 64}, 0}, Case{"attention", {}, 1}}) {
    const std::string name = absl::StrCat("testdata/", c.name);
    const nlohmann::json metadata = nlohmann::json::parse(ReadText(name + ".json"));
    const auto run = [&](const std::string& ptx) {
      LaunchDimensions dimensions;
      dimensions.block = {metadata["num_warps"].get<uint32_t>() * 32, 1, 1};
      dimensions.dynamic_shared_bytes = metadata["shared"].get<uint32_t>();
      std::vector<uint64_t> arguments = {Ones(256 * 64), Ones(256 * 64), Ones(256 * 64)};
      arguments.insert(arguments.end(), c.sizes.begin(), c.sizes.end());
      if (c.sizes.empty())
        arguments = {arguments[0], arguments[1], arguments[2], Allocate(256 * 64 * 4), 0, 256};
      const uint64_t scratch = metadata["global_scratch_size"].get<uint64_t>();
      arguments.push_back(scratch != 0 ? Allocate(scratch) : 0);
      arguments.push_back(0);
      return RunText(ptx, dimensions, arguments);
    };
    const std::string ptx = ReadText(name + ".ptx");
    const LaunchOutcome whole = run(ptx);
    ASSERT_TRUE(whole.status.ok()) << c.name << whole.status;
    size_t silent = 0;
    for (const Mutant& mutant : WithoutOneProxyFence(ptx)) {
      const LaunchOutcome outcome = run(mutant.ptx);
      if (outcome.status.ok()) {
        ++silent;
        continue;
      }
      EXPECT_EQ(GetReason(outcome.status), Reason::kRace) << c.name << " " << mutant.what;
      EXPECT_THAT(outcome.fault.message, testing::HasSubstr("fence.proxy.async")) << mutant.what;
    }
    EXPECT_EQ(silent, c.without_stores) << c.name;
  }
}

}  // namespace
}  // namespace trun::device
