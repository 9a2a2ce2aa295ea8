// mov, ld, st, cvta, isspacep, mapa and hints (PTX ISA, "Data Movement and Conversion Instructions").
#include <string>

#include "server/device/emulator/exec/control.h"
#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ops/float_operation.h"
#include "server/device/emulator/ops/lane_operations.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

Step RunMovePredicate(Warp& warp, const Instruction& in, uint32_t mask) {
  uint32_t& d = warp.Predicate(in.operand[0]);
  d = (d & ~mask) | (warp.Predicate(in.operand[1]) & mask);
  return Step::kNext;
}

Step RunMove128(Warp& warp, const Instruction& in, uint32_t mask) {
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const int i = __builtin_ctz(lanes);
    warp.U64(in.operand[0])[i] = warp.U64(in.operand[1])[i];
    warp.U64(in.operand[0])[32 + i] = warp.U64(in.operand[1])[32 + i];
  }
  return Step::kNext;
}

// One register from `kParts` narrower ones, and back. Part k is in slot 7 + k.
template <int kPartBits, int kParts>
Step RunPack(Warp& warp, const Instruction& in, uint32_t mask) {
  constexpr int kBits = kPartBits * kParts;
  if constexpr (kPartBits == 16 && kParts == 2) {
    // The common one, as a loop that compilers make vectors of.
    alignas(64) uint32_t words[32];
    const uint32_t *low = warp.U32(in.list[0]), *high = warp.U32(in.list[1]);
    for (int i = 0; i < 32; ++i) words[i] = (low[i] & 0xffff) | high[i] << 16;
    Blend(warp, in.operand[0], mask, words, 4);
    return Step::kNext;
  }
  alignas(64) uint64_t values[64];
  for (int i = 0; i < 32; ++i) {
    if constexpr (kBits == 128) {
      uint64_t words[2] = {0, 0};
      for (int k = 0; k < kParts; ++k) {
        const uint64_t part = kPartBits == 64 ? warp.U64(in.list[k])[i] : warp.U32(in.list[k])[i];
        words[k * kPartBits / 64] |= part << (k * kPartBits % 64);
      }
      values[i] = words[0];
      values[32 + i] = words[1];
    } else {
      uint64_t value = 0;
      for (int k = 0; k < kParts; ++k) {
        const uint64_t part = warp.U32(in.list[k])[i] & (~uint64_t{0} >> (64 - kPartBits));
        value |= part << (k * kPartBits);
      }
      if constexpr (kBits == 64) {
        values[i] = value;
      } else {
        reinterpret_cast<uint32_t*>(values)[i] = static_cast<uint32_t>(value);
      }
    }
  }
  if constexpr (kBits == 128) {
    Blend(warp, in.operand[0], mask, values, 8);
    Blend(warp, in.operand[0] + 256, mask, values + 32, 8);
  } else {
    Blend(warp, in.operand[0], mask, values, kBits == 64 ? 8 : 4);
  }
  return Step::kNext;
}

template <int kPartBits, int kParts>
Step RunUnpack(Warp& warp, const Instruction& in, uint32_t mask) {
  constexpr int kBits = kPartBits * kParts;
  if constexpr (kPartBits == 16 && kParts == 2) {
    alignas(64) uint32_t low[32], high[32];
    const uint32_t* words = warp.U32(in.operand[0]);
    for (int i = 0; i < 32; ++i) {
      low[i] = words[i] & 0xffff;
      high[i] = words[i] >> 16;
    }
    Blend(warp, in.list[0], mask, low, 4);
    Blend(warp, in.list[1], mask, high, 4);
    return Step::kNext;
  }
  for (int k = 0; k < kParts; ++k) {
    alignas(64) uint64_t values[32];
    for (int i = 0; i < 32; ++i) {
      const uint64_t word = kBits == 128  ? warp.U64(in.operand[0])[k * kPartBits / 64 * 32 + i]
                            : kBits == 64 ? warp.U64(in.operand[0])[i]
                                          : warp.U32(in.operand[0])[i];
      const uint64_t part = (word >> (k * kPartBits % 64)) & (~uint64_t{0} >> (64 - kPartBits));
      if constexpr (kPartBits == 64) {
        values[i] = part;
      } else {
        reinterpret_cast<uint32_t*>(values)[i] = static_cast<uint32_t>(part);
      }
    }
    Blend(warp, in.list[k], mask, values, kPartBits == 64 ? 8 : 4);
  }
  return Step::kNext;
}

template <bool kPacks>
Operation PackFunction(uint32_t bits, int parts) {
  if (bits == 16 && parts == 2) return kPacks ? &RunPack<8, 2> : &RunUnpack<8, 2>;
  if (bits == 32 && parts == 2) return kPacks ? &RunPack<16, 2> : &RunUnpack<16, 2>;
  if (bits == 32 && parts == 4) return kPacks ? &RunPack<8, 4> : &RunUnpack<8, 4>;
  if (bits == 64 && parts == 2) return kPacks ? &RunPack<32, 2> : &RunUnpack<32, 2>;
  if (bits == 64 && parts == 4) return kPacks ? &RunPack<16, 4> : &RunUnpack<16, 4>;
  if (bits == 128 && parts == 2) return kPacks ? &RunPack<64, 2> : &RunUnpack<64, 2>;
  if (bits == 128 && parts == 4) return kPacks ? &RunPack<32, 4> : &RunUnpack<32, 4>;
  return nullptr;
}

Type PartType(uint32_t bits) {
  switch (bits) {
    case 8:
      return Type::kB8;
    case 16:
      return Type::kB16;
    case 32:
      return Type::kB32;
    default:
      return Type::kB64;
  }
}

// Clocks count the warp's instructions, so that results do not depend on the host.
Step RunClock32(Warp& warp, const Instruction& in, uint32_t mask) {
  alignas(64) uint32_t values[32];
  const uint64_t now = (warp.clock_reads++) * 16 + warp.executed;
  for (uint32_t& value : values) value = static_cast<uint32_t>(now >> (in.immediate != 0 ? 32 : 0));
  ++warp.polls;
  Blend(warp, in.operand[0], mask, values, 4);
  return Step::kNext;
}

Step RunClock64(Warp& warp, const Instruction& in, uint32_t mask) {
  alignas(64) uint64_t values[32];
  const uint64_t now = (warp.clock_reads++) * 16 + warp.executed;
  for (uint64_t& value : values) value = now;
  ++warp.polls;
  Blend(warp, in.operand[0], mask, values, 8);
  return Step::kNext;
}

Operation Mov(Form& form) {
  const Type type = form.TakeType();
  if (form.operands() != 2) return form.Malformed("mov has two operands");
  const uint32_t bits = BitsOf(type);
  if (form.IsVector(1) && form.Elements(1) > 1) {
    const int parts = form.Elements(1);
    form.Destination(0, 0, type);
    const Type part = PartType(bits / static_cast<uint32_t>(parts));
    for (int k = 0; k < parts; ++k) form.Source(7 + k, form.Element(1, k), part);
    return PackFunction<true>(bits, parts);
  }
  if (form.IsVector(0) && form.Elements(0) > 1) {
    const int parts = form.Elements(0);
    form.Source(0, 1, type);
    const Type part = PartType(bits / static_cast<uint32_t>(parts));
    for (int k = 0; k < parts; ++k) form.Destination(7 + k, form.Element(0, k), part);
    form.EarlyDestinations();
    return PackFunction<false>(bits, parts);
  }
  const ptx::Operand& from = form.operand(1);
  if (from.kind == ptx::OperandKind::kName && !from.name.empty() && from.name[0] == '%' &&
      !form.IsRegister(from)) {
    const absl::string_view name = from.name;
    if (name == "%clock" || name == "%clock_hi" || name == "%globaltimer_lo" || name == "%globaltimer_hi") {
      form.Destination(0, 0, Type::kB32);
      form.instruction().immediate = name == "%clock_hi" || name == "%globaltimer_hi" ? 1 : 0;
      return &RunClock32;
    }
    if (name == "%clock64" || name == "%globaltimer") {
      form.Destination(0, 0, Type::kB64);
      return &RunClock64;
    }
    if (name.substr(0, 7) == "%envreg") {
      form.Destination(0, 0, Type::kB32);
      form.Constant(1, 0, Width::k32);
      return HostLaneOperations().integer(LaneOpcode::kMov, Type::kB32);
    }
  }
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  if (type == Type::kPred) return &RunMovePredicate;
  if (type == Type::kB128) return &RunMove128;
  return HostLaneOperations().integer(LaneOpcode::kMov, type);
}

// Adds or removes the window of a space (immediate).
Step RunWindow(Warp& warp, const Instruction& in, uint32_t mask) {
  alignas(64) uint64_t values[32];
  for (int i = 0; i < 32; ++i) values[i] = warp.U64(in.operand[1])[i] + static_cast<uint64_t>(in.immediate);
  Blend(warp, in.operand[0], mask, values, 8);
  return Step::kNext;
}

Operation Cvta(Form& form) {
  const bool to = form.Take("to");
  const Space space = form.TakeSpace();
  const Type type = form.TakeType();
  if (space == Space::kGeneric) return form.Malformed("cvta needs a space");
  if (type != Type::kU64) return form.Unsupported("cvta is for u64 here");
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  const uint64_t window = WindowOf(space);
  form.instruction().immediate = static_cast<int64_t>(to ? 0 - window : window);
  return &RunWindow;
}

Step RunIsspacep(Warp& warp, const Instruction& in, uint32_t mask) {
  uint32_t result = 0;
  for (uint32_t i = 0; i < 32; ++i) {
    Space space = SpaceOfGeneric(warp.U64(in.operand[1])[i]);
    const Space asked = static_cast<Space>(in.immediate);
    if (asked == Space::kShared && space == Space::kSharedCluster) {
      const uint64_t offset = warp.U64(in.operand[1])[i] - kSharedWindow;
      if (offset >> kSharedRankShift == 0) space = Space::kShared;
    }
    result |= static_cast<uint32_t>(space == asked) << i;
  }
  uint32_t& p = warp.Predicate(in.operand[0]);
  p = (p & ~mask) | (result & mask);
  return Step::kNext;
}

Operation Isspacep(Form& form) {
  const Space space = form.TakeSpace();
  if (space == Space::kGeneric) return form.Malformed("isspacep needs a space");
  form.Destination(0, 0, Type::kPred);
  form.Source(1, 1, Type::kU64);
  form.instruction().immediate = static_cast<int64_t>(space);
  return &RunIsspacep;
}

struct MapaData {
  bool wide, generic;
};

Step RunMapa(Warp& warp, const Instruction& in, uint32_t mask) {
  const MapaData& data = *static_cast<const MapaData*>(in.data);
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint32_t rank = warp.U32(in.operand[2])[i];
    uint64_t address = data.wide ? warp.U64(in.operand[1])[i] : warp.U32(in.operand[1])[i];
    address += static_cast<uint64_t>(in.immediate);
    const uint64_t window = data.generic ? kSharedWindow : 0;
    const uint64_t offset = (address - window) & (kMaxSharedBytes - 1);
    if (rank >= warp.cta->cluster_size) {
      return Raise(warp, i, Reason::kIllegalAddress, "mapa names a CTA that the cluster does not have");
    }
    const uint64_t mapped = window + (uint64_t{rank + 1} << kSharedRankShift) + offset;
    if (data.wide) {
      warp.U64(in.operand[0])[i] = mapped;
    } else {
      warp.U32(in.operand[0])[i] = static_cast<uint32_t>(mapped);
    }
  }
  return Step::kNext;
}

Operation Mapa(Form& form) {
  MapaData data = {};
  data.generic = !form.Take("shared::cluster");
  const Type type = form.TakeType();
  data.wide = WidthOf(type) == Width::k64;
  form.Destination(0, 0, type);
  form.Source(1, 1, type);
  form.Source(2, 2, Type::kU32);
  form.Data(data);
  return &RunMapa;
}

Step RunGetctarank(Warp& warp, const Instruction& in, uint32_t mask) {
  const bool wide = in.immediate != 0;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t i = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint64_t address = wide ? warp.U64(in.operand[1])[i] : warp.U32(in.operand[1])[i];
    const uint32_t rank = static_cast<uint32_t>(address) >> kSharedRankShift;
    warp.U32(in.operand[0])[i] = rank == 0 ? warp.cta->cluster_rank : rank - 1;
  }
  return Step::kNext;
}

Operation Getctarank(Form& form) {
  form.Take("shared::cluster");
  const Type type = form.TakeType();
  form.Destination(0, 0, Type::kU32);
  form.Source(1, 1, type);
  form.instruction().immediate = WidthOf(type) == Width::k64 ? 1 : 0;
  return &RunGetctarank;
}

// Polls count, so that a loop over ordered loads lets others run.
struct PolledLoad {
  MemoryForm form;  // first: the load reads it through Instruction::data
  Operation run = nullptr;
};

Step RunPolledLoad(Warp& warp, const Instruction& in, uint32_t mask) {
  ++warp.polls;
  return reinterpret_cast<const PolledLoad*>(in.data)->run(warp, in, mask);
}

// Everything but the data: ordering, scope, space, hints, vector and type. True: it may wait for other
// threads.
bool DecodeMemory(Form& form, MemoryForm* memory) {
  bool ordered = form.Take("volatile");
  ordered |= form.Take("relaxed");
  ordered |= form.Take("acquire");
  ordered |= form.Take("release");
  ordered |= form.Take("mmio");
  form.Take("weak");
  form.Take("cta");
  form.Take("cluster");
  form.Take("gpu");
  form.Take("sys");
  memory->space = form.TakeSpace();
  form.TakeCacheHints();
  form.Take("unified");
  memory->vector = form.Take("v8") ? 8 : form.Take("v4") ? 4 : form.Take("v2") ? 2 : 1;
  return ordered;
}

Operation Ld(Form& form) {
  MemoryForm memory;
  const bool ordered = DecodeMemory(form, &memory);
  const bool has_policy = form.Take("L2::cache_hint");
  const Type type = form.TakeType();
  if (form.operands() != (has_policy ? 3 : 2)) return form.Malformed("ld has a destination and an address");
  memory.bytes = BitsOf(type) / 8;
  memory.is_signed = IsSigned(type);
  if (memory.bytes == 0 || memory.bytes * memory.vector > 32) return form.Unsupported("this type");
  if (form.Elements(0) != static_cast<int>(memory.vector)) return form.Malformed("the vector does not fit");
  const AddressForm address = form.Address(0, 1);
  memory.address32 = address.width == Width::k32;
  Width width = WidthOf(type);
  for (uint32_t k = 0; k < memory.vector; ++k) {
    const ptx::Operand& to = form.Element(0, static_cast<int>(k));
    const Width w = form.WideDestination(static_cast<int>(7 + k), to, type);
    if (to.kind != ptx::OperandKind::kSink) width = w;
  }
  memory.width = width;
  if (memory.vector > 1) {
    // All of one width: what a lane is has to be one type.
    for (uint32_t k = 0; k < memory.vector; ++k) {
      const ptx::Operand& to = form.Element(0, static_cast<int>(k));
      if (to.kind == ptx::OperandKind::kSink ? width != WidthOf(type) : form.RegisterWidth(to) != width) {
        return form.Unsupported("a vector of registers of different widths");
      }
    }
  }
  if (address.is_parameter) {
    form.Data(memory);
    if (form.instruction().immediate < 0 ||
        static_cast<uint64_t>(form.instruction().immediate) + memory.bytes * memory.vector >
            form.ParameterBytes()) {
      return form.Malformed("it reads past the parameters");
    }
    if (form.instruction().immediate % static_cast<int64_t>(memory.bytes * memory.vector) != 0) {
      return form.Malformed("it reads a parameter at a place that is not aligned to what it reads");
    }
    return HostLaneOperations().load_parameter(memory);
  }
  if (memory.space == Space::kParam && address.variable_space == Space::kLocal) memory.space = Space::kLocal;
  if (memory.space == Space::kGeneric && address.variable_space != Space::kGeneric)
    memory.space = address.variable_space;
  const Operation run = HostLaneOperations().load(memory);
  if (run == nullptr) return form.Unsupported("this type and register");
  if (!ordered) {
    form.Data(memory);
    return run;
  }
  if (memory.space == Space::kGlobal || memory.space == Space::kGeneric ||
      memory.space == Space::kSharedCluster) {
    form.CrossCta();
  }
  form.Data(PolledLoad{memory, run});
  return &RunPolledLoad;
}

Operation St(Form& form) {
  MemoryForm memory;
  const bool ordered = DecodeMemory(form, &memory);
  const bool has_policy = form.Take("L2::cache_hint");
  const Type type = form.TakeType();
  if (form.operands() != (has_policy ? 3 : 2)) return form.Malformed("st has an address and a source");
  memory.bytes = BitsOf(type) / 8;
  if (memory.bytes == 0 || memory.bytes * memory.vector > 32) return form.Unsupported("this type");
  if (form.Elements(1) != static_cast<int>(memory.vector)) return form.Malformed("the vector does not fit");
  const AddressForm address = form.Address(0, 0);
  if (address.is_parameter) return form.Malformed("the parameters of an entry cannot be written");
  memory.address32 = address.width == Width::k32;
  for (uint32_t k = 0; k < memory.vector; ++k) {
    const Width w = form.WideSource(static_cast<int>(7 + k), form.Element(1, static_cast<int>(k)), type);
    if (k > 0 && w != memory.width) return form.Unsupported("a vector of registers of different widths");
    memory.width = w;
  }
  if (memory.space == Space::kParam) memory.space = Space::kLocal;
  if (memory.space == Space::kGeneric && address.variable_space != Space::kGeneric)
    memory.space = address.variable_space;
  if (memory.space == Space::kConst) return form.Malformed("constant memory cannot be written");
  if (ordered && memory.space != Space::kShared && memory.space != Space::kLocal) form.CrossCta();
  form.Data(memory);
  return HostLaneOperations().store(memory);
}

Operation Hint(Form& form) {
  // prefetch, prefetchu, applypriority, discard, createpolicy without use: nothing to do.
  while (!form.Peek().empty()) form.TakeNext();
  return &OpNothing;
}

Operation Createpolicy(Form& form) {
  while (!form.Peek().empty()) form.TakeNext();
  form.Destination(0, 0, Type::kB64);
  form.Constant(1, 0, Width::k64);
  return HostLaneOperations().integer(LaneOpcode::kMov, Type::kB64);
}

}  // namespace

void RegisterMovement(FamilyTable* table) {
  table->Add("mov", &Mov);
  table->Add("ld", &Ld);
  table->Add("ldu", &Ld);
  table->Add("st", &St);
  table->Add("cvta", &Cvta);
  table->Add("isspacep", &Isspacep);
  table->Add("mapa", &Mapa);
  table->Add("getctarank", &Getctarank);
  table->Add("prefetch", &Hint);
  table->Add("prefetchu", &Hint);
  table->Add("applypriority", &Hint);
  table->Add("discard", &Hint);
  table->Add("createpolicy", &Createpolicy);
}

}  // namespace trun::device
