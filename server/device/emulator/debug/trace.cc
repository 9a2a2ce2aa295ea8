#include "server/device/emulator/debug/trace.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace trun::device {

std::string RegisterText(const Warp& warp, const RegisterInfo& info, uint32_t lane) {
  const uint8_t* at = warp.registers + info.offset;
  const auto word32 = [&] { return reinterpret_cast<const uint32_t*>(at)[lane]; };
  const auto word64 = [&](uint32_t i) { return reinterpret_cast<const uint64_t*>(at)[i]; };
  switch (info.width) {
    case Width::kPredicate: {
      const uint32_t bits = *reinterpret_cast<const uint32_t*>(at);
      return (bits >> lane & 1) != 0 ? "true" : "false";
    }
    case Width::k32:
      return absl::StrFormat("0x%08x (%d)", word32(), static_cast<int32_t>(word32()));
    case Width::k64:
      return absl::StrFormat("0x%016x (%d)", word64(lane), static_cast<int64_t>(word64(lane)));
    case Width::k128:
      return absl::StrFormat("0x%016x%016x", word64(32 + lane), word64(lane));
  }
  return "";
}

int Tracer::LaneOf(const Warp& warp) const {
  if (warp.cta->index != options_.program) return -1;
  const std::array<uint32_t, 3>& block = warp.worker->launch->dimensions.block;
  const uint32_t thread =
      options_.thread[0] + block[0] * (options_.thread[1] + block[1] * options_.thread[2]);
  return thread / 32 == warp.index ? static_cast<int>(thread % 32) : -1;
}

void Tracer::Append(const std::string& line) {
  if (full_) return;
  // Room for the line that says so.
  if (text_.size() + line.size() + 100 > kMaxTraceBytes) {
    full_ = true;
    absl::StrAppend(&text_, "... the trace ends here: it has reached its limit of ", kMaxTraceBytes,
                    " bytes\n");
    return;
  }
  absl::StrAppend(&text_, line, "\n");
}

bool Tracer::Before(const WatchedStep& step) {
  const int lane = LaneOf(step.warp);
  if (!options_.lines || lane < 0 || (step.active >> lane & 1) == 0) return true;
  const InstructionSite& site = step.site();
  if (site.source_line == 0 || (site.source_line == line_ && site.source_file == file_)) return true;
  line_ = site.source_line;
  file_ = site.source_file;
  const auto file = step.warp.program->files.find(file_);
  Append(absl::StrCat(file == step.warp.program->files.end() ? "" : file->second, ":", line_));
  return true;
}

bool Tracer::After(const WatchedStep& step) {
  const int lane = LaneOf(step.warp);
  if (!options_.registers || full_ || lane < 0 || (step.mask >> lane & 1) == 0 || step.result == Step::kWait)
    return true;
  std::string line;
  for (const OperandRef& ref : step.operands()) {
    const RegisterInfo& info = step.info(ref);
    if (!ref.is_definition || info.name.empty()) continue;
    absl::StrAppend(&line, line.empty() ? "" : ", ", info.name, " = ",
                    RegisterText(step.warp, info, static_cast<uint32_t>(lane)));
  }
  if (line.empty()) return true;
  Append(absl::StrFormat("  PTX %d  %-22s  %s", step.site().line, step.site().text, line));
  return true;
}

std::string Tracer::Take() { return std::move(text_); }

}  // namespace trun::device
