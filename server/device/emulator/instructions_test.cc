// Instructions that Triton's kernels rarely use, one by one, against their definition in PTX ISA.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "gtest/gtest.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

using U32 = uint32_t;
using S32 = int32_t;
using U64 = uint64_t;
using S64 = int64_t;

// Lanes load a, b, c into %a, %b, %c (32 bits) and store %d; `lanes` is the number of threads.
std::string Ptx(const std::string& body) {
  return absl::StrCat(R"(.version 8.4
.target sm_80
.address_size 64
.shared .align 16 .b8 s[1024];
.visible .entry k(.param .u64 in, .param .u64 out)
{
.reg .pred %p<8>;
.reg .b16 %h<8>;
.reg .b32 %a, %b, %c, %d, %t, %r<16>;
.reg .b64 %l<16>;
ld.param.u64 %l1, [in]; ld.param.u64 %l2, [out]; mov.u32 %t, %tid.x;
mul.wide.u32 %l3, %t, 12; add.s64 %l1, %l1, %l3; mul.wide.u32 %l3, %t, 4; add.s64 %l2, %l2, %l3;
ld.global.u32 %a, [%l1]; ld.global.u32 %b, [%l1+4]; ld.global.u32 %c, [%l1+8]; mov.u32 %d, 0;
)",
                      body, "\nst.global.u32 [%l2], %d;\nret;\n}\n");
}

struct Inputs {
  std::vector<U32> a, b, c;
};

class InstructionsTest : public ::testing::Test {
 protected:
  static constexpr int kThreads = 128;

  std::vector<U32> Run(const std::string& body, const Inputs& in) {
    const size_t threads = in.a.size();
    std::vector<U32> packed;
    for (size_t i = 0; i < threads; ++i) packed.insert(packed.end(), {in.a[i], in.b[i], in.c[i]});
    const TestTensor input = launcher_.Upload(packed), output = launcher_.Allocate(threads * 4);
    auto kernel = launcher_.Load(Ptx(body));
    EXPECT_TRUE(kernel.ok()) << body << ": " << kernel.status();
    if (!kernel.ok()) return std::vector<U32>(threads);
    LaunchDimensions dimensions;
    dimensions.block = {static_cast<U32>(threads), 1, 1};
    const LaunchOutcome outcome =
        launcher_.Launch(*kernel, dimensions, TestParameters().Add(input).Add(output));
    EXPECT_TRUE(outcome.status.ok()) << body << ": " << outcome.status;
    return launcher_.Download<U32>(output);
  }

  static Inputs EdgesAndRandom() {
    static const U32 kEdges[] = {0,          1,          2,          7,         31,         32,
                                 33,         63,         64,         0x7f,      0x80,       0xff,
                                 0x7fff,     0x8000,     0xffff,     0x10000,   0x7fffffff, 0x80000000,
                                 0x80000001, 0xffffffff, 0xfffffffe, 0x12345678};
    std::mt19937 generator(5);
    Inputs in;
    for (int i = 0; i < kThreads; ++i) {
      const auto pick = [&] {
        return generator() % 3 != 0 ? kEdges[generator() % std::size(kEdges)] : static_cast<U32>(generator());
      };
      in.a.push_back(pick());
      in.b.push_back(pick());
      in.c.push_back(pick());
    }
    return in;
  }

  void Expect(const std::string& body, const std::function<U32(U32 a, U32 b, U32 c)>& expected) {
    const Inputs in = EdgesAndRandom();
    const std::vector<U32> result = Run(body, in);
    for (int i = 0; i < kThreads; ++i) {
      ASSERT_EQ(result[i], expected(in.a[i], in.b[i], in.c[i]))
          << body << " of " << std::hex << in.a[i] << " " << in.b[i] << " " << in.c[i];
    }
  }

  TestLauncher launcher_;
};

TEST_F(InstructionsTest, LogicOfThreeTellsWhetherItIsZero) {
  // 0x80 is a & b & c, 0x3c is a ^ b.
  Expect("setp.lt.u32 %p1, %c, 100; lop3.or.b32 %r1|%p2, %a, %b, %c, 0x80, !%p1; selp.u32 %d, %r1, 7, %p2;",
         [](U32 a, U32 b, U32 c) { return (a & b & c) != 0 || c >= 100 ? a & b & c : 7; });
  Expect("setp.lt.u32 %p1, %c, 100; lop3.and.b32 _|%p2, %a, %b, %c, 0x3c, %p1; selp.u32 %d, 1, 0, %p2;",
         [](U32 a, U32 b, U32 c) -> U32 { return (a ^ b) != 0 && c < 100 ? 1 : 0; });
}

TEST_F(InstructionsTest, SumsAndProducts) {
  Expect("add.sat.s32 %d, %a, %b;", [](U32 a, U32 b, U32) {
    const S64 sum = S64{static_cast<S32>(a)} + static_cast<S32>(b);
    return static_cast<U32>(sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum);
  });
  Expect("mul.hi.s32 %d, %a, %b;", [](U32 a, U32 b, U32) {
    return static_cast<U32>((S64{static_cast<S32>(a)} * static_cast<S32>(b)) >> 32);
  });
  Expect("mad.hi.u32 %d, %a, %b, %c;",
         [](U32 a, U32 b, U32 c) { return static_cast<U32>((U64{a} * b) >> 32) + c; });
  Expect("mul24.lo.u32 %d, %a, %b;",
         [](U32 a, U32 b, U32) { return static_cast<U32>(U64{a & 0xffffff} * (b & 0xffffff)); });
  Expect("mul24.hi.s32 %d, %a, %b;", [](U32 a, U32 b, U32) {
    const S64 x = static_cast<S32>(a << 8) >> 8, y = static_cast<S32>(b << 8) >> 8;
    return static_cast<U32>((x * y) >> 16);
  });
  Expect("sad.s32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const S64 distance = S64{static_cast<S32>(a)} - static_cast<S32>(b);
    return c + static_cast<U32>(distance < 0 ? -distance : distance);
  });
  Expect("div.s32 %d, %a, %b;", [](U32 a, U32 b, U32) {
    if (b == 0) return 0xffffffffu;
    return static_cast<U32>(S64{static_cast<S32>(a)} / static_cast<S32>(b));
  });
  Expect("rem.u32 %d, %a, %b;", [](U32 a, U32 b, U32) { return b == 0 ? a : a % b; });
  Expect("dp4a.s32.u32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    for (int k = 0; k < 32; k += 8)
      c += static_cast<U32>(static_cast<int8_t>(a >> k) * static_cast<uint8_t>(b >> k));
    return c;
  });
  Expect("add.s16x2 %d, %a, %b;",
         [](U32 a, U32 b, U32) { return ((a + b) & 0xffff) | ((a >> 16) + (b >> 16)) << 16; });
  Expect("max.s16x2 %d, %a, %b;", [](U32 a, U32 b, U32) {
    const auto most = [](U32 x, U32 y) {
      return static_cast<U32>(
          static_cast<uint16_t>(std::max(static_cast<int16_t>(x), static_cast<int16_t>(y))));
    };
    return most(a, b) | most(a >> 16, b >> 16) << 16;
  });
}

// PTX ISA 8.6, "Mixed Precision Floating Point Instructions": 16-bit operands are taken as f32, then rounded
// once.
TEST(MixedPrecisionTest, OperandsOf16BitsAreExactInArithmeticOfF32) {
  TestLauncher launcher(120);
  const float one_and_more = std::nextafter(1.0f, 2.0f);
  struct Case {
    const char* body;
    U32 a, b, c;
    float expected;
  };
  const U32 third = std::bit_cast<U32>(1.0f / 3), more = std::bit_cast<U32>(one_and_more);
  const std::vector<Case> cases = {
      {"add.rn.f32.bf16 %d, %h1, %b;", 0x3fc0, third, 0, 1.5f + 1.0f / 3},     // 1.5
      {"add.rn.f32.f16 %d, %h1, %b;", 0x0001, third, 0, 0x1p-24f + 1.0f / 3},  // the least subnormal
      {"add.f32.f16 %d, %h1, %b;", 0xfc00, third, 0, -std::numeric_limits<float>::infinity()},
      {"add.rz.f32.bf16 %d, %h1, %b;", 0x3380, more, 0, one_and_more},  // 2^-24: rounded away
      {"add.rp.f32.bf16 %d, %h1, %b;", 0x3380, more, 0, std::nextafter(one_and_more, 2.0f)},
      {"add.sat.f32.bf16 %d, %h1, %b;", 0x3fc0, third, 0, 1.0f},
      {"sub.rn.f32.bf16 %d, %h1, %b;", 0x3fc0, third, 0, 1.5f - 1.0f / 3},  // the first less the second
      {"sub.rn.f32.f16 %d, %h1, %b;", 0x3c00, more, 0, 1.0f - one_and_more},
      {"fma.rn.f32.f16 %d, %h1, %h2, %c;", 0x3e01, 0x3e01, more,
       std::fma(1.5009765625f, 1.5009765625f, one_and_more)},
      {"fma.rn.f32.bf16 %d, %h1, %h2, %c;", 0x3fc1, 0xbfc1, more,
       std::fma(1.5078125f, -1.5078125f, one_and_more)},
  };
  const auto ptx = [](const std::string& target, const std::string& body) {
    return absl::StrReplaceAll(Ptx("cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b;\n" + body),
                               {{".version 8.4", ".version 8.7"}, {"sm_80", target}});
  };
  for (const Case& each : cases) {
    auto kernel = launcher.Load(ptx("sm_120", each.body));
    ASSERT_TRUE(kernel.ok()) << each.body << ": " << kernel.status();
    const TestTensor input = launcher.Upload(std::vector<U32>{each.a, each.b, each.c});
    const TestTensor output = launcher.Allocate(4);
    LaunchDimensions dimensions;
    dimensions.block = {1, 1, 1};
    ASSERT_TRUE(launcher.Launch(*kernel, dimensions, TestParameters().Add(input).Add(output)).status.ok());
    EXPECT_EQ(std::bit_cast<float>(launcher.Download<U32>(output)[0]), each.expected) << each.body;
  }
  const absl::Status older = TestLauncher(90).Load(ptx("sm_90", cases[0].body)).status();
  EXPECT_EQ(GetReason(older), Reason::kUnsupportedInstruction) << older;
  for (const char* wrong :
       {"add.rn.ftz.f32.bf16 %d, %h1, %b;", "add.rn.f32.f64 %d, %h1, %b;", "mul.rn.f32.bf16 %d, %h1, %b;"}) {
    EXPECT_FALSE(launcher.Load(ptx("sm_120", wrong)).ok()) << wrong;
  }
}

TEST_F(InstructionsTest, WholeLiteralsThatBeginWithZeroAreOctal) {
  const Inputs in{{0}, {0}, {0}};
  for (const auto& [literal, value] :
       std::vector<std::pair<const char*, U32>>{{"0", 0}, {"010", 8}, {"-017", U32(-15)}, {"00", 0}}) {
    EXPECT_EQ(Run(absl::StrCat("mov.b32 %d, ", literal, ";"), in)[0], value) << literal;
  }
  for (const char* literal : {"09", "08", "018", "0178U"}) {
    const auto kernel = launcher_.Load(Ptx(absl::StrCat("mov.b32 %d, ", literal, ";")));
    EXPECT_EQ(GetReason(kernel.status()), Reason::kInvalidIr) << literal << ": " << kernel.status();
    EXPECT_NE(kernel.status().message().find("octal"), std::string::npos) << kernel.status();
  }
}

TEST_F(InstructionsTest, DecimalLiteralsAreReadAsPtxasReadsThem) {
  const Inputs in{{0}, {0}, {0}};
  for (const auto& [literal, bits] : std::vector<std::pair<const char*, U32>>{{"20.", 0x41a00000},
                                                                              {"-20.", 0xc1a00000},
                                                                              {".5", 0x3f000000},
                                                                              {"-.5", 0xbf000000},
                                                                              {".5e1", 0x40a00000},
                                                                              {"1.e3", 0x447a0000},
                                                                              {"1E+2", 0x42c80000},
                                                                              {"08.5", 0x41080000},
                                                                              {"010.", 0x41200000},
                                                                              {"010e1", 0x42c80000}}) {
    EXPECT_EQ(Run(absl::StrCat(".reg .f32 %f; mov.f32 %f, ", literal, "; mov.b32 %d, %f;"), in)[0], bits)
        << literal;
  }
  for (const char* literal : {"1.5e", "0.5f", "1.0U"}) {
    const auto kernel =
        launcher_.Load(Ptx(absl::StrCat(".reg .f32 %f; mov.f32 %f, ", literal, "; mov.b32 %d, %f;")));
    EXPECT_EQ(GetReason(kernel.status()), Reason::kInvalidIr) << literal << ": " << kernel.status();
  }
}

TEST_F(InstructionsTest, CarriesChain) {
  Expect("add.cc.u32 %r1, %a, %b; addc.cc.u32 %r2, %a, %c; addc.u32 %d, %b, 0;", [](U32 a, U32 b, U32 c) {
    const U64 low = U64{a} + b;
    const U64 high = U64{a} + c + (low >> 32);
    return b + static_cast<U32>(high >> 32);
  });
  Expect("sub.cc.u32 %r1, %a, %b; subc.u32 %d, %c, %a;",
         [](U32 a, U32 b, U32 c) { return c - a - (a < b ? 1 : 0); });
  Expect("mad.lo.cc.u32 %r1, %a, %b, %c; madc.hi.u32 %d, %a, %b, 0;",
         [](U32 a, U32 b, U32 c) { return static_cast<U32>((U64{a} * b + c) >> 32); });
}

TEST_F(InstructionsTest, BitsAndFields) {
  Expect("bfe.u32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const U32 position = b & 0xff, length = c & 0xff;
    U32 result = 0;
    for (U32 i = 0; i < length && i < 32; ++i) {
      if (position + i < 32) result |= (a >> (position + i) & 1) << i;
    }
    return result;
  });
  Expect("bfe.s32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const U32 position = b & 0xff, length = c & 0xff;
    const U32 sign_at = std::min(position + length - 1, 31u);
    const U32 sign = length == 0 ? 0 : a >> sign_at & 1;
    U32 result = sign != 0 ? 0xffffffff : 0;
    for (U32 i = 0; i < 32; ++i) {
      if (i < length && position + i < 32) result = (result & ~(1u << i)) | (a >> (position + i) & 1) << i;
    }
    return result;
  });
  Expect("bfi.b32 %d, %a, %b, %c, 5;", [](U32 a, U32 b, U32 c) {
    const U32 position = c & 0xff;
    for (U32 i = 0; i < 5; ++i) {
      if (position + i < 32) b = (b & ~(1u << (position + i))) | (a >> i & 1) << (position + i);
    }
    return b;
  });
  Expect("bfind.s32 %d, %a;", [](U32 a, U32, U32) {
    if (static_cast<S32>(a) < 0) a = ~a;
    return a == 0 ? 0xffffffffu : 31u - static_cast<U32>(__builtin_clz(a));
  });
  Expect("clz.b32 %d, %a;",
         [](U32 a, U32, U32) { return a == 0 ? 32u : static_cast<U32>(__builtin_clz(a)); });
  Expect("brev.b32 %d, %a;", [](U32 a, U32, U32) {
    U32 result = 0;
    for (int i = 0; i < 32; ++i) result |= (a >> i & 1) << (31 - i);
    return result;
  });
  Expect("lop3.b32 %d, %a, %b, %c, 0xe8;", [](U32 a, U32 b, U32 c) { return (a & b) | (a & c) | (b & c); });
  Expect("shl.b32 %d, %a, %b;", [](U32 a, U32 b, U32) { return b > 31 ? 0 : a << b; });
  Expect("shr.s32 %d, %a, %b;",
         [](U32 a, U32 b, U32) { return static_cast<U32>(static_cast<S32>(a) >> std::min(b, 31u)); });
  Expect("cvt.u16.u32 %h1, %a; shl.b16 %h2, %h1, %b; cvt.u32.u16 %d, %h2;",
         [](U32 a, U32 b, U32) { return b > 15 ? 0 : (a << b) & 0xffff; });
  Expect("shf.l.clamp.b32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const U32 n = std::min(c, 32u);
    return static_cast<U32>(((U64{b} << 32 | a) << n) >> 32);
  });
  Expect("shf.r.wrap.b32 %d, %a, %b, %c;",
         [](U32 a, U32 b, U32 c) { return static_cast<U32>((U64{b} << 32 | a) >> (c & 31)); });
  Expect("prmt.b32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const U64 both = U64{b} << 32 | a;
    U32 result = 0;
    for (int k = 0; k < 4; ++k) {
      const U32 s = c >> (4 * k) & 15;
      const U32 byte = static_cast<U32>(both >> (8 * (s & 7))) & 0xff;
      result |= ((s & 8) != 0 ? ((byte & 0x80) != 0 ? 0xffu : 0u) : byte) << (8 * k);
    }
    return result;
  });
  Expect("prmt.b32.f4e %d, %a, %b, %c;",
         [](U32 a, U32 b, U32 c) { return static_cast<U32>((U64{b} << 32 | a) >> (8 * (c & 3))); });
}

TEST_F(InstructionsTest, ComparisonsAndSelections) {
  Expect(
      "setp.lt.s32 %p1, %a, %c; setp.gt.or.u32 %p2|%p3, %a, %b, !%p1; selp.b32 %d, 1, 0, %p2; selp.b32 %r1, "
      "2, 0, %p3; or.b32 %d, %d, %r1;",
      [](U32 a, U32 b, U32 c) {
        const bool p1 = static_cast<S32>(a) < static_cast<S32>(c);
        return static_cast<U32>((a > b || !p1) ? 1 : 0) | static_cast<U32>((!(a > b) || !p1) ? 2 : 0);
      });
  Expect("set.le.u32.s32 %d, %a, %b;",
         [](U32 a, U32 b, U32) { return static_cast<S32>(a) <= static_cast<S32>(b) ? 0xffffffffu : 0; });
  Expect("slct.b32.s32 %d, %a, %b, %c;",
         [](U32 a, U32 b, U32 c) { return static_cast<S32>(c) >= 0 ? a : b; });
  Expect(
      "setp.geu.f32 %p1, %a, %b; setp.num.f32 %p2, %a, %b; selp.b32 %d, 1, 0, %p1; selp.b32 %r1, 2, 0, %p2; "
      "or.b32 %d, %d, %r1;",
      [](U32 a, U32 b, U32) {
        float x, y;
        memcpy(&x, &a, 4);
        memcpy(&y, &b, 4);
        return (!(x < y) ? 1u : 0) | (x == x && y == y ? 2u : 0);
      });
  Expect("cvt.sat.s8.s32 %h1, %a; cvt.s32.s8 %d, %h1;",
         [](U32 a, U32, U32) { return static_cast<U32>(std::clamp(static_cast<S32>(a), -128, 127)); });
  Expect("cvt.sat.u8.s32 %h1, %a; cvt.u32.u8 %d, %h1;",
         [](U32 a, U32, U32) { return static_cast<U32>(std::clamp(static_cast<S32>(a), 0, 255)); });
  Expect("cvt.pack.sat.s8.s32.b32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const auto clamped = [](U32 x) {
      return static_cast<U32>(std::clamp(static_cast<S32>(x), -128, 127)) & 0xff;
    };
    return clamped(a) << 8 | clamped(b) | c << 16;
  });
  Expect("cvt.pack.sat.s2.s32.b32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const auto clamped = [](U32 x) { return static_cast<U32>(std::clamp(static_cast<S32>(x), -2, 1)) & 3; };
    return clamped(a) << 2 | clamped(b) | c << 4;
  });
  Expect("cvt.pack.sat.u2.s32.b32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const auto clamped = [](U32 x) { return static_cast<U32>(std::clamp(static_cast<S32>(x), 0, 3)); };
    return clamped(a) << 2 | clamped(b) | c << 4;
  });
  // The upper 32 of the 48 bits of a product of 24-bit numbers, and a sum that stops at the ends.
  Expect("mad24.hi.sat.s32 %d, %a, %b, %c;", [](U32 a, U32 b, U32 c) {
    const auto low = [](U32 x) { return int64_t{static_cast<S32>(x << 8) >> 8}; };
    const int64_t sum = (low(a) * low(b) >> 16) + static_cast<S32>(c);
    return static_cast<U32>(std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX));
  });
  Expect("cvt.s64.s32 %l4, %a; mov.b64 {%r1, %d}, %l4;",
         [](U32 a, U32, U32) { return static_cast<S32>(a) < 0 ? 0xffffffffu : 0; });
  Expect("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};",
         [](U32 a, U32, U32) { return a >> 16 | a << 16; });
}

// 2^-14 + 2^-14 x for small negative x. An H200 keeps what rounds to 11 bits as 2^-14, the smallest normal
// number.
TEST_F(InstructionsTest, FtzFlushesAHalfThatRoundsBelowTheNormalNumbersAndNoOther) {
  const Inputs in = {
      {0x897c, 0x8c00, 0x8e00, 0x8001}, {0x0400, 0x0400, 0x0400, 0x0400}, {0x0400, 0x0400, 0x0400, 0x03ff}};
  const std::string body = "cvt.u16.u32 %h1, %a; cvt.u16.u32 %h2, %b; cvt.u16.u32 %h3, %c; ";
  EXPECT_EQ(Run(body + "fma.rn.ftz.f16 %h4, %h1, %h2, %h3; cvt.u32.u16 %d, %h4;", in),
            (std::vector<U32>{0x0400, 0x0400, 0, 0}));
  EXPECT_EQ(Run(body + "fma.rn.ftz.relu.f16 %h4, %h1, %h2, %h3; cvt.u32.u16 %d, %h4;", in),
            (std::vector<U32>{0x0400, 0x0400, 0, 0}));
}

TEST_F(InstructionsTest, GuardsAndIndexedBranchesTakeEachLaneItsWay) {
  Expect(
      "and.b32 %r1, %a, 3; ts: .branchtargets $zero, $one, $two, $three; brx.idx %r1, ts;\n"
      "$zero: mov.u32 %d, 10; bra $end; $one: mov.u32 %d, 11; bra $end; $two: mov.u32 %d, 12; bra $end; "
      "$three: mov.u32 %d, 13;\n$end:",
      [](U32 a, U32, U32) { return 10 + (a & 3); });
  Expect("setp.eq.u32 %p1, %a, 0; @%p1 mov.u32 %d, 5; @!%p1 mov.u32 %d, %b; @%p1 ret;",
         [](U32 a, U32 b, U32) { return a == 0 ? 0 : b; });
}

TEST_F(InstructionsTest, WarpCollectives) {
  Inputs in;
  for (U32 i = 0; i < 32; ++i) {
    in.a.push_back(i * i);
    in.b.push_back(i % 5);
    in.c.push_back(i);
  }
  const auto expect = [&](const std::string& body, const std::function<U32(U32 lane)>& expected) {
    const auto result = Run(body, in);
    for (U32 i = 0; i < 32; ++i) EXPECT_EQ(result[i], expected(i)) << body << " lane " << i;
  };
  expect("shfl.sync.up.b32 %d|%p1, %a, 3, 0, -1; @!%p1 mov.u32 %d, 999;",
         [](U32 i) { return i < 3 ? 999 : (i - 3) * (i - 3); });
  expect("shfl.sync.down.b32 %d|%p1, %a, 3, 31, -1; @!%p1 mov.u32 %d, 999;",
         [](U32 i) { return i > 28 ? 999 : (i + 3) * (i + 3); });
  expect("shfl.sync.bfly.b32 %d, %a, 5, 31, -1;", [](U32 i) { return (i ^ 5) * (i ^ 5); });
  // Segments of 8 lanes.
  expect("shfl.sync.idx.b32 %d, %a, 2, 6175, -1;", [](U32 i) { return (i / 8 * 8 + 2) * (i / 8 * 8 + 2); });
  expect("shfl.sync.up.b32 %d|%p1, %a, 1, 6144, -1; @!%p1 mov.u32 %d, 999;",
         [](U32 i) { return i % 8 == 0 ? 999 : (i - 1) * (i - 1); });
  expect("setp.lt.u32 %p1, %c, 7; vote.sync.ballot.b32 %d, %p1, -1;", [](U32) { return 0x7fu; });
  expect("setp.lt.u32 %p1, %c, 7; vote.sync.any.pred %p2, %p1, -1; selp.b32 %d, 1, 0, %p2;",
         [](U32) { return 1u; });
  expect("setp.lt.u32 %p1, %c, 7; vote.sync.all.pred %p2, !%p1, -1; selp.b32 %d, 1, 0, %p2;",
         [](U32) { return 0u; });
  expect("match.any.sync.b32 %d, %b, -1;", [](U32 i) {
    U32 mask = 0;
    for (U32 k = 0; k < 32; ++k) mask |= static_cast<U32>(k % 5 == i % 5) << k;
    return mask;
  });
  expect("redux.sync.add.s32 %d, %a, -1;", [](U32) { return 31u * 32 * 63 / 6; });
  expect("redux.sync.max.u32 %d, %b, 0xffff;", [](U32) { return 4u; });
  expect("setp.lt.u32 %p1, %c, 9; @%p1 bra $low; mov.u32 %d, 1; bra $end; $low: activemask.b32 %d; $end:",
         [](U32 i) { return i < 9 ? 0x1ffu : 1u; });
}

TEST_F(InstructionsTest, BarriersAndSharedAtomics) {
  Inputs in = EdgesAndRandom();
  const auto result = Run(
      "mov.u32 %r1, s; setp.eq.u32 %p1, %t, 0; @%p1 st.shared.u32 [s], 0; bar.sync 0; atom.shared.add.u32 "
      "%r2, [%r1], 2; bar.sync 0;\n"
      "setp.lt.u32 %p2, %t, 50; bar.red.popc.u32 %r3, 0, %p2; ld.shared.u32 %r4, [s]; add.u32 %d, %r3, %r4;",
      in);
  for (U32 value : result) EXPECT_EQ(value, 256u + 50);
  // Half of the warps arrive, the others wait.
  const auto split =
      Run("setp.lt.u32 %p1, %t, 64; @%p1 bra $first; bar.sync 3, 128; ld.shared.u32 %d, [s+64]; bra $end;\n"
          "$first: st.shared.u32 [s+64], 77; bar.arrive 3, 128; mov.u32 %d, 1; $end:",
          in);
  for (size_t i = 0; i < split.size(); ++i) EXPECT_EQ(split[i], i < 64 ? 1u : 77u);
}

TEST_F(InstructionsTest, AsynchronousCopiesFillWhatTheyDoNotRead) {
  Inputs in = EdgesAndRandom();
  const auto result =
      Run("mul.lo.u32 %r1, %t, 8; mov.u32 %r2, s; add.u32 %r1, %r1, %r2; st.shared.u32 [%r1+4], 9; "
          "ld.param.u64 %l5, [in];\n"
          "cp.async.ca.shared.global [%r1], [%l5], 8, 4; cp.async.commit_group; cp.async.wait_group 0; "
          "ld.shared.v2.u32 {%d, %r3}, [%r1]; add.u32 %d, %d, %r3;",
          in);
  for (U32 value : result) EXPECT_EQ(value, in.a[0]);
}

// stmatrix of bytes, ldmatrix of packed elements: 8 rows of 16 bytes at 16 x row, lanes 0 to 7 point to them.
TEST_F(InstructionsTest, MatricesOfBytesAndOfPackedElements) {
  Inputs in;
  for (U32 i = 0; i < 32; ++i) {
    in.a.push_back(i * 0x04040404 + 0x03020100);  // byte e of lane l: 4 l + e
    in.b.push_back(i);
    in.c.push_back(0);
  }
  const std::string address =
      "and.b32 %r1, %t, 7; shl.b32 %r1, %r1, 4; mov.u32 %r2, s; add.u32 %r1, %r1, %r2;\n";
  const std::string own = "shl.b32 %r3, %t, 2; add.u32 %r3, %r3, %r2;\n";
  const std::vector<U32> stored = Run(address + own +
                                          "stmatrix.sync.aligned.m16n8.x1.trans.shared.b8 [%r1], {%a};\n"
                                          "bar.warp.sync -1; ld.shared.u32 %d, [%r3];",
                                      in);
  for (U32 row = 0; row < 8; ++row) {
    for (U32 column = 0; column < 16; ++column) {
      const U32 lane = column % 8 * 4 + row / 2, byte = row % 2 + 2 * (column / 8);
      EXPECT_EQ(stored[4 * row + column / 4] >> (8 * (column % 4)) & 0xff, 4 * lane + byte)
          << row << ", " << column;
    }
  }
  for (const int bits : {4, 6}) {
    const std::vector<U32> loaded =
        Run(address + own + "st.shared.u32 [%r3], %a; bar.warp.sync -1;\n" +
                absl::StrCat("ldmatrix.sync.aligned.m8n16.x1.shared.b8x16.",
                             bits == 4 ? "b4x16_p64" : "b6x16_p32", " {%d}, [%r1];"),
            in);
    for (U32 lane = 0; lane < 32; ++lane) {
      for (U32 e = 0; e < 4; ++e) {
        const U32 row = lane / 4, at = (lane % 4 * 4 + e) * static_cast<U32>(bits);
        U32 code = 0;
        for (U32 bit = 0; bit < static_cast<U32>(bits); ++bit) {
          const U32 byte = 16 * row + (at + bit) / 8;  // the memory holds 0, 1, 2 …
          code |= (byte >> ((at + bit) % 8) & 1) << bit;
        }
        EXPECT_EQ(loaded[lane] >> (8 * e) & 0xff, bits == 4 ? code << 2 : code) << bits << ", " << lane;
      }
    }
  }
}

}  // namespace
}  // namespace trun::device
