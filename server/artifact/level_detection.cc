#include "server/artifact/level_detection.h"

#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "server/artifact/cubin_facts.h"

namespace trun {
namespace {

std::string Named(absl::string_view file_name) {
  return file_name.empty() ? std::string("the file") : absl::StrCat("'", file_name, "'");
}

Level LevelOfExtension(absl::string_view file_name) {
  const size_t dot = file_name.rfind('.');
  if (dot == absl::string_view::npos) return Level::kUnspecified;
  const std::string extension = absl::AsciiStrToLower(file_name.substr(dot + 1));
  if (extension == "py") return Level::kPython;
  if (extension == "ll") return Level::kLlir;
  const absl::StatusOr<Level> level = LevelFromName(extension);
  return level.ok() ? *level : Level::kUnspecified;
}

// Which levels the lines of a text speak for.
struct Evidence {
  bool mlir = false, gpu_dialect = false, llvm = false, ptx = false, amdgcn = false, python = false,
       gluon = false;
};

bool StartsWithAny(absl::string_view line, std::initializer_list<absl::string_view> prefixes) {
  for (const absl::string_view prefix : prefixes) {
    if (absl::StartsWith(line, prefix)) return true;
  }
  return false;
}

Evidence Weigh(absl::string_view text) {
  Evidence evidence;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const absl::string_view line = absl::StripLeadingAsciiWhitespace(text.substr(0, end));
    text.remove_prefix(end == absl::string_view::npos ? text.size() : end + 1);
    if (line.empty()) continue;
    switch (line[0]) {
      case '.':
        if (StartsWithAny(line, {".version ", ".visible .entry ", ".entry "})) evidence.ptx = true;
        if (StartsWithAny(line, {".amdgcn_target", ".amdhsa_kernel"})) evidence.amdgcn = true;
        break;
      case 't':
        if (StartsWithAny(line, {"tt.func "})) evidence.mlir = true;
        if (StartsWithAny(line, {"target datalayout", "target triple"})) evidence.llvm = true;
        break;
      case 'm':
        if (StartsWithAny(line, {"module {", "module attributes ", "module @"})) {
          evidence.mlir = true;
          if (absl::StrContains(line, "ttg.") || absl::StrContains(line, "triton_gpu."))
            evidence.gpu_dialect = true;
        }
        break;
      case '#':
        if (absl::StrContains(line, "#ttg.") || absl::StrContains(line, "#triton_gpu."))
          evidence.gpu_dialect = true;
        break;
      case ';':
        if (StartsWithAny(line, {"; ModuleID"})) evidence.llvm = true;
        break;
      case 'd':
        if (StartsWithAny(line, {"define "})) evidence.llvm = true;
        if (StartsWithAny(line, {"def "}) && absl::StrContains(line, "(")) evidence.python = true;
        break;
      case 'i':
      case 'f':
        if (StartsWithAny(line, {"import ", "from "})) evidence.python = true;
        if (absl::StrContains(line, "triton.experimental.gluon")) evidence.gluon = true;
        break;
      case '@':
        if (StartsWithAny(line, {"@triton.", "@tl."})) evidence.python = true;
        if (StartsWithAny(line, {"@gluon."})) evidence.gluon = true;
        break;
      default:
        break;
    }
    if (absl::StartsWith(line, "ttg.") || absl::StrContains(line, " ttg.") ||
        absl::StrContains(line, "triton_gpu.")) {
      evidence.gpu_dialect = true;
    }
  }
  return evidence;
}

}  // namespace

absl::Status CheckArtifactSize(size_t bytes, absl::string_view file_name) {
  if (bytes == 0) return InvalidArgument(Reason::kInvalidIr, absl::StrCat(Named(file_name), " is empty"));
  if (bytes > kMaxArtifactBytes) {
    return ResourceExhausted(
        Reason::kTooLarge,
        absl::StrCat(Named(file_name), " has ", bytes, " bytes; the limit for a kernel file is ",
                     kMaxArtifactBytes, " bytes (64 MiB)"),
        {{"limit", absl::StrCat(kMaxArtifactBytes)}});
  }
  return absl::OkStatus();
}

absl::StatusOr<Level> DetectLevel(absl::string_view bytes, absl::string_view file_name) {
  TRUN_RETURN_IF_ERROR(CheckArtifactSize(bytes.size(), file_name));
  if (IsCubin(bytes)) return Level::kCubin;
  if (IsHsaco(bytes)) return Level::kHsaco;
  const auto fits_none = [&](absl::string_view why) {
    return InvalidArgument(
        Reason::kUnsupportedLevel,
        absl::StrCat(Named(file_name), " is no kernel of any level: ", why,
                     "; trun takes Triton's Python, Gluon, TTIR, TTGIR, LLIR, PTX and cubin"));
  };
  if (absl::StartsWith(bytes, "\177ELF")) return fits_none("an ELF file, but for neither CUDA nor AMD GPUs");
  if (absl::StartsWith(bytes, "\x50\xed\x55\xba")) {
    return fits_none("a CUDA fat binary (extract its cubin with cuobjdump -xelf all)");
  }
  if (absl::StrContains(bytes, '\0')) return fits_none("it is binary");

  const Evidence evidence = Weigh(bytes);
  std::vector<Level> candidates;
  if (evidence.mlir) candidates.push_back(evidence.gpu_dialect ? Level::kTtgir : Level::kTtir);
  if (evidence.llvm) candidates.push_back(Level::kLlir);
  if (evidence.ptx) candidates.push_back(Level::kPtx);
  if (evidence.amdgcn) candidates.push_back(Level::kAmdgcn);
  if (evidence.gluon) {
    candidates.push_back(Level::kGluon);
  } else if (evidence.python) {
    candidates.push_back(Level::kPython);
  }
  if (candidates.size() == 1) return candidates[0];
  const Level extension = LevelOfExtension(file_name);
  if (extension == Level::kUnspecified || extension == Level::kCubin || extension == Level::kHsaco) {
    if (candidates.empty()) return fits_none("nothing in it says what it is");
    return fits_none(absl::StrCat(
        "it could be ",
        absl::StrJoin(candidates, " or ",
                      [](std::string* out, Level level) { absl::StrAppend(out, LevelName(level)); }),
        "; say which"));
  }
  if (extension == Level::kPython && evidence.gluon) return Level::kGluon;
  return extension;
}

absl::Status CheckLevel(Level level, absl::string_view bytes, absl::string_view file_name) {
  TRUN_RETURN_IF_ERROR(CheckArtifactSize(bytes.size(), file_name));
  const bool binary = level == Level::kCubin || level == Level::kHsaco;
  if ((level == Level::kCubin && !IsCubin(bytes)) || (level == Level::kHsaco && !IsHsaco(bytes))) {
    return InvalidArgument(Reason::kInvalidIr,
                           absl::StrCat(Named(file_name), " is not a ", LevelName(level),
                                        ": it does not begin as an ELF file for that machine"));
  }
  if (binary) return absl::OkStatus();
  const size_t nul = bytes.find('\0');
  if (nul != absl::string_view::npos) {
    return InvalidArgument(Reason::kInvalidIr, absl::StrCat(Named(file_name), " is not ", LevelName(level),
                                                            " text: byte ", nul, " is zero"));
  }
  return absl::OkStatus();
}

}  // namespace trun
