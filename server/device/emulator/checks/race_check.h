// --check=race and --check=async: accesses to one place that nothing orders.
//
// Happens-before with vector clocks. An agent is a warp, or what a warp has under way: cp.async, bulk copies,
// wgmma. Lanes of a warp are told apart where one reads or writes what another has written. Barriers,
// mbarriers, atomics and fences order what they order in PTX; a copy is ordered before what comes after its
// wait, and before nothing else. Every launch begins anew. A plain store that changes no byte counts as no
// access: kernels store one value from several warps. Of a load of global memory that several warps of a
// program make of one place, one counts.
//
// .cta scopes order the warps of one program only, .cluster ones those of a cluster. What a store or atomic
// has written is seen through another proxy (wgmma and bulk copies; the tensor maps of these) only behind a
// fence for that proxy, on whichever side of what orders the two. What is not modelled orders things (fewer
// reports, no wrong ones): addresses that are the same memory (fence.proxy.alias), and wgmma.fence.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_RACE_CHECK_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_RACE_CHECK_H_

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "server/device/emulator/checks/access_history.h"
#include "server/device/emulator/checks/vector_clock.h"
#include "server/device/emulator/exec/instrument.h"

namespace trun::device {

// Thread-compatible; one launch.
class RaceCheck final : public Watcher {
 public:
  // `all`: every race; otherwise only those with something asynchronous.
  // REQUIRES: `program` is an instrumented one, and outlives the check; the instrument keeps old bytes.
  RaceCheck(const Program& program, bool all);

  void CtaStarted(Cta& cta) override;
  bool Before(const WatchedStep& step) override;
  bool After(const WatchedStep& step) override;

 private:
  enum class Kind : uint8_t {
    kOther,
    kAccess,  // ld, st, ldmatrix, stmatrix, tensormap
    kAtomic,
    kFence,
    kProxyFence,
    kWarpBarrier,
    kBarrier,
    kClusterArrive,
    kClusterWait,
    kMbarrierInit,
    kMbarrierArrive,
    kMbarrierWait,
    kCopy,
    kCopyCommit,
    kCopyWait,
    kCopyArrive,  // on an mbarrier
    kBulk,
    kBulkCommit,
    kBulkWait,
    kWgmma,
    kWgmmaCommit,
    kWgmmaWait,
    kMove,
    kExit,
  };
  struct Rule {
    Kind kind = Kind::kOther;
    bool strong = false, acquires = false, releases = false, relaxed = false;
    Scope scope = Scope::kAll;
    bool arrives_only = false;  // bar.arrive
    bool all_groups = false;    // cp.async.wait_all
    bool reads_only = false;    // bulk wait_group.read
    bool whole_warp = false;    // wmma: the lanes' accesses are made as one
    bool rows = false, bytes = false,
         columns = false;    // stmatrix, of bytes, .trans: lanes write rows of several
    bool makes_map = false;  // tensormap: a write even where it changes no byte
    bool parity = false;     // an mbarrier's phase is named by its parity, not a token
    std::array<bool, kProxies> fences = {};
    uint32_t groups = 0;  // that a wait leaves
  };
  // What a warp has under way of one kind.
  struct Pipe {
    uint32_t agent = 0;  // 0: none yet
    uint32_t step = 0;
    std::deque<uint32_t> groups;
  };
  struct WarpState {
    uint32_t agent = 0;
    uint32_t step = 1;
    uint32_t lanes_since = 1;  // the step since which its lanes have not met
    Knowledge clock;
    // By fences, and by relaxed accesses that a fence then makes known; for those within each scope.
    std::array<Knowledge, kScopes> released, seen_relaxed;
    Pipe copies, bulk_reads, bulk_writes, products;
    std::map<const uint8_t*, Pipe> loads;               // by mbarrier
    absl::flat_hash_map<uint32_t, uint32_t> in_flight;  // values that a wgmma has still to write, by its step
    absl::flat_hash_map<uint32_t, uint32_t> read_in_flight;  // and of A, that it reads
    bool waits_for_wgmma = false;
    struct Store {
      uint32_t step = 0, pc = 0;
    };
    std::map<uint32_t, Store> stores;  // by lane: the last bulk copy that reads shared memory
  };
  struct BarrierState {
    Knowledge arrived, completed;
  };
  struct MbarrierState {
    Knowledge arrived;                   // in the current phase
    std::array<Knowledge, 2> completed;  // by the last phase of each parity
    bool parity = false;                 // of the current phase
  };
  // What has been published at one place: within each scope, by CTA and by cluster.
  using Place = std::array<std::map<uint64_t, Knowledge>, kScopes>;
  struct CtaState {
    std::vector<WarpState> warps;
    std::array<BarrierState, 16> barriers;
    std::vector<AccessCell> shared;
    absl::flat_hash_map<const uint8_t*, Place> places;  // in its shared memory
  };
  struct Agent {
    std::array<uint32_t, 3> program = {};
    uint64_t cluster = 0;
    uint32_t first_thread = 0;
    const char* name = nullptr;  // null: the warp itself
  };

  static Rule RuleOf(const Program& program, uint32_t pc);
  uint32_t NewAgent(const Cta& cta, uint32_t warp, const char* name);
  CtaState& StateOf(const Cta& cta) { return *ctas_[&cta]; }
  WarpState& StateOf(const Warp& warp) { return StateOf(*warp.cta).warps[warp.index]; }
  void Tick(WarpState& state) { state.clock.Raise(state.agent, ++state.step); }
  Pipe& Use(const Warp& warp, Pipe* pipe, const char* name);

  void Barrier(const WatchedStep& step, const Rule& rule);
  void Cluster(const WatchedStep& step, const Rule& rule);
  void Mbarrier(const WatchedStep& step, const Rule& rule);
  // Something of `clock` arrives in the mbarrier's phase, which may end with it; null: look whether it has.
  MbarrierState& Arrive(const uint8_t* word, const Knowledge* clock, const Pipe* pipe);
  void Fence(WarpState* state, const Rule& rule);
  void Synchronize(const WatchedStep& step, const Rule& rule, const NotedAccess& access);
  bool Access(const WatchedStep& step, const Rule& rule);
  // Lanes of one store that write different values to one place: false after a fault.
  bool StoreOfLanes(const WatchedStep& step, const Rule& rule);
  bool Copy(const WatchedStep& step);
  bool Exit(const WatchedStep& step);
  bool Bulk(const WatchedStep& step);
  // Of one lane: into global memory, or into shared memory with an mbarrier.
  bool BulkStore(const WatchedStep& step, absl::Span<const NotedAccess> accesses);
  bool BulkLoad(const WatchedStep& step, bool multicast, absl::Span<const NotedAccess> accesses);
  bool Wgmma(const WatchedStep& step);
  bool ReadOperand(const WatchedStep& step, uint64_t descriptor, bool transposed, uint32_t lines,
                   uint32_t units, const AccessRecord& record, const Knowledge& clock);
  void Wait(WarpState& state, Pipe& pipe, const Rule& rule);

  bool IsCopyOfRead(AccessCell* cell, AccessRecord* record) const;
  // Notes `access` as `record`; false after the fault of a race. `reads_map`: of a tensor map by its copy.
  bool Note(const WatchedStep& step, const NotedAccess& access, AccessRecord record, const Knowledge& clock,
            bool reads_map = false);
  bool Report(const WatchedStep& step, const NotedAccess& access, const AccessRecord& record,
              const AccessRecord& before, Conflict conflict, bool reads_map);

  const Program& program_;
  const bool all_;
  std::array<bool, kScopes> scopes_ = {};  // that something in the program has
  std::vector<Rule> rules_;
  std::vector<Agent> agents_;
  std::map<const Cta*, std::unique_ptr<CtaState>> ctas_;
  absl::flat_hash_map<uint64_t, BarrierState> clusters_;  // by number of the cluster
  absl::flat_hash_map<const uint8_t*, Place> places_;     // in global memory: what atomics have published
  std::map<const uint8_t*, MbarrierState> mbarriers_;
  AccessPages global_;
  // Of the step between Before and After.
  bool was_waiting_ = false;
  uint32_t barrier_ = 0;
  uint32_t generation_ = 0;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_RACE_CHECK_H_
