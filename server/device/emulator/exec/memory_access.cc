#include "server/device/emulator/exec/memory_access.h"

#include "server/device/emulator/exec/instrument.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {
namespace {

struct Place {
  uint8_t* host = nullptr;
  const char* space = "global";
  bool read_only = false;
  Space kind = Space::kGlobal;
  Cta* owner = nullptr;  // of shared memory
};

// Bounds only.
Place Find(Warp& warp, uint32_t lane, Space space, uint64_t address, uint64_t bytes) {
  if (space == Space::kGeneric) {
    space = SpaceOfGeneric(address);
    if (space != Space::kGlobal) address -= WindowOf(space);
  }
  Cta& cta = *warp.cta;
  switch (space) {
    case Space::kShared:
    case Space::kSharedCluster: {
      const uint64_t rank = address >> kSharedRankShift;
      Cta* owner = &cta;
      if (rank != 0)
        owner = rank - 1 < cta.cluster_size && cta.cluster != nullptr ? cta.cluster[rank - 1] : nullptr;
      const uint64_t offset = address & (kMaxSharedBytes - 1);
      if (owner == nullptr || offset + bytes > owner->shared_bytes || address >= kWindowBytes) {
        return {nullptr, "shared", false};
      }
      return {owner->shared + offset, "shared", false, Space::kShared, owner};
    }
    case Space::kLocal: {
      const LocalVariable* variable = cta.program->LocalAt(address);
      if (variable == nullptr || address > variable->end || bytes > variable->end - address) {
        return {nullptr, "local", false};
      }
      return {cta.local + size_t{ThreadOf(warp, lane)} * cta.local_stride + address, "local", false,
              Space::kLocal};
    }
    case Space::kParam: {
      std::vector<uint8_t>& parameters = warp.worker->launch->parameters;
      if (address > parameters.size() || bytes > parameters.size() - address) return {nullptr, "param", true};
      return {parameters.data() + address, "param", true, Space::kParam};
    }
    default: {
      const AllocationRange* range = warp.worker->memory->Find(address, address + bytes);
      if (range == nullptr) return {};
      return {range->host + (address - range->begin), "global", range->read_only};
    }
  }
}

}  // namespace

const uint8_t* ResolveGeneric(Warp& warp, uint32_t lane, uint64_t address, uint64_t bytes) {
  return Find(warp, lane, Space::kGeneric, address, bytes).host;
}

uint8_t* Resolve(Warp& warp, uint32_t lane, Space space, uint64_t address, uint32_t bytes, uint32_t align,
                 bool is_write) {
  const Place place = Find(warp, lane, space, address, bytes);
  const AccessFault access = {address, bytes, place.space, is_write};
  if (place.host == nullptr || (is_write && place.read_only)) {
    if (place.space[0] == 'g') {
      RaiseGlobal(warp, lane, address, bytes, is_write);
    } else {
      RaiseAccess(warp, lane, Reason::kIllegalAddress, access);
    }
    return nullptr;
  }
  if ((address & (align - 1)) != 0) {
    RaiseAccess(warp, lane, Reason::kMisalignedAddress, access);
    return nullptr;
  }
  if (Instrument* instrument = warp.worker->instrument; instrument != nullptr) [[unlikely]] {
    instrument->Note({lane, place.kind, place.owner, address, place.host, bytes, is_write});
  }
  return place.host;
}

Step RaiseGlobal(Warp& warp, uint32_t lane, uint64_t address, uint32_t bytes, bool is_write) {
  const AllocationSnapshot& memory = *warp.worker->memory;
  const AccessFault access = {address, bytes, "global", is_write};
  const AllocationRange* live = memory.Find(address, address + 1);
  const bool freed = live == nullptr && memory.Freed(address) != nullptr;
  return RaiseAccess(warp, lane, freed ? Reason::kUseAfterFree : Reason::kIllegalAddress, access);
}

}  // namespace trun::device
