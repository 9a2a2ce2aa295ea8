#include "server/artifact/metadata.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/ir/launch_limits.h"
#include "server/artifact/file_facts.h"
#include "server/artifact/level_detection.h"
#include "server/artifact/metadata_json.h"
#include "server/artifact/signature.h"

namespace trun {
namespace {

constexpr int kMaxWarps = 32;  // 1,024 threads a block
constexpr int kMaxCtas = 16;   // the largest non-portable cluster
constexpr int64_t kMaxScratchBytes = int64_t{1} << 40;

// Opt-in shared memory of one block: CUDA Programming Guide, "Technical Specifications per Compute
// Capability".
uint32_t MaxSharedBytes(int arch) {
  switch (arch) {
    case 75:
      return 64 << 10;
    case 80:
    case 87:
      return 163 << 10;
    case 86:
    case 89:
    case 120:
    case 121:
      return 99 << 10;
    default:
      return 227 << 10;
  }
}

absl::Status Take(absl::StatusOr<std::optional<int64_t>> from, int& to) {
  if (!from.ok()) return from.status();
  if (from->has_value()) to = static_cast<int>(**from);
  return absl::OkStatus();
}

template <typename Unsigned>
absl::Status TakeUnsigned(absl::StatusOr<std::optional<int64_t>> from, Unsigned& to) {
  if (!from.ok()) return from.status();
  if (from->has_value()) to = static_cast<Unsigned>(**from);
  return absl::OkStatus();
}

absl::Status TakeAlignment(const MetadataJson& json, const char* key, uint32_t& to) {
  TRUN_RETURN_IF_ERROR(TakeUnsigned(json.Integer(key, 0, 1 << 20), to));
  if (to == 0) to = 1;
  if ((to & (to - 1)) != 0)
    return MetadataError(key, absl::StrCat("metadata key '", key, "' must be a power of two"));
  return absl::OkStatus();
}

absl::Status TakeTarget(const MetadataJson& json, Target& target) {
  if (!json.Has("target")) return absl::OkStatus();
  const nlohmann::json& given = json.object()["target"];
  const auto bad = [](absl::string_view what) {
    return MetadataError("target", absl::StrCat("metadata key 'target' ", what,
                                                "; it looks like {\"backend\": \"cuda\", \"arch\": 80, "
                                                "\"warp_size\": 32}"));
  };
  if (!given.is_object() || !given.contains("backend") || !given["backend"].is_string() ||
      !given.contains("arch")) {
    return bad("is not an object with a backend and an arch");
  }
  target.backend = given["backend"].get<std::string>();
  if (target.backend != "cuda") {
    return InvalidArgument(
        Reason::kUnsupportedTarget,
        absl::StrCat("the metadata is of backend '", absl::CHexEscape(target.backend.substr(0, 40)),
                     "'; kernels for cuda can be launched"),
        {{"key", "target"}});
  }
  const nlohmann::json& arch = given["arch"];
  if (!arch.is_number_integer() || arch < 10 || arch > 999) return bad("has no architecture such as 80");
  target.arch = arch.get<int>();
  if (given.contains("warp_size") && given["warp_size"] != 32) return bad("has a warp_size other than 32");
  return absl::OkStatus();
}

// cluster_dims (up to 3.5) counts only when num_ctas is not 1; from 3.6 on the cluster is num_ctas × 1 × 1.
absl::Status TakeCluster(const MetadataJson& json, KernelMetadata& metadata) {
  metadata.cluster[0] = metadata.num_ctas;
  if (!json.Has("cluster_dims")) return absl::OkStatus();
  const nlohmann::json& given = json.object()["cluster_dims"];
  int64_t product = 1;
  bool fits = given.is_array() && given.size() == 3;
  std::array<int, 3> cluster = {1, 1, 1};
  for (size_t i = 0; fits && i < 3; ++i) {
    fits = given[i].is_number_integer() && given[i] >= 1 && given[i] <= kMaxCtas;
    if (fits) cluster[i] = given[i].get<int>();
    product *= cluster[i];
  }
  if (!fits)
    return MetadataError("cluster_dims", "metadata key 'cluster_dims' must be three integers from 1 to 16");
  if (metadata.num_ctas == 1) return absl::OkStatus();
  if (product != metadata.num_ctas) {
    return MetadataError("cluster_dims",
                         absl::StrCat("metadata keys contradict each other: cluster_dims has ", product,
                                      " CTAs, num_ctas is ", metadata.num_ctas));
  }
  std::copy(cluster.begin(), cluster.end(), metadata.cluster);
  return absl::OkStatus();
}

// "sm90", "sm90a" against target.arch.
absl::Status CheckArchKey(const MetadataJson& json, const Target& target) {
  TRUN_ASSIGN_OR_RETURN(const std::optional<std::string> arch, json.String("arch"));
  if (!arch.has_value() || target.arch == 0) return absl::OkStatus();
  absl::string_view digits = *arch;
  absl::ConsumePrefix(&digits, "sm_");
  absl::ConsumePrefix(&digits, "sm");
  int number = 0;
  digits = digits.substr(0, digits.find_first_not_of("0123456789"));
  if (absl::SimpleAtoi(digits, &number) && number == target.arch) return absl::OkStatus();
  return MetadataError(
      "arch", absl::StrCat("metadata keys contradict each other: arch is '",
                           absl::CHexEscape(arch->substr(0, 40)), "', target.arch is ", target.arch));
}

absl::StatusOr<KernelMetadata> FromJson(const MetadataJson& json) {
  KernelMetadata metadata;
  TRUN_ASSIGN_OR_RETURN(const std::optional<std::string> name, json.String("name"));
  metadata.name = name.value_or("");
  TRUN_ASSIGN_OR_RETURN(const std::optional<std::string> version, json.String("triton_version"));
  metadata.triton_version = version.value_or("").substr(0, 64);
  TRUN_RETURN_IF_ERROR(Take(json.Integer("num_warps", 1, kMaxWarps), metadata.num_warps));
  TRUN_RETURN_IF_ERROR(Take(json.Integer("num_ctas", 1, kMaxCtas), metadata.num_ctas));
  TRUN_RETURN_IF_ERROR(Take(json.Integer("warp_size", 32, 32), metadata.warp_size));
  TRUN_RETURN_IF_ERROR(TakeUnsigned(json.Integer("shared", 0, INT32_MAX), metadata.shared_bytes));
  TRUN_RETURN_IF_ERROR(
      TakeUnsigned(json.Integer("global_scratch_size", 0, kMaxScratchBytes), metadata.global_scratch_bytes));
  TRUN_RETURN_IF_ERROR(TakeUnsigned(json.Integer("profile_scratch_size", 0, kMaxScratchBytes),
                                    metadata.profile_scratch_bytes));
  TRUN_RETURN_IF_ERROR(TakeAlignment(json, "global_scratch_align", metadata.global_scratch_align));
  TRUN_RETURN_IF_ERROR(TakeAlignment(json, "profile_scratch_align", metadata.profile_scratch_align));
  TRUN_RETURN_IF_ERROR(TakeUnsigned(json.Integer("tmem_size", 0, 512), metadata.tensor_memory_columns));
  TRUN_ASSIGN_OR_RETURN(const std::optional<bool> cooperative, json.Boolean("launch_cooperative_grid"));
  metadata.cooperative_grid = cooperative.value_or(false);
  TRUN_ASSIGN_OR_RETURN(const std::optional<bool> dependent, json.Boolean("launch_pdl"));
  metadata.programmatic_dependent_launch = dependent.value_or(false);
  TRUN_RETURN_IF_ERROR(TakeTarget(json, metadata.target));
  TRUN_RETURN_IF_ERROR(TakeCluster(json, metadata));
  TRUN_RETURN_IF_ERROR(CheckArchKey(json, metadata.target));
  metadata.raw_json = json.Canonical();
  return metadata;
}

std::string Shown(absl::string_view name) { return absl::CHexEscape(name.substr(0, 200)); }

// The file's entry under the name that the JSON or the caller gives.
absl::Status SettleName(const std::vector<std::string>& entries, absl::string_view kernel_name,
                        KernelMetadata& metadata) {
  if (!metadata.name.empty() && !kernel_name.empty() && metadata.name != kernel_name) {
    return MetadataError("name", absl::StrCat("the metadata is of kernel '", Shown(metadata.name),
                                              "', not of '", Shown(kernel_name), "'"));
  }
  if (metadata.name.empty()) return absl::OkStatus();
  if (std::find(entries.begin(), entries.end(), metadata.name) != entries.end()) return absl::OkStatus();
  std::vector<std::string> listed;
  for (size_t i = 0; i < entries.size() && i < 16; ++i) listed.push_back(Shown(entries[i]));
  return MetadataError("name",
                       absl::StrCat("the metadata is of kernel '", Shown(metadata.name),
                                    "', which is not in the file (", absl::StrJoin(listed, ", "), ")"));
}

absl::Status Contradiction(absl::string_view key, int64_t in_json, absl::string_view what, int64_t in_file) {
  return MetadataError(key, absl::StrCat("metadata and file contradict each other: ", key, " is ", in_json,
                                         ", but ", what, " ", in_file));
}

absl::Status SettleWarps(const FileFacts& file, bool in_json, KernelMetadata& metadata) {
  const std::array<uint32_t, 3>& block = file.required_block;
  if (block[0] != 0) {
    const uint64_t threads = uint64_t{block[0]} * block[1] * block[2];
    if (threads != block[0] || threads % 32 != 0 || threads > 32 * kMaxWarps) {
      return MetadataError("num_warps",
                           absl::StrCat("the kernel requires a block of ", absl::StrJoin(block, " × "),
                                        " threads; one of Triton's has 32·num_warps × 1 × 1"));
    }
    const int warps = static_cast<int>(threads / 32);
    if (in_json && metadata.num_warps != warps) {
      return Contradiction("num_warps", metadata.num_warps, "the file's .reqntid means", warps);
    }
    metadata.num_warps = warps;
  }
  if (file.max_block[0] != 0) {
    const uint64_t most = uint64_t{file.max_block[0]} * file.max_block[1] * file.max_block[2];
    if (!in_json && block[0] == 0 && most % 32 == 0 && most <= 32 * kMaxWarps) {
      metadata.num_warps = static_cast<int>(most / 32);
    }
    if (uint64_t{32} * static_cast<uint64_t>(metadata.num_warps) > most) {
      return Contradiction("num_warps", metadata.num_warps,
                           "the file's .maxntid allows threads:", static_cast<int64_t>(most));
    }
  }
  if (file.num_warps.has_value()) {
    // A warp-specialised kernel launches more warps than its default group has.
    const bool matches = metadata.num_warps == *file.num_warps ||
                         metadata.num_warps == file.total_num_warps || file.warp_specialized;
    if (in_json && !matches)
      return Contradiction("num_warps", metadata.num_warps, "the file has", *file.num_warps);
    if (!in_json) metadata.num_warps = file.total_num_warps.value_or(*file.num_warps);
    if (metadata.num_warps < 1 || metadata.num_warps > kMaxWarps) {
      return MetadataError("num_warps",
                           absl::StrCat("the file has ", metadata.num_warps, " warps; 1 to 32 can run"));
    }
  }
  return absl::OkStatus();
}

absl::Status SettleCluster(const FileFacts& file, const MetadataJson& json, KernelMetadata& metadata) {
  const bool in_json = json.Has("num_ctas");
  std::optional<int> ctas = file.num_ctas;
  const std::array<uint32_t, 3>& cluster = file.required_cluster;
  if (cluster[0] != 0) {
    const uint64_t product = uint64_t{cluster[0]} * cluster[1] * cluster[2];
    ctas = static_cast<int>(std::min<uint64_t>(product, INT32_MAX));
  }
  if (!ctas.has_value()) return absl::OkStatus();
  if (*ctas < 1 || *ctas > kMaxCtas) {
    return MetadataError("num_ctas",
                         absl::StrCat("the file has ", *ctas, " CTAs in a cluster; 1 to 16 can run"));
  }
  if (in_json && metadata.num_ctas != *ctas) {
    return Contradiction("num_ctas", metadata.num_ctas, "the file has", *ctas);
  }
  if (in_json) return absl::OkStatus();
  metadata.num_ctas = *ctas;
  metadata.cluster[0] = *ctas;
  for (size_t i = 0; i < 3 && cluster[0] != 0; ++i) metadata.cluster[i] = static_cast<int>(cluster[i]);
  return absl::OkStatus();
}

absl::Status SettleTarget(const FileFacts& file, bool in_json, KernelMetadata& metadata) {
  if (file.arch == 0) return absl::OkStatus();
  if (in_json && metadata.target.arch != file.arch) {
    return Contradiction("target", metadata.target.arch, "the architecture of the file is", file.arch);
  }
  metadata.target.arch = file.arch;
  return absl::OkStatus();
}

absl::Status SettleShared(const FileFacts& file, Level level, bool in_json, KernelMetadata& metadata) {
  if (file.shared_bytes.has_value()) {
    if (in_json && metadata.shared_bytes != *file.shared_bytes) {
      return Contradiction("shared", metadata.shared_bytes, "the file has", *file.shared_bytes);
    }
    metadata.shared_bytes = static_cast<uint32_t>(std::clamp<int64_t>(*file.shared_bytes, 0, INT32_MAX));
  }
  // Of TTGIR the number is what an earlier compile came to, and the next may have other options.
  if (level == Level::kTtgir) return absl::OkStatus();
  const uint32_t most = MaxSharedBytes(metadata.target.arch);
  if (metadata.shared_bytes > most) {
    return TooMuchSharedMemory(metadata.name, metadata.shared_bytes,
                               absl::StrCat("sm_", metadata.target.arch), most);
  }
  return absl::OkStatus();
}

// What a launch needs and neither JSON nor file said.
absl::Status CheckComplete(const FileFacts& file, Level level, const MetadataJson& json,
                           const KernelMetadata& metadata) {
  const auto missing = [&](absl::string_view key) {
    return MetadataError(key, absl::StrCat("the metadata of '", Shown(metadata.name), "' lacks the key '",
                                           key, "', and ", LevelName(level),
                                           " does not tell it: give the JSON that Triton "
                                           "wrote beside the file"));
  };
  if (level == Level::kTtir || level == Level::kTtgir) return absl::OkStatus();
  if (metadata.num_warps == 0) return missing("num_warps");
  const bool shared_known = json.Has("shared") || file.shared_bytes.has_value() || file.no_dynamic_shared;
  if (!shared_known) return missing("shared");
  if (level == Level::kLlir) return absl::OkStatus();
  if (metadata.target.arch == 0) return missing("target");
  const std::optional<int> hidden = HiddenParameters(metadata);
  if (hidden.has_value() && !json.Has("global_scratch_size") &&
      file.ReadsParameterFromEnd(static_cast<size_t>(*hidden))) {
    return missing("global_scratch_size");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KernelMetadata> ParseMetadata(absl::string_view json) {
  TRUN_ASSIGN_OR_RETURN(const MetadataJson parsed, MetadataJson::Parse(json));
  return FromJson(parsed);
}

absl::StatusOr<KernelMetadata> ReadMetadata(absl::string_view json, Level level, absl::string_view bytes,
                                            absl::string_view kernel_name) {
  TRUN_ASSIGN_OR_RETURN(const MetadataJson parsed, MetadataJson::Parse(json));
  TRUN_ASSIGN_OR_RETURN(KernelMetadata metadata, FromJson(parsed));
  TRUN_ASSIGN_OR_RETURN(const std::vector<std::string> entries, ReadEntryNames(level, bytes));
  TRUN_RETURN_IF_ERROR(SettleName(entries, kernel_name, metadata));
  TRUN_ASSIGN_OR_RETURN(const FileFacts file,
                        ReadFileFacts(level, bytes, metadata.name.empty() ? kernel_name : metadata.name));
  metadata.name = file.name;
  if (level == Level::kTtir) return metadata;  // nothing in it speaks of a launch
  TRUN_RETURN_IF_ERROR(SettleTarget(file, parsed.Has("target"), metadata));
  TRUN_RETURN_IF_ERROR(SettleWarps(file, parsed.Has("num_warps"), metadata));
  TRUN_RETURN_IF_ERROR(SettleCluster(file, parsed, metadata));
  TRUN_RETURN_IF_ERROR(SettleShared(file, level, parsed.Has("shared"), metadata));
  TRUN_RETURN_IF_ERROR(CheckComplete(file, level, parsed, metadata));
  return metadata;
}

absl::StatusOr<std::string> CanonicalMetadata(absl::string_view json) {
  TRUN_ASSIGN_OR_RETURN(const MetadataJson parsed, MetadataJson::Parse(json));
  return parsed.Canonical();
}

}  // namespace trun
