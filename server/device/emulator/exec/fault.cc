#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/exec/warp.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {
namespace {

// An access this far from an allocation is still said to have missed it.
constexpr uint64_t kNear = uint64_t{16} << 20;

// Fills in the fields that a report and its other half both have.
template <typename Report>
void SetSite(const Program& program, uint32_t pc, Report* report) {
  if (pc >= program.sites.size()) return;
  const InstructionSite& site = program.sites[pc];
  report->instruction = std::string(site.text);
  report->ptx_line = site.line;
  report->source_line = site.source_line;
  auto file = program.files.find(site.source_file);
  if (site.source_file != 0 && file != program.files.end()) report->source_file = file->second;
}

std::array<uint32_t, 3> ThreadIndex(const Warp& warp, uint32_t thread) {
  const std::array<uint32_t, 3>& block = warp.worker->launch->dimensions.block;
  return {thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]};
}

FaultReport ReportAt(const Warp& warp, uint32_t lane) {
  FaultReport report;
  SetSite(*warp.program, warp.pc, &report);
  report.program = warp.cta->index;
  report.thread = ThreadIndex(warp, ThreadOf(warp, lane));
  return report;
}

template <typename Report>
std::string Where(const Report& r) {
  std::string where = absl::StrCat(" at PTX line ", r.ptx_line, " (", r.instruction);
  if (r.source_line != 0) absl::StrAppend(&where, ", ", r.source_file, ":", r.source_line);
  absl::StrAppend(&where, ") in program (", r.program[0], ", ", r.program[1], ", ", r.program[2],
                  "), thread (", r.thread[0], ", ", r.thread[1], ", ", r.thread[2], ")");
  return where;
}

// Which variable an access to local memory has missed.
std::string OutsideLocal(const Cta& cta, const AccessFault& access) {
  const LocalVariable* variable = cta.program->LocalAt(access.address);
  if (variable == nullptr || access.address >= cta.local_bytes) {
    return absl::StrCat(" (a thread has ", cta.local_bytes, " bytes)");
  }
  return absl::StrCat(" (", variable->name, " of ", variable->end - variable->begin, " bytes ends at 0x",
                      absl::Hex(variable->end), ")");
}

Step Finish(Warp& warp, Reason reason, FaultReport report) {
  absl::StatusCode code = absl::StatusCode::kOutOfRange;
  if (reason == Reason::kDeviceAssert) code = absl::StatusCode::kAborted;
  if (reason == Reason::kCancelled) code = absl::StatusCode::kCancelled;
  if (reason == Reason::kBarrierDivergence || reason == Reason::kUseAfterFree || reason == Reason::kRace ||
      reason == Reason::kUninitializedRead) {
    code = absl::StatusCode::kFailedPrecondition;
  }
  if (reason == Reason::kMisalignedAddress) code = absl::StatusCode::kInvalidArgument;
  if (reason == Reason::kHungKernel) code = absl::StatusCode::kDeadlineExceeded;
  if (reason == Reason::kUnsupportedInstruction) code = absl::StatusCode::kUnimplemented;
  auto fault = std::make_unique<Fault>();
  fault->status = MakeError(code, reason, report.message,
                            {{"line", absl::StrCat(report.ptx_line)}, {"instruction", report.instruction}});
  fault->report = std::move(report);
  warp.worker->fault = std::move(fault);
  return Step::kFault;
}

}  // namespace

Step Raise(Warp& warp, uint32_t lane, Reason reason, absl::string_view message) {
  FaultReport report = ReportAt(warp, lane);
  report.message = absl::StrCat(message, Where(report));
  return Finish(warp, reason, std::move(report));
}

Step RaiseWithOther(Warp& warp, uint32_t lane, Reason reason, absl::string_view message,
                    const AccessFault* access, const OtherSite* other) {
  FaultReport report = ReportAt(warp, lane);
  report.message = absl::StrCat(message, Where(report));
  if (access != nullptr) {
    report.address = access->address;
    report.access_bytes = access->bytes;
    report.space = access->space;
    report.is_write = access->is_write;
    if (const AllocationRange* range = warp.worker->memory->Find(access->address, access->address + 1);
        report.space == "global" && range != nullptr) {
      report.nearest_allocation = range->id;
      report.nearest_allocation_offset = static_cast<int64_t>(access->address - range->begin);
      report.nearest_allocation_bytes = range->end - range->begin;
    }
  }
  if (other != nullptr) {
    OtherAccess& half = report.other;
    half.role = other->role;
    SetSite(*warp.program, other->pc, &half);
    half.program = other->program;
    half.thread = ThreadIndex(warp, other->thread);
    absl::StrAppend(&report.message, "; ", half.role, Where(half));
  }
  return Finish(warp, reason, std::move(report));
}

Step RaiseAccess(Warp& warp, uint32_t lane, Reason reason, const AccessFault& access) {
  FaultReport report = ReportAt(warp, lane);
  report.address = access.address;
  report.access_bytes = access.bytes;
  report.space = access.space;
  report.is_write = access.is_write;
  std::string what =
      absl::StrCat(access.is_write ? "a write of " : "a read of ", access.bytes, " bytes at 0x",
                   absl::Hex(access.address), " of ", access.space, " memory ");
  if (reason == Reason::kMisalignedAddress) {
    absl::StrAppend(&what, "is not aligned");
  } else if (access.space[0] == 'g') {
    const AllocationSnapshot& memory = *warp.worker->memory;
    const AllocationRange* range =
        reason == Reason::kUseAfterFree ? memory.Freed(access.address) : memory.Nearest(access.address);
    if (access.address < 4096) {
      absl::StrAppend(&what, "goes through a null pointer");
    } else if (range == nullptr) {
      absl::StrAppend(&what, "is outside every allocation");
    } else {
      const int64_t offset = static_cast<int64_t>(access.address - range->begin);
      const uint64_t bytes = range->end - range->begin;
      const uint64_t distance = offset < 0 ? static_cast<uint64_t>(-offset) : access.address - range->begin;
      if (distance < bytes + kNear) {
        report.nearest_allocation = range->id;
        report.nearest_allocation_offset = offset;
        report.nearest_allocation_bytes = bytes;
      }
      if (reason == Reason::kUseAfterFree) {
        absl::StrAppend(&what, "is ", offset, " bytes into allocation ", range->id, " of ", bytes,
                        " bytes, which has been freed");
      } else if (offset < 0) {
        absl::StrAppend(&what, "is ", -offset, " bytes before allocation ", range->id, " of ", bytes,
                        " bytes");
      } else if (static_cast<uint64_t>(offset) >= bytes) {
        absl::StrAppend(&what, "is ", static_cast<uint64_t>(offset) - bytes,
                        " bytes past the end of allocation ", range->id, " of ", bytes, " bytes");
      } else if (range->read_only && access.is_write &&
                 static_cast<uint64_t>(offset) + access.bytes <= bytes) {
        absl::StrAppend(&what, "is to constant memory");
      } else {
        absl::StrAppend(&what, "crosses the end of allocation ", range->id, " of ", bytes,
                        " bytes, at offset ", offset);
      }
    }
  } else {
    absl::StrAppend(&what, "is out of bounds");
    if (access.space[0] == 's') absl::StrAppend(&what, " (the block has ", warp.cta->shared_bytes, " bytes)");
    if (access.space[0] == 'l') absl::StrAppend(&what, OutsideLocal(*warp.cta, access));
  }
  report.message = what + Where(report);
  return Finish(warp, reason, std::move(report));
}

}  // namespace trun::device
