#include "server/compile/compatibility.h"

#include <array>
#include <compare>
#include <cstring>
#include <vector>

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

FileTraits TraitsOf(Level level, absl::string_view ir) {
  FileTraits traits;
  const auto has = [ir](absl::string_view text) {
    // Two to ten times as fast as absl::StrContains where the first letter is a common one.
    return memmem(ir.data(), ir.size(), text.data(), text.size()) != nullptr;
  };
  if (level == Level::kTtgir) {
    traits.has_triton_gpu = has("#triton_gpu.") || has("triton_gpu.num-warps");
    traits.has_ttg = has("#ttg.") || has("ttg.num-warps");
  }
  if (level == Level::kTtir || level == Level::kTtgir) {
    // In TTGIR only operations count: attributes of a dialect that nobody knows are read by every version.
    traits.has_tlx = has(level == Level::kTtir ? "tlx." : "= tlx.");
    traits.has_dot = has("tt.dot");
    traits.has_block_pointers = has("tt.make_tensor_ptr");
    traits.has_descriptors = has("tt.descriptor_") || has("tt.make_tensor_descriptor");
  }
  if (level == Level::kPtx) traits.ptx_version = PtxVersionOf(ir);
  return traits;
}

std::string FileObstacle(const ToolchainInfo& info, const FileTraits& file, const Target& target) {
  const Minor version = ParseMinor(info.version);
  if (info.adopted || version == Minor()) return "";
  const bool is_old = version <= Minor{3, 2};
  if (file.has_triton_gpu && !is_old) return "its dialect is called triton_gpu, as until Triton 3.2";
  if (file.has_ttg && !file.has_triton_gpu && is_old)
    return "its dialect is called ttg, as from Triton 3.3 on";
  if (file.has_tlx) {
    return "it is of Meta's TLX: adopt an environment with that fork: trun-client toolchains adopt PATH";
  }
  if (file.has_dot && !IsAmd(target) && target.arch < 80 && version == Minor{3, 3})
    return absl::StrCat("a pass of Triton 3.3 fails on a dot for sm_", target.arch);
  if (file.has_descriptors && version < Minor{3, 4})
    return "it has tensor descriptors, as from Triton 3.4 on";
  if (file.has_block_pointers && version >= Minor{3, 9})
    return "it has block pointers, which Triton 3.8 was the last to know";
  if (file.ptx_version > 0 && !info.ptxas_versions.empty()) {
    const int second_from = version >= Minor{3, 9} ? 90 : 100;
    const std::string& ptxas =
        target.arch >= second_from ? info.ptxas_versions.back() : info.ptxas_versions.front();
    const int newest = NewestPtx(ptxas);
    if (newest > 0 && file.ptx_version > newest) {
      return absl::StrCat("it is PTX ", file.ptx_version / 10, ".", file.ptx_version % 10, ", and ptxas ",
                          ptxas, " knows PTX up to ", newest / 10, ".", newest % 10);
    }
  }
  return "";
}

std::string ReleaseFor(const FileTraits& file, const Target& target) {
  for (const Release& release : kReleases) {
    ToolchainInfo info;
    info.version = std::string(release.version);
    info.ptxas_versions = {std::string(release.ptxas), std::string(release.ptxas_blackwell)};
    if (TargetObstacle(info, target).empty() && FileObstacle(info, file, target).empty()) return info.version;
  }
  return "";
}

}  // namespace trun
