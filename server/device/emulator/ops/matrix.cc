// mma.sync, ldmatrix, stmatrix, movmatrix (PTX ISA, "Warp Level Matrix Multiply-Accumulate Instructions").
#include "server/device/emulator/numerics/matrix.h"

#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/numerics/mma.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ops/matrix_special.h"
#include "server/device/emulator/ops/mma_form.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

constexpr int kListD = DenseMma::kListD, kListA = DenseMma::kListA, kListB = DenseMma::kListB,
              kListC = DenseMma::kListC;

struct MmaData {
  numerics::MmaShape shape;
  numerics::MmaCounts counts;
  numerics::MmaFunction run = nullptr;
};

Step RunMma(Warp& warp, const Instruction& in, uint32_t mask) {
  mask = Converge(warp, mask, kFullMask);
  if (mask == 0) return Step::kWait;
  if (mask != kFullMask) {
    return Raise(warp, static_cast<uint32_t>(__builtin_ctz(mask)), Reason::kBarrierDivergence,
                 "mma needs all 32 lanes of the warp");
  }
  const MmaData& data = *static_cast<const MmaData*>(in.data);
  numerics::MmaRegisters registers;
  for (int i = 0; i < data.counts.a; ++i) registers.a[i] = warp.registers + in.list[kListA + i];
  for (int i = 0; i < data.counts.b; ++i) registers.b[i] = warp.registers + in.list[kListB + i];
  for (int i = 0; i < data.counts.c; ++i) registers.c[i] = warp.registers + in.list[kListC + i];
  for (int i = 0; i < data.counts.d; ++i) registers.d[i] = warp.registers + in.list[kListD + i];
  data.run(data.shape, registers);
  return Step::kNext;
}

bool ParseShape(absl::string_view text, int* m, int* n, int* k) {
  const size_t at_n = text.find('n');
  const size_t at_k = text.find('k');
  if (text.empty() || text[0] != 'm' || at_n == absl::string_view::npos || at_k == absl::string_view::npos ||
      at_k < at_n) {
    return false;
  }
  return absl::SimpleAtoi(text.substr(1, at_n - 1), m) &&
         absl::SimpleAtoi(text.substr(at_n + 1, at_k - at_n - 1), n) &&
         absl::SimpleAtoi(text.substr(at_k + 1), k);
}

Operation Mma(Form& form) {
  const bool sparse = form.Take("sp::ordered_metadata") || form.Take("sp");
  if (!form.Take("sync") || !form.Take("aligned")) return form.Unsupported("this kind of mma");
  MmaData data;
  numerics::MmaShape& shape = data.shape;
  if (!ParseShape(form.Peek(), &shape.m, &shape.n, &shape.k)) return form.Unsupported("this kind of mma");
  form.TakeNext();
  if (sparse) return DecodeSpecialMma(form, MmaKind::kSparse, shape.m, shape.n, shape.k);
  // kind::f8f6f4: elements of 4 bits are in the middle of bytes.
  if (form.Take("block_scale") || form.Take("kind::f8f6f4")) {
    return DecodeSpecialMma(form, MmaKind::kScaled, shape.m, shape.n, shape.k);
  }
  if (shape.m == 8 && shape.k == 4 && form.LastModifier() != "f64") {
    return DecodeSpecialMma(form, MmaKind::kQuadPairs, shape.m, shape.n, shape.k);
  }
  if (!form.Take("row") || !form.Take("col")) return form.Unsupported("layouts other than .row.col");
  shape.satfinite = form.Take("satfinite");
  const Type d = form.TakeType();
  const Type a = form.TakeType();
  const Type b = form.TakeType();
  const Type c = form.TakeType();
  if (form.failed()) return nullptr;
  if (form.Take("and")) shape.b1_and = true;
  form.Take("xor");
  form.Take("popc");
  shape.a = ElementOf(a);
  shape.b = ElementOf(b);
  shape.c = ElementOf(c);
  shape.d = ElementOf(d);
  data.counts = numerics::CountsOf(shape);
  data.run = numerics::SelectMma(shape);
  if (data.run == nullptr || data.counts.d == 0) return form.Unsupported("this shape and these types");
  const bool doubles = shape.d == numerics::Type::kF64;
  const Type lane = doubles ? Type::kB64 : Type::kB32;
  if (form.operands() != 4 || form.Elements(0) != data.counts.d || form.Elements(1) != data.counts.a ||
      form.Elements(2) != data.counts.b || form.Elements(3) != data.counts.c) {
    return form.Malformed("a fragment has a wrong number of registers");
  }
  for (int i = 0; i < data.counts.d; ++i) form.Destination(7 + kListD + i, form.Element(0, i), lane);
  for (int i = 0; i < data.counts.a; ++i) form.Source(7 + kListA + i, form.Element(1, i), lane);
  for (int i = 0; i < data.counts.b; ++i) form.Source(7 + kListB + i, form.Element(2, i), lane);
  for (int i = 0; i < data.counts.c; ++i) form.Source(7 + kListC + i, form.Element(3, i), lane);
  form.EarlyDestinations();
  form.Data(data);
  return &RunMma;
}

struct MatrixData {
  int count = 1;       // registers; each has eight rows
  bool bytes = false;  // m16n16 of bytes, m16n8 for stmatrix
  int packed = 0;      // bits of elements that become bytes
  bool transpose = false;
  bool address32 = true;
  bool generic = false;
};

// The rows that lanes 0 … 8 · count - 1 point to. False after a fault.
bool Rows(Warp& warp, const Instruction& in, const MatrixData& data, bool is_write, uint8_t** rows) {
  Cta& cta = *warp.cta;
  for (uint32_t i = 0; i < static_cast<uint32_t>(8 * data.count); ++i) {
    uint64_t address = data.address32 ? warp.U32(in.operand[0])[i] : warp.U64(in.operand[0])[i];
    address += static_cast<uint64_t>(in.immediate);
    if (data.address32) address &= 0xffffffff;
    if (!data.generic && (address & 15) == 0 && address + 16 <= cta.unwatched_shared_bytes) {
      rows[i] = cta.shared + address;
      continue;
    }
    rows[i] = Resolve(warp, i, data.generic ? Space::kGeneric : Space::kShared, address, 16, 16, is_write);
    if (rows[i] == nullptr) return false;
  }
  return true;
}

template <bool kStore>
Step RunMatrixAccess(Warp& warp, const Instruction& in, uint32_t mask) {
  mask = Converge(warp, mask, kFullMask);
  if (mask == 0) return Step::kWait;
  if (mask != kFullMask) {
    return Raise(warp, static_cast<uint32_t>(__builtin_ctz(mask)), Reason::kBarrierDivergence,
                 "ldmatrix and stmatrix need all 32 lanes of the warp");
  }
  const MatrixData& data = *static_cast<const MatrixData*>(in.data);
  uint8_t* rows[32];
  if (!Rows(warp, in, data, kStore, rows)) return Step::kFault;
  uint32_t* registers[4];
  for (int k = 0; k < data.count; ++k) registers[k] = warp.U32(in.list[k]);
  uint8_t expanded[32][16];
  if (data.packed != 0) {
    for (int i = 0; i < 8 * data.count; ++i) {
      numerics::ExpandRow(data.packed, rows[i], expanded[i]);
      rows[i] = expanded[i];
    }
  }
  if (kStore && data.bytes) {
    numerics::StoreByteMatrices(data.count, registers, rows);
  } else if constexpr (kStore) {
    numerics::StoreMatrices(data.count, data.transpose, registers, rows);
  } else if (data.bytes) {
    numerics::LoadByteMatrices(data.count, rows, registers);
  } else {
    numerics::LoadMatrices(data.count, data.transpose, rows, registers);
  }
  return Step::kNext;
}

template <bool kStore>
Operation MatrixAccess(Form& form) {
  if (!form.Take("sync") || !form.Take("aligned")) return form.Malformed("it needs .sync.aligned");
  MatrixData data;
  data.bytes = form.Take(kStore ? "m16n8" : "m16n16");
  const bool wide = !kStore && form.Take("m8n16");
  if (!data.bytes && !wide && !form.Take("m8n8")) return form.Unsupported("this shape");
  data.count = form.Take("x4") ? 4 : form.Take("x2") ? 2 : 1;
  form.Take("x1");
  data.transpose = form.Take("trans");
  data.generic = form.TakeSpace() == Space::kGeneric;
  if (!kStore && form.Take("b8x16")) {
    data.packed = form.Take("b6x16_p32") ? 6 : form.Take("b4x16_p64") ? 4 : 0;
    if (data.packed == 0 || !(data.bytes || wide))
      return form.Malformed("it does not say what becomes bytes");
  } else if (wide || form.TakeType() != (data.bytes ? Type::kB8 : Type::kB16)) {
    return form.Unsupported("these elements");
  }
  if (wide && data.transpose) return form.Malformed("m8n16 has no .trans");
  if (kStore && data.bytes && !data.transpose) return form.Malformed("m16n8 needs .trans");
  if (!kStore && data.bytes) {
    if (!data.transpose || data.count > 2) return form.Unsupported("m16n16 without .trans, or of four");
    data.count *= 2;
  }
  const int list = kStore ? 1 : 0;
  if (form.Elements(list) != data.count) return form.Malformed("the vector does not fit");
  const AddressForm address = form.Address(0, kStore ? 0 : 1);
  data.address32 = address.width == Width::k32;
  if (address.variable_space == Space::kShared) data.generic = false;
  for (int k = 0; k < data.count; ++k) {
    if (kStore) {
      form.Source(7 + k, form.Element(list, k), Type::kB32);
    } else {
      form.Destination(7 + k, form.Element(list, k), Type::kB32);
    }
  }
  form.EarlyDestinations();
  form.Data(data);
  return &RunMatrixAccess<kStore>;
}

Step RunMovmatrix(Warp& warp, const Instruction& in, uint32_t mask) {
  mask = Converge(warp, mask, kFullMask);
  if (mask == 0) return Step::kWait;
  alignas(16) uint8_t matrix[128];
  uint8_t* rows[8];
  for (int r = 0; r < 8; ++r) rows[r] = matrix + 16 * r;
  const uint32_t* from[1] = {warp.U32(in.operand[1])};
  numerics::StoreMatrices(1, false, from, rows);
  alignas(64) uint32_t values[32];
  uint32_t* to[1] = {values};
  numerics::LoadMatrices(1, true, rows, to);
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

Operation Movmatrix(Form& form) {
  for (const char* word : {"sync", "aligned", "m8n8", "trans"}) {
    if (!form.Take(word)) return form.Malformed("movmatrix is .sync.aligned.m8n8.trans.b16");
  }
  form.TakeType();
  form.Destination(0, 0, Type::kB32);
  form.Source(1, 1, Type::kB32);
  form.EarlyDestinations();
  return &RunMovmatrix;
}

}  // namespace

void RegisterMatrix(FamilyTable* table) {
  table->Add("mma", &Mma);
  table->Add("ldmatrix", &MatrixAccess<false>);
  table->Add("stmatrix", &MatrixAccess<true>);
  table->Add("movmatrix", &Movmatrix);
}

}  // namespace trun::device
