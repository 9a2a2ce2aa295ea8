#include "server/device/emulator/exec/control.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/device/emulator/exec/device_printf.h"
#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/memory/address_space.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {
namespace {

constexpr size_t kMaxString = 4096;

// The string at a generic address, up to its end or the end of its allocation; nullopt-like false where none
// is.
bool ReadString(Warp& warp, uint32_t lane, uint64_t address, std::string* out) {
  out->clear();
  while (out->size() < kMaxString) {
    const uint8_t* byte = ResolveGeneric(warp, lane, address + out->size(), 1);
    if (byte == nullptr) return !out->empty();
    if (*byte == 0) return true;
    out->push_back(static_cast<char>(*byte));
  }
  return true;
}

uint64_t LocalWord(Warp& warp, uint32_t lane, uint32_t offset, size_t bytes) {
  uint64_t value = 0;
  memcpy(&value, warp.cta->local + size_t{ThreadOf(warp, lane)} * warp.cta->local_stride + offset, bytes);
  return value;
}

}  // namespace

Step OpBranch(Warp& warp, const Instruction& in, uint32_t mask) {
  return Branch(warp, mask, static_cast<uint32_t>(in.immediate));
}

Step OpBranchIndexed(Warp& warp, const Instruction& in, uint32_t mask) {
  const std::vector<uint32_t>& targets = static_cast<const BranchTable*>(in.data)->targets;
  const uint32_t* index = warp.U32(in.operand[0]);
  const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(mask));
  if (index[lane] >= targets.size()) {
    return Raise(warp, lane, Reason::kIllegalAddress,
                 absl::StrCat("brx.idx with index ", index[lane], " of ", targets.size(), " targets"));
  }
  uint32_t same = 0;
  for (uint32_t l = lane; l < 32; ++l) {
    if ((mask >> l & 1) != 0 && index[l] == index[lane]) same |= 1u << l;
  }
  if (mask == same) return Branch(warp, same, targets[index[lane]]);
  // The other lanes come back to this instruction.
  warp.groups[warp.group_count++] = {warp.active & ~same, warp.pc, false, false};
  warp.switch_pc = std::min(warp.switch_pc, warp.pc);
  warp.active = same;
  warp.pc = targets[index[lane]];
  return Step::kJump;
}

Step OpExit(Warp& warp, const Instruction&, uint32_t mask) {
  if (warp.bulk_copies != nullptr) warp.bulk_copies->LanesExit(mask);
  warp.live &= ~mask;
  warp.active &= ~mask;
  return Step::kExit;
}

Step OpTrap(Warp& warp, const Instruction&, uint32_t mask) {
  return Raise(warp, static_cast<uint32_t>(__builtin_ctz(mask)), Reason::kDeviceAssert,
               "the kernel executed trap");
}

Step OpNothing(Warp&, const Instruction&, uint32_t) { return Step::kNext; }

Step OpPrintf(Warp& warp, const Instruction& in, uint32_t mask) {
  const CallArguments& call = *static_cast<const CallArguments*>(in.data);
  std::string format;
  std::string& printed = warp.cta->printed;
  for (uint32_t lanes = mask; lanes != 0; lanes &= lanes - 1) {
    const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(lanes));
    const uint64_t arguments = LocalWord(warp, lane, call.arguments[1], 8);
    if (!ReadString(warp, lane, LocalWord(warp, lane, call.arguments[0], 8), &format)) {
      return Raise(warp, lane, Reason::kIllegalAddress,
                   "vprintf was called with a format that cannot be read");
    }
    const auto argument = [&](uint64_t offset, size_t bytes, uint64_t* value) {
      *value = 0;
      const uint8_t* at = ResolveGeneric(warp, lane, arguments + offset, bytes);
      if (at == nullptr) return false;
      memcpy(value, at, bytes);
      return true;
    };
    const auto string = [&](uint64_t address, std::string* text) {
      return ReadString(warp, lane, address, text);
    };
    if (printed.size() < kMaxPrinted) AppendFormatted(format, argument, string, &printed);
    for (uint32_t result : call.results) {
      const int32_t ok = 1;
      memcpy(warp.cta->local + size_t{ThreadOf(warp, lane)} * warp.cta->local_stride + result, &ok,
             sizeof ok);
    }
  }
  return Step::kNext;
}

Step OpAssertFail(Warp& warp, const Instruction& in, uint32_t mask) {
  const CallArguments& call = *static_cast<const CallArguments*>(in.data);
  const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(mask));
  std::string message, file, function;
  ReadString(warp, lane, LocalWord(warp, lane, call.arguments[0], 8), &message);
  ReadString(warp, lane, LocalWord(warp, lane, call.arguments[1], 8), &file);
  ReadString(warp, lane, LocalWord(warp, lane, call.arguments[3], 8), &function);
  const uint64_t line = LocalWord(warp, lane, call.arguments[2], 4);
  return Raise(warp, lane, Reason::kDeviceAssert,
               absl::StrCat(file, ":", line, ": ", function, ": assertion failed: ", message));
}

}  // namespace trun::device
