// --check=uninit: values that nothing wrote, where they matter.
//
// Undefined bytes are followed through registers, shared and local memory (checks/definedness.h), matrix
// products of a warp and a warpgroup and asynchronous copies, and reported where they decide something: a
// branch, the guard of an access, an address, or a value stored to global memory. Computing with them is no
// error: kernels load masked-off lanes and never look at them.
//
// Asynchronous work hands on what is undefined when it is issued: between that and its wait nothing may
// change its operands (which --check=race sees to).
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_UNINITIALIZED_CHECK_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_UNINITIALIZED_CHECK_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/device/emulator/async/bulk_copy_form.h"
#include "server/device/emulator/checks/definedness.h"
#include "server/device/emulator/checks/slot_bytes.h"
#include "server/device/emulator/exec/instrument.h"
#include "server/device/emulator/memory/unwritten_memory.h"

namespace trun::device {

// Thread-compatible; one launch.
class UninitializedCheck final : public Watcher {
 public:
  // REQUIRES: `program` is an instrumented one; both outlive the check.
  UninitializedCheck(const Program& program, UnwrittenMemory* global);

  void CtaStarted(Cta& cta) override;
  void CtaEnded(Cta& cta) override;
  bool Before(const WatchedStep& step) override;
  bool After(const WatchedStep& step) override;

 private:
  // A phase of a barrier with a reduction (bar.red) of an undefined predicate.
  struct UnsureReduction {
    uint32_t phase = 0xffffffff;
    uint32_t origin = kNowhere;
  };
  struct CtaState {
    std::vector<RegisterDefinedness> warps;
    std::vector<uint8_t> shared, local;  // 1: the byte is undefined
    // Of undefined bytes of shared memory that were written: the read that brought them. Empty: no such
    // bytes.
    std::vector<uint32_t> shared_origins;
    std::vector<bool> waits_for_wgmma;                          // by warp
    std::array<std::array<UnsureReduction, 2>, 16> reductions;  // by barrier and parity
  };
  enum class Kind : uint8_t {
    kOther,
    kLoad,
    kStore,
    kAtomic,
    kMatrix,     // ldmatrix, stmatrix
    kTile,       // wmma.load, wmma.store
    kCopy,       // cp.async
    kBulk,       // cp.async.bulk, of tensors too
    kMapCopy,    // tensormap.cp_fenceproxy
    kReduction,  // bar.red
  };
  struct Rule {
    FlowRule flow;
    Kind kind = Kind::kOther;
    const char* guard = nullptr;  // what an undefined guard decides; null: nothing that matters
    const char* use = nullptr;    // and one of the sources in use_slots
    uint32_t use_slots = 0;       // a bit for each slot below 7; bit 7: the list
    uint32_t use_lanes = kFullMask;
    bool stores = false;  // kMatrix, kTile
    bool transposes = false;
    bool sign_extends = false;
    int matrices = 1;
  };

  static Rule RuleOf(const Program& program, uint32_t pc);
  CtaState& StateOf(const Cta& cta) { return *ctas_[&cta]; }
  RegisterDefinedness& RegistersOf(const Warp& warp) { return StateOf(*warp.cta).warps[warp.index]; }
  // False after the fault of an undefined use of `ref` by a lane.
  bool Use(const WatchedStep& step, const OperandRef& ref, uint32_t lanes, const char* what);
  bool Report(const WatchedStep& step, uint32_t lane, const OperandRef& ref, uint32_t origin,
              const char* what, const AccessFault* access = nullptr);
  // Of memory, not of a register.
  bool ReportMemory(const WatchedStep& step, const char* what, const NotedAccess& access, uint32_t skipped);
  void Commit(const WatchedStep& step);
  void CommitResults(const WatchedStep& step, const Warp& warp, const SlotBytes& results);
  void Gather(const WatchedStep& step, const RegisterDefinedness& registers, SlotBytes* sources) const;
  void Reduce(const WatchedStep& step, bool before);

  // Bytes of an access that are undefined, one each; null: all are defined.
  const uint8_t* Undefined(const WatchedStep& step, const NotedAccess& access);
  void SetUndefined(const WatchedStep& step, const NotedAccess& access, const uint8_t* undefined);
  // The read that brought an undefined value of `access` there, or the access itself.
  uint32_t OriginOf(const WatchedStep& step, const NotedAccess& access, const uint8_t* undefined);
  void SetOrigin(const NotedAccess& access, const uint8_t* undefined, uint32_t origin);
  void NoteUnwrittenRead(const WatchedStep& step, uint32_t lanes, const NotedAccess& access,
                         const uint8_t* undefined);

  // uninitialized_accesses.cc: what a lane, or an asynchronous copy, does to memory.
  bool AfterMemory(const WatchedStep& step, const Rule& rule);
  void Load(const WatchedStep& step, const NotedAccess& access, const Rule& rule);
  bool Store(const WatchedStep& step, const NotedAccess& access);
  bool Atomic(const WatchedStep& step, const NotedAccess& access);
  bool CopyBytes(const WatchedStep& step, const NotedAccess& source, const NotedAccess& target, bool reduces);
  bool BulkCopy(const WatchedStep& step);
  void LoadBox(const WatchedStep& step, const BulkCopyForm& form, const TensorMap& map,
               const NotedAccess& box);
  bool StoreBox(const WatchedStep& step, const BulkCopyForm& form, const TensorMap& map,
                const NotedAccess& box);

  // uninitialized_matrices.cc: what a warp, or a warpgroup, does together.
  void LoadMatrix(const WatchedStep& step, const Rule& rule);
  void StoreMatrix(const WatchedStep& step, const Rule& rule);
  void LoadTile(const WatchedStep& step);
  bool StoreTile(const WatchedStep& step);
  void Wgmma(const WatchedStep& step);

  const Program& program_;
  UnwrittenMemory* const global_;
  std::vector<Rule> rules_;
  std::map<const Cta*, std::unique_ptr<CtaState>> ctas_;
  std::vector<std::unique_ptr<CtaState>> spare_;
  // Of global memory: each lane's last, by instruction.
  absl::flat_hash_map<uint32_t, std::array<AccessFault, 32>> unwritten_reads_;
  // Of the step between Before and After.
  std::vector<FlowResult> pending_;
  SlotBytes sources_, results_;
  uint32_t barrier_ = 0, phase_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_UNINITIALIZED_CHECK_H_
