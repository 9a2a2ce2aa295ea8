#include "client/cli/diagnostic.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/exit_code.h"
#include "client/cli/file.h"
#include "client/cli/text.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

constexpr size_t kMaxShownColumns = 100;
constexpr uint64_t kMaxSourceBytes = 4 << 20;

struct Colors {
  absl::string_view bold, red, green, cyan, reset;
};
constexpr Colors kPlain = {"", "", "", "", ""};
constexpr Colors kColored = {"\x1b[1m", "\x1b[1;31m", "\x1b[1;32m", "\x1b[1;36m", "\x1b[0m"};

uint32_t NumberDetail(const ErrorDetails& details, const char* key) {
  uint32_t number = 0;
  const auto found = details.find(key);
  if (found == details.end() || !absl::SimpleAtoi(found->second, &number)) return 0;
  return number;
}

// Line `number` (from 1) of a text; empty where it has none.
std::string LineOf(absl::string_view text, uint32_t number) {
  for (uint32_t at = 1;; ++at) {
    const size_t end = text.find('\n');
    if (at == number) return std::string(text.substr(0, end));
    if (end == absl::string_view::npos) return "";
    text.remove_prefix(end + 1);
  }
}

// Where the code points of UTF-8 text begin, and where it ends.
std::vector<size_t> CodePoints(absl::string_view text) {
  std::vector<size_t> starts;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) starts.push_back(i);
  }
  starts.push_back(text.size());
  return starts;
}

// The line with its number and a caret under `column` (bytes, from 1; 0: none), long ones cut around it.
std::string Excerpt(absl::string_view text, uint32_t line, uint32_t column, const Colors& colors) {
  std::string row = LineOf(text, line);
  std::replace(row.begin(), row.end(), '\t', ' ');
  if (row.find_first_not_of(' ') == std::string::npos) return "";
  const std::vector<size_t> starts = CodePoints(row);
  const size_t length = starts.size() - 1;
  const size_t at = std::min<size_t>(std::max<size_t>(column, 1) - 1, row.size());
  const auto caret =
      static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), at) - starts.begin()) - 1;
  size_t first = 0;
  if (length > kMaxShownColumns && caret > kMaxShownColumns * 2 / 3) first = caret - kMaxShownColumns * 2 / 3;
  const size_t last = std::min(first + kMaxShownColumns, length);
  const auto shown = [&](size_t begin, size_t end) {
    return Printable(absl::string_view(row).substr(starts[begin], starts[end] - starts[begin]));
  };
  const absl::string_view before = first > 0 ? "..." : "";
  std::string out =
      absl::StrFormat("%5d | %s%s%s\n", line, before, shown(first, last), last < length ? "..." : "");
  if (column == 0) return out;
  const size_t width = before.size() + DisplayWidth(shown(first, caret));
  absl::StrAppend(&out, "      | ", std::string(width, ' '), colors.green, "^", colors.reset, "\n");
  return out;
}

std::string Coordinates(const std::vector<uint32_t>& at) {
  return absl::StrCat("(", absl::StrJoin(at, ", "), ")");
}

// "kernel.py:12 by program (1, 0, 0), thread (3, 0, 0), PTX line 40: ld.shared.b32".
std::string OtherNote(const OtherAccess& other) {
  std::string note = absl::StrCat(other.role, ": ");
  if (other.source_line > 0) absl::StrAppend(&note, other.source_file, ":", other.source_line, " ");
  absl::StrAppend(&note, "by program ", Coordinates(other.program), ", thread ", Coordinates(other.thread),
                  ", PTX line ", other.ptx_line, ": ", other.instruction);
  return note;
}

std::string NameOfTensor(const std::string& handle, const DiagnosticContext& context) {
  for (const TensorName& tensor : context.tensors) {
    if (tensor.handle == handle) return tensor.name;
  }
  return absl::StrCat("tensor ", handle);
}

// "4 bytes past its end", "12 bytes into it", "8 bytes before it".
std::string WhereInTensor(const FaultReport& fault) {
  const int64_t offset = fault.nearest_tensor_offset;
  const int64_t bytes = static_cast<int64_t>(fault.nearest_tensor_bytes);
  if (offset < 0) return absl::StrCat(-offset, " bytes before its start");
  if (offset >= bytes) {
    return offset == bytes ? "just past its end" : absl::StrCat(offset - bytes, " bytes past its end");
  }
  return absl::StrCat(offset, " bytes into it");
}

std::vector<std::string> FaultNotes(const FaultReport& fault, const DiagnosticContext& context) {
  std::vector<std::string> notes;
  std::string where;
  if (!fault.program.empty()) absl::StrAppend(&where, " by program ", Coordinates(fault.program));
  if (!fault.thread.empty())
    absl::StrAppend(&where, where.empty() ? " by" : ",", " thread ", Coordinates(fault.thread));
  if (fault.access_bytes > 0) {
    notes.push_back(absl::StrFormat(
        "%s of %d bytes at 0x%x%s%s", fault.is_write ? "write" : "read", fault.access_bytes, fault.address,
        fault.space.empty() ? "" : absl::StrCat(" of ", fault.space, " memory"), where));
  } else if (!where.empty()) {
    notes.push_back(absl::StrCat("stopped", where));
  }
  if (!fault.nearest_tensor.empty()) {
    notes.push_back(absl::StrCat("that is ", WhereInTensor(fault), ": ",
                                 NameOfTensor(fault.nearest_tensor, context), ", ",
                                 fault.nearest_tensor_bytes, " bytes"));
  }
  if (!fault.instruction.empty()) {
    notes.push_back(fault.ptx_line > 0 ? absl::StrCat("PTX line ", fault.ptx_line, ": ", fault.instruction)
                                       : absl::StrCat("PTX: ", fault.instruction));
  }
  if (!fault.other.role.empty()) notes.push_back(OtherNote(fault.other));
  notes.push_back(absl::StrCat("kernel ", fault.kernel_name, ", launch ", fault.sequence));
  return notes;
}

}  // namespace

std::string HelpFor(const absl::Status& status) {
  switch (GetReason(status)) {
    case Reason::kToolchainNotFound:
      return "'trun-client toolchains list' shows what there is, 'trun-client toolchains install VERSION' "
             "adds one";
    case Reason::kToolchainBroken:
      return "'trun-client doctor' checks the toolchains";
    case Reason::kUnknownOption:
      return "'trun-client toolchains options NAME' lists every option with its default";
    case Reason::kMetadata:
      return "give Triton's metadata of this kernel: --metadata kernel.json (it lies beside the file in "
             "Triton's cache)";
    case Reason::kUnsupportedLevel:
      return "name the file after its level (.ttir, .ttgir, .llir, .ptx), or give --level";
    case Reason::kUnsupportedTarget:
      return "--target sm_80 chooses another architecture, --toolchain another compiler";
    case Reason::kLaunchShape:
      if (GetDetails(status)["key"] == "shared") {
        return "-O num_stages=2, or smaller constants of the kernel, take less; the limit is the device's";
      }
      return "look at --grid: one to three numbers or expressions, each at least 1, as in --grid "
             "'cdiv(M,64),4'";
    case Reason::kHungKernel:
      return "--deadline 2min gives the launch more time; a loop that never ends, or a barrier not all "
             "threads reach, "
             "hangs";
    case Reason::kCompileTimeout:
      return "--compile-deadline 10min gives the compile more time";
    case Reason::kQuota:
    case Reason::kOutOfMemory:
      return "use smaller tensors, or --session-memory where the session's own limit was too low";
    case Reason::kTooLarge:
      return "";
    case Reason::kExecutorLost:
    case Reason::kWorkerLost:
      return "run it again: the process that ended has been replaced";
    case Reason::kDraining:
      return "the daemon is ending; run it again for a new one";
    case Reason::kCacheLocked:
      return "another daemon uses this cache folder: 'trun-client daemon status' shows it";
    case Reason::kUnavailable:
      return "'trun-client doctor' looks for the cause";
    case Reason::kProtocol:
      return "client and daemon may be of different versions: 'trun-client version' shows both";
    case Reason::kInternal:
      return "this is a bug in trun; please report it with the daemon's log ('trun-client daemon logs')";
    case Reason::kIllegalAddress:
    case Reason::kUseAfterFree:
      return "check the mask of that access, the shapes and strides given, and the grid";
    case Reason::kRace:
      return "a barrier, an atomic with the right order, a fence of the proxy, or a wait for the copy has to "
             "lie between the two";
    case Reason::kUninitializedRead:
      return "give the masked load another value (other=), or write the memory before it is read";
    default:
      return "";
  }
}

std::string RenderDiagnostic(const absl::Status& status, const DiagnosticContext& context, bool color) {
  const Colors& colors = color ? kColored : kPlain;
  const ErrorDetails details = GetDetails(status);
  const std::optional<FaultReport> fault = GetFaultReport(status);
  uint32_t line = NumberDetail(details, "line");
  uint32_t column = NumberDetail(details, "column");
  std::string file;
  std::string text;
  const auto named = details.find("file");  // of Python source, which may call what stands in other files
  const bool is_elsewhere = line > 0 && named != details.end() && !named->second.empty() &&
                            !(context.source && context.source->name == named->second);
  if ((fault && fault->source_line > 0) || is_elsewhere) {
    if (!is_elsewhere) {
      line = fault->source_line;
      column = 0;
    }
    file = is_elsewhere ? named->second : fault->source_file;
    // The kernel's own source, where it lies on this machine.
    absl::StatusOr<std::string> source = FileExists(file)
                                             ? ReadFile(file, kMaxSourceBytes)
                                             : absl::StatusOr<std::string>(absl::NotFoundError(""));
    if (source.ok()) text = *std::move(source);
  } else if (line > 0 && context.source) {
    file = context.source->name;
    text = context.source->text;
  } else {
    line = 0;
  }

  std::string place;
  if (line > 0) {
    place = absl::StrCat(colors.bold, Printable(file), ":", line, column > 0 ? absl::StrCat(":", column) : "",
                         ": ", colors.reset);
  }
  const std::string message = Printable(status.message());
  std::vector<std::string> lines = absl::StrSplit(message, '\n');
  if (line > 0) {
    // What the daemon says for those who do not see the file.
    const std::string known =
        absl::StrCat(Printable(file), ":", line, column > 0 ? absl::StrCat(":", column) : "", ": ");
    if (absl::StartsWith(lines[0], known)) lines[0].erase(0, known.size());
    if (!text.empty() && lines.size() > 2 && absl::StripAsciiWhitespace(lines[2]) == "^") {
      lines.erase(lines.begin() + 1, lines.begin() + 3);
    }
  }
  const Reason reason = GetReason(status);
  std::string out =
      absl::StrCat(place, colors.red, "error: ", colors.reset, colors.bold, lines[0], colors.reset,
                   reason == Reason::kUnspecified ? "" : absl::StrCat(" [", ReasonName(reason), "]"), "\n");
  if (line > 0) out += Excerpt(text, line, column, colors);
  for (size_t i = 1; i < lines.size(); ++i) {
    if (i + 1 < lines.size() || !lines[i].empty()) absl::StrAppend(&out, "  ", lines[i], "\n");
  }
  if (fault) {
    for (const std::string& note : FaultNotes(*fault, context)) {
      absl::StrAppend(&out, colors.cyan, "note: ", colors.reset, Printable(note), "\n");
    }
  }
  if (fault && !fault->trace_end.empty()) {
    absl::StrAppend(&out, colors.cyan, "note: ", colors.reset, "the trace ends with\n",
                    Printable(fault->trace_end));
  }
  const std::string help = HelpFor(status);
  if (!help.empty()) absl::StrAppend(&out, colors.green, "help: ", colors.reset, help, "\n");
  return out;
}

nlohmann::ordered_json FaultJson(const FaultReport& fault) {
  nlohmann::ordered_json json;
  json["sequence"] = fault.sequence;
  json["kernel"] = fault.kernel_name;
  json["instruction"] = fault.instruction;
  json["ptx_line"] = fault.ptx_line;
  json["source_file"] = fault.source_file;
  json["source_line"] = fault.source_line;
  json["program"] = fault.program;
  json["thread"] = fault.thread;
  json["address"] = fault.address;
  json["access_bytes"] = fault.access_bytes;
  json["space"] = fault.space;
  json["is_write"] = fault.is_write;
  json["nearest_tensor"] = fault.nearest_tensor;
  json["nearest_tensor_offset"] = fault.nearest_tensor_offset;
  json["nearest_tensor_bytes"] = fault.nearest_tensor_bytes;
  json["message"] = fault.message;
  if (!fault.other.role.empty()) {
    json["other"] = {{"role", fault.other.role},
                     {"instruction", fault.other.instruction},
                     {"ptx_line", fault.other.ptx_line},
                     {"source_file", fault.other.source_file},
                     {"source_line", fault.other.source_line},
                     {"program", fault.other.program},
                     {"thread", fault.other.thread}};
  }
  if (!fault.trace_end.empty()) json["trace_end"] = fault.trace_end;
  return json;
}

nlohmann::ordered_json DiagnosticJson(const absl::Status& status, const DiagnosticContext& context) {
  nlohmann::ordered_json error;
  error["code"] = absl::StatusCodeToString(status.code());
  error["reason"] = std::string(ReasonName(GetReason(status)));
  error["message"] = std::string(status.message());
  error["exit_code"] = static_cast<int>(ExitCodeFor(status));
  const ErrorDetails details = GetDetails(status);
  if (!details.empty()) error["details"] = details;
  if (const uint32_t line = NumberDetail(details, "line"); line > 0 && context.source) {
    error["location"] = {
        {"file", context.source->name}, {"line", line}, {"column", NumberDetail(details, "column")}};
  }
  if (const std::optional<FaultReport> fault = GetFaultReport(status)) {
    error["fault"] = FaultJson(*fault);
    if (!fault->nearest_tensor.empty())
      error["fault"]["nearest_argument"] = NameOfTensor(fault->nearest_tensor, context);
  }
  if (const std::string help = HelpFor(status); !help.empty()) error["help"] = help;
  return {{"error", error}};
}

}  // namespace trun::cli
