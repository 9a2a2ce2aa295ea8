// Which forms load: every one that a sample of Triton's tests emits, and their like.
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

std::string WithBody(const std::string& body) {
  return absl::StrCat(
      ".version 8.8\n.target sm_90a\n.address_size 64\n.shared .align 128 .b8 s[1024];\n.visible .entry "
      "k(.param .u64 p)\n{\n"
      ".reg .pred %p<8>;\n.reg .b16 %h<8>;\n.reg .b32 %r<32>;\n.reg .b64 %d<16>;\n.reg .b128 %q<4>;\n",
      body, "\nret;\n}\n");
}

TEST(VocabularyTest, EveryFormOfTheSampleLoads) {
  TestLauncher launcher(90);
  const std::string module = ReadTestData("vocabulary.ptx");
  const auto kernel = launcher.Load(module);
  EXPECT_TRUE(kernel.ok()) << kernel.status();
  int forms = 0;
  for (absl::string_view form : absl::StrSplit(ReadTestData("forms.txt"), '\n', absl::SkipEmpty())) {
    if (form[0] == '#') continue;
    ++forms;
    const bool is_there = absl::StrContains(module, absl::StrCat("\t", form, " ")) ||
                          absl::StrContains(module, absl::StrCat("\t", form, ";"));
    EXPECT_TRUE(is_there) << "vocabulary.ptx lacks " << form;
  }
  EXPECT_EQ(forms, 564);
}

TEST(VocabularyTest, FormsOfSm120Load) {
  TestLauncher launcher(120);
  for (const char* form :
       {"max.f32 %r1, %r2, %r3, %r4;", "min.ftz.NaN.f32 %r1, %r2, %r3, %r4;",
        "ldmatrix.sync.aligned.m16n16.x2.trans.shared.b8 {%r1, %r2, %r3, %r4}, [%r5];",
        "mma.sync.aligned.m16n8k32.row.col.kind::mxf8f6f4.block_scale.scale_vec::1X.f32.e4m3.e2m1.f32.ue8m0 "
        "{%r1, %r2, %r3, %r4}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4}, %r11, {%h1, %h2}, "
        "%r12, {0, 1};",
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::4X.f32.e2m1.e2m1.f32.ue4m3 "
        "{%r1, %r2, %r3, %r4}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4}, %r11, {0, 0}, %r12, "
        "{0, 3};",
        "mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32.e3m2.e2m1.f32 {%r1, %r2, %r3, %r4}, {%r5, %r6, "
        "%r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4};",
        "mma.sp::ordered_metadata.sync.aligned.m16n8k128.row.col.s32.s4.u4.s32 {%r1, %r2, %r3, %r4}, {%r5, "
        "%r6, %r7, %r8}, {%r9, %r10, %r11, %r12}, {%r1, %r2, %r3, %r4}, %r13, 0;"}) {
    const auto kernel = launcher.Load(absl::StrReplaceAll(WithBody(form), {{"sm_90a", "sm_120a"}}));
    EXPECT_TRUE(kernel.ok()) << form << ": " << kernel.status();
  }
}

TEST(VocabularyTest, OtherFormsOfTheSameFamiliesLoad) {
  TestLauncher launcher(90);
  for (const char* form :
       {"add.rz.ftz.sat.f32 %r1, %r2, %r3;",
        "add.sat.s32 %r1, %r2, %r3;",
        "sub.rp.f64 %d1, %d2, %d3;",
        "mul.hi.u64 %d1, %d2, %d3;",
        "mul24.lo.s32 %r1, %r2, %r3;",
        "mad.hi.sat.s32 %r1, %r2, %r3, %r4;",
        "mad24.hi.u32 %r1, %r2, %r3, %r4;",
        "sad.u16 %h1, %h2, %h3, %h4;",
        "fma.rn.relu.bf16x2 %r1, %r2, %r3, %r4;",
        "fma.rm.f64 %d1, %d2, %d3, %d4;",
        "min.NaN.f16x2 %r1, %r2, %r3;",
        "max.ftz.NaN.xorsign.abs.f32 %r1, %r2, %r3;",
        "min.relu.s32 %r1, %r2, %r3;",
        "abs.bf16x2 %r1, %r2;",
        "neg.f16x2 %r1, %r2;",
        "sqrt.rm.f32 %r1, %r2;",
        "rcp.approx.f32 %r1, %r2;",
        "sin.approx.f32 %r1, %r2;",
        "cos.approx.ftz.f32 %r1, %r2;",
        "lg2.approx.f32 %r1, %r2;",
        "tanh.approx.f32 %r1, %r2;",
        "tanh.approx.f16x2 %r1, %r2;",
        "ex2.approx.f16 %h1, %h2;",
        "ex2.approx.ftz.bf16x2 %r1, %r2;",
        "dp4a.s32.u32 %r1, %r2, %r3, %r4;",
        "dp2a.hi.u32.s32 %r1, %r2, %r3, %r4;",
        "bfi.b64 %d1, %d2, %d3, %r1, %r2;",
        "bfind.shiftamt.s64 %r1, %d2;",
        "brev.b64 %d1, %d2;",
        "cnot.b16 %h1, %h2;",
        "szext.wrap.s32 %r1, %r2, %r3;",
        "bmsk.clamp.b32 %r1, %r2, %r3;",
        "fns.b32 %r1, %r2, %r3, %r4;",
        "prmt.b32.rc16 %r1, %r2, %r3, %r4;",
        "lop3.or.b32 %r1|%p1, %r2, %r3, %r4, 0x3f, !%p2;",
        "lop3.and.b32 _|%p1, %r2, %r3, %r4, 0x3f, %p2;",
        "shf.r.clamp.b32 %r1, %r2, %r3, %r4;",
        "setp.lt.and.s32 %p1|%p2, %r1, %r2, !%p3;",
        "setp.nan.f64 %p1, %d1, %d2;",
        "set.lt.f32.s32 %r1, %r2, %r3;",
        "set.gtu.u32.f32 %r1, %r2, %r3;",
        "slct.u64.f32 %d1, %d2, %d3, %r1;",
        "testp.subnormal.f64 %p1, %d1;",
        "copysign.f64 %d1, %d2, %d3;",
        "cvt.rn.satfinite.relu.e4m3x2.f32 %h1, %r1, %r2;",
        "cvt.pack.sat.s8.s32.b32 %r1, %r2, %r3, %r4;",
        "cvt.sat.u8.s32 %h1, %r1;",
        "cvt.rmi.f16.f16 %h1, %h2;",
        "cvt.rn.bf16.f64 %h1, %d1;",
        "cvt.rzi.u64.f32 %d1, %r1;",
        "cvt.rn.f64.u64 %d1, %d2;",
        "mov.b128 %q1, {%d1, %d2};",
        "mov.b128 {%d1, %d2}, %q1;",
        "mov.b64 {%h1, %h2, %h3, %h4}, %d1;",
        "ld.global.b128 %q1, [%d1];",
        "ld.global.v2.b128 {%q1, %q2}, [%d1];",
        "ld.global.v8.b32 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%d1];",
        "ld.global.L1::evict_last.L2::cache_hint.v4.b32 {%r1, %r2, %r3, %r4}, [%d1], %d2;",
        "ld.s8 %d1, [%d2];",
        "ld.acquire.sys.global.u64 %d1, [%d2];",
        "ld.const.u32 %r1, [%d2];",
        "st.release.gpu.global.b32 [%d1], %r1;",
        "st.shared::cluster.b32 [%r1], %r2;",
        "atom.shared.inc.u32 %r1, [s], 7;",
        "atom.global.dec.u32 %r1, [%d1], %r2;",
        "atom.global.v4.f32.add {%r1, %r2, %r3, %r4}, [%d1], {%r5, %r6, %r7, %r8};",
        "atom.global.exch.b128 %q1, [%d1], %q2;",
        "atom.cas.b128 %q1, [%d1], %q2, %q3;",
        "red.shared.add.noftz.bf16x2 [%r1], %r2;",
        "atom.global.min.s64 %d1, [%d2], %d3;",
        "fence.sc.gpu;",
        "membar.gl;",
        "shfl.sync.down.b32 %r1|%p1, %r2, 1, 31, -1;",
        "vote.sync.all.pred %p1, !%p2, -1;",
        "match.all.sync.b64 %r1|%p1, %d1, -1;",
        "match.any.sync.b32 %r1, %r2, -1;",
        "redux.sync.xor.b32 %r1, %r2, -1;",
        "activemask.b32 %r1;",
        "bar.red.popc.u32 %r1, 0, %p1;",
        "bar.red.and.pred %p1, 1, 64, !%p2;",
        "barrier.cta.sync.aligned 2, 64;",
        "barrier.cluster.arrive.release.aligned;",
        "barrier.cluster.wait.acquire.aligned;",
        "nanosleep.u32 20;",
        "mapa.shared::cluster.u32 %r1, %r2, 0;",
        "getctarank.shared::cluster.u32 %r1, %r2;",
        "isspacep.shared %p1, %d1;",
        "cvta.to.shared.u64 %d1, %d2;",
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%r1, %r2, %r3, %r4}, {%r5, "
        "%r6}, {%r7}, {%r1, %r2, %r3, %r4};",
        "mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%r1, %r2, %r3, %r4}, {%r5, %r6, "
        "%r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4};",
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e5m2.f32 {%r1, %r2, %r3, %r4}, {%r5, "
        "%r6, %r7, %r8}, {%r9, %r10}, {%r1, %r2, %r3, %r4};",
        "movmatrix.sync.aligned.m8n8.trans.b16 %r1, %r2;",
        "stmatrix.sync.aligned.m16n8.x2.trans.shared.b8 [%r1], {%r2, %r3};",
        "ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.b4x16_p64 {%r1}, [%r2];",
        "ldmatrix.sync.aligned.m16n16.x1.trans.shared.b8x16.b6x16_p32 {%r1, %r2}, [%r3];",
        "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%r1, %r2, %r3, %r4}, %d1, "
        "%d2, %r5, 0, %p1, 1, 1, 0, 0;",
        "wmma.load.c.sync.aligned.col.m8n32k16.shared.f16 {%r1, %r2, %r3, %r4}, [%r5], 32;",
        "wmma.mma.sync.aligned.row.row.m8n8k4.rn.f64.f64.f64.f64 {%d1, %d2}, {%d3}, {%d4}, "
        "{%d1, %d2};",
        "cp.async.ca.shared.global.L2::128B [s], [%d1], 4;",
        "cp.async.cg.shared.global.L2::cache_hint [s], [%d1], 16, %d2;",
        "cp.async.wait_all;",
        "prefetch.global.L2 [%d1];",
        "createpolicy.fractional.L2::evict_last.b64 %d1, 1.0;",
        "griddepcontrol.wait;",
        "mov.u64 %d1, %clock64;",
        "mov.u32 %r1, %lanemask_lt;",
        "ld.global.nc.L1::no_allocate.L2::128B.v2.u64 {%d1, %d2}, [%d3];"}) {
    const auto kernel = launcher.Load(WithBody(form));
    EXPECT_TRUE(kernel.ok()) << form << ": " << kernel.status();
  }
}

TEST(VocabularyTest, WhatIsOutsideItIsRefusedAtLoad) {
  TestLauncher launcher(90);
  for (const char* form :
       {"tex.2d.v4.f32.s32 {%r1, %r2, %r3, %r4}, [%d1, {%r5, %r6}];", "shfl.bfly.b32 %r1, %r2, 1, 31;",
        "wgmma.mma_async.sp.sync.aligned.m64n8k16.f32.f16.f16 {%r1, %r2, %r3, %r4}, %d1, %d2, %r5, 0, %p1, "
        "1, 1, 0, 0;",
        "wgmma.mma_async.sp.sync.aligned.m64n8k64.f32.e4m3.e4m3 {%r1, %r2, %r3, %r4}, %d1, %d2, %r5, 1, %p1, "
        "1, 1;",
        "wmma.load.a.sync.aligned.row.m16n16k8.global.f16 {%r1, %r2, %r3, %r4}, [%d1];",
        "wmma.mma.sync.aligned.col.col.m8n8k32.s32.s4.s4.s32 {%r1, %r2}, {%r3}, {%r4}, {%r1, %r2};",
        "ldmatrix.sync.aligned.m8n16.x1.shared.b8 {%r1}, [%r2];",
        "mma.sp.sync.aligned.m16n8k4.row.col.f32.tf32.tf32.f32 {%r1, %r2, %r3, %r4}, {%r5}, {%r6}, {%r1, "
        "%r2, "
        "%r3, %r4}, %r7, 0;",
        "vadd.s32.s32.s32 %r1, %r2, %r3;", "tcgen05.wait::ld.sync.aligned;", "cvt.rn.f32.b32 %r1, %r2;",
        "add.f32.extra %r1, %r2, %r3;"}) {
    const auto kernel = launcher.Load(WithBody(form));
    EXPECT_EQ(GetReason(kernel.status()), Reason::kUnsupportedInstruction) << form << ": " << kernel.status();
    EXPECT_EQ(GetDetails(kernel.status())["line"], "12") << form;
  }
}

}  // namespace
}  // namespace trun::device
