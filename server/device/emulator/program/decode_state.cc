#include "server/device/emulator/program/decode_state.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun::device {
namespace {

struct SpecialName {
  const char* name;
  SpecialRegister which;
};

using S = SpecialRegister;

constexpr SpecialName kSpecialNames[] = {
    {"%tid.x", S::kTidX},
    {"%tid.y", S::kTidY},
    {"%tid.z", S::kTidZ},
    {"%ntid.x", S::kNtidX},
    {"%ntid.y", S::kNtidY},
    {"%ntid.z", S::kNtidZ},
    {"%ctaid.x", S::kCtaidX},
    {"%ctaid.y", S::kCtaidY},
    {"%ctaid.z", S::kCtaidZ},
    {"%nctaid.x", S::kNctaidX},
    {"%nctaid.y", S::kNctaidY},
    {"%nctaid.z", S::kNctaidZ},
    {"%laneid", S::kLaneid},
    {"%warpid", S::kWarpid},
    {"%nwarpid", S::kNwarpid},
    {"%smid", S::kSmid},
    {"%nsmid", S::kNsmid},
    {"%gridid", S::kGridid},
    {"%lanemask_eq", S::kLanemaskEq},
    {"%lanemask_le", S::kLanemaskLe},
    {"%lanemask_lt", S::kLanemaskLt},
    {"%lanemask_ge", S::kLanemaskGe},
    {"%lanemask_gt", S::kLanemaskGt},
    {"%clusterid.x", S::kClusteridX},
    {"%clusterid.y", S::kClusteridY},
    {"%clusterid.z", S::kClusteridZ},
    {"%nclusterid.x", S::kNclusteridX},
    {"%nclusterid.y", S::kNclusteridY},
    {"%nclusterid.z", S::kNclusteridZ},
    {"%cluster_ctaid.x", S::kClusterCtaidX},
    {"%cluster_ctaid.y", S::kClusterCtaidY},
    {"%cluster_ctaid.z", S::kClusterCtaidZ},
    {"%cluster_nctaid.x", S::kClusterNctaidX},
    {"%cluster_nctaid.y", S::kClusterNctaidY},
    {"%cluster_nctaid.z", S::kClusterNctaidZ},
    {"%cluster_ctarank", S::kClusterCtarank},
    {"%cluster_nctarank", S::kClusterNctarank},
    {"%is_explicit_cluster", S::kIsExplicitCluster},
    {"%dynamic_smem_size", S::kDynamicSmemSize},
    {"%total_smem_size", S::kTotalSmemSize},
    {"%aggr_smem_size", S::kAggrSmemSize},
};

}  // namespace

std::optional<Width> RegisterWidthOf(absl::string_view type) {
  const Type t = TypeFromName(type);
  if (t == Type::kPred) return Width::kPredicate;
  if (!IsUntyped(t) && t != Type::kF16 && t != Type::kF32 && t != Type::kF64 && t != Type::kF16x2 &&
      (t < Type::kU8 || t > Type::kS64)) {
    return std::nullopt;
  }
  return WidthOf(t);
}

Width WidthOf(Type type) {
  if (type == Type::kPred) return Width::kPredicate;
  const uint32_t bits = BitsOf(type);
  return bits <= 32 ? Width::k32 : bits == 64 ? Width::k64 : Width::k128;
}

uint32_t DecodeState::NewRegister(Width width, absl::string_view name) {
  if (allocation.values.size() >= kMaxValues && error.ok()) {
    error = ResourceExhausted(Reason::kTooLarge,
                              absl::StrCat("the kernel has more than ", kMaxValues, " registers"),
                              {{"limit", absl::StrCat(kMaxValues)}});
  }
  if (!error.ok() && !allocation.values.empty()) return 0;
  allocation.values.push_back({ValueKind::kRegister, width, SpecialRegister::kTidX, 0, name});
  return static_cast<uint32_t>(allocation.values.size() - 1);
}

uint32_t DecodeState::ConstantValue(uint64_t value, Width width) {
  if (width == Width::k32) value &= 0xffffffff;
  if (width == Width::kPredicate) value = value != 0 ? 0xffffffff : 0;
  auto [it, inserted] = constants_.try_emplace({value, static_cast<int>(width)}, 0);
  if (inserted) {
    allocation.values.push_back({ValueKind::kConstant, width, SpecialRegister::kTidX, value, {}});
    it->second = static_cast<uint32_t>(allocation.values.size() - 1);
  }
  return it->second;
}

std::optional<uint32_t> DecodeState::FindRegister(absl::string_view name) {
  size_t digits = name.size();
  while (digits > 0 && name[digits - 1] >= '0' && name[digits - 1] <= '9') --digits;
  const absl::string_view prefix = name.substr(0, digits);
  uint64_t number = 0;
  const bool numbered = digits < name.size() && name.size() - digits <= 9 &&
                        (name[digits] != '0' || name.size() - digits == 1) &&
                        absl::SimpleAtoi(name.substr(digits), &number);
  for (size_t s = scopes.size(); s-- > scope_floor;) {
    auto exact = scopes[s].registers.find(name);
    if (exact != scopes[s].registers.end()) return exact->second;
    if (!numbered) continue;
    auto range = scopes[s].ranges.find(prefix);
    if (range == scopes[s].ranges.end() || number >= range->second.count) continue;
    const uint32_t value = NewRegister(range->second.width, name);
    scopes[s].registers.emplace(name, value);
    return value;
  }
  return std::nullopt;
}

const VariablePlace* DecodeState::FindVariable(absl::string_view name) const {
  for (size_t s = scopes.size(); s-- > scope_floor;) {
    auto it = scopes[s].variables.find(name);
    if (it != scopes[s].variables.end()) return &it->second;
  }
  // Shared variables of the module are in the outermost scope of the kernel.
  if (scope_floor > 0) {
    auto it = scopes[0].variables.find(name);
    if (it != scopes[0].variables.end() && it->second.space == Space::kShared) return &it->second;
  }
  auto it = context.variables.find(name);
  return it == context.variables.end() ? nullptr : &it->second;
}

std::optional<uint32_t> DecodeState::FindLabel(absl::string_view name) const {
  for (size_t s = scopes.size(); s-- > scope_floor;) {
    auto it = scopes[s].labels.find(name);
    if (it != scopes[s].labels.end()) return it->second;
  }
  return std::nullopt;
}

const ptx::BranchTargets* DecodeState::FindTargets(absl::string_view name) const {
  for (size_t s = scopes.size(); s-- > scope_floor;) {
    auto it = scopes[s].targets.find(name);
    if (it != scopes[s].targets.end()) return it->second;
  }
  return nullptr;
}

std::optional<uint32_t> DecodeState::FindSpecial(absl::string_view name) {
  if (name == "WARP_SZ") return ConstantValue(32, Width::k32);
  if (name == "%warp_size") return ConstantValue(32, Width::k32);
  for (const SpecialName& row : kSpecialNames) {
    if (name != row.name) continue;
    auto [it, inserted] = specials_.try_emplace(row.which, 0);
    if (inserted) {
      // %gridid is the one of 64 bits; %is_explicit_cluster the one that is a predicate.
      const Width width = row.which == S::kGridid              ? Width::k64
                          : row.which == S::kIsExplicitCluster ? Width::kPredicate
                                                               : Width::k32;
      allocation.values.push_back({ValueKind::kSpecial, width, row.which, 0, row.name});
      it->second = static_cast<uint32_t>(allocation.values.size() - 1);
    }
    return it->second;
  }
  return std::nullopt;
}

uint64_t DecodeState::AllocateLocal(absl::string_view name, uint64_t bytes, uint64_t align) {
  if (align == 0) align = 1;
  // What runs over the end of one variable is not to land in the next.
  const uint64_t free = local_bytes == 0 ? 0 : local_bytes + kLocalGapBytes;
  const uint64_t at = (free + align - 1) / align * align;
  if (bytes > kMaxLocalBytes || at + bytes > kMaxLocalBytes) {
    if (error.ok()) {
      error = ResourceExhausted(
          Reason::kTooLarge,
          absl::StrCat("the kernel needs more than ", kMaxLocalBytes, " bytes of local memory a thread"),
          {{"limit", absl::StrCat(kMaxLocalBytes)}});
    }
    return 0;
  }
  local_bytes = at + bytes;
  if (bytes > 0) {
    program->locals.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(at + bytes), name});
  }
  return at;
}

}  // namespace trun::device
