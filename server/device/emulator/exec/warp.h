// The state of a running warp, its CTA and its worker: what operations read and write.
//
// One host thread (a Worker) runs a CTA, and the CTAs of its cluster, from first to last instruction; nothing
// here is shared between threads except what Launch says. All of it is plain data, so a CTA can be left at
// any instruction and taken up again.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_EXEC_WARP_H_
#define TRUN_SERVER_DEVICE_EMULATOR_EXEC_WARP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "common/base/status.h"
#include "server/device/device.h"
#include "server/device/emulator/memory/allocation_table.h"
#include "server/device/emulator/program/instruction.h"

namespace trun::device {

struct Program;
struct Cta;
struct Launch;
class Instrument;

inline constexpr uint32_t kFullMask = 0xffffffff;
inline constexpr uint32_t kNoPc = 0xffffffff;

// Where a fault came from, before it is made into a report.
struct Fault {
  absl::Status status;
  FaultReport report;
};

// One host thread at work on a launch.
struct Worker {
  static constexpr size_t kSites = 512;

  Launch* launch = nullptr;
  const AllocationSnapshot* memory = nullptr;
  // What FindRange looks in: `memory`, or nothing where an instrument has to see each access in Resolve.
  const AllocationSnapshot* unwatched = nullptr;
  Instrument* instrument = nullptr;  // of the launch; null: none
  // The range that an instruction touched last, by instruction.
  std::array<const AllocationRange*, kSites> last_range = {};
  std::unique_ptr<Fault> fault;  // set by the operation that returns kFault

  // The range that holds [begin, end) of global memory; null when none does, or the access has to go through
  // Resolve.
  const AllocationRange* FindRange(const Instruction& in, uint64_t begin, uint64_t end) {
    const AllocationRange*& last = last_range[(reinterpret_cast<uintptr_t>(&in) >> 6) % kSites];
    if (last != nullptr && begin >= last->begin && end <= last->end && begin <= end) return last;
    const AllocationRange* found = unwatched->Find(begin, end);
    if (found != nullptr) last = found;
    return found;
  }
};

// Lanes of a warp that stand at one instruction while others run.
struct Group {
  uint32_t mask = 0;
  uint32_t pc = 0;
  bool waiting = false;  // an operation said kWait
  bool parked = false;   // it spun; others first
};

enum class WarpState : uint8_t { kReady, kWaiting, kDone };

// What one asynchronous family keeps for a warp between instructions. Owned by the warp.
struct WarpExtension {
  virtual ~WarpExtension() = default;
  virtual void LanesExit(uint32_t /*mask*/) {}
};

struct Warp {
  uint8_t* registers = nullptr;  // 64-byte aligned
  const Program* program = nullptr;
  Worker* worker = nullptr;
  Cta* cta = nullptr;

  // The running group.
  uint32_t pc = 0;
  uint32_t active = 0;
  uint32_t switch_pc = kNoPc;  // the lowest pc of another group that could run

  uint32_t live = 0;                // lanes that have not exited
  uint32_t index = 0;               // in the CTA
  uint32_t cluster_phase[32] = {};  // of each lane's last arrival at the cluster's barrier
  uint32_t polls = 0;               // operations since the last yield that may wait for others
  uint32_t turns = 0;               // backward branches of the running group while others were there
  uint32_t carry = 0;               // CC.CF of each lane
  uint64_t clock_reads = 0;
  uint64_t executed = 0;  // instructions, as of the last branch
  WarpState state = WarpState::kDone;
  int32_t barrier = -1;  // the named barrier that the warp has come to
  uint32_t barrier_generation = 0;
  bool waits_outside = false;      // for other CTAs
  bool waits_on_mbarrier = false;  // its last operation was a try_wait that failed
  uint32_t group_count = 0;
  Group groups[32];                            // the other groups
  std::unique_ptr<WarpExtension> async;        // cp.async under way, where it is late
  std::unique_ptr<WarpExtension> bulk_copies;  // to global memory, where they are late (async/late_copies.h)

  uint32_t* U32(uint32_t offset) { return reinterpret_cast<uint32_t*>(registers + offset); }
  uint64_t* U64(uint32_t offset) { return reinterpret_cast<uint64_t*>(registers + offset); }
  uint32_t& Predicate(uint32_t offset) { return *reinterpret_cast<uint32_t*>(registers + offset); }
};

// One of the 16 named barriers of a CTA.
struct Barrier {
  uint32_t expected = 0;  // threads; 0: nobody has come yet
  uint32_t arrived = 0;   // threads
  uint32_t generation = 0;
  uint32_t reduction_popc = 0;
  bool reduction_and = true;
  bool reduction_or = false;
  // Of the phase that ended last.
  uint32_t result_popc = 0;
  bool result_and = false;
  bool result_or = false;
};

// What a family or an instrument keeps for a CTA. Owned by the CTA.
struct CtaExtension {
  virtual ~CtaExtension() = default;
};

struct Cta {
  const Program* program = nullptr;
  Worker* worker = nullptr;
  uint64_t linear = 0;  // position in the grid, x fastest
  std::array<uint32_t, 3> index = {};
  uint32_t cluster_rank = 0;
  uint32_t cluster_size = 1;
  Cta** cluster = nullptr;  // the CTAs of the cluster by rank; null entry: ended

  uint8_t* shared = nullptr;
  uint32_t shared_bytes = 0;
  uint32_t unwatched_shared_bytes = 0;  // what may be touched without Resolve: all, or 0 under an instrument
  uint8_t* local = nullptr;             // thread t's at t * local_stride
  uint32_t local_bytes = 0;
  uint32_t local_stride = 0;

  std::vector<Warp> warps;
  uint32_t warp_count = 0;
  uint32_t threads = 0;
  uint32_t live_warps = 0;
  std::array<Barrier, 16> barriers;
  uint32_t cluster_arrivals = 0;  // threads of this CTA that arrived at the cluster's barrier
  uint32_t cluster_generation = 0;
  std::unique_ptr<CtaExtension> async;        // warpgroups, where there are any
  std::unique_ptr<CtaExtension> bulk_copies;  // to its shared memory, where they are late
  std::string printed;
};

// What a launch shares between its workers; constant while it runs, but for what says otherwise.
struct Launch {
  const Program* program = nullptr;
  LaunchDimensions dimensions;
  std::vector<uint8_t> parameters;
  std::shared_ptr<const AllocationSnapshot> memory;
  CheckOptions checks;
  Instrument* instrument = nullptr;  // needs `program` to be an instrumented one; null: none
  uint64_t id = 0;
};

// The warp's thread of a lane, in the CTA.
inline uint32_t ThreadOf(const Warp& warp, uint32_t lane) { return warp.index * 32 + lane; }

// --- for operations that wait
// ---------------------------------------------------------------------------------------

// Lets every waiting group of the warp run again. For barriers: the operation is repeated.
void Wake(Warp& warp);
// Merges into the running group the lanes of `members` that wait at the running pc. The lanes that now run
// the operation, when that is all live ones of `members`; 0: the operation returns kWait.
uint32_t Converge(Warp& warp, uint32_t mask, uint32_t members);
// Puts the lanes that are active but not in `taken` at the next instruction and the taken ones at `target`.
Step Branch(Warp& warp, uint32_t taken, uint32_t target);

// --- faults
// -----------------------------------------------------------------------------------------------------

struct AccessFault {
  uint64_t address = 0;
  uint32_t bytes = 0;
  const char* space = "global";
  bool is_write = false;
};

// Fill in worker.fault with the instruction's site and the lane's thread; always return kFault.
Step RaiseAccess(Warp& warp, uint32_t lane, Reason reason, const AccessFault& access);
Step Raise(Warp& warp, uint32_t lane, Reason reason, absl::string_view message);
// The same with the other half of the report, which is at instruction `other_pc` of the program.
struct OtherSite {
  const char* role = "";
  uint32_t pc = 0;
  std::array<uint32_t, 3> program = {};
  uint32_t thread = 0;  // in its CTA
};
Step RaiseWithOther(Warp& warp, uint32_t lane, Reason reason, absl::string_view message,
                    const AccessFault* access, const OtherSite* other);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_EXEC_WARP_H_
