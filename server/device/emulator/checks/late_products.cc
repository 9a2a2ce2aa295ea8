#include "server/device/emulator/checks/late_products.h"

#include <cstring>
#include <utility>

#include "server/device/emulator/checks/instruction_words.h"
#include "server/device/emulator/numerics/wgmma.h"

namespace trun::device {
namespace {

constexpr uint32_t kLaneBytes = 32 * sizeof(uint32_t);
// Of one warpgroup; more are made early. No kernel has as many under way, one that never waits may.
constexpr size_t kMostUnderWay = 256;

uint32_t BytesOf(Width width) {
  switch (width) {
    case Width::kPredicate:
      return sizeof(uint32_t);
    case Width::k32:
      return kLaneBytes;
    case Width::k64:
      return 2 * kLaneBytes;
    case Width::k128:
      return 4 * kLaneBytes;
  }
  return 0;
}

}  // namespace

LateProducts::LateProducts(const Program& program) {
  for (const InstructionSite& site : program.sites) {
    const InstructionWords words(site.text);
    Kind kind = words.opcode == "mov" ? Kind::kMove : Kind::kOther;
    if (words.opcode == "wgmma") {
      if (words.Has("mma_async")) kind = Kind::kMultiply;
      if (words.Has("commit_group")) kind = Kind::kCommit;
      if (words.Has("wait_group")) kind = Kind::kWait;
    }
    kinds_.push_back(kind);
  }
}

void LateProducts::CtaStarted(Cta& cta) { ctas_.erase(&cta); }
void LateProducts::CtaEnded(Cta& cta) { ctas_.erase(&cta); }

void LateProducts::Make(const Cta& cta, Product* product) {
  numerics::WgmmaOperands operands;
  operands.a_descriptor = product->a_descriptor;
  operands.b_descriptor = product->b_descriptor;
  operands.scale_d = product->scale_d;
  for (size_t w = 0; w < 4; ++w) {
    for (size_t r = 0; r < product->inputs[w].size(); ++r) {
      const Part& from = product->inputs[w][r];
      if (from.product == nullptr) continue;
      std::memcpy(product->d[w].data() + r * 32, from.product->d[w].data() + from.index * 32, kLaneBytes);
    }
    product->inputs[w].clear();
    for (int r = 0; r < product->form->accumulators; ++r) operands.d[w][r] = product->d[w].data() + r * 32;
    operands.metadata[w] = product->metadata[w].data();
    for (size_t r = 0; r < product->a[w].size() / 32; ++r) operands.a[w][r] = product->a[w].data() + r * 32;
  }
  // The operands' bounds have been checked by the operation.
  numerics::Wgmma(product->form->shape, operands, absl::MakeConstSpan(cta.shared, cta.shared_bytes));
}

void LateProducts::Finish(Warp& warp, Warpgroup* group, uint64_t end) {
  while (!group->under_way.empty() && group->under_way.front()->number < end) {
    Make(*warp.cta, group->under_way.front().get());
    group->under_way.pop_front();
  }
  auto& late = group->warps[warp.index % 4].late;
  for (auto it = late.begin(); it != late.end();) {
    const auto here = it++;
    const Part& part = here->second;
    if (part.product->number >= end) continue;
    std::memcpy(warp.registers + here->first, part.product->d[warp.index % 4].data() + part.index * 32,
                kLaneBytes);
    late.erase(here);
  }
}

bool LateProducts::Before(const WatchedStep& step) {
  const Kind kind = kinds_[step.pc];
  Warp& warp = step.warp;
  moved_.product = nullptr;
  if (kind == Kind::kOther || kind == Kind::kMultiply || ctas_.empty()) return true;
  const auto cta = ctas_.find(warp.cta);
  if (cta == ctas_.end()) return true;
  const auto found = cta->second.find(warp.index / 4);
  if (found == cta->second.end()) return true;
  Warpgroup& group = found->second;
  WarpState& state = group.warps[warp.index % 4];
  if (kind == Kind::kWait) {
    const auto left = static_cast<size_t>(warp.program->original->code[step.pc].immediate);
    uint64_t end = 0;
    while (state.groups.size() > left) {
      end = state.groups.front();
      state.groups.pop_front();
    }
    Finish(warp, &group, end);
  }
  if (kind != Kind::kMove || state.late.empty()) return true;
  const Part* part = nullptr;
  uint32_t sources = 0, definitions = 0;
  bool plain = step.mask == warp.live;
  for (const OperandRef& ref : step.operands()) {
    const RegisterInfo& info = step.info(ref);
    ++(ref.is_definition ? definitions : sources);
    plain = plain && info.width == Width::k32;
    if (ref.is_definition) {
      moved_to_ = info.offset;
      continue;
    }
    for (uint32_t at = info.offset; at < info.offset + BytesOf(info.width); at += kLaneBytes) {
      const auto it = state.late.find(at);
      if (it != state.late.end()) part = &it->second;
    }
  }
  if (part == nullptr) return true;
  if (plain && sources == 1 && definitions == 1) {
    moved_ = *part;
  } else {
    // Packed, or of some lanes: the products are made now, which a GPU may do, too.
    Finish(warp, &group, group.issued);
  }
  return true;
}

bool LateProducts::After(const WatchedStep& step) {
  const Kind kind = kinds_[step.pc];
  Warp& warp = step.warp;
  if (kind == Kind::kMultiply) {
    Warpgroup& group = GroupOf(warp);
    WarpState& state = group.warps[warp.index % 4];
    if (step.result != Step::kNext) {
      state.waits = true;
    } else if (!std::exchange(state.waits, false)) {
      Issue(step, &group);  // the last warp of the four
    }
    return true;
  }
  const auto cta = ctas_.find(warp.cta);
  if (cta == ctas_.end()) return true;
  const auto found = cta->second.find(warp.index / 4);
  if (found == cta->second.end()) return true;
  WarpState& state = found->second.warps[warp.index % 4];
  if (kind == Kind::kCommit) state.groups.push_back(found->second.issued);
  if (state.late.empty() || step.result == Step::kWait) return true;
  for (const OperandRef& ref : step.operands()) {
    if (!ref.is_definition) continue;
    const RegisterInfo& info = step.info(ref);
    for (uint32_t at = info.offset; at < info.offset + BytesOf(info.width); at += kLaneBytes) {
      state.late.erase(at);
    }
  }
  if (moved_.product != nullptr) state.late[moved_to_] = std::move(moved_);
  return true;
}

void LateProducts::Issue(const WatchedStep& step, Warpgroup* group) {
  Warp& last = step.warp;
  const Instruction& in = last.program->original->code[step.pc];
  auto product = std::make_shared<Product>();
  product->form = static_cast<const WgmmaForm*>(in.data);
  product->number = group->issued++;
  const WgmmaForm& f = *product->form;
  const auto accumulators = static_cast<size_t>(f.accumulators);
  product->b_descriptor = last.U64(in.operand[WgmmaForm::kB])[0];
  if (!f.shape.a_in_registers) product->a_descriptor = last.U64(in.operand[WgmmaForm::kA])[0];
  if (f.has_scale) {
    product->scale_d = ((last.Predicate(in.operand[WgmmaForm::kScale]) & 1) != 0) != f.scale_negated;
  }
  for (uint32_t w = 0; w < 4; ++w) {
    Warp& warp = last.cta->warps[last.index / 4 * 4 + w];
    auto& late = group->warps[w].late;
    if (f.shape.sparse) {
      const uint32_t* from = warp.U32(in.operand[WgmmaForm::kMetadata]);
      product->metadata[w].assign(from, from + 32);
    }
    for (int r = 0; f.shape.a_in_registers && r < 4; ++r) {
      const uint32_t* from = warp.U32(in.operand[WgmmaForm::kA + r]);
      product->a[w].insert(product->a[w].end(), from, from + 32);
    }
    product->d[w].resize(accumulators * 32);
    product->inputs[w].resize(accumulators);
    // All accumulators are read before the first is taken over: D may name one register twice.
    for (size_t r = 0; r < accumulators; ++r) {
      const uint32_t at = in.list[r];
      const auto it = late.find(at);
      if (it != late.end()) product->inputs[w][r] = it->second;
      std::memcpy(product->d[w].data() + r * 32, warp.U32(at), kLaneBytes);
    }
    for (size_t r = 0; r < accumulators; ++r) late[in.list[r]] = {product, static_cast<int>(r)};
  }
  group->under_way.push_back(std::move(product));
  if (group->under_way.size() > kMostUnderWay) {
    Make(*last.cta, group->under_way.front().get());
    group->under_way.pop_front();
  }
}

}  // namespace trun::device
