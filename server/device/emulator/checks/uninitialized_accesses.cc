// UninitializedCheck: loads, stores, atomics and asynchronous copies.
#include <algorithm>
#include <cstring>
#include <vector>

#include "server/device/emulator/async/tensor_copy.h"
#include "server/device/emulator/async/tensor_map.h"
#include "server/device/emulator/checks/operand_lists.h"
#include "server/device/emulator/checks/uninitialized_check.h"
#include "server/device/emulator/numerics/wgmma.h"

namespace trun::device {
namespace {

constexpr const char* kCopied = "a bulk copy to global memory of bytes that are not initialised";
constexpr const char* kReduced = "an atomic operation on global memory that nothing has written";

// The map for copies of bytes that say what is undefined: what lies out of bounds is defined, and no element
// is rounded.
TensorMap ShadowOf(TensorMap map) {
  map.nan_fill = false;
  const uint32_t bytes = BytesOf(map.element);
  map.element = bytes == 1   ? TensorElement::kU8
                : bytes == 2 ? TensorElement::kU16
                : bytes == 4 ? TensorElement::kU32
                             : TensorElement::kU64;
  return map;
}

}  // namespace

void UninitializedCheck::Load(const WatchedStep& step, const NotedAccess& access, const Rule& rule) {
  RegisterDefinedness& registers = RegistersOf(step.warp);
  const uint8_t* undefined = Undefined(step, access);
  const std::vector<const OperandRef*> list = ListOf(step, true);
  if (list.empty() || !HasUndefined(undefined, access.bytes)) return;
  NoteUnwrittenRead(step, 1u << access.lane, access, undefined);
  const uint32_t origin = OriginOf(step, access, undefined);
  const uint32_t element = access.bytes / static_cast<uint32_t>(list.size());
  for (size_t k = 0; k < list.size(); ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    uint16_t bytes = 0;
    for (uint32_t i = 0; i < element; ++i) {
      if (undefined[k * element + i] != 0) bytes |= static_cast<uint16_t>(1 << i);
    }
    if (rule.sign_extends && (bytes >> (element - 1) & 1) != 0)
      bytes |= static_cast<uint16_t>(AllBytes(info.width) & ~((1 << element) - 1));
    registers.undefined[info.cell][access.lane] = bytes;
    registers.origin[info.cell][access.lane] = origin;
  }
}

bool UninitializedCheck::Store(const WatchedStep& step, const NotedAccess& access) {
  const RegisterDefinedness& registers = RegistersOf(step.warp);
  const std::vector<const OperandRef*> list = ListOf(step, false);
  if (list.empty()) return true;
  const uint32_t element = access.bytes / static_cast<uint32_t>(list.size());
  std::vector<uint8_t> bytes(access.bytes, 0);
  uint32_t origin = kNowhere;
  for (size_t k = 0; k < list.size(); ++k) {
    const RegisterInfo& info = step.info(*list[k]);
    if (info.cell == kNoCell) continue;
    const uint16_t undefined = registers.undefined[info.cell][access.lane] & AllBytes(info.width);
    if (access.space == Space::kGlobal && (undefined & ((1u << element) - 1)) != 0) {
      const AccessFault fault = {access.address, access.bytes, "global", true};
      return Report(step, access.lane, *list[k], registers.origin[info.cell][access.lane],
                    "a store to global memory of", &fault);
    }
    if (undefined != 0 && origin == kNowhere) origin = registers.origin[info.cell][access.lane];
    for (uint32_t i = 0; i < element; ++i) bytes[k * element + i] = undefined >> i & 1;
  }
  SetUndefined(step, access, bytes.data());
  SetOrigin(access, bytes.data(), origin);
  return true;
}

bool UninitializedCheck::Atomic(const WatchedStep& step, const NotedAccess& access) {
  RegisterDefinedness& registers = RegistersOf(step.warp);
  const uint8_t* undefined = Undefined(step, access);
  const bool memory = HasUndefined(undefined, access.bytes);
  const bool replaces = program_.sites[step.pc].text.find(".exch") != absl::string_view::npos;
  if (memory && !replaces && access.space == Space::kGlobal) {
    const AccessFault fault = {access.address, access.bytes, "global", true};
    RaiseWithOther(step.warp, access.lane, Reason::kUninitializedRead, kReduced, &fault, nullptr);
    return false;
  }
  bool value = false;
  for (const OperandRef* ref : ListOf(step, false)) {
    const RegisterInfo& info = step.info(*ref);
    if (info.cell == kNoCell || (registers.undefined[info.cell][access.lane] & AllBytes(info.width)) == 0)
      continue;
    if (access.space == Space::kGlobal) {
      const AccessFault fault = {access.address, access.bytes, "global", true};
      return Report(step, access.lane, *ref, registers.origin[info.cell][access.lane],
                    "an atomic operation on global memory with", &fault);
    }
    value = true;
  }
  for (const OperandRef* ref : ListOf(step, true)) {
    const RegisterInfo& info = step.info(*ref);
    if (!memory) continue;
    registers.undefined[info.cell][access.lane] = AllBytes(info.width);
    registers.origin[info.cell][access.lane] = step.pc;
  }
  const std::vector<uint8_t> after(access.bytes, value || (memory && !replaces) ? 1 : 0);
  SetUndefined(step, access, after.data());
  return true;
}

// What is undefined in the source is so in the target; with `reduces` what already was stays so.
bool UninitializedCheck::CopyBytes(const WatchedStep& step, const NotedAccess& source,
                                   const NotedAccess& target, bool reduces) {
  const uint32_t bytes = std::min(source.bytes, target.bytes);
  std::vector<uint8_t> after(target.bytes, 0);
  uint32_t origin = kNowhere;
  if (const uint8_t* from = Undefined(step, source); HasUndefined(from, bytes)) {
    std::memcpy(after.data(), from, bytes);
    NoteUnwrittenRead(step, kFullMask, source, from);
    origin = OriginOf(step, source, from);
  }
  if (target.space == Space::kGlobal) {
    const auto first = std::find(after.begin(), after.end(), 1);
    if (first != after.end()) {
      return ReportMemory(step, kCopied, source, static_cast<uint32_t>(first - after.begin()));
    }
  }
  if (reduces) {
    const uint8_t* old = Undefined(step, target);
    if (target.space == Space::kGlobal && HasUndefined(old, target.bytes)) {
      return ReportMemory(step, kReduced, target, 0);
    }
    for (uint32_t i = 0; old != nullptr && i < target.bytes; ++i) after[i] |= old[i];
  }
  SetUndefined(step, target, after.data());
  SetOrigin(target, after.data(), origin);
  return true;
}

// The accesses of each lane are in the order that BulkCopyForm tells.
bool UninitializedCheck::BulkCopy(const WatchedStep& step) {
  const auto& form = *static_cast<const BulkCopyForm*>(program_.original->code[step.pc].data);
  const NotedAccess* first = nullptr;  // of the lane: the map, or the source
  bool box_seen = false, usable = false;
  TensorMap map;
  for (const NotedAccess& access : step.accesses) {
    if (first == nullptr || access.lane != first->lane) {
      first = &access;
      box_seen = false;
      if (form.rank == 0) continue;
      const uint8_t* undefined = Undefined(step, access);
      if (HasUndefined(undefined, access.bytes)) {
        return ReportMemory(step, "a tensor copy whose tensor map is not initialised", access, 0);
      }
      map = TensorMap::Decode(access.host);
      // A store may have written over its own map: what is there now was not what the copy has checked.
      usable = map.Check().ok() && map.rank == form.rank && map.im2col == form.im2col &&
               (!form.rows || (map.rank == 2 && map.BoxElements(1) == 1));
      continue;
    }
    const bool is_mbarrier = access.space == Space::kShared && access.is_write && access.bytes == 8;
    if (is_mbarrier) {
      SetUndefined(step, access, nullptr);
    } else if (form.rank == 0) {
      if (!CopyBytes(step, *first, access, form.reduce != ReduceOp::kNone)) return false;
    } else if (usable && access.space == Space::kShared && BoxSpanOf(form, map) > access.bytes) {
      usable = false;
    } else if (!usable) {
      if (access.is_write) SetUndefined(step, access, nullptr);
    } else if (!form.to_global && access.space == Space::kShared && access.is_write) {
      LoadBox(step, form, map, access);
    } else if (form.to_global && !box_seen) {
      box_seen = true;
      if (!StoreBox(step, form, map, access)) return false;
    }
  }
  return true;
}

void UninitializedCheck::LoadBox(const WatchedStep& step, const BulkCopyForm& form, const TensorMap& map,
                                 const NotedAccess& box) {
  const TensorMap shadow = ShadowOf(map);
  const uint32_t element = BytesOf(map.element), row_bytes = map.BoxElements(0) * element;
  const TensorBox place = TensorBox::Of(form, step.warp, program_.original->code[step.pc], box.lane);
  uint8_t* const window = StateOf(*box.owner).shared.data();
  const auto at = static_cast<uint64_t>(box.host - box.owner->shared);
  std::vector<uint8_t> source, row(row_bytes);
  place.ForEachRow(form, map, [&](const TensorRow& r) {
    RowPlace from = {nullptr, r.first, r.last, r.shared_offset};
    if (r.last > r.first) {
      source.resize(uint64_t{(r.last - r.first - 1) * map.element_stride[0] + 1} * element);
      global_->Read(r.address, source.size(), source.data());
      from.global = source.data();
    }
    ReadGlobalRow(shadow, from, row.data(), row_bytes);
    WriteSharedRow(shadow, from, window, at, row.data(), row_bytes);
    if (!HasUndefined(row.data(), row_bytes)) return true;
    NotedAccess read;
    read.address = r.address;
    read.bytes = static_cast<uint32_t>(source.size());
    NoteUnwrittenRead(step, kFullMask, read, source.data());
    for (uint32_t b = 0; b < row_bytes; b += 16) {
      NotedAccess unit = box;
      unit.bytes = 16;
      unit.host = box.owner->shared +
                  numerics::SwizzleAddress(map.swizzle, static_cast<uint32_t>(at) + r.shared_offset + b);
      SetOrigin(unit, row.data() + b, step.pc);
    }
    return true;
  });
}

// Only what lies within the tensor is stored.
bool UninitializedCheck::StoreBox(const WatchedStep& step, const BulkCopyForm& form, const TensorMap& map,
                                  const NotedAccess& box) {
  const uint32_t element = BytesOf(map.element), row_bytes = map.BoxElements(0) * element;
  const TensorBox place = TensorBox::Of(form, step.warp, program_.original->code[step.pc], box.lane);
  const uint8_t* const window = StateOf(*box.owner).shared.data();
  const auto at = static_cast<uint64_t>(box.host - box.owner->shared);
  const uint32_t stride = map.element_stride[0] * element;
  std::vector<uint8_t> row(row_bytes), old(element);
  return place.ForEachRow(form, map, [&](const TensorRow& r) {
    ReadSharedRow(map, {nullptr, r.first, r.last, r.shared_offset}, window, at, row.data(), row_bytes);
    for (uint32_t i = r.first; i < r.last; ++i) {
      const auto begin = row.begin() + static_cast<std::ptrdiff_t>(i) * static_cast<std::ptrdiff_t>(element);
      const auto found = std::find(begin, begin + static_cast<std::ptrdiff_t>(element), 1);
      if (found != begin + static_cast<std::ptrdiff_t>(element)) {
        const auto byte = static_cast<uint32_t>(found - row.begin());
        NotedAccess source = box;
        source.address = numerics::SwizzleAddress(
                             map.swizzle, static_cast<uint32_t>(at) + r.shared_offset + byte / 16 * 16) +
                         byte % 16;
        source.bytes = element - byte % element;
        return ReportMemory(step, kCopied, source, 0);
      }
      NotedAccess target;
      target.lane = box.lane;
      target.address = r.address + uint64_t{i - r.first} * stride;
      target.bytes = element;
      if (form.reduce != ReduceOp::kNone && global_->Read(target.address, element, old.data())) {
        return ReportMemory(step, kReduced, target, 0);
      }
      if (stride != element) SetUndefined(step, target, nullptr);
    }
    if (stride == element && r.last > r.first) {
      global_->MarkWritten(r.address, uint64_t{r.last - r.first} * element);
    }
    return true;
  });
}

bool UninitializedCheck::AfterMemory(const WatchedStep& step, const Rule& rule) {
  switch (rule.kind) {
    case Kind::kMatrix:
      rule.stores ? StoreMatrix(step, rule) : LoadMatrix(step, rule);
      return true;
    case Kind::kTile:
      if (rule.stores) return StoreTile(step);
      LoadTile(step);
      return true;
    case Kind::kBulk:
      return BulkCopy(step);
    case Kind::kMapCopy:
      return step.accesses.size() != 2 || CopyBytes(step, step.accesses[0], step.accesses[1], false);
    default:
      break;
  }
  for (size_t i = 0; i < step.accesses.size(); ++i) {
    const NotedAccess& access = step.accesses[i];
    if (rule.kind == Kind::kLoad) {
      Load(step, access, rule);
    } else if (rule.kind == Kind::kStore) {
      if (!Store(step, access)) return false;
    } else if (rule.kind == Kind::kAtomic) {
      if (!Atomic(step, access)) return false;
    } else if (rule.kind == Kind::kCopy && access.is_write) {
      // The destination, then the source where anything is read; what is not read becomes zero.
      const bool read = i + 1 < step.accesses.size() && !step.accesses[i + 1].is_write;
      if (!read) {
        SetUndefined(step, access, nullptr);
      } else if (!CopyBytes(step, step.accesses[i + 1], access, false)) {
        return false;
      }
    } else if (access.is_write) {
      SetUndefined(step, access, nullptr);
    }
  }
  return true;
}

}  // namespace trun::device
