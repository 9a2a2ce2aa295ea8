#include "server/device/emulator/checks/access_history.h"

namespace trun::device {
namespace {

using R = AccessRecord;

// Whether the async proxy (or that of tensor maps) has to be told of an earlier write before the access. A
// map that was made in shared memory and copied from there is overwritten without: Triton 3.4 does so.
bool NeedsFence(const R& before, const R& now) {
  return before.Is(R::kWrite) && !before.Is(R::kAsync) && !before.Is(R::kOverwritten) &&
         !(before.Is(R::kMakesMap) && now.Is(R::kWrite));
}

bool IsGenericWrite(const R& r) { return r.Is(R::kWrite) && !r.Is(R::kAsync); }

Conflict ConflictOf(const R& before, const R& now, bool ordered, const AccessContext& context) {
  if ((before.bytes & now.bytes) == 0) return Conflict::kNone;
  if (context.fenced != nullptr && NeedsFence(before, now) && ordered &&
      context.fenced->Get(before.agent) < before.step) {
    return Conflict::kProxy;
  }
  if (before.agent == now.agent) {
    const bool apart = context.lanes_since != 0 && IsGenericWrite(before) && !before.Is(R::kAtomic) &&
                       !now.Is(R::kAtomic) && !now.Is(R::kAsync) && before.lane != R::kSeveralLanes &&
                       now.lane != R::kSeveralLanes && before.lane != now.lane && before.pc != now.pc &&
                       before.own_read != now.pc && before.step >= context.lanes_since;
    return apart ? Conflict::kLanes : Conflict::kNone;
  }
  if (ordered || (!before.Is(R::kWrite) && !now.Is(R::kWrite))) return Conflict::kNone;
  // Two copies to one place are the same copy made twice, as far as kernels do that at all.
  if (before.Is(R::kAsync) && now.Is(R::kAsync) && before.Is(R::kWrite) && now.Is(R::kWrite)) {
    return Conflict::kNone;
  }
  if (before.Is(R::kAtomic) && now.Is(R::kAtomic)) {
    const Scope scope = before.Is(R::kCtaScope) || now.Is(R::kCtaScope)           ? Scope::kCta
                        : before.Is(R::kClusterScope) || now.Is(R::kClusterScope) ? Scope::kCluster
                                                                                  : Scope::kAll;
    return context.reaches(before.agent, now.agent, scope) ? Conflict::kNone : Conflict::kUnordered;
  }
  return Conflict::kUnordered;
}

}  // namespace

Conflict AccessCell::Add(const AccessRecord& access, const AccessContext& context, AccessRecord* before) {
  Conflict found = Conflict::kNone;
  AccessRecord* own = nullptr;
  AccessRecord* spare = nullptr;
  AccessRecord* read = nullptr;
  for (AccessRecord& r : records) {
    if (r.step == 0) {
      spare = &r;
      continue;
    }
    const bool ordered = context.known.Get(r.agent) >= r.step;
    if (found == Conflict::kNone) {
      found = ConflictOf(r, access, ordered, context);
      if (found != Conflict::kNone) *before = r;
    }
    if (access.Is(R::kWrite) && (access.Is(R::kAsync) || access.Is(R::kMakesMap)) &&
        (access.bytes & r.bytes) == r.bytes) {
      r.flags |= R::kOverwritten;
    }
    if (r.agent == access.agent && (r.flags & ~R::kOverwritten) == access.flags) own = &r;
    if (ordered && (spare == nullptr || spare->step != 0) && (access.bytes & r.bytes) == r.bytes &&
        (access.Is(AccessRecord::kWrite) || !r.Is(AccessRecord::kWrite))) {
      spare = &r;
    }
    if (!r.Is(AccessRecord::kWrite)) read = &r;
  }
  if (own != nullptr) {
    const bool same_step = own->step == access.step;
    const uint8_t bytes = same_step ? own->bytes | access.bytes : access.bytes;
    const bool parts = same_step && own->lane != access.lane && bytes != access.bytes;
    *own = access;
    own->bytes = bytes;
    if (parts) own->lane = AccessRecord::kSeveralLanes;
    return found;
  }
  if (spare == nullptr) spare = read != nullptr ? read : &records[access.pc % records.size()];
  *spare = access;
  return found;
}

}  // namespace trun::device
