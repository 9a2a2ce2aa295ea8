#include "server/device/emulator/exec/launch_runner.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/exec/device_printf.h"
#include "server/device/emulator/exec/instrument.h"
#include "server/device/emulator/program/program.h"

namespace trun::device {
namespace {

constexpr uint64_t kCtaQuantum = 1 << 20;
// What the CTAs that are resident at once may take.
constexpr uint64_t kResidentBytes = uint64_t{2} << 30;
// Rounds in which no CTA of a launch does anything but poll. (They are short: a launch that waits for nothing
// is found in a fraction of a second; one that waits for another launch or the host has no such thing on the
// emulator.)
constexpr uint64_t kHopelessRounds = 200'000;

uint64_t BytesOfCta(const Launch& launch) {
  const Program& program = *launch.program;
  const uint64_t threads =
      uint64_t{launch.dimensions.block[0]} * launch.dimensions.block[1] * launch.dimensions.block[2];
  return (threads + 31) / 32 * (program.register_bytes + uint64_t{program.local_bytes} * 32) +
         program.static_shared_bytes + launch.dimensions.dynamic_shared_bytes + 4096;
}

// What the workers of one launch share.
struct Shared {
  Launch* launch = nullptr;
  LaunchLimits limits;
  uint64_t ctas = 0;
  uint64_t unit_ctas = 1;  // CTAs that one worker runs together
  std::atomic<uint64_t> next_unit{0};
  std::atomic<uint64_t> faulted_unit{~uint64_t{0}};
  std::atomic<uint64_t> executed{0};
  std::atomic<bool> expired{false};  // the deadline passed, or it was cancelled
  std::atomic<bool> cancelled{false};

  Mutex mu;
  std::map<uint64_t, std::unique_ptr<Fault>> faults ABSL_GUARDED_BY(mu);  // by unit
  std::map<uint64_t, std::string> printed ABSL_GUARDED_BY(mu);            // by CTA
};

class UnitRunner {
 public:
  UnitRunner(Shared* shared, WorkerState* state) : shared_(shared), state_(state) {}

  void Run() {
    state_->worker.launch = shared_->launch;
    state_->worker.memory = shared_->launch->memory.get();
    state_->worker.instrument = shared_->launch->instrument;
    state_->worker.unwatched =
        state_->worker.instrument == nullptr ? state_->worker.memory : &AllocationSnapshot::Empty();
    state_->worker.last_range.fill(nullptr);
    const uint64_t units = (shared_->ctas + shared_->unit_ctas - 1) / shared_->unit_ctas;
    for (;;) {
      const uint64_t unit = shared_->next_unit.fetch_add(1, std::memory_order_relaxed);
      if (unit >= units || unit > shared_->faulted_unit.load(std::memory_order_relaxed)) break;
      RunUnit(unit);
      if (shared_->expired.load(std::memory_order_relaxed)) break;
    }
    shared_->executed.fetch_add(executed_, std::memory_order_relaxed);
    state_->worker.launch = nullptr;
    state_->worker.memory = nullptr;
    state_->worker.unwatched = nullptr;
    state_->worker.instrument = nullptr;
  }

 private:
  struct Resident {
    std::unique_ptr<CtaSlot> slot;
  };

  // CTAs of one cluster have places side by side.
  uint64_t CtaAt(uint64_t place) const {
    const LaunchDimensions& d = shared_->launch->dimensions;
    const uint64_t size = uint64_t{d.cluster[0]} * d.cluster[1] * d.cluster[2];
    if (size == 1) return place;
    const uint64_t cluster = place / size;
    const uint64_t rank = place % size;
    const uint64_t columns = d.grid[0] / d.cluster[0];
    const uint64_t rows = d.grid[1] / d.cluster[1];
    const uint64_t x = cluster % columns * d.cluster[0] + rank % d.cluster[0];
    const uint64_t y = cluster / columns % rows * d.cluster[1] + rank / d.cluster[0] % d.cluster[1];
    const uint64_t z = cluster / columns / rows * d.cluster[2] + rank / d.cluster[0] / d.cluster[1];
    return x + d.grid[0] * (y + d.grid[1] * z);
  }

  std::unique_ptr<CtaSlot> TakeSlot() {
    if (state_->slots.empty()) return std::make_unique<CtaSlot>();
    std::unique_ptr<CtaSlot> slot = std::move(state_->slots.back());
    state_->slots.pop_back();
    return slot;
  }

  void Fail(uint64_t unit, std::unique_ptr<Fault> fault) {
    uint64_t lowest = shared_->faulted_unit.load();
    while (unit < lowest && !shared_->faulted_unit.compare_exchange_weak(lowest, unit)) {
    }
    MutexLock lock(&shared_->mu);
    shared_->faults[unit] = std::move(fault);
  }

  void FailWith(uint64_t unit, absl::StatusCode code, Reason reason, const std::string& message) {
    auto fault = std::make_unique<Fault>();
    fault->status = MakeError(code, reason, message);
    fault->report.message = message;
    Fail(unit, std::move(fault));
  }

  bool Expired(uint64_t unit) {
    if (shared_->limits.cancelled != nullptr &&
        shared_->limits.cancelled->load(std::memory_order_relaxed) > shared_->limits.cancel_after) {
      shared_->expired = true;
      shared_->cancelled = true;
      FailWith(unit, absl::StatusCode::kCancelled, Reason::kCancelled, "the launch was cancelled");
      return true;
    }
    if (std::chrono::steady_clock::now() < shared_->limits.deadline) return false;
    shared_->expired = true;
    return true;
  }

  void Printed(Cta& cta) {
    if (cta.printed.empty()) return;
    MutexLock lock(&shared_->mu);
    shared_->printed[cta.linear] = std::move(cta.printed);
    cta.printed.clear();
  }

  // Starts the CTAs of the next cluster. False: none was left, or there was no memory (a fault is noted).
  bool StartNext(uint64_t unit, uint64_t* place, uint64_t end, std::vector<Resident>* residents) {
    if (*place >= end) return false;
    const LaunchDimensions& d = shared_->launch->dimensions;
    const uint32_t size = d.cluster[0] * d.cluster[1] * d.cluster[2];
    const size_t first = residents->size();
    for (uint32_t i = 0; i < size; ++i) {
      Resident resident;
      resident.slot = TakeSlot();
      if (!resident.slot->Start(shared_->launch, &state_->worker, CtaAt((*place)++))) {
        FailWith(unit, absl::StatusCode::kResourceExhausted, Reason::kOutOfMemory,
                 "the host has no memory for the registers and shared memory of a program");
        return false;
      }
      if (shared_->launch->instrument != nullptr)
        shared_->launch->instrument->CtaStarted(resident.slot->cta());
      residents->push_back(std::move(resident));
    }
    if (size > 1) {
      clusters_.push_back(std::make_unique<Cta*[]>(size));
      Cta** table = clusters_.back().get();
      for (size_t r = first; r < residents->size(); ++r) {
        Cta& cta = (*residents)[r].slot->cta();
        table[cta.cluster_rank] = &cta;
        cta.cluster = table;
      }
    }
    return true;
  }

  void RunUnit(uint64_t unit) {
    uint64_t place = unit * shared_->unit_ctas;
    const uint64_t end = std::min(place + shared_->unit_ctas, shared_->ctas);
    const uint64_t limit = std::max<uint64_t>(kResidentBytes / BytesOfCta(*shared_->launch), 1);
    std::vector<Resident> residents;
    const bool all_at_once = shared_->launch->dimensions.cooperative;
    uint64_t hopeless = 0;
    bool failed = false;
    while (!failed) {
      if (residents.empty()) {
        clusters_.clear();
        if (!StartNext(unit, &place, end, &residents)) break;
        if (all_at_once) {
          while (place < end && residents.size() < limit && StartNext(unit, &place, end, &residents)) {
          }
        }
      }
      bool ran = false;
      for (size_t r = 0; r < residents.size() && !failed;) {
        Cta& cta = residents[r].slot->cta();
        const CtaStop stop = RunCta(cta, kCtaQuantum, &executed_);
        if (executed_ - last_check_ > kCtaQuantum || ++turns_ % 64 == 0) {
          last_check_ = executed_;
          if (Expired(unit)) {
            if (!shared_->cancelled && stop != CtaStop::kDone) Hung(unit, cta);
            failed = true;
            break;
          }
        }
        switch (stop) {
          case CtaStop::kFault:
            Printed(cta);
            Fail(unit, std::move(state_->worker.fault));
            failed = true;
            break;
          case CtaStop::kDone:
            ran = true;
            Printed(cta);
            if (shared_->launch->instrument != nullptr) shared_->launch->instrument->CtaEnded(cta);
            if (cta.cluster != nullptr) {
              // Its shared memory stays until the cluster has ended: others may still look at it.
              ended_.push_back(std::move(residents[r].slot));
            } else {
              state_->slots.push_back(std::move(residents[r].slot));
            }
            residents.erase(residents.begin() + static_cast<std::ptrdiff_t>(r));
            if (residents.empty()) {
              for (auto& slot : ended_) state_->slots.push_back(std::move(slot));
              ended_.clear();
            }
            break;
          case CtaStop::kQuantum:
            ran = true;
            // Goes on with the same CTA: the others have to wait for a poll, or their turn.
            ++r;
            break;
          case CtaStop::kSpun:
          case CtaStop::kBlocked:
            ++r;
            break;
        }
      }
      if (failed || ran) {
        hopeless = 0;
        continue;
      }
      if (place < end && residents.size() < limit) {
        if (!StartNext(unit, &place, end, &residents)) break;
        continue;
      }
      if (++hopeless > kHopelessRounds && !residents.empty() && AllBlocked(residents)) {
        Hung(unit, residents[0].slot->cta());
        failed = true;
      }
    }
    for (Resident& resident : residents) {
      Printed(resident.slot->cta());
      state_->slots.push_back(std::move(resident.slot));
    }
    for (auto& slot : ended_) state_->slots.push_back(std::move(slot));
    ended_.clear();
  }

  static bool AllBlocked(std::vector<Resident>& residents) {
    for (Resident& resident : residents) {
      Cta& cta = resident.slot->cta();
      for (uint32_t w = 0; w < cta.warp_count; ++w) {
        if (cta.warps[w].state == WarpState::kReady && !cta.warps[w].waits_on_mbarrier) return false;
      }
    }
    return true;
  }

  // Names where the first warp that has not ended stands.
  void Hung(uint64_t unit, Cta& cta) {
    for (uint32_t w = 0; w < cta.warp_count; ++w) {
      Warp& warp = cta.warps[w];
      if (warp.state == WarpState::kDone || warp.live == 0) continue;
      if (warp.active == 0 && warp.group_count > 0) warp.pc = warp.groups[0].pc;
      // A failed try_wait has let go of its warp just behind it.
      const bool at_mbarrier = warp.waits_on_mbarrier && warp.pc > 0;
      if (at_mbarrier) --warp.pc;
      const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(warp.live));
      Raise(warp, lane, Reason::kHungKernel,
            shared_->expired ? "the launch passed its deadline"
            : at_mbarrier
                ? "no warp of the launch can make progress: a phase of this mbarrier never completes"
                : "no warp of the launch can make progress");
      Fail(unit, std::move(state_->worker.fault));
      return;
    }
    FailWith(unit, absl::StatusCode::kDeadlineExceeded, Reason::kHungKernel,
             "the launch passed its deadline");
  }

  Shared* const shared_;
  WorkerState* const state_;
  std::vector<std::unique_ptr<Cta*[]>> clusters_;
  std::vector<std::unique_ptr<CtaSlot>> ended_;
  uint64_t executed_ = 0;
  uint64_t last_check_ = 0;
  uint64_t turns_ = 0;
};

}  // namespace

WorkerPool::WorkerPool(int threads) : threads_(std::max(threads, 1)) {
  for (int i = 1; i < threads_; ++i) helpers_.emplace_back([this] { Helper(); });
}

WorkerPool::~WorkerPool() {
  {
    MutexLock lock(&mu_);
    stop_ = true;
    changed_.SignalAll();
  }
  for (std::thread& helper : helpers_) helper.join();
}

void WorkerPool::Helper() {
  WorkerState state;
  uint64_t seen = 0;
  mu_.Lock();
  for (;;) {
    while (!stop_ && (work_ == nullptr || generation_ == seen)) changed_.Wait(&mu_);
    if (stop_) break;
    seen = generation_;
    const std::function<void(WorkerState&)>* work = work_;
    ++running_;
    mu_.Unlock();
    (*work)(state);
    mu_.Lock();
    --running_;
    changed_.SignalAll();
  }
  mu_.Unlock();
}

void WorkerPool::Run(bool with_helpers, const std::function<void(WorkerState&)>& work) {
  std::unique_ptr<WorkerState> state;
  bool helped = false;
  {
    MutexLock lock(&mu_);
    if (!idle_.empty()) {
      state = std::move(idle_.back());
      idle_.pop_back();
    }
    if (with_helpers && !busy_ && !helpers_.empty()) {
      busy_ = helped = true;
      work_ = &work;
      ++generation_;
      changed_.SignalAll();
    }
  }
  if (state == nullptr) state = std::make_unique<WorkerState>();
  work(*state);
  MutexLock lock(&mu_);
  if (helped) {
    work_ = nullptr;  // helpers that have not begun need not
    while (running_ > 0) changed_.Wait(&mu_);
    busy_ = false;
  }
  // Registers and shared memory of a few CTAs are worth keeping, those of a large cooperative grid are not.
  if (state->slots.size() > 4) state->slots.resize(4);
  idle_.push_back(std::move(state));
}

LaunchOutcome RunLaunch(Launch* launch, const LaunchLimits& limits, WorkerPool* pool) {
  const LaunchDimensions& d = launch->dimensions;
  Shared shared;
  shared.launch = launch;
  shared.limits = limits;
  shared.ctas = uint64_t{d.grid[0]} * d.grid[1] * d.grid[2];
  const uint64_t cluster = uint64_t{d.cluster[0]} * d.cluster[1] * d.cluster[2];
  // An instrument sees a launch in one order, too.
  const bool ordered = launch->program->ordered || d.cooperative || launch->instrument != nullptr;
  shared.unit_ctas = ordered ? shared.ctas : cluster;
  const auto begin = std::chrono::steady_clock::now();
  pool->Run(shared.ctas > shared.unit_ctas,
            [&shared](WorkerState& state) { UnitRunner(&shared, &state).Run(); });
  LaunchOutcome outcome;
  outcome.statistics.device_time = absl::FromChrono(std::chrono::steady_clock::now() - begin);
  outcome.statistics.warp_instructions = shared.executed.load();
  MutexLock lock(&shared.mu);
  for (auto& [cta, text] : shared.printed) {
    if (outcome.printed.size() >= kMaxPrinted) break;
    outcome.printed.append(text, 0, kMaxPrinted - outcome.printed.size());
  }
  if (!shared.faults.empty()) {
    Fault& first = *shared.faults.begin()->second;
    outcome.status = first.status;
    outcome.fault = std::move(first.report);
  } else if (shared.expired) {
    outcome.status = DeadlineExceeded(Reason::kHungKernel, "the launch passed its deadline");
    outcome.fault.message = "the launch passed its deadline";
  }
  return outcome;
}

}  // namespace trun::device
