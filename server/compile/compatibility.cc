#include "server/compile/compatibility.h"

#include <array>
#include <compare>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/ir/amd_target.h"

namespace trun {
namespace {

struct Minor {
  int major = 0;
  int minor = 0;
  friend auto operator<=>(const Minor&, const Minor&) = default;
};

// {0, 0} for what is no version.
Minor ParseMinor(absl::string_view version) {
  const std::vector<absl::string_view> parts = absl::StrSplit(version, absl::MaxSplits('.', 2));
  Minor out;
  if (parts.size() < 2 || !absl::SimpleAtoi(parts[0], &out.major) ||
      !absl::SimpleAtoi(parts[1], &out.minor)) {
    return Minor();
  }
  return out;
}

// The releases and the two ptxas of each: the second is for sm_100 and later, in 3.9 for sm_90 too (get_ptxas
// of triton/backends/nvidia/compiler.py).
struct Release {
  absl::string_view version;
  absl::string_view ptxas;
  absl::string_view ptxas_blackwell;
};
constexpr std::array<Release, 10> kReleases = {{{"3.9.0", "12.9.86", "13.4.59"},
                                                {"3.8.0", "12.9.86", "13.3.33"},
                                                {"3.7.1", "12.8.93", "13.1.80"},
                                                {"3.6.0", "12.8.93", "12.9.86"},
                                                {"3.5.1", "12.8.93", "12.8.93"},
                                                {"3.4.0", "12.8.93", "12.8.93"},
                                                {"3.3.1", "12.4.99", "12.8.61"},
                                                {"3.2.0", "12.4.99", "12.4.99"},
                                                {"3.1.0", "12.4.99", "12.4.99"},
                                                {"3.0.0", "12.4.99", "12.4.99"}}};

// The newest PTX version of a CUDA release, ten times: 88 for "12.9.86". As in ptx_get_version of
// triton/backends/nvidia/compiler.py. 0 where unknown.
int NewestPtx(absl::string_view cuda) {
  const Minor version = ParseMinor(cuda);
  if (version.major == 12) return 80 + version.minor - (version.minor >= 6 ? 1 : 0);
  if (version.major == 13) return 90 + version.minor;
  return 0;
}

// Ten times the number after ".version" of a PTX file; 0 where there is none.
int PtxVersionOf(absl::string_view ir) {
  const size_t at = ir.substr(0, size_t{64} << 10).find(".version ");
  if (at == absl::string_view::npos) return 0;
  const Minor version = ParseMinor(absl::StrCat(ir.substr(at + 9, ir.find_first_of("\r\n", at) - at - 9)));
  return version.major * 10 + version.minor;
}

}  // namespace

std::string TargetObstacle(const ToolchainInfo& info, const Target& target) {
  const Minor version = ParseMinor(info.version);
  if (info.adopted || version == Minor()) return "";
  if (IsAmd(target)) {
    if (version < Minor{3, 5})
      return "AMD targets compile from Triton 3.5 on: versions before link with the machine's own ld.lld";
    return "";
  }
  if (target.arch >= 100 && version < Minor{3, 3}) {
    return absl::StrCat(
        "sm_", target.arch,
        " needs Triton 3.3 or newer: LLVM of 3.0 to 3.2 ends its process and their ptxas does "
        "not know it");
  }
  return "";
}

std::string FileObstacle(const ToolchainInfo& info, Level level, absl::string_view ir, const Target& target) {
  const Minor version = ParseMinor(info.version);
  if (info.adopted || version == Minor()) return "";
  if (level == Level::kTtgir) {
    const bool is_old = version <= Minor{3, 2};
    const bool has_old =
        absl::StrContains(ir, "#triton_gpu.") || absl::StrContains(ir, "triton_gpu.num-warps");
    const bool has_new = absl::StrContains(ir, "#ttg.") || absl::StrContains(ir, "ttg.num-warps");
    if (has_old && !is_old) return "its dialect is called triton_gpu, as until Triton 3.2";
    if (has_new && !has_old && is_old) return "its dialect is called ttg, as from Triton 3.3 on";
  }
  // In TTGIR only operations count: attributes of a dialect that nobody knows are read by every version.
  if ((level == Level::kTtir && absl::StrContains(ir, "tlx.")) ||
      (level == Level::kTtgir && absl::StrContains(ir, "= tlx."))) {
    return "it is of Meta's TLX: adopt an environment with that fork: trun-client toolchains adopt PATH";
  }
  if (level == Level::kTtir || level == Level::kTtgir) {
    if (!IsAmd(target) && target.arch < 80 && version == Minor{3, 3} && absl::StrContains(ir, "tt.dot")) {
      return absl::StrCat("a pass of Triton 3.3 fails on a dot for sm_", target.arch);
    }
    const bool describes =
        absl::StrContains(ir, "tt.descriptor_") || absl::StrContains(ir, "tt.make_tensor_descriptor");
    if (describes && version < Minor{3, 4}) return "it has tensor descriptors, as from Triton 3.4 on";
    if (absl::StrContains(ir, "tt.make_tensor_ptr") && version >= Minor{3, 9}) {
      return "it has block pointers, which Triton 3.8 was the last to know";
    }
  }
  if (level == Level::kPtx && !info.ptxas_versions.empty()) {
    const int second_from = version >= Minor{3, 9} ? 90 : 100;
    const std::string& ptxas =
        target.arch >= second_from ? info.ptxas_versions.back() : info.ptxas_versions.front();
    const int newest = NewestPtx(ptxas);
    const int needed = PtxVersionOf(ir);
    if (newest > 0 && needed > newest) {
      return absl::StrCat("it is PTX ", needed / 10, ".", needed % 10, ", and ptxas ", ptxas,
                          " knows PTX up to ", newest / 10, ".", newest % 10);
    }
  }
  return "";
}

std::string ReleaseFor(Level level, absl::string_view ir, const Target& target) {
  for (const Release& release : kReleases) {
    ToolchainInfo info;
    info.version = std::string(release.version);
    info.ptxas_versions = {std::string(release.ptxas), std::string(release.ptxas_blackwell)};
    if (TargetObstacle(info, target).empty() && FileObstacle(info, level, ir, target).empty())
      return info.version;
  }
  return "";
}

}  // namespace trun
