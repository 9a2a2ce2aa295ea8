#include "server/device/emulator/checks/access_history.h"

namespace trun::device {
namespace {

bool Conflict(const AccessRecord& a, const AccessRecord& b) {
  using R = AccessRecord;
  if ((a.bytes & b.bytes) == 0 || a.agent == b.agent) return false;
  if (!a.Is(R::kWrite) && !b.Is(R::kWrite)) return false;
  // Two copies to one place are the same copy made twice, as far as kernels do that at all.
  if (a.Is(R::kAsync) && b.Is(R::kAsync) && a.Is(R::kWrite) && b.Is(R::kWrite)) return false;
  if (a.Is(R::kAtomic) && b.Is(R::kAtomic)) return false;
  return true;
}

}  // namespace

bool AccessCell::Add(const AccessRecord& access, const VectorClock& clock, AccessRecord* conflict) {
  bool found = false;
  AccessRecord* own = nullptr;
  AccessRecord* spare = nullptr;
  AccessRecord* read = nullptr;
  for (AccessRecord& r : records) {
    if (r.step == 0) {
      spare = &r;
      continue;
    }
    const bool ordered = clock.Get(r.agent) >= r.step;
    if (!found && !ordered && Conflict(r, access)) {
      *conflict = r;
      found = true;
    }
    if (r.agent == access.agent && r.flags == access.flags) own = &r;
    if (ordered && (spare == nullptr || spare->step != 0) && (access.bytes & r.bytes) == r.bytes &&
        (access.Is(AccessRecord::kWrite) || !r.Is(AccessRecord::kWrite))) {
      spare = &r;
    }
    if (!r.Is(AccessRecord::kWrite)) read = &r;
  }
  if (own != nullptr) {
    const uint8_t bytes = own->step == access.step ? own->bytes | access.bytes : access.bytes;
    *own = access;
    own->bytes = bytes;
    return found;
  }
  if (spare == nullptr) spare = read != nullptr ? read : &records[access.pc % records.size()];
  *spare = access;
  return found;
}

}  // namespace trun::device
