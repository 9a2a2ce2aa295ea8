#include "server/device/emulator/checks/matrix_definedness.h"

#include <algorithm>
#include <array>
#include <bitset>

#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/checks/operand_lists.h"
#include "server/device/emulator/numerics/matrix.h"
#include "server/device/emulator/numerics/sparse.h"
#include "server/device/emulator/ops/matrix_special.h"
#include "server/device/emulator/ops/mma_form.h"
#include "server/device/emulator/ops/wmma_form.h"

namespace trun::device {
namespace {

constexpr uint16_t kWhole = 0xffff;

// C or D of up to 16 rows and 8 columns, as mma.sync lays it out; `list` is where it begins.
class Accumulator {
 public:
  Accumulator(int list, bool halves) : slot_(kFirstListSlot + static_cast<uint32_t>(list)), halves_(halves) {}

  bool IsUndefined(const SlotBytes& sources, int row, int column) const {
    return (sources.Get(Slot(row, column))[Lane(row, column)] & Bytes(column)) != 0;
  }
  void SetUndefined(SlotBytes* results, int row, int column) const {
    results->At(Slot(row, column))[Lane(row, column)] |= Bytes(column);
  }

 private:
  uint32_t Slot(int row, int column) const {
    return slot_ + static_cast<uint32_t>(halves_ ? row / 8 : 2 * (row / 8) + column % 2);
  }
  static size_t Lane(int row, int column) {
    return static_cast<size_t>(row % 8) * 4 + static_cast<size_t>(column / 2);
  }
  uint16_t Bytes(int column) const {
    if (!halves_) return kWhole;
    return column % 2 == 0 ? 0x3 : 0xc;
  }

  const uint32_t slot_;
  const bool halves_;
};

const LaneBytes& Register(const SlotBytes& sources, int list, int r) {
  return sources.Get(kFirstListSlot + static_cast<uint32_t>(list + r));
}

// The fragments of a dense product lie alike for all types: lane l has row l / 4 of A, in every other
// register that row + 8, and column l / 4 of B.
void Dense(const InstructionWords& words, const SlotBytes& sources, SlotBytes* results) {
  int m = 16;
  for (const absl::string_view word : words.modifiers) {
    if (word.substr(0, 3) == "m8n") m = 8;
  }
  std::array<bool, 16> rows = {};
  std::array<bool, 8> columns = {};
  for (int lane = 0; lane < 32; ++lane) {
    const auto l = static_cast<size_t>(lane);
    for (int r = 0; r < 8; ++r) {
      if (Register(sources, DenseMma::kListA, r)[l] != 0)
        rows[l / 4 + (m == 16 && r % 2 == 1 ? 8 : 0)] = true;
      if (r < 4 && Register(sources, DenseMma::kListB, r)[l] != 0) columns[l / 4] = true;
    }
  }
  const Accumulator c(DenseMma::kListC, words.TypeAt(3) == Type::kF16),
      d(DenseMma::kListD, words.TypeAt(0) == Type::kF16);
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < 8; ++j) {
      if (rows[static_cast<size_t>(i)] || columns[static_cast<size_t>(j)] || c.IsUndefined(sources, i, j)) {
        d.SetUndefined(results, i, j);
      }
    }
  }
}

// mma.sp and the scaled kinds: 16 rows of A and 8 columns of B, element by element.
class Special {
 public:
  Special(const WatchedStep& step, const SpecialMma& form, const SlotBytes& sources)
      : warp_(step.warp), in_(warp_.program->original->code[step.pc]), form_(form), sources_(sources) {}

  void Run(SlotBytes* results) const {
    const Accumulator c(SpecialMma::kListC, form_.c == numerics::Type::kF16),
        d(SpecialMma::kListD, form_.d == numerics::Type::kF16);
    std::array<std::bitset<128>, 8> columns;
    std::array<bool, 8> scales = {};
    for (int j = 0; j < 8; ++j) {
      const auto at = static_cast<size_t>(j);
      for (int k = 0; k < form_.k; ++k) columns[at][static_cast<size_t>(k)] = B(k, j);
      scales[at] = form_.scales != 0 && ScaleUndefined(false, j);
    }
    for (int i = 0; i < 16; ++i) {
      std::bitset<128> taken;
      bool row = form_.scales != 0 && ScaleUndefined(true, i);
      if (form_.kind == MmaKind::kSparse) {
        row |= SparseRow(i, &taken);
      } else {
        taken.set();
        for (int k = 0; k < form_.k; ++k) row |= A(i, k);
      }
      for (int j = 0; j < 8; ++j) {
        const auto at = static_cast<size_t>(j);
        if (row || scales[at] || (columns[at] & taken).any() || c.IsUndefined(sources_, i, j)) {
          d.SetUndefined(results, i, j);
        }
      }
    }
  }

 private:
  int PerRegister() const { return 32 / form_.bits; }
  bool Element(int list, int r, int lane, int e) const {
    return IsElementUndefined(Register(sources_, list, r)[static_cast<size_t>(lane)], e, form_.bits);
  }
  bool A(int row, int column) const {
    const int per = PerRegister(), block = column / (4 * per), inside = column % (4 * per);
    return Element(SpecialMma::kListA, 2 * block + row / 8, row % 8 * 4 + inside / per, inside % per);
  }
  bool B(int row, int column) const {
    const int per = PerRegister(), block = row / (4 * per), inside = row % (4 * per);
    return Element(SpecialMma::kListB, block, column * 4 + inside / per, inside % per);
  }

  // Whether an element of A's row or its metadata is undefined; `taken` are the rows of B that it meets.
  bool SparseRow(int row, std::bitset<128>* taken) const {
    const numerics::SparseLayout layout = {form_.bits, form_.k, static_cast<int>(form_.selector)};
    std::array<uint32_t, 32> unknown;
    for (size_t l = 0; l < 32; ++l) {
      unknown[l] = static_cast<uint32_t>(SpreadBytes(sources_.Get(SpecialMma::kMetadata)[l] & 0xf));
    }
    bool undefined = false;
    for (int j = 0; j < layout.chunks(); ++j) {
      undefined |= numerics::SparseMetadata(layout, unknown.data(), row, j) != 0;
    }
    numerics::ForEachSparseElement(layout, warp_.U32(in_.operand[SpecialMma::kMetadata]), row,
                                   [&](int k, int e) {
                                     taken->set(static_cast<size_t>(k));
                                     undefined |= A(row, e);
                                   });
    return undefined;
  }

  // A scale factor of A's row (B's column) `i`, or what says where it is.
  bool ScaleUndefined(bool of_a, int i) const {
    using S = SpecialMma;
    const auto at = [](int slot) { return static_cast<uint32_t>(slot); };
    const uint32_t byte_slot = at(of_a ? S::kByteA : S::kByteB),
                   thread_slot = at(of_a ? S::kThreadA : S::kThreadB);
    if ((sources_.Get(byte_slot)[0] & 3) != 0 || (sources_.Get(thread_slot)[0] & 3) != 0) return true;
    const uint32_t thread = warp_.U32(in_.operand[thread_slot])[0],
                   byte = warp_.U32(in_.operand[byte_slot])[0];
    const uint32_t row = static_cast<uint32_t>(i);
    const uint32_t lane = of_a ? row % 8 * 4 + 2 * (thread & 1) + row / 8 : row * 4 + (thread & 3);
    const uint16_t bytes = sources_.Get(at(of_a ? S::kScaleA : S::kScaleB))[lane];
    for (uint32_t block = 0; block < static_cast<uint32_t>(form_.scales); ++block) {
      if ((bytes >> ((byte + block) & 3) & 1) != 0) return true;
    }
    return false;
  }

  Warp& warp_;
  const Instruction& in_;
  const SpecialMma& form_;
  const SlotBytes& sources_;
};

// m8n8k4 of f16: four products, each of eight lanes (ops/matrix_special.cc).
void QuadPairs(const SpecialMma& form, const SlotBytes& sources, SlotBytes* results) {
  const auto half = [&sources](int list, int lane, int e) {
    return IsElementUndefined(Register(sources, list, e / 2)[static_cast<size_t>(lane)], e % 2, 16);
  };
  const bool c_halves = form.c == numerics::Type::kF16, d_halves = form.d == numerics::Type::kF16;
  for (int q = 0; q < 4; ++q) {
    const auto lane = [q](int i) { return 4 * q + i % 4 + 16 * (i / 4); };
    for (int row = 0; row < 8; ++row) {
      for (int column = 0; column < 8; ++column) {
        const int owner = d_halves ? lane(row) : lane((row / 4) * 4 + (row & 1) + (column & 2));
        const int at = d_halves ? column : (column & 4) + (row & 2) + (column & 1);
        bool undefined = c_halves
                             ? half(SpecialMma::kListC, owner, at)
                             : Register(sources, SpecialMma::kListC, at)[static_cast<size_t>(owner)] != 0;
        for (int k = 0; k < 4; ++k) {
          undefined |= form.a_by_column ? half(SpecialMma::kListA, lane(row / 4 * 4 + k), row % 4)
                                        : half(SpecialMma::kListA, lane(row), k);
          undefined |= form.b_by_row ? half(SpecialMma::kListB, lane(column / 4 * 4 + k), column % 4)
                                     : half(SpecialMma::kListB, lane(column), k);
        }
        if (!undefined) continue;
        const uint32_t slot =
            kFirstListSlot + static_cast<uint32_t>(SpecialMma::kListD + (d_halves ? at / 2 : at));
        results->At(slot)[static_cast<size_t>(owner)] |= static_cast<uint16_t>(!d_halves     ? kWhole
                                                                               : at % 2 == 0 ? 0x3
                                                                                             : 0xc);
      }
    }
  }
}

void Movmatrix(const SlotBytes& sources, SlotBytes* results) {
  alignas(64) uint32_t lanes[32], values[32];
  for (size_t l = 0; l < 32; ++l) lanes[l] = static_cast<uint32_t>(SpreadBytes(sources.Get(1)[l] & 0xf));
  alignas(16) uint8_t matrix[128];
  uint8_t* rows[8];
  for (int r = 0; r < 8; ++r) rows[r] = matrix + 16 * r;
  const uint32_t* from[1] = {lanes};
  uint32_t* to[1] = {values};
  numerics::StoreMatrices(1, false, from, rows);
  numerics::LoadMatrices(1, true, rows, to);
  for (size_t l = 0; l < 32; ++l) results->At(0)[l] = GatherBytes(values[l]);
}

void Wmma(const WmmaProduct& p, const SlotBytes& sources, SlotBytes* results) {
  const auto undefined = [&sources](int list, const WmmaFragment& f, int row, int column) {
    const int index = row * f.columns + column, e = index % f.per_lane();
    const auto lane = static_cast<size_t>(index / f.per_lane());
    if (f.bits() == 64) return Register(sources, list, e)[lane] != 0;
    const int bit = e * f.bits();
    return IsElementUndefined(Register(sources, list, bit / 32)[lane], bit % 32 / f.bits(), f.bits());
  };
  std::array<bool, 32> rows = {}, columns = {};
  for (int k = 0; k < p.shape.k; ++k) {
    for (int i = 0; i < p.shape.m; ++i)
      rows[static_cast<size_t>(i)] |= undefined(WmmaProduct::kListA, p.a, i, k);
    for (int j = 0; j < p.shape.n; ++j)
      columns[static_cast<size_t>(j)] |= undefined(WmmaProduct::kListB, p.b, k, j);
  }
  for (int i = 0; i < p.shape.m; ++i) {
    for (int j = 0; j < p.shape.n; ++j) {
      if (!rows[static_cast<size_t>(i)] && !columns[static_cast<size_t>(j)] &&
          !undefined(WmmaProduct::kListC, p.c, i, j)) {
        continue;
      }
      const int index = i * p.d.columns + j, bit = index % p.d.per_lane() * p.d.bits();
      const auto lane = static_cast<size_t>(index / p.d.per_lane());
      const int word = bit / std::max(32, p.d.bits());
      const uint16_t bytes = static_cast<uint16_t>(p.d.bits() >= 32 ? kWhole : 0x3 << (bit % 32 / 8));
      for (int r = word; r < p.d.registers; r += p.d.words()) {
        results->At(kFirstListSlot + static_cast<uint32_t>(WmmaProduct::kListD + r))[lane] |= bytes;
      }
    }
  }
}

}  // namespace

void PropagateProduct(const WatchedStep& step, const SlotBytes& sources, SlotBytes* results) {
  results->Clear();
  if (!sources.any) return;
  const InstructionWords words(step.site().text);
  const void* const data = step.warp.program->original->code[step.pc].data;
  if (words.opcode == "movmatrix") return Movmatrix(sources, results);
  if (words.opcode == "wmma") return Wmma(*static_cast<const WmmaProduct*>(data), sources, results);
  bool special = words.Has("block_scale") || words.Has("kind::f8f6f4");
  for (const absl::string_view word : words.modifiers) special |= word.substr(0, 2) == "sp";
  const bool quad_pairs = words.Has("m8n8k4") && words.modifiers.back() != "f64";
  if (!special && !quad_pairs) return Dense(words, sources, results);
  const SpecialMma& form = *static_cast<const SpecialMma*>(data);
  if (form.kind == MmaKind::kQuadPairs) return QuadPairs(form, sources, results);
  Special(step, form, sources).Run(results);
}

}  // namespace trun::device
