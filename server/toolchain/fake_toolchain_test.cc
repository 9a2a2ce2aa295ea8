#include "server/toolchain/fake_toolchain.h"

#include "server/toolchain/toolchain_conformance.h"

namespace trun {
namespace {

ToolchainSamples Samples() {
  ToolchainSamples samples;
  samples.name = "Fake";
  samples.make = [] { return std::make_shared<FakeToolchain>("3.9.0"); };
  samples.good_ttir = FakeToolchain::FakeTtir("good", "a");
  // It looks at no line but the first, and knows no columns: only ptxas answers without one.
  samples.bad = {{Level::kPtx, "refuse"}};
  samples.bad_line = {{Level::kPtx, 1}};
  return samples;
}

INSTANTIATE_TEST_SUITE_P(Fake, ToolchainConformanceTest, ::testing::Values(Samples()), SampleName);

}  // namespace
}  // namespace trun
