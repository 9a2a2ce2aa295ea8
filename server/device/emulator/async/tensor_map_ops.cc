#include <cstring>

#include "common/base/status.h"
#include "server/device/emulator/async/families.h"
#include "server/device/emulator/async/operand_address.h"
#include "server/device/emulator/async/tensor_map.h"
#include "server/device/emulator/exec/memory_access.h"

namespace trun::device {
namespace {

struct ReplaceForm {
  OperandAddress address;
  Space space = Space::kGeneric;
  TensorMapField field = TensorMapField::kRank;
  bool wide = false;
};

constexpr int kAddress = 0, kValue = 1, kIndex = 2, kSource = 3;  // slots

Step OpReplace(Warp& warp, const Instruction& in, uint32_t mask) {
  const ReplaceForm& f = *static_cast<const ReplaceForm*>(in.data);
  return ForEachLane(mask, [&](uint32_t lane) {
    uint8_t* map = Resolve(warp, lane, f.space, AddressOf(warp, in, f.address, lane), kTensorMapBytes,
                           kTensorMapAlign, true);
    if (map == nullptr) return false;
    const uint64_t value = f.wide ? warp.U64(in.operand[kValue])[lane] : warp.U32(in.operand[kValue])[lane];
    if (!ReplaceTensorMapField(map, f.field, warp.U32(in.operand[kIndex])[lane], value)) {
      Raise(warp, lane, Reason::kIllegalAddress, "tensormap.replace with a value or dimension out of range");
      return false;
    }
    return true;
  });
}

struct CopyForm {
  OperandAddress target, source;
};

// All lanes copy one map together.
Step OpCopy(Warp& warp, const Instruction& in, uint32_t mask) {
  const CopyForm& f = *static_cast<const CopyForm*>(in.data);
  mask = Converge(warp, mask, kFullMask);
  if (mask == 0) return Step::kWait;
  const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(mask));
  const uint8_t* from = Resolve(warp, lane, Space::kShared, AddressOf(warp, in, f.source, lane),
                                kTensorMapBytes, kTensorMapAlign, false);
  if (from == nullptr) return Step::kFault;
  uint8_t* to = Resolve(warp, lane, Space::kGlobal, AddressOf(warp, in, f.target, lane), kTensorMapBytes,
                        kTensorMapAlign, true);
  if (to == nullptr) return Step::kFault;
  std::memcpy(to, from, kTensorMapBytes);
  return Step::kNext;
}

Operation DecodeCopy(Form& form) {
  CopyForm f;
  for (const char* word : {"global", "shared::cta", "tensormap::generic", "release", "sync", "aligned"}) {
    if (!form.Take(word)) return form.Malformed("tensormap.cp_fenceproxy lacks a modifier");
  }
  for (const char* scope : {"cta", "cluster", "gpu", "sys"}) form.Take(scope);
  f.target = DecodeAddress(form, kAddress, 0);
  f.source = DecodeAddress(form, kSource, 1);
  if (form.Integer(2) != kTensorMapBytes) return form.Malformed("the size of a tensor map is 128");
  form.Data(f);
  return &OpCopy;
}

Operation DecodeReplace(Form& form) {
  ReplaceForm f;
  if (!form.Take("tile")) return form.Unsupported("a mode other than .tile");
  struct Name {
    const char* name;
    TensorMapField field;
    bool indexed;
  };
  static constexpr Name kNames[] = {
      {"global_address", TensorMapField::kGlobalAddress, false},
      {"rank", TensorMapField::kRank, false},
      {"box_dim", TensorMapField::kBoxDim, true},
      {"global_dim", TensorMapField::kGlobalDim, true},
      {"global_stride", TensorMapField::kGlobalStride, true},
      {"element_stride", TensorMapField::kElementStride, true},
      {"elemtype", TensorMapField::kElemtype, false},
      {"interleave_layout", TensorMapField::kInterleave, false},
      {"swizzle_mode", TensorMapField::kSwizzle, false},
      {"fill_mode", TensorMapField::kFill, false},
  };
  const Name* name = nullptr;
  for (const Name& candidate : kNames) {
    if (form.Take(candidate.name)) {
      name = &candidate;
      break;
    }
  }
  if (name == nullptr) return form.Unsupported("not a field that the emulator has");
  f.field = name->field;
  f.space = form.TakeSpace();
  if (!form.Take("b1024")) return form.Malformed("it has no .b1024");
  f.wide = form.Take("b64");
  if (!f.wide && !form.Take("b32")) return form.Malformed("it has no type");
  f.address = DecodeAddress(form, kAddress, 0);
  const int value = name->indexed ? 2 : 1;
  if (name->indexed) {
    form.Source(kIndex, 1, Type::kB32);
  } else {
    form.Constant(kIndex, 0, Width::k32);
  }
  form.Source(kValue, value, f.wide ? Type::kB64 : Type::kB32);
  form.Data(f);
  return &OpReplace;
}

Operation DecodeTensorMap(Form& form) {
  if (form.Take("replace")) return DecodeReplace(form);
  if (form.Take("cp_fenceproxy")) return DecodeCopy(form);
  return form.Unsupported("not an operation of tensormap");
}

}  // namespace

void RegisterTensorMap(FamilyTable* table) { table->Add("tensormap", &DecodeTensorMap); }

}  // namespace trun::device
