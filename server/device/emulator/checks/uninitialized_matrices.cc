// UninitializedCheck: fragments of matrices that a warp loads and stores, and products of a warpgroup.
#include <algorithm>
#include <bitset>
#include <cstring>
#include <vector>

#include "absl/types/optional.h"
#include "server/device/emulator/async/wgmma_form.h"
#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/checks/operand_lists.h"
#include "server/device/emulator/checks/uninitialized_check.h"
#include "server/device/emulator/numerics/matrix.h"
#include "server/device/emulator/numerics/sparse.h"
#include "server/device/emulator/numerics/wgmma.h"
#include "server/device/emulator/ops/wmma_form.h"

namespace trun::device {
namespace {

// Bytes of ones and zeros to bytes of all ones and zeros.
void Widen(const uint8_t* undefined, uint32_t bytes, uint8_t* out) {
  for (uint32_t i = 0; i < bytes; ++i) out[i] = undefined[i] != 0 ? 0xff : 0;
}

// Elements of one row of A (column of B) along K that are undefined.
using Line = std::bitset<128>;

// An operand of wgmma in shared memory: `lines` of `depth` elements. `found` becomes the address of an
// undefined byte where there is one.
std::vector<Line> ReadOperand(const std::vector<uint8_t>& shared, uint64_t descriptor, bool transposed,
                              uint32_t lines, uint32_t depth, uint32_t element,
                              absl::optional<uint32_t>* found) {
  const numerics::MatrixDescriptor matrix = numerics::DecodeMatrixDescriptor(descriptor);
  std::vector<Line> out(lines);
  const uint32_t count = transposed ? depth : lines;
  const uint32_t units = transposed ? lines / 8 : depth * element / 16;
  for (uint32_t line = 0; line < count; ++line) {
    for (uint32_t unit = 0; unit < units; ++unit) {
      const uint32_t address = numerics::MatrixUnitAddress(matrix, transposed, line, unit);
      if (uint64_t{address} + 16 > shared.size() || !HasUndefined(shared.data() + address, 16)) continue;
      for (uint32_t b = 0; b < 16; ++b) {
        if (shared[address + b] == 0) continue;
        *found = address + b;
        if (transposed) {
          out[unit * 8 + b / 2].set(line);
        } else {
          out[line].set((unit * 16 + b) / element);
        }
      }
    }
  }
  return out;
}

// Where an element of a wmma fragment is: its lane, and its bytes among those of the lane.
struct TilePlace {
  uint32_t lane = 0, first = 0, bytes = 1;
};
TilePlace PlaceOf(const WmmaFragment& f, int row, int column) {
  const int index = row * f.columns + column;
  return {static_cast<uint32_t>(index / f.per_lane()),
          static_cast<uint32_t>(index % f.per_lane() * f.bits() / 8),
          static_cast<uint32_t>(std::max(f.bits() / 8, 1))};
}

// Calls visit(line, byte of the line, place) for the elements of a tile in the order of memory.
template <typename Visit>
void ForEachOfTile(const WmmaAccess& form, Visit visit) {
  const WmmaFragment& f = form.fragment;
  const int lines = form.by_column ? f.columns : f.rows, length = form.by_column ? f.rows : f.columns;
  for (int line = 0; line < lines; ++line) {
    for (int i = 0; i < length; ++i) {
      visit(static_cast<size_t>(line), static_cast<uint32_t>(i * f.bits() / 8),
            PlaceOf(f, form.by_column ? i : line, form.by_column ? line : i));
    }
  }
}

}  // namespace

// The bytes of a shared row that are undefined go through the same shuffle as the row.
void UninitializedCheck::LoadMatrix(const WatchedStep& step, const Rule& rule) {
  RegisterDefinedness& registers = RegistersOf(step.warp);
  const size_t rows = 8 * static_cast<size_t>(rule.matrices);
  if (step.accesses.size() != rows) return;
  const InstructionWords words(step.site().text);
  const int packed = words.Has("b6x16_p32") ? 6 : words.Has("b4x16_p64") ? 4 : 0;
  std::vector<uint8_t> undefined(rows * 16, 0);
  const uint8_t* pointers[32];
  uint32_t origin = step.pc;
  for (size_t r = 0; r < rows; ++r) {
    uint8_t* const row = undefined.data() + 16 * r;
    pointers[r] = row;
    const uint8_t* from = Undefined(step, step.accesses[r]);
    if (!HasUndefined(from, 16)) continue;
    origin = OriginOf(step, step.accesses[r], from);
    Widen(from, 16, row);
    uint8_t expanded[16];
    if (packed == 0) continue;
    numerics::ExpandRow(packed, row, expanded);
    std::memcpy(row, expanded, sizeof expanded);
  }
  alignas(64) uint32_t lanes[4][32];
  uint32_t* to[4] = {lanes[0], lanes[1], lanes[2], lanes[3]};
  if (words.Has("m16n16")) {
    numerics::LoadByteMatrices(rule.matrices, pointers, to);
  } else {
    numerics::LoadMatrices(rule.matrices, rule.transposes, pointers, to);
  }
  const std::vector<const OperandRef*> list = ListOf(step, true);
  for (size_t k = 0; k < list.size() && k < 4; ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint16_t bytes = GatherBytes(lanes[k][lane]);
      registers.undefined[info.cell][lane] = bytes;
      if (bytes != 0) registers.origin[info.cell][lane] = origin;
    }
  }
}

void UninitializedCheck::StoreMatrix(const WatchedStep& step, const Rule& rule) {
  const RegisterDefinedness& registers = RegistersOf(step.warp);
  const size_t rows = 8 * static_cast<size_t>(rule.matrices);
  if (step.accesses.size() != rows) return;
  alignas(64) uint32_t lanes[4][32] = {};
  const std::vector<const OperandRef*> list = ListOf(step, false);
  for (size_t k = 0; k < list.size() && k < 4; ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    for (uint32_t lane = 0; lane < 32 && info.cell != kNoCell; ++lane) {
      lanes[k][lane] = static_cast<uint32_t>(SpreadBytes(registers.undefined[info.cell][lane] & 0xf));
    }
  }
  std::vector<uint8_t> undefined(rows * 16, 0);
  uint8_t* pointers[32];
  for (size_t r = 0; r < rows; ++r) pointers[r] = undefined.data() + 16 * r;
  const uint32_t* from[4] = {lanes[0], lanes[1], lanes[2], lanes[3]};
  if (InstructionWords(step.site().text).Has("m16n8")) {
    numerics::StoreByteMatrices(rule.matrices, from, pointers);
  } else {
    numerics::StoreMatrices(rule.matrices, rule.transposes, from, pointers);
  }
  for (uint8_t& byte : undefined) byte &= 1;
  for (size_t r = 0; r < rows; ++r) SetUndefined(step, step.accesses[r], pointers[r]);
}

void UninitializedCheck::LoadTile(const WatchedStep& step) {
  const WmmaAccess& form = *static_cast<const WmmaAccess*>(program_.original->code[step.pc].data);
  const WmmaFragment& f = form.fragment;
  std::vector<std::vector<uint8_t>> lines;
  bool some = false;
  uint32_t origin = step.pc;
  for (const NotedAccess& access : step.accesses) {
    const uint8_t* undefined = Undefined(step, access);
    lines.emplace_back(access.bytes, uint8_t{0});
    if (!HasUndefined(undefined, access.bytes)) continue;
    some = true;
    lines.back().assign(undefined, undefined + access.bytes);
    NoteUnwrittenRead(step, kFullMask, access, undefined);
    origin = OriginOf(step, access, undefined);
  }
  results_.Clear();
  results_.origin = origin;
  if (some) {
    const uint32_t width = f.bits() == 64 ? 8 : 4;
    ForEachOfTile(form, [&](size_t line, uint32_t byte, const TilePlace& place) {
      if (line >= lines.size()) return;
      for (uint32_t b = 0; b < place.bytes; ++b) {
        if (lines[line][byte + b] == 0) continue;
        const uint32_t at = place.first + b;
        for (auto r = static_cast<int>(at / width); r < f.registers; r += f.words()) {
          results_.At(kFirstListSlot + static_cast<uint32_t>(r))[place.lane] |=
              static_cast<uint16_t>(1 << at % width);
        }
      }
    });
  }
  CommitResults(step, step.warp, results_);
}

bool UninitializedCheck::StoreTile(const WatchedStep& step) {
  const WmmaAccess& form = *static_cast<const WmmaAccess*>(program_.original->code[step.pc].data);
  const RegisterDefinedness& registers = RegistersOf(step.warp);
  const std::vector<const OperandRef*> list = ListOf(step, false);
  std::vector<std::vector<uint8_t>> lines;
  for (const NotedAccess& access : step.accesses) lines.emplace_back(access.bytes, uint8_t{0});
  const uint32_t width = form.fragment.bits() == 64 ? 8 : 4;
  bool fine = true;
  ForEachOfTile(form, [&](size_t line, uint32_t byte, const TilePlace& place) {
    const uint32_t r = place.first / width;
    if (!fine || line >= lines.size() || r >= list.size()) return;
    const RegisterInfo& info = step.info(*list[r]);
    if (info.cell == kNoCell) return;
    const uint16_t undefined = registers.undefined[info.cell][place.lane];
    for (uint32_t b = 0; b < place.bytes; ++b) {
      if ((undefined >> ((place.first + b) % width) & 1) == 0) continue;
      lines[line][byte + b] = 1;
      const NotedAccess& access = step.accesses[line];
      if (!fine || access.space != Space::kGlobal) continue;
      const AccessFault fault = {access.address + byte, place.bytes, "global", true};
      fine = Report(step, place.lane, *list[r], registers.origin[info.cell][place.lane],
                    "a store to global memory of", &fault);
    }
  });
  for (size_t line = 0; fine && line < lines.size(); ++line) {
    SetUndefined(step, step.accesses[line], lines[line].data());
  }
  return fine;
}

// The product is followed when the last warp of the four comes to it; the others stand there, too.
void UninitializedCheck::Wgmma(const WatchedStep& step) {
  Warp& warp = step.warp;
  CtaState& cta = StateOf(*warp.cta);
  const uint32_t first = warp.index / 4 * 4;
  if (step.result != Step::kNext) {
    cta.waits_for_wgmma[warp.index] = true;
    return;
  }
  if (cta.waits_for_wgmma[warp.index]) {
    cta.waits_for_wgmma[warp.index] = false;
    return;
  }
  const Instruction& in = program_.original->code[step.pc];
  const WgmmaForm& form = *static_cast<const WgmmaForm*>(in.data);
  const numerics::WgmmaShape& shape = form.shape;
  const auto n = static_cast<uint32_t>(shape.n), depth = static_cast<uint32_t>(numerics::WgmmaDepth(shape.a));
  const uint32_t element = std::max(static_cast<uint32_t>(numerics::BitsOf(shape.a)) / 8, 1u);
  const uint32_t kept = 32 / element;  // of A along K; bits are taken by bytes
  absl::optional<uint32_t> found;
  const std::vector<Line> b =
      ReadOperand(cta.shared, warp.U64(in.operand[WgmmaForm::kB])[0], shape.transpose_b, n,
                  shape.sparse ? 2 * kept : kept, element, &found);
  std::vector<Line> a;
  if (!shape.a_in_registers) {
    a = ReadOperand(cta.shared, warp.U64(in.operand[WgmmaForm::kA])[0], shape.transpose_a, 64, kept, element,
                    &found);
  }
  uint32_t origin = step.pc;
  if (found) {
    constexpr uint8_t kUndefined = 1;
    NotedAccess byte;
    byte.space = Space::kShared;
    byte.owner = warp.cta;
    byte.host = warp.cta->shared + *found;
    byte.bytes = 1;
    origin = OriginOf(step, byte, &kUndefined);
  }
  const bool adds =
      !form.has_scale || ((warp.Predicate(in.operand[WgmmaForm::kScale]) & 1) != 0) != form.scale_negated;
  const numerics::SparseLayout layout = {static_cast<int>(8 * element), static_cast<int>(2 * depth),
                                         shape.selector};
  const bool halves = shape.d == numerics::Type::kF16;
  for (uint32_t w = 0; w < 4; ++w) {
    Warp& part = warp.cta->warps[first + w];
    Gather(step, cta.warps[first + w], &sources_);
    results_.Clear();
    const bool unsure = form.has_scale && sources_.Get(WgmmaForm::kScale)[0] != 0;
    std::array<uint32_t, 32> unknown;
    for (size_t l = 0; l < 32; ++l) {
      unknown[l] = static_cast<uint32_t>(SpreadBytes(sources_.Get(WgmmaForm::kMetadata)[l] & 0xf));
    }
    for (uint32_t i = 0; i < 16; ++i) {
      bool row = unsure || (!a.empty() && a[16 * w + i].any());
      for (uint32_t r = 0; shape.a_in_registers && r < 4; ++r) {
        for (uint32_t t = 0; t < 4 && r % 2 == i / 8; ++t) {
          row |= (sources_.Get(WgmmaForm::kA + r)[i % 8 * 4 + t] & 0xf) != 0;
        }
      }
      Line taken;
      taken.set();
      if (shape.sparse) {
        taken.reset();
        const auto at = static_cast<int>(i);
        for (int j = 0; j < layout.chunks(); ++j) {
          row |= numerics::SparseMetadata(layout, unknown.data(), at, j) != 0;
        }
        numerics::ForEachSparseElement(layout, part.U32(in.operand[WgmmaForm::kMetadata]), at,
                                       [&taken](int k, int) { taken.set(static_cast<size_t>(k)); });
      }
      for (uint32_t j = 0; j < n; ++j) {
        const uint32_t lane = i % 8 * 4 + j % 8 / 2;
        const uint32_t r = halves ? 2 * (j / 8) + i / 8 : 4 * (j / 8) + 2 * (i / 8) + j % 2;
        const uint16_t bytes = !halves ? 0xf : j % 2 == 0 ? 0x3 : 0xc;
        const uint32_t accumulator = WgmmaForm::kAccumulators + static_cast<uint32_t>(form.accumulators) + r;
        const bool old = adds && (sources_.Get(accumulator)[lane] & bytes) != 0;
        if (row || old || (b[j] & taken).any()) results_.At(WgmmaForm::kAccumulators + r)[lane] |= bytes;
      }
    }
    results_.origin = found ? origin : sources_.origin;
    CommitResults(step, part, results_);
  }
}

}  // namespace trun::device
