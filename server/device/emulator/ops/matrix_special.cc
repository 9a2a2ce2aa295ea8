// mma.sp, mma with block scaling, and mma.m8n8k4 of f16 (PTX ISA, "Warp Level Matrix Multiply-Accumulate
// Instructions"): element by element, for Triton emits them rarely or never. Sums as numerics/mma.h says;
// with block scaling each product is scaled exactly before it is added.
#include "server/device/emulator/ops/matrix_special.h"

#include <array>
#include <cmath>

#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/sparse.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

using Element = numerics::Type;

using Special = SpecialMma;

constexpr int kListD = Special::kListD, kListA = Special::kListA, kListB = Special::kListB,
              kListC = Special::kListC;
constexpr int kMetadata = Special::kMetadata, kScaleA = Special::kScaleA, kByteA = Special::kByteA,
              kThreadA = Special::kThreadA, kScaleB = Special::kScaleB, kByteB = Special::kByteB,
              kThreadB = Special::kThreadB;

bool IsIntegerMatrix(Element t) {
  return t == Element::kS8 || t == Element::kU8 || t == Element::kS4 || t == Element::kU4;
}

// Element `e` of a register's word.
double ElementValue(const Special& s, Element type, uint32_t word, int e) {
  const uint32_t mask = s.bits == 32 ? 0xffffffff : (1u << s.bits) - 1;
  const uint32_t code = word >> (s.bits * e) & mask;
  switch (type) {
    case Element::kS8:
      return static_cast<int8_t>(code);
    case Element::kS4:
      return static_cast<int8_t>(code << 4) >> 4;
    case Element::kU8:
    case Element::kU4:
      return code;
    case Element::kTf32:
      return numerics::ToDouble(Element::kF32, code & 0xffffe000);
    case Element::kE2m1:  // in a byte its four bits are those in the middle
      return numerics::ToDouble(type, s.bits == 8 ? code >> 2 & 15 : code);
    case Element::kE2m3:
    case Element::kE3m2:
      return numerics::ToDouble(type, code & 63);
    default:
      return numerics::ToDouble(type, code);
  }
}

// A term of the sum for one element of D: where the element of B stands, and the factor from A.
struct Product {
  int k;
  double factor;
};

class Multiplication {
 public:
  Multiplication(Warp& warp, const Instruction& in)
      : warp_(warp), in_(in), s_(*static_cast<const Special*>(in.data)) {}

  void Run() {
    if (s_.kind == MmaKind::kQuadPairs) {
      QuadPairs();
    } else {
      Whole();
    }
    for (int r = 0; r < s_.count_d; ++r) Blend(warp_, in_.list[kListD + r], kFullMask, out_[r].data(), 4);
  }

 private:
  uint32_t Word(int list, int r, int lane) const { return warp_.U32(in_.list[list + r])[lane]; }
  uint32_t Slot(int slot, int lane) const { return warp_.U32(in_.operand[slot])[lane]; }
  int PerRegister() const { return 32 / s_.bits; }

  // Element (row, column) of A's registers as a dense fragment of 16 rows has it.
  double A(int row, int column) const {
    const int per = PerRegister(), block = column / (4 * per), inside = column % (4 * per);
    return ElementValue(s_, s_.a, Word(kListA, 2 * block + row / 8, row % 8 * 4 + inside / per),
                        inside % per);
  }
  double B(int row, int column) const {
    const int per = PerRegister(), block = row / (4 * per), inside = row % (4 * per);
    return ElementValue(s_, s_.b, Word(kListB, block, column * 4 + inside / per), inside % per);
  }

  // The elements of A's row that are there, in order of k.
  int SparseRow(int row, Product* products) const {
    int count = 0;
    numerics::ForEachSparseElement({s_.bits, s_.k, static_cast<int>(s_.selector)},
                                   warp_.U32(in_.operand[kMetadata]), row,
                                   [&](int k, int e) { products[count++] = {k, A(row, e)}; });
    return count;
  }

  // The factor of A's (B's) row (column) `i` in block `block`.
  double Scale(bool of_a, int i, int block) const {
    const int bytes_slot = of_a ? kByteA : kByteB, thread_slot = of_a ? kThreadA : kThreadB;
    const uint32_t thread = Slot(thread_slot, 0), byte = Slot(bytes_slot, 0);
    const int lane =
        of_a ? i % 8 * 4 + static_cast<int>(2 * (thread & 1)) + i / 8 : i * 4 + static_cast<int>(thread & 3);
    const uint32_t word = Slot(of_a ? kScaleA : kScaleB, lane);
    const uint32_t code = word >> (8 * ((byte + static_cast<uint32_t>(block)) & 3)) & 0xff;
    if (s_.scale == Element::kE4m3) return numerics::ToDouble(Element::kE4m3, code & 0x7f);
    return code == 0xff ? std::nan("") : std::ldexp(1.0, static_cast<int>(code) - 127);
  }

  // C and D of 16 rows and 8 columns.
  double Accumulator(int row, int column) const {
    if (s_.c == Element::kF16) {
      const uint32_t word = Word(kListC, row / 8, row % 8 * 4 + column / 2);
      return numerics::ToDouble(Element::kF16, word >> (16 * (column % 2)) & 0xffff);
    }
    const uint32_t word = Word(kListC, 2 * (row / 8) + column % 2, row % 8 * 4 + column / 2);
    return s_.c == Element::kS32 ? static_cast<int32_t>(word) : numerics::ToDouble(Element::kF32, word);
  }
  void Put(int row, int column, double value) {
    const int lane = row % 8 * 4 + column / 2;
    if (s_.d == Element::kF16) {
      PutHalf(row / 8, lane, column % 2, value);
    } else {
      out_[2 * (row / 8) + column % 2][lane] = Bits(value);
    }
  }
  uint32_t Bits(double value) const {
    if (s_.d == Element::kS32) {
      if (s_.satfinite) value = std::fmin(std::fmax(value, -2147483648.0), 2147483647.0);
      return static_cast<uint32_t>(static_cast<int64_t>(value));
    }
    if (std::isnan(value)) return numerics::kNanF32;
    const float single = static_cast<float>(value);
    return __builtin_bit_cast(uint32_t, single);
  }
  void PutHalf(int r, int lane, int half, double value) {
    const float single = static_cast<float>(value);
    const uint32_t bits = static_cast<uint32_t>(numerics::Convert(
        {.to = Element::kF16, .from = Element::kF32}, __builtin_bit_cast(uint32_t, single)));
    out_[r][lane] = (out_[r][lane] & (0xffffu << (16 * (1 - half)))) | bits << (16 * half);
  }

  // One step of a sum: exact for integers, rounded to f32 otherwise.
  double Add(double sum, double factor, double element, double scale) const {
    if (s_.d == Element::kS32) return sum + factor * element;
    if (s_.scales != 0) return static_cast<float>(sum + factor * element * scale);
    return __builtin_fmaf(static_cast<float>(factor), static_cast<float>(element), static_cast<float>(sum));
  }

  void Whole() {
    Product products[128];
    for (int row = 0; row < 16; ++row) {
      int count = 0;
      if (s_.kind == MmaKind::kSparse) {
        count = SparseRow(row, products);
      } else {
        for (; count < s_.k; ++count) products[count] = {count, A(row, count)};
      }
      for (int column = 0; column < 8; ++column) {
        double sum = Accumulator(row, column);
        int block = -1;
        double scale = 1;
        for (int i = 0; i < count; ++i) {
          const Product& p = products[i];
          if (s_.scales != 0 && p.k * s_.scales / s_.k != block) {
            block = p.k * s_.scales / s_.k;
            scale = Scale(true, row, block) * Scale(false, column, block);
          }
          sum = Add(sum, p.factor, B(p.k, column), scale);
        }
        Put(row, column, sum);
      }
    }
  }

  // Lanes 4q … 4q + 3 and 4q + 16 … 4q + 19 make the product q of 8 rows, 8 columns and depth 4.
  void QuadPairs() {
    for (int q = 0; q < 4; ++q) {
      const auto lane = [q](int i) { return 4 * q + i % 4 + 16 * (i / 4); };  // of the pair's eight
      const auto half = [this](int list, int from, int e) {
        return numerics::ToDouble(Element::kF16, Word(list, e / 2, from) >> (16 * (e % 2)) & 0xffff);
      };
      for (int row = 0; row < 8; ++row) {
        for (int column = 0; column < 8; ++column) {
          // Who holds the element of C and D, and where.
          const int owner =
              s_.d == Element::kF16 ? lane(row) : lane((row / 4) * 4 + (row & 1) + (column & 2));
          const int at = s_.d == Element::kF16 ? column : (column & 4) + (row & 2) + (column & 1);
          double sum = s_.c == Element::kF16 ? half(kListC, owner, at)
                                             : numerics::ToDouble(Element::kF32, Word(kListC, at, owner));
          for (int k = 0; k < 4; ++k) {
            const double a =
                s_.a_by_column ? half(kListA, lane(row / 4 * 4 + k), row % 4) : half(kListA, lane(row), k);
            const double b = s_.b_by_row ? half(kListB, lane(column / 4 * 4 + k), column % 4)
                                         : half(kListB, lane(column), k);
            sum = Add(sum, a, b, 1);
          }
          if (s_.d == Element::kF16) {
            PutHalf(at / 2, owner, at % 2, sum);
          } else {
            out_[at][owner] = Bits(sum);
          }
        }
      }
    }
  }

  Warp& warp_;
  const Instruction& in_;
  const Special& s_;
  alignas(64) std::array<std::array<uint32_t, 32>, 8> out_ = {};
};

Step RunSpecialMma(Warp& warp, const Instruction& in, uint32_t mask) {
  mask = Converge(warp, mask, kFullMask);
  if (mask == 0) return Step::kWait;
  if (mask != kFullMask) {
    return Raise(warp, static_cast<uint32_t>(__builtin_ctz(mask)), Reason::kBarrierDivergence,
                 "mma needs all 32 lanes of the warp");
  }
  Multiplication(warp, in).Run();
  return Step::kNext;
}

// Bits of an element in a register: fp6 and fp4 in bytes, unless two fp4 share one.
int HeldBits(Element t, bool packed) {
  if (t == Element::kTf32) return 32;
  if (t >= Element::kE4m3 && t <= Element::kE3m2) return packed ? 4 : 8;
  return numerics::BitsOf(t);
}

bool IsKnown(const Special& s) {
  const bool f32 = s.c == Element::kF32 && s.d == Element::kF32;
  const bool f16 = s.c == Element::kF16 && s.d == Element::kF16;
  const bool fp8 =
      s.a >= Element::kE4m3 && s.a <= Element::kE3m2 && s.b >= Element::kE4m3 && s.b <= Element::kE3m2;
  if (s.kind == MmaKind::kQuadPairs) return s.a == Element::kF16 && s.b == s.a && s.k == 4 && (f32 || f16);
  if (s.kind == MmaKind::kScaled) {
    if (s.scales == 0) return fp8 && s.bits == 8 && s.k == 32 && (f32 || f16);
    if (!f32 || !fp8) return false;
    if (s.bits == 8) return s.k == 32 && s.scales == 1 && s.scale == Element::kUe8m0;
    return s.k == 64 && s.a == Element::kE2m1 && s.b == s.a &&
           ((s.scales == 2 && s.scale == Element::kUe8m0) || (s.scales == 4 && s.scale == Element::kE4m3));
  }
  const int small = 256 / s.bits;  // 8 of 32 bits, 16 of 16 …
  if (s.k != small && s.k != 2 * small) return false;
  switch (s.a) {
    case Element::kF16:
      return s.b == s.a && (f32 || f16);
    case Element::kBf16:
    case Element::kTf32:
      return s.b == s.a && f32;
    default:
      if (IsIntegerMatrix(s.a)) {
        return IsIntegerMatrix(s.b) && HeldBits(s.b, false) == s.bits && s.d == Element::kS32 && s.c == s.d;
      }
      return fp8 && s.k == 64 && (f32 || f16);
  }
}

// {byte, thread} of a scale factor.
void TakeScale(Form& form, int operand, int slot, int byte_slot, int thread_slot) {
  form.Source(slot, operand, Type::kB32);
  if (form.Elements(operand + 1) != 2) {
    form.Malformed("a scale factor is followed by {byte-id, thread-id}");
    return;
  }
  form.Source(byte_slot, form.Element(operand + 1, 0), Type::kU16);
  form.Source(thread_slot, form.Element(operand + 1, 1), Type::kU16);
}

}  // namespace

Operation DecodeSpecialMma(Form& form, MmaKind kind, int m, int n, int k) {
  Special s;
  s.kind = kind;
  s.k = k;
  const absl::string_view layout_a = form.TakeNext(), layout_b = form.TakeNext();
  const auto is_layout = [](absl::string_view word) { return word == "row" || word == "col"; };
  if (!is_layout(layout_a) || !is_layout(layout_b)) return form.Malformed("it names no layouts");
  s.a_by_column = layout_a == "col";
  s.b_by_row = layout_b == "row";
  if (kind != MmaKind::kQuadPairs && (s.a_by_column || s.b_by_row)) {
    return form.Unsupported("layouts other than .row.col");
  }
  bool packed = false;
  if (form.Take("kind::mxf4") || form.Take("kind::mxf4nvf4")) {
    packed = true;
    s.scales = 2;
  } else if (form.Take("kind::mxf8f6f4")) {
    s.scales = 1;
  }
  if (form.Take("scale_vec::1X")) s.scales = 1;
  if (form.Take("scale_vec::2X")) s.scales = 2;
  if (form.Take("scale_vec::4X")) s.scales = 4;
  s.satfinite = form.Take("satfinite");
  s.d = ElementOf(form.TakeType());
  s.a = ElementOf(form.TakeType());
  s.b = ElementOf(form.TakeType());
  s.c = ElementOf(form.TakeType());
  if (s.scales != 0) {
    if (form.Take("ue4m3")) {
      s.scale = Element::kE4m3;
    } else if (!form.Take("ue8m0")) {
      return form.Malformed("it names no type of scale factors");
    }
  }
  if (form.failed()) return nullptr;
  s.bits = HeldBits(s.a, packed);
  const bool shape = kind == MmaKind::kQuadPairs ? m == 8 && n == 8 : m == 16 && n == 8;
  if (!shape || !IsKnown(s)) return form.Unsupported("this shape and these types");
  const int stored = kind == MmaKind::kSparse ? k / 2 : k;
  const bool quad_pairs = kind == MmaKind::kQuadPairs;
  s.count_a = quad_pairs ? 2 : 16 * stored * s.bits / (32 * 32);
  s.count_b = quad_pairs ? 2 : 8 * k * s.bits / (32 * 32);
  const auto accumulators = [quad_pairs](Element t) {
    return (t == Element::kF16 ? 2 : 4) * (quad_pairs ? 2 : 1);
  };
  s.count_c = accumulators(s.c);
  s.count_d = accumulators(s.d);
  const int expected = kind == MmaKind::kSparse ? 6 : s.scales != 0 ? 8 : 4;
  if (form.operands() != expected || form.Elements(0) != s.count_d || form.Elements(1) != s.count_a ||
      form.Elements(2) != s.count_b || form.Elements(3) != s.count_c) {
    return form.Malformed("a fragment has a wrong number of registers, or an operand is missing");
  }
  constexpr auto kWord = Type::kB32;
  for (int i = 0; i < s.count_d; ++i) form.Destination(7 + kListD + i, form.Element(0, i), kWord);
  for (int i = 0; i < s.count_a; ++i) form.Source(7 + kListA + i, form.Element(1, i), kWord);
  for (int i = 0; i < s.count_b; ++i) form.Source(7 + kListB + i, form.Element(2, i), kWord);
  for (int i = 0; i < s.count_c; ++i) form.Source(7 + kListC + i, form.Element(3, i), kWord);
  if (kind == MmaKind::kSparse) {
    form.Source(kMetadata, 4, kWord);
    s.selector = static_cast<uint32_t>(form.Integer(5));
    if (static_cast<int>(s.selector) > numerics::SparseLayout{s.bits, s.k, 0}.max_selector())
      return form.Malformed("the sparsity selector is too large");
  } else if (s.scales != 0) {
    TakeScale(form, 4, kScaleA, kByteA, kThreadA);
    TakeScale(form, 6, kScaleB, kByteB, kThreadB);
  }
  form.EarlyDestinations();
  form.Data(s);
  return &RunSpecialMma;
}

}  // namespace trun::device
