// ld and st on lanes (PTX ISA, "Data Movement and Conversion Instructions: ld, st").
//
// The common cases are fast: lanes side by side are one check and one copy; otherwise one check of the whole
// span and a loop. Only when the span is not inside one allocation is every lane looked at, to find which one
// is wrong.
#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/ops/lane_integer.h"
#include "server/device/emulator/ops/lanes.h"

namespace trun::device::TRUN_OPS {
namespace {

struct Element128 {
  uint64_t low, high;
};

template <typename T>
T ReadAs(const uint8_t* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

// The element as a lane of the register: extended by its type.
template <typename Reg, typename T>
Reg Extend(T value) {
  if constexpr (static_cast<T>(-1) < static_cast<T>(0)) {
    if constexpr (sizeof(Reg) == 8) return static_cast<Reg>(static_cast<int64_t>(value));
    return static_cast<Reg>(static_cast<int32_t>(value));
  } else {
    return static_cast<Reg>(value);
  }
}

template <typename Reg, typename T>
void LoadLane(Warp& warp, const uint32_t* list, uint32_t vector, uint32_t lane, const uint8_t* from) {
  for (uint32_t k = 0; k < vector; ++k) {
    if constexpr (sizeof(T) == 16) {
      const T value = ReadAs<T>(from + k * sizeof(T));
      warp.U64(list[k])[lane] = value.low;
      warp.U64(list[k])[32 + lane] = value.high;
    } else {
      reinterpret_cast<Reg*>(warp.registers + list[k])[lane] =
          Extend<Reg, T>(ReadAs<T>(from + k * sizeof(T)));
    }
  }
}

template <typename Reg, typename T>
void StoreLane(Warp& warp, const uint32_t* list, uint32_t vector, uint32_t lane, uint8_t* to) {
  for (uint32_t k = 0; k < vector; ++k) {
    if constexpr (sizeof(T) == 16) {
      const T value = {warp.U64(list[k])[lane], warp.U64(list[k])[32 + lane]};
      __builtin_memcpy(to + k * sizeof(T), &value, sizeof value);
    } else {
      const T value = static_cast<T>(reinterpret_cast<const Reg*>(warp.registers + list[k])[lane]);
      __builtin_memcpy(to + k * sizeof(T), &value, sizeof value);
    }
  }
}

// All 32 lanes side by side at `from`.
template <typename Reg, typename T, uint32_t kVector>
void LoadBlockOf(Warp& warp, const uint32_t* list, const uint8_t* from) {
  const T* values = reinterpret_cast<const T*>(from);
  for (uint32_t k = 0; k < kVector; ++k) {
    Reg* d = reinterpret_cast<Reg*>(warp.registers + list[k]);
    TRUN_LANE_LOOP
    for (uint32_t i = 0; i < 32; ++i) d[i] = Extend<Reg, T>(values[i * kVector + k]);
  }
}

template <typename Reg, typename T, uint32_t kVector>
void StoreBlockOf(Warp& warp, const uint32_t* list, uint8_t* to) {
  T* values = reinterpret_cast<T*>(to);
  for (uint32_t k = 0; k < kVector; ++k) {
    const Reg* s = reinterpret_cast<const Reg*>(warp.registers + list[k]);
    TRUN_LANE_LOOP
    for (uint32_t i = 0; i < 32; ++i) values[i * kVector + k] = static_cast<T>(s[i]);
  }
}

template <typename Reg, typename T>
void LoadBlock(Warp& warp, const uint32_t* list, uint32_t vector, const uint8_t* from) {
  if constexpr (sizeof(T) <= 8) {
    if (vector == 1) return LoadBlockOf<Reg, T, 1>(warp, list, from);
    if (vector == 2) return LoadBlockOf<Reg, T, 2>(warp, list, from);
    if (vector == 4) return LoadBlockOf<Reg, T, 4>(warp, list, from);
  }
  for (uint32_t i = 0; i < 32; ++i) LoadLane<Reg, T>(warp, list, vector, i, from + i * sizeof(T) * vector);
}

template <typename Reg, typename T>
void StoreBlock(Warp& warp, const uint32_t* list, uint32_t vector, uint8_t* to) {
  if constexpr (sizeof(T) <= 8) {
    if (vector == 1) return StoreBlockOf<Reg, T, 1>(warp, list, to);
    if (vector == 2) return StoreBlockOf<Reg, T, 2>(warp, list, to);
    if (vector == 4) return StoreBlockOf<Reg, T, 4>(warp, list, to);
  }
  for (uint32_t i = 0; i < 32; ++i) StoreLane<Reg, T>(warp, list, vector, i, to + i * sizeof(T) * vector);
}

struct Addresses {
  uint64_t lane[32];
};

template <bool kAddress32>
void ReadAddresses(Warp& warp, const Instruction& in, Addresses* out) {
  const uint64_t offset = static_cast<uint64_t>(in.immediate);
  if constexpr (kAddress32) {
    const uint32_t* base = warp.U32(in.operand[0]);
    TRUN_LANE_LOOP
    for (int i = 0; i < 32; ++i)
      out->lane[i] = static_cast<uint32_t>(base[i] + static_cast<uint32_t>(offset));
  } else {
    const uint64_t* base = warp.U64(in.operand[0]);
    TRUN_LANE_LOOP
    for (int i = 0; i < 32; ++i) out->lane[i] = base[i] + offset;
  }
}

inline bool Contiguous(const Addresses& a, uint64_t bytes) {
  uint64_t wrong = 0;
  TRUN_LANE_LOOP
  for (int i = 0; i < 32; ++i) wrong |= a.lane[i] - a.lane[0] - static_cast<uint64_t>(i) * bytes;
  return wrong == 0;
}

struct Span {
  uint64_t low, high, bits;  // of the lanes in the mask; `bits` is the or of all
};

// Addresses are compared as signed numbers, which vectorises; one with its top bit set is never valid, and
// makes the span one that no allocation holds.
inline Span SpanOf(const Addresses& a, uint32_t mask) {
  const int64_t first = static_cast<int64_t>(a.lane[__builtin_ctz(mask)]);
  int64_t low = first, high = first, bits = 0;
  if (mask == kFullMask) {
    TRUN_LANE_LOOP
    for (int i = 0; i < 32; ++i) {
      const int64_t address = static_cast<int64_t>(a.lane[i]);
      low = address < low ? address : low;
      high = address > high ? address : high;
      bits |= address;
    }
  } else {
    TRUN_LANE_LOOP
    for (int i = 0; i < 32; ++i) {
      const int64_t address = (mask >> i & 1) != 0 ? static_cast<int64_t>(a.lane[i]) : first;
      low = address < low ? address : low;
      high = address > high ? address : high;
      bits |= address;
    }
  }
  return {static_cast<uint64_t>(low), static_cast<uint64_t>(high), static_cast<uint64_t>(bits)};
}

// Lane by lane, through the checks that name what is wrong.
template <typename Reg, typename T, bool kStore>
Step LaneByLane(Warp& warp, const Instruction& in, uint32_t mask, const Addresses& a, Space space,
                uint32_t vector) {
  const uint32_t bytes = static_cast<uint32_t>(sizeof(T)) * vector;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(lanes));
    uint8_t* host = Resolve(warp, lane, space, a.lane[lane], bytes, bytes, kStore);
    if (host == nullptr) return Step::kFault;
    if constexpr (kStore) {
      StoreLane<Reg, T>(warp, in.list, vector, lane, host);
    } else {
      LoadLane<Reg, T>(warp, in.list, vector, lane, host);
    }
  }
  return Step::kNext;
}

// kVector 0: as the form says.
template <typename Reg, typename T, bool kStore, bool kShared, bool kAddress32, uint32_t kVector>
Step Access(Warp& warp, const Instruction& in, uint32_t mask) {
  const uint32_t vector = kVector != 0 ? kVector : static_cast<const MemoryForm*>(in.data)->vector;
  const uint32_t bytes = static_cast<uint32_t>(sizeof(T)) * vector;
  Addresses a;
  ReadAddresses<kAddress32>(warp, in, &a);
  uint8_t* host = nullptr;
  uint64_t low = a.lane[0];
  uint64_t high = a.lane[31];
  const bool block = mask == kFullMask && Contiguous(a, bytes);
  uint64_t bits = a.lane[0];
  if (!block) {
    const Span span = SpanOf(a, mask);
    low = span.low;
    high = span.high;
    bits = span.bits;
  }
  bool ok = (bits & (bytes - 1)) == 0;
  if constexpr (kShared) {
    ok = ok && low <= high && high < kMaxSharedBytes && high + bytes <= warp.cta->unwatched_shared_bytes;
    host = warp.cta->shared + (ok ? low : 0);
  } else {
    const AllocationRange* range = ok ? warp.worker->FindRange(in, low, high + bytes) : nullptr;
    ok = range != nullptr && !(kStore && range->read_only);
    if (ok) host = range->host + (low - range->begin);
  }
  if (!ok) {
    return LaneByLane<Reg, T, kStore>(warp, in, mask, a, kShared ? Space::kSharedCluster : Space::kGlobal,
                                      vector);
  }
  if (block) {
    if constexpr (kStore) {
      StoreBlock<Reg, T>(warp, in.list, vector, host);
    } else {
      LoadBlock<Reg, T>(warp, in.list, vector, host);
    }
    return Step::kNext;
  }
  if constexpr (kVector != 0 && sizeof(T) <= 8) {
    if (mask == kFullMask) {
      Reg* data[kVector];
      for (uint32_t k = 0; k < kVector; ++k) data[k] = reinterpret_cast<Reg*>(warp.registers + in.list[k]);
      for (int i = 0; i < 32; ++i) {
        uint8_t* at = host + (a.lane[i] - low);
        for (uint32_t k = 0; k < kVector; ++k) {
          if constexpr (kStore) {
            const T value = static_cast<T>(data[k][i]);
            __builtin_memcpy(at + k * sizeof(T), &value, sizeof value);
          } else {
            data[k][i] = Extend<Reg, T>(ReadAs<T>(at + k * sizeof(T)));
          }
        }
      }
      return Step::kNext;
    }
  }
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(lanes));
    if constexpr (kStore) {
      StoreLane<Reg, T>(warp, in.list, vector, lane, host + (a.lane[lane] - low));
    } else {
      LoadLane<Reg, T>(warp, in.list, vector, lane, host + (a.lane[lane] - low));
    }
  }
  return Step::kNext;
}

template <typename Reg, typename T, bool kStore, bool kAddress32>
Step AccessAnywhere(Warp& warp, const Instruction& in, uint32_t mask) {
  const MemoryForm& form = *static_cast<const MemoryForm*>(in.data);
  Addresses a;
  ReadAddresses<kAddress32>(warp, in, &a);
  return LaneByLane<Reg, T, kStore>(warp, in, mask, a, form.space, form.vector);
}

template <typename Reg, typename T, bool kStore, bool kShared, bool kAddress32>
Operation ByVector(const MemoryForm& form) {
  if (form.vector == 1) return &Access<Reg, T, kStore, kShared, kAddress32, 1>;
  if constexpr (sizeof(T) == 4 && sizeof(Reg) == 4) {
    if (form.vector == 2) return &Access<Reg, T, kStore, kShared, kAddress32, 2>;
    if (form.vector == 4) return &Access<Reg, T, kStore, kShared, kAddress32, 4>;
  }
  return &Access<Reg, T, kStore, kShared, kAddress32, 0>;
}

template <typename Reg, typename T, bool kStore>
Operation BySpace(const MemoryForm& form) {
  switch (form.space) {
    case Space::kGlobal:
    case Space::kConst:
      return form.address32 ? ByVector<Reg, T, kStore, false, true>(form)
                            : ByVector<Reg, T, kStore, false, false>(form);
    case Space::kShared:
    case Space::kSharedCluster:
      return form.address32 ? ByVector<Reg, T, kStore, true, true>(form)
                            : ByVector<Reg, T, kStore, true, false>(form);
    default:
      return form.address32 ? &AccessAnywhere<Reg, T, kStore, true> : &AccessAnywhere<Reg, T, kStore, false>;
  }
}

template <bool kStore>
Operation ByElement(const MemoryForm& form) {
  const bool wide = form.width == Width::k64;
  const bool extends = form.is_signed && !kStore;
  switch (form.bytes) {
    case 1:
      if (extends)
        return wide ? BySpace<uint64_t, int8_t, kStore>(form) : BySpace<uint32_t, int8_t, kStore>(form);
      return wide ? BySpace<uint64_t, uint8_t, kStore>(form) : BySpace<uint32_t, uint8_t, kStore>(form);
    case 2:
      if (extends)
        return wide ? BySpace<uint64_t, int16_t, kStore>(form) : BySpace<uint32_t, int16_t, kStore>(form);
      return wide ? BySpace<uint64_t, uint16_t, kStore>(form) : BySpace<uint32_t, uint16_t, kStore>(form);
    case 4:
      if (extends && wide) return BySpace<uint64_t, int32_t, kStore>(form);
      return wide ? BySpace<uint64_t, uint32_t, kStore>(form) : BySpace<uint32_t, uint32_t, kStore>(form);
    case 8:
      return wide ? BySpace<uint64_t, uint64_t, kStore>(form) : nullptr;
    case 16:
      return form.width == Width::k128 ? BySpace<uint64_t, Element128, kStore>(form) : nullptr;
    default:
      return nullptr;
  }
}

// From the parameter buffer: one value for all lanes.
template <typename Reg, typename T>
Step Parameter(Warp& warp, const Instruction& in, uint32_t mask) {
  const MemoryForm& form = *static_cast<const MemoryForm*>(in.data);
  const uint8_t* from = warp.worker->launch->parameters.data() + in.immediate;
  for (uint32_t k = 0; k < form.vector; ++k) {
    const Reg value = Extend<Reg, T>(ReadAs<T>(from + k * sizeof(T)));
    ForLanes(reinterpret_cast<Reg*>(warp.registers + in.list[k]), mask, [=](int) { return value; });
  }
  return Step::kNext;
}

template <typename T>
Operation ParameterOf(const MemoryForm& form) {
  return form.width == Width::k64 ? &Parameter<uint64_t, T> : &Parameter<uint32_t, T>;
}

}  // namespace

Operation SelectLoad(const MemoryForm& form) { return ByElement<false>(form); }
Operation SelectStore(const MemoryForm& form) { return ByElement<true>(form); }

Operation SelectLoadParameter(const MemoryForm& form) {
  switch (form.bytes) {
    case 1:
      return form.is_signed ? ParameterOf<int8_t>(form) : ParameterOf<uint8_t>(form);
    case 2:
      return form.is_signed ? ParameterOf<int16_t>(form) : ParameterOf<uint16_t>(form);
    case 4:
      return form.is_signed ? ParameterOf<int32_t>(form) : ParameterOf<uint32_t>(form);
    case 8:
      return form.width == Width::k64 ? ParameterOf<uint64_t>(form) : nullptr;
    default:
      return nullptr;
  }
}

}  // namespace trun::device::TRUN_OPS
