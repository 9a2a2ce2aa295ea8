// wmma.load, wmma.store, wmma.mma (PTX ISA, "Warp-level Matrix Instructions: wmma"). Sums as numerics/mma.h
// says.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/numerics/variant.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/wmma_form.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

using Element = numerics::Type;

constexpr int kMaxElements = 1024;  // of a matrix: 8 x 128 of one bit
constexpr int kListD = WmmaProduct::kListD, kListA = WmmaProduct::kListA, kListB = WmmaProduct::kListB,
              kListC = WmmaProduct::kListC;

using Fragment = WmmaFragment;
using Shape = WmmaShape;
using AccessData = WmmaAccess;
using ProductData = WmmaProduct;

using Matrix = std::array<uint64_t, kMaxElements>;  // codes, row by row

// Where element (row, column) of a matrix with `columns` columns is.
size_t At(int row, int columns, int column) {
  return static_cast<size_t>(row) * static_cast<size_t>(columns) + static_cast<size_t>(column);
}

bool IsFloat16(Element e) { return e == Element::kF16 || e == Element::kBf16; }
bool IsByte(Element e) { return e == Element::kS8 || e == Element::kU8; }
bool IsNibble(Element e) { return e == Element::kS4 || e == Element::kU4; }

// The fragment of matrix `which` ('a', 'b', or 'c' for D too); no registers: PTX does not have it.
Fragment FragmentOf(const Shape& s, char which, Element e) {
  Fragment f;
  f.element = e;
  f.rows = which == 'b' ? s.k : s.m;
  f.columns = which == 'a' ? s.k : s.n;
  const bool large = s.k == 16 && s.m * s.n == 256 && (s.m == 8 || s.m == 16 || s.m == 32);
  const bool cube = s.m == 8 && s.n == 8;
  bool known = false;
  if (which == 'c') {
    known = (large && (e == Element::kF16 || e == Element::kF32 || e == Element::kS32)) ||
            (s.m == 16 && s.n == 16 && s.k == 8 && e == Element::kF32) ||
            (cube && s.k == 4 && e == Element::kF64) || (cube && s.k >= 32 && e == Element::kS32);
  } else {
    known = (large && (IsFloat16(e) || IsByte(e))) ||
            (s.m == 16 && s.n == 16 && s.k == 8 && e == Element::kTf32) ||
            (cube && s.k == 4 && e == Element::kF64) || (cube && s.k == 32 && IsNibble(e)) ||
            (cube && s.k == 128 && e == Element::kB1);
  }
  if (!known) return f;
  f.registers = e == Element::kF64 ? f.per_lane() : f.per_lane() * f.bits() / 32;
  if (which != 'c' && e == Element::kF16) f.registers = 8;  // some more than once
  return f;
}

bool ParseShape(absl::string_view text, Shape* shape) {
  static constexpr std::pair<const char*, Shape> kShapes[] = {
      {"m16n16k16", {16, 16, 16}}, {"m8n32k16", {8, 32, 16}}, {"m32n8k16", {32, 8, 16}},
      {"m16n16k8", {16, 16, 8}},   {"m8n8k4", {8, 8, 4}},     {"m8n8k32", {8, 8, 32}},
      {"m8n8k128", {8, 8, 128}}};
  for (const auto& [name, known] : kShapes) {
    if (text != name) continue;
    *shape = known;
    return true;
  }
  return false;
}

// --- between registers and matrices

uint64_t Take(const uint8_t* bytes, int index, int bits) {
  if (bits < 8) return bytes[index * bits / 8] >> (index * bits % 8) & ((1 << bits) - 1);
  uint64_t code = 0;
  std::memcpy(&code, bytes + static_cast<size_t>(index) * static_cast<size_t>(bits / 8),
              static_cast<size_t>(bits / 8));
  return code;
}
void Put(uint8_t* bytes, int index, int bits, uint64_t code) {
  if (bits >= 8) {
    std::memcpy(bytes + static_cast<size_t>(index) * static_cast<size_t>(bits / 8), &code,
                static_cast<size_t>(bits / 8));
    return;
  }
  uint8_t& byte = bytes[index * bits / 8];
  const int shift = index * bits % 8, mask = ((1 << bits) - 1) << shift;
  byte = static_cast<uint8_t>((byte & ~mask) | static_cast<int>(code << shift));
}

void ReadFragment(Warp& warp, const Instruction& in, int list, const Fragment& f, Matrix* out) {
  const int per_lane = f.per_lane(), words = f.words();
  for (int lane = 0; lane < 32; ++lane) {
    uint8_t bytes[64] = {};
    for (int r = 0; r < words; ++r) {
      if (f.bits() == 64) {
        std::memcpy(bytes + 8 * r, &warp.U64(in.list[list + r])[lane], 8);
      } else {
        std::memcpy(bytes + 4 * r, &warp.U32(in.list[list + r])[lane], 4);
      }
    }
    for (int e = 0; e < per_lane; ++e) (*out)[At(lane, per_lane, e)] = Take(bytes, e, f.bits());
  }
}

void WriteFragment(Warp& warp, const Instruction& in, int list, const Fragment& f, const Matrix& matrix) {
  const int per_lane = f.per_lane(), words = f.words();
  for (int lane = 0; lane < 32; ++lane) {
    uint8_t bytes[64] = {};
    for (int e = 0; e < per_lane; ++e) Put(bytes, e, f.bits(), matrix[At(lane, per_lane, e)]);
    for (int r = 0; r < f.registers; ++r) {
      if (f.bits() == 64) {
        std::memcpy(&warp.U64(in.list[list + r])[lane], bytes + 8 * r, 8);
      } else {
        std::memcpy(&warp.U32(in.list[list + r])[lane], bytes + 4 * (words == 0 ? 0 : r % words), 4);
      }
    }
  }
}

// --- load and store

bool WholeWarp(Warp& warp, uint32_t* mask, Step* step) {
  *mask = Converge(warp, *mask, kFullMask);
  if (*mask == kFullMask) return true;
  *step = *mask == 0 ? Step::kWait
                     : Raise(warp, static_cast<uint32_t>(__builtin_ctz(*mask)), Reason::kBarrierDivergence,
                             "wmma needs all 32 lanes of the warp");
  return false;
}

// Line by line: a row, or a column where the layout is .col. Address and stride are the same in all lanes.
Step RunAccess(Warp& warp, const Instruction& in, uint32_t mask) {
  Step step = Step::kNext;
  if (!WholeWarp(warp, &mask, &step)) return step;
  const AccessData& data = *static_cast<const AccessData*>(in.data);
  const Fragment& f = data.fragment;
  const int lines = data.by_column ? f.columns : f.rows, length = data.by_column ? f.rows : f.columns;
  const uint64_t stride = data.has_stride ? warp.U32(in.operand[1])[0] : static_cast<uint64_t>(length);
  uint64_t address = data.wide ? warp.U64(in.operand[0])[0] : warp.U32(in.operand[0])[0];
  address += static_cast<uint64_t>(in.immediate);
  const auto bytes = static_cast<uint32_t>(length * f.bits() / 8);
  Matrix matrix = {};
  if (data.store) ReadFragment(warp, in, kListD, f, &matrix);
  for (int line = 0; line < lines; ++line) {
    const uint64_t at = address + static_cast<uint64_t>(line) * stride * static_cast<uint64_t>(f.bits()) / 8;
    const uint32_t align = std::min<uint32_t>(static_cast<uint32_t>(std::max(f.bits() / 8, 4)), 8);
    uint8_t* place = Resolve(warp, 0, data.space, at, bytes, align, data.store);
    if (place == nullptr) return Step::kFault;
    for (int i = 0; i < length; ++i) {
      const int row = data.by_column ? i : line, column = data.by_column ? line : i;
      uint64_t& code = matrix[At(row, f.columns, column)];
      if (data.store) {
        Put(place, i, f.bits(), code);
      } else {
        code = Take(place, i, f.bits());
      }
    }
  }
  if (!data.store) WriteFragment(warp, in, kListD, f, matrix);
  return Step::kNext;
}

Operation DecodeAccess(Form& form, char which, bool store) {
  if (!form.Take("sync") || !form.Take("aligned")) return form.Malformed("it lacks .sync.aligned");
  AccessData data;
  data.store = store;
  data.by_column = form.Take("col");
  if (!data.by_column && !form.Take("row")) return form.Malformed("it names no layout");
  Shape shape;
  if (!ParseShape(form.TakeNext(), &shape)) return form.Unsupported("this shape");
  data.space = form.TakeSpace();
  const Type type = form.TakeType();
  if (form.failed()) return nullptr;
  data.fragment = FragmentOf(shape, which, ElementOf(type));
  if (data.fragment.registers == 0) return form.Unsupported("this shape and type");
  const bool small = data.fragment.bits() < 8;
  if (small && data.by_column != (which == 'b')) return form.Unsupported("this layout of small elements");
  const int list = store ? 1 : 0, address = store ? 0 : 1;
  if (form.Elements(list) != data.fragment.registers) return form.Malformed("the vector does not fit");
  const AddressForm base = form.Address(0, address);
  const int64_t offset = form.instruction().immediate;
  data.wide = base.width == Width::k64;
  if (base.variable_space == Space::kShared && data.space == Space::kGeneric) data.space = Space::kShared;
  data.has_stride = form.operands() > 2;
  if (data.has_stride) form.Source(1, 2, Type::kU32);
  form.instruction().immediate = offset;
  const Type lane = data.fragment.bits() == 64 ? Type::kF64 : Type::kB32;
  for (int r = 0; r < data.fragment.registers; ++r) {
    if (store) {
      form.Source(7 + r, form.Element(list, r), lane);
    } else {
      form.Destination(7 + r, form.Element(list, r), lane);
    }
  }
  form.EarlyDestinations();
  form.Data(data);
  return &RunAccess;
}

// --- the product

int64_t IntegerOf(Element e, uint64_t code) {
  switch (e) {
    case Element::kS8:
      return static_cast<int8_t>(code);
    case Element::kS4:
      return static_cast<int8_t>(code << 4) >> 4;
    default:
      return static_cast<int64_t>(code);
  }
}

void MultiplyIntegers(const ProductData& p, const Matrix& a, const Matrix& b, const Matrix& c, Matrix* d) {
  for (int i = 0; i < p.shape.m; ++i) {
    for (int j = 0; j < p.shape.n; ++j) {
      int64_t sum = static_cast<int32_t>(c[At(i, p.shape.n, j)]);
      for (int k = 0; k < p.shape.k; ++k) {
        const uint64_t x = a[At(i, p.shape.k, k)], y = b[At(k, p.shape.n, j)];
        if (p.a.element == Element::kB1) {
          sum += static_cast<int64_t>(p.bits_and ? x & y : x ^ y);
        } else {
          sum += IntegerOf(p.a.element, x) * IntegerOf(p.b.element, y);
        }
      }
      if (p.satfinite) sum = std::clamp<int64_t>(sum, INT32_MIN, INT32_MAX);
      (*d)[At(i, p.shape.n, j)] = static_cast<uint32_t>(sum);
    }
  }
}

void MultiplyDoubles(const ProductData& p, const Matrix& a, const Matrix& b, const Matrix& c, Matrix* d) {
  const auto value = [](uint64_t code) { return __builtin_bit_cast(double, code); };
  for (int i = 0; i < p.shape.m; ++i) {
    for (int j = 0; j < p.shape.n; ++j) {
      double sum = value(c[At(i, p.shape.n, j)]);
      for (int k = 0; k < p.shape.k; ++k) {
        sum = __builtin_fma(value(a[At(i, p.shape.k, k)]), value(b[At(k, p.shape.n, j)]), sum);
      }
      (*d)[At(i, p.shape.n, j)] = std::isnan(sum) ? numerics::kNanF64 : __builtin_bit_cast(uint64_t, sum);
    }
  }
}

// The codes of a matrix as floats.
void Widen(const Fragment& f, const Matrix& codes, float* out) {
  alignas(64) uint8_t packed[kMaxElements * 4] = {};
  for (int e = 0; e < f.elements(); ++e) Put(packed, e, f.bits(), codes[static_cast<size_t>(e)]);
  numerics::CurrentVariant().widen_row(f.element, packed, f.elements(), out);
}

void MultiplyFloats(const ProductData& p, const Matrix& a, const Matrix& b, const Matrix& c, Matrix* d) {
  alignas(64) float x[512], y[512], sums[256];
  Widen(p.a, a, x);
  Widen(p.b, b, y);
  Widen(p.c, c, sums);
  numerics::CurrentVariant().tile_product(p.shape.m, p.shape.n, p.shape.k, x, p.shape.k, y, p.shape.n, sums,
                                          p.shape.n);
  alignas(64) uint8_t packed[256 * 4];
  numerics::CurrentVariant().narrow_row(p.d.element, sums, p.d.elements(), packed);
  for (int e = 0; e < p.d.elements(); ++e) (*d)[static_cast<size_t>(e)] = Take(packed, e, p.d.bits());
}

Step RunProduct(Warp& warp, const Instruction& in, uint32_t mask) {
  Step step = Step::kNext;
  if (!WholeWarp(warp, &mask, &step)) return step;
  const ProductData& p = *static_cast<const ProductData*>(in.data);
  Matrix a = {}, b = {}, c = {}, d = {};
  ReadFragment(warp, in, kListA, p.a, &a);
  ReadFragment(warp, in, kListB, p.b, &b);
  ReadFragment(warp, in, kListC, p.c, &c);
  if (p.d.element == Element::kS32) {
    MultiplyIntegers(p, a, b, c, &d);
  } else if (p.d.element == Element::kF64) {
    MultiplyDoubles(p, a, b, c, &d);
  } else {
    MultiplyFloats(p, a, b, c, &d);
  }
  WriteFragment(warp, in, kListD, p.d, d);
  return Step::kNext;
}

Operation DecodeProduct(Form& form) {
  ProductData p;
  p.bits_and = form.Take("and");
  const bool bits = p.bits_and || form.Take("xor");
  if (bits && !form.Take("popc")) return form.Malformed("it lacks .popc");
  if (!form.Take("sync") || !form.Take("aligned")) return form.Malformed("it lacks .sync.aligned");
  const absl::string_view layout_a = form.TakeNext(), layout_b = form.TakeNext();
  const auto is_layout = [](absl::string_view word) { return word == "row" || word == "col"; };
  if (!is_layout(layout_a) || !is_layout(layout_b)) return form.Malformed("it names no layouts");
  if (!ParseShape(form.TakeNext(), &p.shape)) return form.Unsupported("this shape");
  p.satfinite = form.Take("satfinite");
  // Only .rn is as numerics/mma.h sums; the other roundings of f64 are rare enough.
  form.Take("rn");
  const Type first = form.TakeType(), second = form.TakeType();
  const Type third = form.OptionalType(), fourth = form.OptionalType();
  if (form.failed()) return nullptr;
  // Of f16 only D and C are written.
  const bool half = third == Type::kNone;
  const Type a = half ? Type::kF16 : second, b = half ? Type::kF16 : third, c = half ? second : fourth;
  if (c == Type::kNone) return form.Malformed("it has three types");
  p.a = FragmentOf(p.shape, 'a', ElementOf(a));
  p.b = FragmentOf(p.shape, 'b', ElementOf(b));
  p.c = FragmentOf(p.shape, 'c', ElementOf(c));
  p.d = FragmentOf(p.shape, 'c', ElementOf(first));
  const bool integers = IsByte(p.a.element) || IsNibble(p.a.element) || p.a.element == Element::kB1;
  const bool fits = integers ? p.c.element == Element::kS32 && p.d.element == Element::kS32 &&
                                   p.a.bits() == p.b.bits() && bits == (p.a.element == Element::kB1)
                             : p.a.element == p.b.element && !bits &&
                                   (p.a.element == Element::kF16
                                        ? p.c.element != Element::kS32 && p.d.element != Element::kS32
                                    : p.a.element == Element::kF64
                                        ? p.c.element == Element::kF64 && p.d.element == Element::kF64
                                        : p.c.element == Element::kF32 && p.d.element == Element::kF32);
  if (!fits || p.a.registers * p.b.registers * p.c.registers * p.d.registers == 0) {
    return form.Unsupported("this shape and these types");
  }
  if (p.a.bits() < 8 && (layout_a != "row" || layout_b != "col")) {
    return form.Unsupported("layouts other than .row.col");
  }
  if (form.operands() != 4 || form.Elements(0) != p.d.registers || form.Elements(1) != p.a.registers ||
      form.Elements(2) != p.b.registers || form.Elements(3) != p.c.registers) {
    return form.Malformed("a fragment has a wrong number of registers");
  }
  const Type lane = p.d.element == Element::kF64 ? Type::kF64 : Type::kB32;
  for (int r = 0; r < p.d.registers; ++r) form.Destination(7 + kListD + r, form.Element(0, r), lane);
  for (int r = 0; r < p.a.registers; ++r) form.Source(7 + kListA + r, form.Element(1, r), lane);
  for (int r = 0; r < p.b.registers; ++r) form.Source(7 + kListB + r, form.Element(2, r), lane);
  for (int r = 0; r < p.c.registers; ++r) form.Source(7 + kListC + r, form.Element(3, r), lane);
  form.EarlyDestinations();
  form.Data(p);
  return &RunProduct;
}

Operation Wmma(Form& form) {
  if (form.Take("mma")) return DecodeProduct(form);
  const bool load = form.Take("load");
  if (!load && !form.Take("store")) return form.Unsupported("this kind of wmma");
  for (const char* which : {"a", "b", "c", "d"}) {
    if (!form.Take(which)) continue;
    if (load == (*which == 'd')) return form.Malformed("a, b and c are loaded, d is stored");
    return DecodeAccess(form, *which == 'd' ? 'c' : *which, !load);
  }
  return form.Malformed("it names no matrix");
}

}  // namespace

void RegisterWmma(FamilyTable* table) { table->Add("wmma", &Wmma); }

}  // namespace trun::device
