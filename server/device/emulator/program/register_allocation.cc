#include "server/device/emulator/program/register_allocation.h"

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/program/operand_map.h"

namespace trun::device {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxLivenessBits = uint64_t{1} << 31;
constexpr uint32_t kNever = 0xffffffff;

uint32_t BytesOf(Width width) {
  switch (width) {
    case Width::kPredicate:
      return 4;
    case Width::k32:
      return 128;
    case Width::k64:
      return 256;
    case Width::k128:
      return 512;
  }
  return 0;
}

struct Block {
  uint32_t begin = 0;
  uint32_t end = 0;
  std::vector<uint32_t> successors;
};

// Positions: instruction i reads (and defines early) at 2i and defines at 2i + 1.
struct Interval {
  uint32_t begin = kNever;
  uint32_t end = 0;
  void Add(uint32_t position) {
    begin = std::min(begin, position);
    end = std::max(end, position);
  }
};

std::vector<Block> BlocksOf(const AllocationInput& input, uint32_t count) {
  std::vector<bool> leader(count + 1, false);
  if (count > 0) leader[0] = true;
  for (const auto& [at, edge] : input.branches) {
    for (uint32_t target : edge.targets) leader[std::min(target, count)] = true;
    leader[at + 1] = true;
  }
  std::vector<Block> blocks;
  std::vector<uint32_t> block_of(count + 1, 0);
  for (uint32_t i = 0; i < count; ++i) {
    if (leader[i]) blocks.push_back({i, i, {}});
    blocks.back().end = i + 1;
    block_of[i] = static_cast<uint32_t>(blocks.size() - 1);
  }
  size_t branch = 0;
  for (uint32_t b = 0; b < blocks.size(); ++b) {
    const uint32_t last = blocks[b].end - 1;
    while (branch < input.branches.size() && input.branches[branch].first < last) ++branch;
    bool falls_through = true;
    if (branch < input.branches.size() && input.branches[branch].first == last) {
      const FlowEdge& edge = input.branches[branch].second;
      falls_through = edge.falls_through;
      for (uint32_t target : edge.targets) {
        if (target < count) blocks[b].successors.push_back(block_of[target]);
      }
    }
    if (falls_through && b + 1 < blocks.size()) blocks[b].successors.push_back(b + 1);
  }
  return blocks;
}

// The intervals of all registers; false when the kernel is too large for the analysis.
bool FindIntervals(const AllocationInput& input, uint32_t count, std::vector<Interval>* intervals) {
  const std::vector<Block> blocks = BlocksOf(input, count);
  std::vector<uint32_t> block_of(count, 0);
  for (uint32_t b = 0; b < blocks.size(); ++b) {
    for (uint32_t i = blocks[b].begin; i < blocks[b].end; ++i) block_of[i] = b;
  }
  // Only values that appear in several blocks, or are read before they are written in one, can be live across
  // blocks.
  std::vector<uint32_t> home(input.values.size(), kNever);
  std::vector<uint32_t> dense(input.values.size(), kNever);
  uint32_t across = 0;
  const auto make_dense = [&](uint32_t value) {
    if (dense[value] == kNever) dense[value] = across++;
  };
  std::vector<bool> written(input.values.size(), false);
  for (const OperandUse& use : input.uses) {
    if (input.values[use.value].kind != ValueKind::kRegister) continue;
    (*intervals)[use.value].Add(2 * use.instruction + (use.is_definition && !use.early ? 1 : 0));
    const uint32_t block = block_of[use.instruction];
    if (home[use.value] == kNever) home[use.value] = block;
    const bool reads = !use.is_definition || input.guarded[use.instruction];
    if (home[use.value] != block || (reads && !written[use.value])) make_dense(use.value);
    if (use.is_definition) written[use.value] = true;
  }
  const size_t words = (across + 63) / 64;
  if (static_cast<uint64_t>(blocks.size()) * words * 64 * 4 > kMaxLivenessBits) return false;
  std::vector<uint64_t> reads(blocks.size() * words), writes(reads.size()), in(reads.size()),
      out(reads.size());
  for (const OperandUse& use : input.uses) {
    const uint32_t bit = dense[use.value];
    if (bit == kNever) continue;
    const size_t word = block_of[use.instruction] * words + bit / 64;
    const uint64_t mask = uint64_t{1} << (bit % 64);
    const bool also_reads = !use.is_definition || input.guarded[use.instruction];
    if (also_reads && (writes[word] & mask) == 0) reads[word] |= mask;
    if (use.is_definition && !input.guarded[use.instruction]) writes[word] |= mask;
  }
  bool changed = true;
  while (changed) {
    changed = false;
    for (size_t b = blocks.size(); b-- > 0;) {
      for (uint32_t successor : blocks[b].successors) {
        for (size_t w = 0; w < words; ++w) out[b * words + w] |= in[successor * words + w];
      }
      for (size_t w = 0; w < words; ++w) {
        const size_t at = b * words + w;
        const uint64_t now = reads[at] | (out[at] & ~writes[at]);
        changed |= now != in[at];
        in[at] = now;
      }
    }
  }
  std::vector<uint32_t> value_of(across);
  for (uint32_t v = 0; v < dense.size(); ++v) {
    if (dense[v] != kNever) value_of[dense[v]] = v;
  }
  for (size_t b = 0; b < blocks.size(); ++b) {
    for (size_t w = 0; w < words; ++w) {
      for (uint64_t bits = in [b * words + w]; bits != 0; bits &= bits - 1) {
        (*intervals)[value_of[w * 64 + __builtin_ctzll(bits)]].Add(2 * blocks[b].begin);
      }
      for (uint64_t bits = out[b * words + w]; bits != 0; bits &= bits - 1) {
        (*intervals)[value_of[w * 64 + __builtin_ctzll(bits)]].Add(2 * blocks[b].end - 1);
      }
    }
  }
  return true;
}

}  // namespace

absl::Status AllocateRegisters(const AllocationInput& input, Program* program) {
  const uint32_t count = static_cast<uint32_t>(program->code.size());
  std::vector<Interval> intervals(input.values.size());
  const bool share = FindIntervals(input, count, &intervals);

  // Slots are numbered per class first, then the classes are laid out one after another.
  std::vector<uint32_t> slot(input.values.size(), 0);
  std::array<uint32_t, 4> slots = {0, 0, 0, 0};
  std::vector<uint32_t> order;
  for (uint32_t v = 0; v < input.values.size(); ++v) {
    if (input.values[v].kind == ValueKind::kRegister && (intervals[v].begin != kNever || !share))
      order.push_back(v);
  }
  if (share) {
    std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
      return intervals[a].begin != intervals[b].begin ? intervals[a].begin < intervals[b].begin : a < b;
    });
    std::array<std::vector<uint32_t>, 4> free;
    std::multimap<uint32_t, uint32_t> live;  // by end
    for (uint32_t v : order) {
      while (!live.empty() && live.begin()->first < intervals[v].begin) {
        const uint32_t ended = live.begin()->second;
        free[static_cast<size_t>(input.values[ended].width)].push_back(slot[ended]);
        live.erase(live.begin());
      }
      const size_t width = static_cast<size_t>(input.values[v].width);
      if (free[width].empty()) {
        slot[v] = slots[width]++;
      } else {
        slot[v] = free[width].back();
        free[width].pop_back();
      }
      live.emplace(intervals[v].end, v);
    }
  } else {
    for (uint32_t v : order) slot[v] = slots[static_cast<size_t>(input.values[v].width)]++;
  }

  uint64_t at = 0;
  std::vector<uint64_t> offset(input.values.size(), 0);
  const auto place = [&at](Width width) {
    const uint64_t here = at;
    at += BytesOf(width);
    return here;
  };
  for (Width width : {Width::k128, Width::k64, Width::k32, Width::kPredicate}) {
    for (uint32_t v = 0; v < input.values.size(); ++v) {
      const Value& value = input.values[v];
      if (value.width != width || value.kind == ValueKind::kRegister) continue;
      offset[v] = place(width);
      if (value.kind == ValueKind::kConstant) {
        const uint32_t bytes = width == Width::kPredicate ? 0 : width == Width::k32 ? 4 : 8;
        program->constants.push_back({static_cast<uint32_t>(offset[v]), bytes, value.constant});
      } else {
        program->specials.push_back({value.special, static_cast<uint32_t>(offset[v])});
      }
    }
    at = (at + 127) / 128 * 128;
  }
  program->registers_begin = static_cast<uint32_t>(std::min(at, kMaxFileBytes));
  std::array<uint64_t, 4> base = {};
  for (Width width : {Width::k32, Width::k64, Width::kPredicate, Width::k128}) {
    base[static_cast<size_t>(width)] = at;
    at += uint64_t{slots[static_cast<size_t>(width)]} * BytesOf(width);
    at = (at + 127) / 128 * 128;
  }
  if (at > kMaxFileBytes) {
    return ResourceExhausted(
        Reason::kTooLarge,
        absl::StrCat("the kernel's registers need ", at, " bytes a warp, the limit is ", kMaxFileBytes),
        {{"limit", absl::StrCat(kMaxFileBytes)}});
  }
  for (uint32_t v : order) {
    const size_t width = static_cast<size_t>(input.values[v].width);
    offset[v] = base[width] + uint64_t{slot[v]} * BytesOf(input.values[v].width);
  }
  program->register_bytes = static_cast<uint32_t>(at);
  program->attributes.registers = std::min<uint32_t>(255, slots[1] + 2 * slots[2] + 4 * slots[3]);

  for (const OperandUse& use : input.uses) {
    Instruction& in = program->code[use.instruction];
    const uint32_t where = static_cast<uint32_t>(offset[use.value]);
    if (use.slot == kGuardSlot) {
      in.guard = static_cast<int32_t>(where | (in.guard & 1));
    } else if (use.slot < 7) {
      in.operand[use.slot] = where;
    } else {
      program->lists[input.list_begin[use.instruction] + use.slot - 7] = where;
    }
  }
  for (uint32_t i = 0; i < count; ++i) program->code[i].list = program->lists.data() + input.list_begin[i];

  std::array<uint32_t, 4> first_cell = {};
  for (size_t width = 1; width < 4; ++width) first_cell[width] = first_cell[width - 1] + slots[width - 1];
  auto map = std::make_shared<OperandMap>();
  map->cells = first_cell[3] + slots[3];
  map->values.reserve(input.values.size());
  for (uint32_t v = 0; v < input.values.size(); ++v) {
    const Value& value = input.values[v];
    RegisterInfo info{value.name, value.width, static_cast<uint32_t>(offset[v])};
    if (value.kind == ValueKind::kRegister) {
      info.cell = first_cell[static_cast<size_t>(value.width)] + slot[v];
      info.begin = share ? intervals[v].begin : 0;
      info.end = share ? intervals[v].end : kNever;
    }
    map->values.push_back(info);
  }
  map->refs.reserve(input.uses.size());
  map->first.assign(count + 1, 0);
  for (const OperandUse& use : input.uses) {
    map->refs.push_back({use.slot, use.value, use.is_definition});
    ++map->first[use.instruction + 1];
  }
  for (uint32_t i = 0; i < count; ++i) map->first[i + 1] += map->first[i];
  program->operands = std::move(map);
  return absl::OkStatus();
}

}  // namespace trun::device
