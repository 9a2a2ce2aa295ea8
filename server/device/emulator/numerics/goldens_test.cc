// Every conversion and operation against testdata/goldens.txt, which NumPy, ml_dtypes and rational arithmetic
// made (testdata/generate_goldens.py says how operands are drawn), in every variant that this host can run.
#include <bit>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/float_format.h"
#include "server/device/emulator/numerics/float_ops.h"

namespace trun::device::numerics {
namespace {

constexpr int kRandomCases = 4096;

const std::map<std::string, Type>& Types() {
  static const std::map<std::string, Type> types = {
      {"s8", Type::kS8},     {"u8", Type::kU8},     {"s16", Type::kS16},   {"u16", Type::kU16},
      {"s32", Type::kS32},   {"u32", Type::kU32},   {"s64", Type::kS64},   {"u64", Type::kU64},
      {"f16", Type::kF16},   {"bf16", Type::kBf16}, {"tf32", Type::kTf32}, {"f32", Type::kF32},
      {"f64", Type::kF64},   {"e4m3", Type::kE4m3}, {"e5m2", Type::kE5m2}, {"e2m1", Type::kE2m1},
      {"e2m3", Type::kE2m3}, {"e3m2", Type::kE3m2}};
  return types;
}

const std::map<std::string, Rounding> kRoundings = {{"rn", Rounding::kNearestEven},
                                                    {"rz", Rounding::kTowardZero},
                                                    {"rm", Rounding::kDown},
                                                    {"rp", Rounding::kUp},
                                                    {"rna", Rounding::kNearestAway}};
const std::map<std::string, FloatOpcode> kOpcodes = {{"add", FloatOpcode::kAdd}, {"sub", FloatOpcode::kSub},
                                                     {"mul", FloatOpcode::kMul}, {"fma", FloatOpcode::kFma},
                                                     {"div", FloatOpcode::kDiv}, {"sqrt", FloatOpcode::kSqrt},
                                                     {"rcp", FloatOpcode::kRcp}};

class SplitMix {
 public:
  explicit SplitMix(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  }

 private:
  uint64_t state_;
};

std::vector<uint64_t> Edges(Type type) {
  const int bits = BitsOf(type);
  const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  if (IsInteger(type)) {
    const uint64_t top = uint64_t{1} << (bits - 1);
    return {0, 1, 2, 3, top - 1, top, top + 1, mask, mask - 1, 2049 & mask, 0x55};
  }
  const FloatFormat f = FormatOf(type);
  const uint64_t lowest = uint64_t{1} << f.mantissa_bits, one = static_cast<uint64_t>(f.bias)
                                                                << f.mantissa_bits;
  const uint64_t infinity = f.infinity != 0 ? f.infinity : f.max_finite;
  std::vector<uint64_t> edges = {0,
                                 1,
                                 2,
                                 3,
                                 lowest - 1,
                                 lowest,
                                 lowest + 1,
                                 one,
                                 one + 1,
                                 one - 1,
                                 one + lowest,
                                 f.max_finite,
                                 infinity,
                                 f.max_finite - 1,
                                 f.nan != 0 ? f.nan : f.max_finite,
                                 f.infinity != 0 ? infinity + 1 : 0,
                                 one - lowest,
                                 one + (lowest >> 1)};
  const size_t positive = edges.size();
  for (size_t i = 0; i < positive; ++i) edges.push_back(edges[i] | uint64_t{1} << f.sign_shift());
  return edges;
}

std::vector<uint64_t> Operands(Type type, uint64_t seed) {
  const int bits = BitsOf(type);
  const uint64_t mask = bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  const std::vector<uint64_t> edges = Edges(type);
  SplitMix random(seed);
  std::vector<uint64_t> out;
  for (int i = 0; i < kRandomCases; ++i) {
    const uint64_t r = random.Next();
    if ((r & 3) == 0) {
      out.push_back(edges[(r >> 2) % edges.size()]);
    } else if ((r & 3) == 1 && !IsInteger(type)) {
      const FloatFormat f = FormatOf(type);
      const int64_t exponent = f.exponent_bits > 4 ? f.bias + static_cast<int64_t>((r >> 2) % 24) - 12
                                                   : static_cast<int64_t>((r >> 2) % (1u << f.exponent_bits));
      uint64_t mantissa = (r >> 8) & ((uint64_t{1} << f.mantissa_bits) - 1);
      if (r >> 63) mantissa &= ~((uint64_t{1} << (f.mantissa_bits / 2)) - 1);
      out.push_back((r >> 62 & 1) << f.sign_shift() |
                    static_cast<uint64_t>(exponent < 0 ? 0 : exponent) << f.mantissa_bits | mantissa);
    } else {
      out.push_back((bits <= 32 ? r >> 2 : random.Next()) & mask);
    }
  }
  return out;
}

std::vector<uint64_t> Every(Type type) {
  if (BitsOf(type) > 16) return Operands(type, 1);
  std::vector<uint64_t> out(size_t{1} << BitsOf(type));
  for (size_t i = 0; i < out.size(); ++i) out[i] = i;
  return out;
}

// Lanes of a register from up to 32 values, and back.
struct Register {
  alignas(64) uint32_t narrow[kLanes] = {};
  alignas(64) uint64_t wide[kLanes] = {};
  void* Lanes(Type type) {
    return BitsOf(type) == 64 ? static_cast<void*>(wide) : static_cast<void*>(narrow);
  }
  uint64_t Get(Type type, int i) const { return BitsOf(type) == 64 ? wide[i] : narrow[i]; }
  void Set(Type type, int i, uint64_t v) {
    if (BitsOf(type) == 64) {
      wide[i] = v;
    } else {
      narrow[i] = static_cast<uint32_t>(v);
    }
  }
};

std::string Flagged(std::istringstream& line, std::string* flags) {
  std::string rounding;
  line >> rounding >> *flags;
  return rounding;
}

bool Has(const std::string& flags, const std::string& word) {
  return ("," + flags + ",").find("," + word + ",") != std::string::npos;
}

void Compare(std::istringstream& line, const std::vector<uint64_t>& results, size_t block,
             const std::string& what) {
  for (size_t begin = 0; begin < results.size(); begin += block) {
    uint64_t state = 0xcbf29ce484222325;
    for (size_t i = begin; i < std::min(results.size(), begin + block); ++i)
      state = (state ^ results[i]) * 0x100000001b3;
    std::string want;
    line >> want;
    ASSERT_EQ(state, std::stoull(want, nullptr, 16))
        << what << ": operands " << begin << " to " << begin + block;
  }
}

void CheckConversion(std::istringstream& line) {
  std::string to, from, flags;
  line >> to >> from;
  Conversion c{.to = Types().at(to), .from = Types().at(from)};
  c.rounding = kRoundings.at(Flagged(line, &flags));
  c.to_integral = Has(flags, "integral");
  c.ftz = Has(flags, "ftz");
  c.sat = Has(flags, "sat");
  c.satfinite = Has(flags, "satfinite");
  c.relu = Has(flags, "relu");
  const std::vector<uint64_t> operands = Every(c.from);
  const ConvertLanes convert = SelectConvert(c);
  std::vector<uint64_t> results;
  for (size_t begin = 0; begin < operands.size(); begin += kLanes) {
    Register in, out;
    const int count = static_cast<int>(std::min<size_t>(kLanes, operands.size() - begin));
    for (int i = 0; i < count; ++i) in.Set(c.from, i, operands[begin + static_cast<size_t>(i)]);
    convert(c, in.Lanes(c.from), out.Lanes(c.to));
    for (int i = 0; i < count; ++i) {
      results.push_back(out.Get(c.to, i));
      ASSERT_EQ(results.back(), Convert(c, operands[begin + static_cast<size_t>(i)]))
          << "lanes and scalar differ";
    }
  }
  Compare(line, results, BitsOf(c.from) <= 16 ? 4096 : 256, "cvt " + to + " " + from + " " + flags);
}

void CheckOperation(std::istringstream& line) {
  std::string name, kind, flags;
  line >> name >> kind;
  FloatOp op{.opcode = kOpcodes.at(name), .type = Types().at(kind)};
  op.rounding = kRoundings.at(Flagged(line, &flags));
  op.ftz = Has(flags, "ftz");
  op.sat = Has(flags, "sat");
  op.relu = Has(flags, "relu");
  const FloatLanes run = SelectFloatOp(op);
  ASSERT_NE(run, nullptr) << name << " " << kind;
  const std::vector<uint64_t> operands[3] = {Operands(op.type, 1), Operands(op.type, 2),
                                             Operands(op.type, 3)};
  std::vector<uint64_t> results;
  for (size_t begin = 0; begin < kRandomCases; begin += kLanes) {
    Register in[3], out;
    for (int o = 0; o < 3; ++o) {
      for (int i = 0; i < kLanes; ++i) in[o].Set(op.type, i, operands[o][begin + static_cast<size_t>(i)]);
    }
    run(op, in[0].Lanes(op.type), in[1].Lanes(op.type), in[2].Lanes(op.type), out.Lanes(op.type));
    for (int i = 0; i < kLanes; ++i) results.push_back(out.Get(op.type, i));
    if (BitsOf(op.type) == 16) {  // the packed form computes the same in both halves
      FloatOp packed = op;
      packed.packed = true;
      Register twice[3], pair;
      for (int o = 0; o < 3; ++o) {
        for (int i = 0; i < kLanes; ++i)
          twice[o].narrow[i] = in[o].narrow[i] << 16 | in[o].narrow[kLanes - 1 - i];
      }
      SelectFloatOp(packed)(packed, twice[0].narrow, twice[1].narrow, twice[2].narrow, pair.narrow);
      for (int i = 0; i < kLanes; ++i) {
        ASSERT_EQ(pair.narrow[i], out.narrow[i] << 16 | out.narrow[kLanes - 1 - i]) << name << " " << kind;
      }
    }
  }
  Compare(line, results, 256, name + " " + kind + " " + flags);
}

class GoldensTest : public testing::TestWithParam<const char*> {
  void TearDown() override { ForceNumericsVariant(nullptr); }
};

TEST_P(GoldensTest, EveryResultIsTheExactOne) {
  if (!ForceNumericsVariant(GetParam())) GTEST_SKIP() << "this host has no " << GetParam();
  std::ifstream file("testdata/goldens.txt");
  ASSERT_TRUE(file.is_open());
  int lines = 0;
  for (std::string text; std::getline(file, text); ++lines) {
    SCOPED_TRACE(text.substr(0, 40));
    std::istringstream line(text);
    std::string what;
    line >> what;
    what == "cvt" ? CheckConversion(line) : CheckOperation(line);
  }
  EXPECT_GT(lines, 600);
}

INSTANTIATE_TEST_SUITE_P(Variants, GoldensTest, testing::Values("baseline", "avx2", "avx512"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace trun::device::numerics
