// Executors that break a rule each: the suite of ExecutorControl must see it.
#include <memory>
#include <set>
#include <utility>

#include "common/base/mutant_conformance.h"
#include "server/executor/control/executor_control_conformance.h"

namespace trun {
namespace {

// Says OK to everything and does nothing.
class AlwaysOkExecutor : public ExecutorControl {
 public:
  const device::DeviceInfo& device_info() const override { return info_; }
  int64_t pid() const override { return 0; }
  absl::Status health() const override { return absl::OkStatus(); }
  void OnLost(std::function<void(absl::Status)> callback) override { callback(absl::OkStatus()); }
  absl::Status MapArena(uint64_t, const UniqueFd&, uint64_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status UnmapArena(uint64_t) override { return absl::OkStatus(); }
  absl::StatusOr<UniqueFd> CreateArena(uint64_t, uint64_t, uint64_t) override { return UniqueFd(); }
  absl::Status AddAllocation(uint64_t, uint64_t, uint64_t) override { return absl::OkStatus(); }
  absl::Status RemoveAllocation(uint64_t) override { return absl::OkStatus(); }
  absl::StatusOr<device::KernelAttributes> LoadKernel(uint64_t, absl::string_view,
                                                      absl::string_view) override {
    return device::KernelAttributes();
  }
  absl::Status UnloadKernel(uint64_t) override { return absl::OkStatus(); }
  void MapStaging(uint64_t, const UniqueFd&, uint64_t,
                  std::function<void(absl::StatusOr<std::string>)> done) override {
    done(std::string());
  }
  void UnmapStaging(uint64_t, std::function<void(absl::Status)> done) override { done(absl::OkStatus()); }
  void Transfer(const StagingRange&, uint64_t, bool, std::function<void(absl::Status)> done) override {
    done(absl::OkStatus());
  }
  absl::Status Fill(uint64_t, uint64_t, absl::string_view) override { return absl::OkStatus(); }
  absl::Status Copy(uint64_t, uint64_t, uint64_t) override { return absl::OkStatus(); }
  void Launch(ExecutorLaunch, std::function<void(ExecutorLaunchResult)> done) override { done({}); }
  void Synchronize(std::function<void(absl::Status)> done) override { done(absl::OkStatus()); }

 private:
  device::DeviceInfo info_;
};

// Says that an arena is unmapped, and keeps it.
class KeepsArenas final : public AlwaysOkExecutor {
 public:
  absl::Status MapArena(uint64_t arena, const UniqueFd&, uint64_t, uint64_t) override {
    if (arenas_.insert(arena).second) return absl::OkStatus();
    return absl::AlreadyExistsError("it is mapped");
  }

 private:
  std::set<uint64_t> arenas_;
};

template <typename Mutant>
class MutantFactory final : public ExecutorFactory {
 public:
  absl::StatusOr<std::unique_ptr<ExecutorControl>> Create(absl::string_view, absl::string_view) override {
    return std::make_unique<Mutant>();
  }
  std::vector<DeviceDescription> Devices() const override { return {}; }
};

// Has one executor to give.
class OnlyOnceFactory final : public ExecutorFactory {
 public:
  absl::StatusOr<std::unique_ptr<ExecutorControl>> Create(absl::string_view, absl::string_view) override {
    if (!std::exchange(is_first_, false)) return Unavailable(Reason::kUnavailable, "there is no other one");
    return std::make_unique<AlwaysOkExecutor>();
  }
  std::vector<DeviceDescription> Devices() const override { return {}; }

 private:
  bool is_first_ = true;
};

template <typename Factory>
ExecutorControlSubject Subject() {
  return {"Mutant",    [] { return std::make_shared<Factory>(); },
          "mutant:0",  "store",
          "hang",      "undefined",
          "malformed", 1};
}

INSTANTIATE_TEST_SUITE_P(AlwaysOkExecutor, ExecutorControlConformance,
                         ::testing::Values(Subject<MutantFactory<AlwaysOkExecutor>>()));
INSTANTIATE_TEST_SUITE_P(KeepsArenas, ExecutorControlConformance,
                         ::testing::Values(Subject<MutantFactory<KeepsArenas>>()));
INSTANTIATE_TEST_SUITE_P(OnlyOnce, ExecutorControlConformance, ::testing::Values(Subject<OnlyOnceFactory>()));

}  // namespace
}  // namespace trun

int main(int argc, char** argv) { return trun::RunMutants(&argc, argv); }
