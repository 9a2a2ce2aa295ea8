#include "server/device/emulator/checks/definedness.h"

#include <algorithm>
#include <set>
#include <string>

#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/checks/operand_lists.h"
#include "server/device/emulator/checks/slot_bytes.h"
#include "server/device/emulator/ops/lane_operations.h"
#include "server/device/emulator/program/register_allocation.h"

namespace trun::device {
namespace {

bool IsPackedName(absl::string_view word) { return word.size() > 2 && word.substr(word.size() - 2) == "x2"; }

// Operations whose result depends on every bit of every source.
bool IsArithmetic(absl::string_view opcode) {
  static const std::set<std::string>* const names = new std::set<std::string>{
      "add",  "sub",   "mul",      "mad",   "fma",   "div",   "rem",      "min",  "max",
      "abs",  "neg",   "sad",      "mul24", "mad24", "addc",  "subc",     "madc", "sqrt",
      "rcp",  "rsqrt", "sin",      "cos",   "lg2",   "ex2",   "tanh",     "set",  "slct",
      "popc", "clz",   "testp",    "brev",  "bfi",   "bfind", "fns",      "bmsk", "szext",
      "shf",  "dp4a",  "copysign", "dp2a",  "cnot",  "cvta",  "isspacep", "mapa", "getctarank"};
  return names->count(std::string(opcode)) != 0;
}

// Pairs of elements of a byte each (or six bits in one), and of a nibble each.
bool IsBytePair(absl::string_view word) {
  return word == "e4m3x2" || word == "e5m2x2" || word == "e2m3x2" || word == "e3m2x2" || word == "ue8m0x2";
}

FlowRule ConvertRule(const InstructionWords& words) {
  FlowRule rule;
  rule.flow = Flow::kAll;
  absl::string_view to, from;
  for (const absl::string_view word : words.modifiers) {
    if (TypeFromName(word) == Type::kNone && !IsPackedName(word)) continue;
    (to.empty() ? to : from) = word;
  }
  if (to == "e2m1x2" || from == "e2m1x2") return rule;  // both in one byte
  if (IsPackedName(to)) {
    if (IsPackedName(from)) {
      rule.flow = Flow::kParts;
      rule.part_bytes = 0;  // by halves of each register
    } else {
      rule.flow = Flow::kConvertPack;
    }
    return rule;
  }
  const Type t = TypeFromName(to), f = TypeFromName(from);
  const auto is_integer = [](Type type) { return type >= Type::kU8 && type <= Type::kS64; };
  if (is_integer(t) && is_integer(f) && !words.Has("sat")) {
    rule.flow = Flow::kNarrow;
    rule.narrow_bytes = std::min(BitsOf(t), BitsOf(f)) / 8;
    rule.extends_sign = IsSigned(BitsOf(f) < BitsOf(t) ? f : t);
  }
  return rule;
}

struct Sources {
  const WatchedStep& step;
  const RegisterDefinedness& registers;

  const OperandRef* At(uint32_t slot) const {
    for (const OperandRef& ref : step.operands()) {
      if (!ref.is_definition && ref.slot == slot) return &ref;
    }
    return nullptr;
  }
  uint16_t Undefined(const OperandRef* ref, uint32_t lane) const {
    if (ref == nullptr) return 0;
    const RegisterInfo& info = step.info(*ref);
    if (info.cell == kNoCell) return 0;
    return registers.undefined[info.cell][lane] & AllBytes(info.width);
  }
  uint32_t Origin(const OperandRef* ref, uint32_t lane) const {
    return registers.origin[step.info(*ref).cell][lane];
  }
  uint64_t Value(const OperandRef* ref, uint32_t lane) const {
    if (ref == nullptr) return 0;
    const RegisterInfo& info = step.info(*ref);
    switch (info.width) {
      case Width::kPredicate:
        return step.warp.Predicate(info.offset) >> lane & 1;
      case Width::k32:
        return step.warp.U32(info.offset)[lane];
      default:
        return step.warp.U64(info.offset)[lane];
    }
  }
};

uint16_t PartsOf(uint16_t bytes, uint32_t part, uint16_t all) {
  uint16_t out = 0;
  const uint32_t unit = (1u << part) - 1;
  for (uint32_t at = 0; at < 16; at += part) {
    if ((bytes >> at & unit) != 0) out |= static_cast<uint16_t>(unit << at);
  }
  return out & all;
}

// The lane that shfl reads, by PTX's description.
uint32_t ShuffleSource(const InstructionWords& words, uint32_t lane, uint32_t b, uint32_t c) {
  const uint32_t segment = c >> 8 & 31, clamp = c & 31;
  const uint32_t first = lane & segment;
  const uint32_t last = first | (clamp & ~segment);
  b &= 31;
  int from = static_cast<int>(lane);
  bool inside = true;
  if (words.Has("up")) {
    from = static_cast<int>(lane) - static_cast<int>(b);
    inside = from >= static_cast<int>(last);
  } else {
    if (words.Has("down")) from = static_cast<int>(lane + b);
    if (words.Has("bfly")) from = static_cast<int>(lane ^ b);
    if (words.Has("idx")) from = static_cast<int>(first | (b & ~segment));
    inside = from <= static_cast<int>(last);
  }
  return inside && from >= 0 && from < 32 ? static_cast<uint32_t>(from) : lane;
}

uint16_t Permute(uint64_t selector, uint16_t a, uint16_t b) {
  const uint32_t both = (a & 0xfu) | (b & 0xfu) << 4;
  uint16_t out = 0;
  for (int k = 0; k < 4; ++k) {
    if ((both >> (selector >> (4 * k) & 7) & 1) != 0) out |= static_cast<uint16_t>(1 << k);
  }
  return out;
}

// The bytes of lop3's result that are not the same for all zeros and all ones in place of what is undefined.
uint16_t Logic3(uint32_t table, const Sources& sources, uint32_t lane) {
  uint32_t values[3], unknown[3];
  for (uint32_t i = 0; i < 3; ++i) {
    const OperandRef* ref = sources.At(i + 1);
    values[i] = static_cast<uint32_t>(sources.Value(ref, lane));
    unknown[i] = static_cast<uint32_t>(SpreadBytes(sources.Undefined(ref, lane)));
  }
  uint32_t first = 0, differ = 0;
  for (uint32_t choice = 0; choice < 8; ++choice) {
    uint32_t v[3], result = 0;
    for (uint32_t i = 0; i < 3; ++i) {
      v[i] = (choice >> i & 1) != 0 ? values[i] | unknown[i] : values[i] & ~unknown[i];
    }
    for (uint32_t entry = 0; entry < 8; ++entry) {
      if ((table >> entry & 1) == 0) continue;
      result |= ((entry & 4) != 0 ? v[0] : ~v[0]) & ((entry & 2) != 0 ? v[1] : ~v[1]) &
                ((entry & 1) != 0 ? v[2] : ~v[2]);
    }
    if (choice == 0) first = result;
    differ |= result ^ first;
  }
  return GatherBytes(differ);
}

// A comparison of the bytes `compared` of both sources.
uint16_t Compare(const FlowRule& rule, const Sources& sources, uint32_t lane, uint16_t compared) {
  compared &= sources.Undefined(sources.At(1), lane) | sources.Undefined(sources.At(2), lane);
  if (compared == 0 || rule.boolean == 0) return compared != 0 ? 1 : 0;
  // A predicate that decides alone. Where only the predicate is undefined, the comparison may decide.
  const OperandRef* predicate = sources.At(4);
  if (sources.Undefined(predicate, lane) != 0) return 1;
  const bool value = (sources.Value(predicate, lane) != 0) != rule.negated;
  if (rule.boolean == kSetpAnd) return value ? 1 : 0;
  if (rule.boolean == kSetpOr) return value ? 0 : 1;
  return 1;
}

}  // namespace

void RegisterDefinedness::Reset(uint32_t cells) {
  LaneBytes bytes;
  bytes.fill(0xffff);
  LaneOrigins origins;
  origins.fill(kNowhere);
  undefined.assign(cells, bytes);
  origin.assign(cells, origins);
}

FlowRule FlowOf(const Program& program, uint32_t pc) {
  const InstructionWords words(program.sites[pc].text);
  const absl::string_view op = words.opcode;
  FlowRule rule;
  const auto is = [&op](absl::string_view name) { return op == name; };
  bool packed = false;
  for (const absl::string_view word : words.modifiers) packed |= IsPackedName(word);
  if (is("mov")) {
    uint32_t sources = 0, destinations = 0;
    for (const OperandRef& ref : program.operands->At(pc)) {
      if (ref.slot != kGuardSlot) ++(ref.is_definition ? destinations : sources);
    }
    rule.flow = sources > 1 ? Flow::kPack : destinations > 1 ? Flow::kUnpack : Flow::kBytes;
  } else if (is("not") || is("xor")) {
    rule.flow = Flow::kBytes;
  } else if (is("and")) {
    rule.flow = Flow::kAnd;
  } else if (is("or")) {
    rule.flow = Flow::kOr;
  } else if (is("lop3")) {
    rule.flow = words.modifiers.size() == 1 ? Flow::kLogic3 : Flow::kAll;
    rule.table = static_cast<uint32_t>(program.original->code[pc].immediate & 0xff);
  } else if (is("selp")) {
    rule.flow = Flow::kSelect;
  } else if (is("setp")) {
    rule.flow = packed ? Flow::kComparePairs : Flow::kCompare;
    const Instruction& in = program.original->code[pc];
    rule.boolean = static_cast<uint32_t>(in.immediate & 3);
    rule.negated = (in.immediate & kSetpNegate) != 0;
  } else if (is("shl")) {
    rule.flow = Flow::kShiftLeft;
  } else if (is("shr")) {
    rule.flow = Flow::kShiftRight;
    rule.extends_sign = IsSigned(words.TypeAt(0));
  } else if (is("bfe")) {
    rule.flow = Flow::kField;
    rule.extends_sign = IsSigned(words.TypeAt(0));
  } else if (is("prmt")) {
    rule.flow = words.modifiers.size() == 1 ? Flow::kPermute : Flow::kAll;
  } else if (is("cvt")) {
    rule = ConvertRule(words);
  } else if (is("shfl")) {
    rule.flow = Flow::kShuffle;
  } else if (is("vote") || is("redux") || is("match")) {
    rule.flow = Flow::kVote;
  } else if (is("mma") || is("movmatrix") || (is("wmma") && words.Has("mma"))) {
    rule.flow = Flow::kMultiply;
  } else if (is("wgmma")) {
    rule.flow = words.Has("mma_async") ? Flow::kWarpgroup : Flow::kDefined;
  } else if (is("ld") || is("ldu") || is("st") || is("atom") || is("red") || is("cp") || is("ldmatrix") ||
             is("stmatrix") || is("wmma") || is("mbarrier") || is("tensormap")) {
    rule.flow = Flow::kMemory;
  } else if (IsArithmetic(op)) {
    rule.flow = packed ? Flow::kParts : Flow::kAll;
    for (const absl::string_view word : words.modifiers) {
      if (word == "f32x2") rule.part_bytes = 4;
    }
  }
  return rule;
}

void Propagate(const FlowRule& rule, const WatchedStep& step, const RegisterDefinedness& registers,
               std::vector<FlowResult>* results) {
  results->clear();
  if (rule.flow == Flow::kMemory || rule.flow == Flow::kMultiply || rule.flow == Flow::kWarpgroup) return;
  const Sources sources{step, registers};
  std::array<const OperandRef*, 9> in = {};  // without guard, in the order of their slots
  size_t count = 0;
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition && ref.slot != kGuardSlot && count < in.size()) in[count++] = &ref;
  }
  std::sort(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(count),
            [](const OperandRef* a, const OperandRef* b) { return a->slot < b->slot; });
  std::array<uint16_t, 32> any = {};
  LaneOrigins from;
  from.fill(kNowhere);
  bool some = false;
  for (size_t s = 0; s < count; ++s) {
    if (step.info(*in[s]).cell == kNoCell) continue;
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const uint16_t bytes = sources.Undefined(in[s], lane);
      if (bytes == 0) continue;
      if (any[lane] == 0) from[lane] = sources.Origin(in[s], lane);
      any[lane] |= bytes;
      some = true;
    }
  }
  const InstructionWords words(step.site().text);
  uint32_t destinations = 0;
  for (const OperandRef& ref : step.operands()) destinations += ref.is_definition ? 1 : 0;
  uint32_t index = 0;
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition) continue;
    const RegisterInfo& info = step.info(ref);
    FlowResult& result = results->emplace_back();
    result.undefined.fill(0);
    result.origin = from;
    const uint32_t k = index++;
    if (!some) continue;
    const uint16_t all = AllBytes(info.width);
    for (uint32_t lane = 0; lane < 32; ++lane) {
      uint16_t& out = result.undefined[lane];
      switch (rule.flow) {
        case Flow::kDefined:
        case Flow::kMemory:
        case Flow::kMultiply:
        case Flow::kWarpgroup:
          break;
        case Flow::kAll:
          out = any[lane] != 0 ? all : 0;
          break;
        case Flow::kParts: {
          const uint32_t bytes = rule.part_bytes;
          if (bytes != 0) {
            out = PartsOf(any[lane], bytes, all);
          } else {
            // Two elements of unlike sizes: the halves of what either register holds.
            const bool narrow_first = !words.modifiers.empty() && !IsBytePair(words.modifiers.back());
            bool narrow = false;
            for (const absl::string_view word : words.modifiers) narrow |= IsBytePair(word);
            const bool to_pairs = narrow && (words.Has("f16x2") || words.Has("bf16x2"));
            const uint32_t source = to_pairs && !narrow_first ? 1 : 2;
            const uint32_t target = to_pairs && narrow_first ? 1 : 2;
            if ((any[lane] & ((1u << source) - 1)) != 0) out |= static_cast<uint16_t>((1u << target) - 1);
            if ((any[lane] >> source) != 0) out |= static_cast<uint16_t>(((1u << target) - 1) << target);
            out &= all;
          }
          break;
        }
        case Flow::kBytes:
          out = any[lane] & all;
          break;
        case Flow::kAnd:
        case Flow::kOr: {
          const uint16_t a = sources.Undefined(in[0], lane),
                         b = count > 1 ? sources.Undefined(in[1], lane) : 0;
          uint64_t x = sources.Value(in[0], lane), y = count > 1 ? sources.Value(in[1], lane) : 0;
          if (info.width == Width::kPredicate) {
            x = x != 0 ? ~uint64_t{0} : 0;
            y = y != 0 ? ~uint64_t{0} : 0;
          }
          if (rule.flow == Flow::kOr) {
            x = ~x;
            y = ~y;
          }
          // A byte of the one source is of no matter where the other's is all zeros (ones).
          out = static_cast<uint16_t>((a & b) | (a & GatherBytes(y)) | (b & GatherBytes(x))) & all;
          break;
        }
        case Flow::kLogic3:
          out = Logic3(rule.table, sources, lane) & all;
          break;
        case Flow::kSelect: {
          const OperandRef* predicate = sources.At(3);
          if (sources.Undefined(predicate, lane) != 0) {
            out = all;
            break;
          }
          out = sources.Undefined(sources.At(sources.Value(predicate, lane) != 0 ? 1 : 2), lane) & all;
          break;
        }
        case Flow::kCompare:
          out = Compare(rule, sources, lane, 0xffff);
          break;
        case Flow::kComparePairs:
          out = Compare(rule, sources, lane, ref.slot == 3 ? 0xc : 0x3);
          break;
        case Flow::kPack: {
          const uint32_t part = static_cast<uint32_t>(__builtin_popcount(all)) / static_cast<uint32_t>(count);
          for (size_t s = 0; s < count; ++s) {
            const uint32_t unit = (1u << part) - 1;
            out |= static_cast<uint16_t>((sources.Undefined(in[s], lane) & unit) << (part * s));
          }
          break;
        }
        case Flow::kUnpack: {
          const uint32_t bytes = BitsOf(words.TypeAt(0)) / 8;
          const uint32_t part = std::max(bytes / std::max(destinations, 1u), 1u);
          const uint32_t at = (ref.slot >= kFirstListSlot ? ref.slot - kFirstListSlot : k) * part;
          out = static_cast<uint16_t>(any[lane] >> at & ((1u << part) - 1)) & all;
          break;
        }
        case Flow::kShiftLeft:
        case Flow::kShiftRight: {
          if (sources.Undefined(in[1], lane) != 0) {
            out = all;
            break;
          }
          const uint64_t amount = std::min<uint64_t>(sources.Value(in[1], lane), 63);
          const uint64_t bits = SpreadBytes(sources.Undefined(in[0], lane));
          out = GatherBytes(rule.flow == Flow::kShiftLeft ? bits << amount : bits >> amount) & all;
          if (rule.extends_sign && bits != 0) out = all;
          break;
        }
        case Flow::kField: {
          if ((sources.Undefined(in[1], lane) | sources.Undefined(in[2], lane)) != 0) {
            out = all;
            break;
          }
          const uint64_t at = sources.Value(in[1], lane) & 0xff, length = sources.Value(in[2], lane) & 0xff;
          uint64_t bits = at > 63 ? 0 : SpreadBytes(sources.Undefined(in[0], lane)) >> at;
          if (length < 64) bits &= (uint64_t{1} << length) - 1;
          out = rule.extends_sign && sources.Undefined(in[0], lane) != 0 ? all : GatherBytes(bits) & all;
          break;
        }
        case Flow::kPermute:
          out = sources.Undefined(in[2], lane) != 0
                    ? all
                    : Permute(sources.Value(in[2], lane), sources.Undefined(in[0], lane),
                              sources.Undefined(in[1], lane));
          break;
        case Flow::kConvertPack: {
          const bool halves = words.Has("f16x2") || words.Has("bf16x2");
          const uint32_t half = halves ? 2 : 1;
          const uint16_t unit = static_cast<uint16_t>((1u << half) - 1);
          if (count > 0 && sources.Undefined(in[0], lane) != 0) out |= static_cast<uint16_t>(unit << half);
          if (count > 1 && sources.Undefined(in[1], lane) != 0) out |= unit;
          break;
        }
        case Flow::kNarrow: {
          const uint16_t kept = any[lane] & static_cast<uint16_t>((1u << rule.narrow_bytes) - 1);
          out = rule.extends_sign && (kept >> (rule.narrow_bytes - 1) & 1) != 0
                    ? static_cast<uint16_t>(kept | (all & ~((1u << rule.narrow_bytes) - 1)))
                    : kept;
          break;
        }
        case Flow::kShuffle: {
          if (info.width == Width::kPredicate) break;
          const uint32_t source =
              ShuffleSource(words, lane, static_cast<uint32_t>(sources.Value(sources.At(2), lane)),
                            static_cast<uint32_t>(sources.Value(sources.At(3), lane)));
          out = sources.Undefined(sources.At(1), source) & all;
          if (out != 0) result.origin[lane] = sources.Origin(sources.At(1), source);
          break;
        }
        case Flow::kVote: {
          for (uint32_t l = 0; l < 32; ++l) {
            if ((step.active >> l & 1) != 0 && sources.Undefined(sources.At(1), l) != 0) {
              out = all;
              result.origin[lane] = sources.Origin(sources.At(1), l);
            }
          }
          break;
        }
      }
    }
  }
}

}  // namespace trun::device
