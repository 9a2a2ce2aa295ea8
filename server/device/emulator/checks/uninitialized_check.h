// --check=uninit: values that nothing wrote, where they matter.
//
// Undefined bytes are followed through registers, shared and local memory (checks/definedness.h), and
// reported where they decide something: a branch, the guard of an access, an address, or a value stored to
// global memory. Computing with them is no error: kernels load masked-off lanes and never look at them.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_UNINITIALIZED_CHECK_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_UNINITIALIZED_CHECK_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/device/emulator/checks/definedness.h"
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
  struct CtaState {
    std::vector<RegisterDefinedness> warps;
    std::vector<uint8_t> shared, local;  // 1: the byte is undefined
  };
  struct Rule {
    FlowRule flow;
    const char* guard = nullptr;  // what an undefined guard decides; null: nothing that matters
    bool address = false;         // operand 0 is one
    bool is_cp_async = false, is_bulk = false, is_load = false, is_store = false, is_atomic = false;
    bool is_matrix = false, transposes = false;
    bool sign_extends = false;
    int matrices = 1;
  };

  static Rule RuleOf(const Program& program, uint32_t pc);
  CtaState& StateOf(const Cta& cta) { return *ctas_[&cta]; }
  // False after the fault of an undefined use of `ref` by a lane.
  bool Use(const WatchedStep& step, const OperandRef& ref, uint32_t lanes, const char* what);
  bool Report(const WatchedStep& step, uint32_t lane, const OperandRef& ref, uint32_t origin,
              const char* what, const AccessFault* access = nullptr);

  // Bytes of an access that are undefined, one each; null: all are defined.
  const uint8_t* Undefined(const WatchedStep& step, const NotedAccess& access);
  void SetUndefined(const WatchedStep& step, const NotedAccess& access, const uint8_t* undefined);

  bool AfterMemory(const WatchedStep& step, const Rule& rule);
  void Load(const WatchedStep& step, const NotedAccess& access, const Rule& rule);
  bool Store(const WatchedStep& step, const NotedAccess& access);
  bool Atomic(const WatchedStep& step, const NotedAccess& access);
  void LoadMatrix(const WatchedStep& step, const Rule& rule);
  void StoreMatrix(const WatchedStep& step, const Rule& rule);
  void Multiply(const WatchedStep& step);
  void Commit(const WatchedStep& step);

  const Program& program_;
  UnwrittenMemory* const global_;
  std::vector<Rule> rules_;
  std::map<const Cta*, std::unique_ptr<CtaState>> ctas_;
  std::vector<std::unique_ptr<CtaState>> spare_;
  // Of global memory: each lane's last, by instruction.
  absl::flat_hash_map<uint32_t, std::array<AccessFault, 32>> unwritten_reads_;
  std::vector<FlowResult> pending_;   // of the step between Before and After
  std::vector<LaneBytes> fragments_;  // of mma: the sources' definedness, in the order of the operands
  std::vector<uint8_t> bytes_;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_UNINITIALIZED_CHECK_H_
