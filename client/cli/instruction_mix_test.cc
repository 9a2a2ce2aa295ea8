#include "client/cli/instruction_mix.h"

#include <gtest/gtest.h>

namespace trun::cli {
namespace {

TEST(InstructionMix, TextWithoutInstructionsHasNone) {
  EXPECT_TRUE(CountInstructions("").empty());
  EXPECT_TRUE(CountInstructions(".version 8.4\n.target sm_90\n$L__BB0_1:\n// mma.sync\n}\n").empty());
}

TEST(InstructionMix, InstructionsAreCountedByTheirKind) {
  const auto counts = CountInstructions(R"(.visible .entry k(.param .u64 p)
{
	.reg .b32 	%r<9>;
	ld.param.b64 	%rd1, [p];
	@%p1 ld.global.v4.b32 	{ %r1, %r2, %r3, %r4 }, [ %rd1 + 0 ];
	mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 { %f1 }, { %r1 }, { %r2 }, { %f2 };
	wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {%f1,
	cp.async.cg.shared.global [ %r1 + 0 ], [ %rd1 + 0 ], 0x10, 0x10;
	cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd1, {%r2}], [%r3];
	add.f32 	%f1, %f2, %f3;
	fma.rn.f32 %f1, %f2, %f3, %f4;
	add.s32 	%r1, %r2, %r3;
	setp.lt.s32 	%p1, %r1, %r2;
	cvt.rn.f16x2.f32 %r1, %f1, %f2;
	cvta.to.global.u64 %rd1, %rd2;
	bar.sync 	0;
	red.global.add.f32 [%rd1], %f1;
	@%p2 bra 	$L__BB0_1;
	ret;
}
)");
  EXPECT_EQ(counts.at("total"), 16);
  EXPECT_EQ(counts.at("mma"), 1);
  EXPECT_EQ(counts.at("wgmma"), 1);
  EXPECT_EQ(counts.at("cp.async"), 1);
  EXPECT_EQ(counts.at("tma"), 1);
  EXPECT_EQ(counts.at("ld.global"), 1);
  EXPECT_EQ(counts.at("float"), 2);
  EXPECT_EQ(counts.at("integer"), 2);
  EXPECT_EQ(counts.at("convert"), 1);
  EXPECT_EQ(counts.at("atomic"), 1);
  EXPECT_EQ(counts.at("barrier"), 1);
  EXPECT_EQ(counts.at("branch"), 2);
  EXPECT_EQ(counts.at("other"), 2);
}

}  // namespace
}  // namespace trun::cli
