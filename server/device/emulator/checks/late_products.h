// --check=async: wgmma that ends as late as its waits allow.
//
// A product reads its shared-memory operands when the first warp of its four waits for it, and a warp sees
// its part of the result when it waits itself: until then its registers hold what they held. So a missing
// wait, or an operand that is overwritten too early, gives another result. A register that is written after
// the product was issued belongs to who wrote it; one that a plain mov copies hands the late result on
// (compilers copy accumulators between wgmma and their wait, and the assembler of a GPU follows them).
// A's registers are taken when the product is issued.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_LATE_PRODUCTS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_LATE_PRODUCTS_H_

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "server/device/emulator/async/wgmma_form.h"
#include "server/device/emulator/exec/instrument.h"

namespace trun::device {

// Thread-compatible; one launch, with checks.late_async: the operation of wgmma then leaves the product to
// it.
class LateProducts final : public Watcher {
 public:
  // REQUIRES: `program` is an instrumented one, and outlives this.
  explicit LateProducts(const Program& program);

  void CtaStarted(Cta& cta) override;
  void CtaEnded(Cta& cta) override;
  bool Before(const WatchedStep& step) override;
  bool After(const WatchedStep& step) override;

 private:
  enum class Kind : uint8_t { kOther, kMove, kMultiply, kCommit, kWait };
  struct Product;
  // Register `index` of a product's result.
  struct Part {
    std::shared_ptr<Product> product;
    int index = 0;
  };
  struct Product {
    const WgmmaForm* form = nullptr;
    uint64_t a_descriptor = 0, b_descriptor = 0;
    bool scale_d = true;
    uint64_t number = 0;                                  // in its warpgroup
    std::array<std::vector<uint32_t>, 4> a, metadata, d;  // by warp: registers of 32 lanes
    std::array<std::vector<Part>, 4> inputs;  // accumulators that earlier products have still to give
  };
  struct WarpState {
    absl::flat_hash_map<uint32_t, Part> late;  // by place in the register file
    std::deque<uint64_t> groups;               // products issued at each commit that is under way
    bool waits = false;                        // at a wgmma, for its other warps
  };
  struct Warpgroup {
    std::deque<std::shared_ptr<Product>> under_way;
    uint64_t issued = 0;
    std::array<WarpState, 4> warps;
  };
  using CtaState = std::map<uint32_t, Warpgroup>;

  Warpgroup& GroupOf(const Warp& warp) { return ctas_[warp.cta][warp.index / 4]; }
  void Issue(const WatchedStep& step, Warpgroup* group);
  static void Make(const Cta& cta, Product* product);
  // Makes the products below `end` and shows the warp its part of them.
  static void Finish(Warp& warp, Warpgroup* group, uint64_t end);

  std::vector<Kind> kinds_;              // by instruction
  std::map<const Cta*, CtaState> ctas_;  // with a wgmma
  Part moved_;                           // of the step between Before and After
  uint32_t moved_to_ = 0;
};

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_LATE_PRODUCTS_H_
