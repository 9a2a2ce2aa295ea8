#include "server/device/emulator/async/mbarrier_ops.h"

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/async/families.h"
#include "server/device/emulator/async/late_copies.h"
#include "server/device/emulator/async/operand_address.h"
#include "server/device/emulator/exec/memory_access.h"
#include "server/device/emulator/ops/families.h"
#include "server/device/emulator/ptx/ast.h"

namespace trun::device {
namespace {

struct MbarrierForm {
  OperandAddress address;
  Space space = Space::kGeneric;
  bool drop = false;    // arrive_drop; of cp.async.mbarrier.arrive: .noinc
  bool expect = false;  // arrive.expect_tx
  bool parity = false;
  bool blocking = false;  // try_wait
};

constexpr int kResult = 0, kAddress = 1, kCount = 2;  // slots

const MbarrierForm& FormOf(const Instruction& in) { return *static_cast<const MbarrierForm*>(in.data); }

uint64_t* Object(Warp& warp, const Instruction& in, uint32_t lane) {
  const MbarrierForm& f = FormOf(in);
  return ResolveMbarrier(warp, lane, f.space, AddressOf(warp, in, f.address, lane));
}

Step OpInit(Warp& warp, const Instruction& in, uint32_t mask) {
  return ForEachLane(mask, [&](uint32_t lane) {
    uint64_t* word = Object(warp, in, lane);
    if (word == nullptr) return false;
    const uint32_t count = warp.U32(in.operand[kCount])[lane];
    if (count == 0 || count > kMbarrierMaxCount) {
      Raise(warp, lane, Reason::kBarrierDivergence, absl::StrCat("mbarrier.init with a count of ", count));
      return false;
    }
    *word = Mbarrier{count, count, 0, false}.Encode();
    return true;
  });
}

Step OpInval(Warp& warp, const Instruction& in, uint32_t mask) {
  return ForEachLane(mask, [&](uint32_t lane) {
    uint64_t* word = Object(warp, in, lane);
    if (word == nullptr) return false;
    if (!CheckMbarrier(warp, lane,
                       Mbarrier::IsValid(*word) ? MbarrierResult::kOk : MbarrierResult::kNotInitialised,
                       word)) {
      return false;
    }
    if (warp.cta->bulk_copies != nullptr) MakeCopiesOfMbarrier(*warp.cta, word);
    *word = 0;
    return true;
  });
}

Step OpExpect(Warp& warp, const Instruction& in, uint32_t mask) {
  return ForEachLane(mask, [&](uint32_t lane) {
    uint64_t* word = Object(warp, in, lane);
    return word != nullptr &&
           CheckMbarrier(warp, lane, MbarrierExpectTransactions(word, warp.U32(in.operand[kCount])[lane]),
                         word);
  });
}

Step OpComplete(Warp& warp, const Instruction& in, uint32_t mask) {
  return ForEachLane(mask, [&](uint32_t lane) {
    uint64_t* word = Object(warp, in, lane);
    return word != nullptr &&
           CheckMbarrier(warp, lane, MbarrierCompleteTransactions(word, warp.U32(in.operand[kCount])[lane]),
                         word);
  });
}

Step OpArrive(Warp& warp, const Instruction& in, uint32_t mask) {
  const MbarrierForm& f = FormOf(in);
  return ForEachLane(mask, [&](uint32_t lane) {
    uint64_t* word = Object(warp, in, lane);
    if (word == nullptr) return false;
    const uint64_t before = *word;
    const uint32_t count = warp.U32(in.operand[kCount])[lane];
    if (f.expect && !CheckMbarrier(warp, lane, MbarrierExpectTransactions(word, count), word)) return false;
    if (!CheckMbarrier(warp, lane, MbarrierArrive(word, f.expect ? 1 : count, f.drop), word)) return false;
    warp.U64(in.operand[kResult])[lane] = before;
    return true;
  });
}

Step OpWait(Warp& warp, const Instruction& in, uint32_t mask) {
  const MbarrierForm& f = FormOf(in);
  uint32_t ended = 0;
  const Step step = ForEachLane(mask, [&](uint32_t lane) {
    uint64_t* word = Object(warp, in, lane);
    if (word == nullptr) return false;
    if (!CheckMbarrier(warp, lane,
                       Mbarrier::IsValid(*word) ? MbarrierResult::kOk : MbarrierResult::kNotInitialised,
                       word)) {
      return false;
    }
    const bool parity = f.parity ? (warp.U32(in.operand[kCount])[lane] & 1) != 0
                                 : Mbarrier::Decode(warp.U64(in.operand[kCount])[lane]).parity;
    if (warp.cta->bulk_copies != nullptr &&
        !CheckMbarrier(warp, lane, MakeCopiesOfPhase(*warp.cta, word, parity), word)) {
      return false;
    }
    if (MbarrierPhaseEnded(*word, parity)) ended |= 1u << lane;
    return true;
  });
  if (step == Step::kFault) return step;
  uint32_t& result = warp.Predicate(in.operand[kResult]);
  result = (result & ~mask) | ended;
  if (ended == mask || !f.blocking) {
    if (!f.blocking && ended != mask) ++warp.polls;
    return Step::kNext;
  }
  // The time limit of a try_wait is one turn of the other warps.
  warp.waits_on_mbarrier = true;
  return Step::kYield;
}

Step OpPendingCount(Warp& warp, const Instruction& in, uint32_t mask) {
  return ForEachLane(mask, [&](uint32_t lane) {
    warp.U32(in.operand[kResult])[lane] = Mbarrier::Decode(warp.U64(in.operand[kCount])[lane]).pending;
    return true;
  });
}

Step OpAsyncArrive(Warp& warp, const Instruction& in, uint32_t mask) {
  CompleteAsyncCopies(warp);
  // The copies of this thread have been made when they were issued, so the arrival is due at once.
  const MbarrierForm& f = FormOf(in);
  return ForEachLane(mask, [&](uint32_t lane) {
    uint64_t* word = Object(warp, in, lane);
    if (word == nullptr) return false;
    if (!f.drop && !CheckMbarrier(warp, lane, MbarrierExpectOneMore(word), word)) return false;
    return CheckMbarrier(warp, lane, MbarrierArrive(word, 1, false), word);
  });
}

// .sem and .scope order memory, which the emulator always does.
void TakeOrder(Form& form) {
  for (const char* word : {"relaxed", "acquire", "release", "cta", "cluster", "gpu", "sys"}) form.Take(word);
}

Operation DecodeWait(Form& form, MbarrierForm f, bool blocking) {
  f.blocking = blocking;
  f.parity = form.Take("parity");
  TakeOrder(form);
  f.space = form.TakeSpace();
  if (!form.Take("b64")) return form.Malformed("it has no .b64");
  form.Destination(kResult, 0, Type::kPred);
  f.address = DecodeAddress(form, kAddress, 1);
  if (f.parity) {
    form.Source(kCount, 2, Type::kB32);
  } else {
    form.Source(kCount, 2, Type::kB64);
  }
  form.Data(f);  // a fourth operand, the hint of how long to wait, changes nothing
  return &OpWait;
}

Operation DecodeArrive(Form& form, MbarrierForm f) {
  f.expect = form.Take("expect_tx");
  form.Take("noComplete");  // promises that the phase does not end here
  TakeOrder(form);
  f.space = form.TakeSpace();
  if (!form.Take("b64")) return form.Malformed("it has no .b64");
  // Written without a result, the first operand is the address.
  const int first = form.operands() > 0 && form.operand(0).kind == ptx::OperandKind::kAddress ? 0 : 1;
  if (first == 1) {
    form.Destination(kResult, 0, Type::kB64);
  } else {
    form.Scratch(kResult, Width::k64);
  }
  f.address = DecodeAddress(form, kAddress, first);
  if (form.operands() > first + 1) {
    form.Source(kCount, first + 1, Type::kB32);
  } else if (f.expect) {
    return form.Malformed("arrive.expect_tx needs a count of bytes");
  } else {
    form.Constant(kCount, 1, Width::k32);
  }
  form.Data(f);
  return &OpArrive;
}

Operation DecodeMbarrier(Form& form) {
  MbarrierForm f;
  if (form.Take("try_wait")) return DecodeWait(form, f, true);
  if (form.Take("test_wait")) return DecodeWait(form, f, false);
  if (form.Take("arrive")) return DecodeArrive(form, f);
  if (form.Take("arrive_drop")) {
    f.drop = true;
    return DecodeArrive(form, f);
  }
  if (form.Take("pending_count")) {
    if (!form.Take("b64")) return form.Malformed("it has no .b64");
    form.Destination(kResult, 0, Type::kB32);
    form.Source(kCount, 1, Type::kB64);
    return &OpPendingCount;
  }
  Operation run = nullptr;
  if (form.Take("init")) run = &OpInit;
  if (form.Take("inval")) run = &OpInval;
  if (form.Take("expect_tx")) run = &OpExpect;
  if (form.Take("complete_tx")) run = &OpComplete;
  if (run == nullptr) return form.Unsupported("not an operation of mbarrier");
  TakeOrder(form);
  f.space = form.TakeSpace();
  if (!form.Take("b64")) return form.Malformed("it has no .b64");
  f.address = DecodeAddress(form, kAddress, 0);
  if (run != &OpInval) form.Source(kCount, 1, Type::kB32);
  form.Data(f);
  return run;
}

}  // namespace

uint64_t* ResolveMbarrier(Warp& warp, uint32_t lane, Space space, uint64_t address) {
  return reinterpret_cast<uint64_t*>(Resolve(warp, lane, space, address, 8, 8, true));
}

bool CheckMbarrier(Warp& warp, uint32_t lane, MbarrierResult result, const uint64_t* word) {
  const Mbarrier b = Mbarrier::Decode(*word);
  switch (result) {
    case MbarrierResult::kOk:
      return true;
    case MbarrierResult::kNotInitialised:
      Raise(warp, lane, Reason::kBarrierDivergence,
            "an mbarrier that is not initialised, or was invalidated");
      return false;
    case MbarrierResult::kTooManyArrivals:
      Raise(warp, lane, Reason::kBarrierDivergence,
            absl::StrCat("more arrivals at an mbarrier than its phase expects (", b.pending, " of ",
                         b.expected, " were left)"));
      return false;
    case MbarrierResult::kTransactionRange:
      Raise(
          warp, lane, Reason::kBarrierDivergence,
          absl::StrCat("the transaction count of an mbarrier left its range (it was ", b.transactions, ")"));
      return false;
  }
  return false;
}

Operation DecodeCopyArrive(Form& form) {
  MbarrierForm f;
  if (!form.Take("mbarrier") || !form.Take("arrive"))
    return form.Malformed("it is no cp.async.mbarrier.arrive");
  f.drop = form.Take("noinc");
  f.space = form.TakeSpace();
  if (!form.Take("b64")) return form.Malformed("it has no .b64");
  f.address = DecodeAddress(form, kAddress, 0);
  form.Data(f);
  return &OpAsyncArrive;
}

void RegisterMbarrier(FamilyTable* table) { table->Add("mbarrier", &DecodeMbarrier); }

}  // namespace trun::device
