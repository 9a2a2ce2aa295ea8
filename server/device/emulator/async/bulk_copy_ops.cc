// cp.async.bulk, cp.async.bulk.tensor and their reductions. A copy is made when it is issued, the earliest
// that PTX allows, so groups and waits have nothing left to do; its bytes count on the mbarrier at once. With
// the late_async check it is made as late as its waits allow (late_copies.h); what can be checked is checked
// when it is issued.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "server/device/emulator/async/bulk_copy_form.h"
#include "server/device/emulator/async/late_copies.h"
#include "server/device/emulator/async/mbarrier_ops.h"
#include "server/device/emulator/async/operand_address.h"
#include "server/device/emulator/async/tensor_copy.h"
#include "server/device/emulator/async/tensor_map.h"
#include "server/device/emulator/exec/memory_access.h"

namespace trun::device {
namespace {

using CopyForm = BulkCopyForm;

constexpr int kSize = CopyForm::kSize, kMask = CopyForm::kMask;  // slots

const CopyForm& FormOf(const Instruction& in) { return *static_cast<const CopyForm*>(in.data); }

// The CTAs that a load writes to: the target's own, or those of the multicast mask, as shared addresses.
std::vector<uint64_t> TargetsOf(Warp& warp, const Instruction& in, uint32_t lane, uint64_t address) {
  if (!FormOf(in).multicast) return {address};
  std::vector<uint64_t> targets;
  const uint32_t mask = warp.U32(in.operand[kMask])[lane] & 0xffff;
  for (uint32_t rank = 0; rank < 16; ++rank) {
    if ((mask >> rank & 1) != 0) {
      targets.push_back((address & (kMaxSharedBytes - 1)) | uint64_t{rank + 1} << kSharedRankShift);
    }
  }
  return targets;
}

// Counts the bytes of a copy on the mbarrier at a shared address; those of a late one when it is made.
bool CompleteBytes(Warp& warp, uint32_t lane, uint64_t address, uint64_t bytes,
                   std::unique_ptr<LateCopy> late) {
  uint64_t* word = ResolveMbarrier(warp, lane, Space::kSharedCluster, address);
  if (word == nullptr) return false;
  if (late == nullptr) {
    return CheckMbarrier(warp, lane, MbarrierCompleteTransactions(word, static_cast<int64_t>(bytes)), word);
  }
  if (!CheckMbarrier(warp, lane,
                     Mbarrier::IsValid(*word) ? MbarrierResult::kOk : MbarrierResult::kNotInitialised,
                     word)) {
    return false;
  }
  const uint64_t rank = address >> kSharedRankShift;
  DelayUntilPhase(rank == 0 ? *warp.cta : *warp.cta->cluster[rank - 1], word, std::move(late), bytes);
  return true;
}

// A shared address in its window: generic addresses lose the window's base.
uint64_t WindowAddress(uint64_t address) {
  return address >= kSharedWindow ? address - kSharedWindow : address;
}

// --- plain bulk copies
// ------------------------------------------------------------------------------------------

// Between host memories; a reduction where `reduce` is one.
class PlainCopy final : public LateCopy {
 public:
  PlainCopy(const CopyForm& form, const uint8_t* source, uint8_t* target, uint32_t bytes)
      : form_(form), source_(source), target_(target), bytes_(bytes) {}

  void Read() override { staged_.assign(source_, source_ + bytes_); }
  void Write() override { Write(staged_.data()); }
  void Make() { Write(source_); }

 private:
  void Write(const uint8_t* from) {
    if (form_.reduce == ReduceOp::kNone) {
      std::memmove(target_, from, bytes_);
    } else {
      ReduceElements(form_.reduce, form_.type, from, target_,
                     bytes_ * 8 / static_cast<uint32_t>(numerics::BitsOf(form_.type)));
    }
  }

  const CopyForm& form_;
  const uint8_t* const source_;
  uint8_t* const target_;
  const uint32_t bytes_;
  std::vector<uint8_t> staged_;
};

bool CopyBytes(Warp& warp, const Instruction& in, uint32_t lane) {
  const CopyForm& f = FormOf(in);
  const bool late = warp.worker->launch->checks.late_async;
  const uint32_t bytes = warp.U32(in.operand[kSize])[lane];
  if (bytes == 0 || bytes % 16 != 0) {
    Raise(warp, lane, Reason::kMisalignedAddress,
          absl::StrCat("a bulk copy of ", bytes, " bytes, which is no multiple of 16"));
    return false;
  }
  const uint8_t* source =
      Resolve(warp, lane, f.source_space, AddressOf(warp, in, f.source, lane), bytes, 16, false);
  if (source == nullptr) return false;
  const uint64_t address = AddressOf(warp, in, f.target, lane);
  const uint64_t barrier = f.has_barrier ? AddressOf(warp, in, f.barrier, lane) : 0;
  if (f.to_global) {
    uint8_t* target = Resolve(warp, lane, Space::kGlobal, address, bytes, 16, true);
    if (target == nullptr) return false;
    if (late) {
      DelayUntilWait(warp, lane, std::make_unique<PlainCopy>(f, source, target, bytes));
    } else {
      PlainCopy(f, source, target, bytes).Make();
    }
    return true;
  }
  const std::vector<uint64_t> targets = TargetsOf(warp, in, lane, WindowAddress(address));
  const std::vector<uint64_t> barriers = TargetsOf(warp, in, lane, WindowAddress(barrier));
  for (size_t i = 0; i < targets.size(); ++i) {
    uint8_t* target = Resolve(warp, lane, Space::kSharedCluster, targets[i], bytes, 16, true);
    if (target == nullptr) return false;
    std::unique_ptr<PlainCopy> copy;
    if (late) {
      copy = std::make_unique<PlainCopy>(f, source, target, bytes);
    } else {
      PlainCopy(f, source, target, bytes).Make();
    }
    if (!CompleteBytes(warp, lane, barriers[i], bytes, std::move(copy))) return false;
  }
  return true;
}

}  // namespace

Step OpBulkCopy(Warp& warp, const Instruction& in, uint32_t mask) {
  return ForEachLane(mask, [&](uint32_t lane) { return CopyBytes(warp, in, lane); });
}

namespace {

// --- tensors
// ------------------------------------------------------------------------------------------------------

// A box whose rows have been checked.
class BoxCopy final : public LateCopy {
 public:
  BoxCopy(const CopyForm& form, const TensorMap& map, uint32_t row_bytes)
      : form_(form), map_(map), row_bytes_(row_bytes) {}
  void SetBox(uint8_t* window, uint64_t box) {
    window_ = window;
    box_ = box;
  }
  void AddRow(const RowPlace& row) { rows_.push_back(row); }

  void Read() override {
    staged_.resize(rows_.size() * row_bytes_);
    for (size_t i = 0; i < rows_.size(); ++i) {
      uint8_t* const to = staged_.data() + i * row_bytes_;
      if (form_.to_global) {
        ReadSharedRow(map_, rows_[i], window_, box_, to, row_bytes_);
      } else {
        ReadGlobalRow(map_, rows_[i], to, row_bytes_);
      }
    }
  }
  void Write() override {
    for (size_t i = 0; i < rows_.size(); ++i) {
      const uint8_t* const from = staged_.data() + i * row_bytes_;
      if (form_.to_global) {
        WriteGlobalRow(map_, rows_[i], form_.reduce, from);
      } else {
        WriteSharedRow(map_, rows_[i], window_, box_, from, row_bytes_);
      }
    }
  }

 private:
  const CopyForm& form_;
  const TensorMap map_;
  const uint32_t row_bytes_;
  uint8_t* window_ = nullptr;
  uint64_t box_ = 0;
  std::vector<RowPlace> rows_;
  std::vector<uint8_t> staged_;
};

class TensorCopy {
 public:
  TensorCopy(Warp& warp, const Instruction& in, uint32_t lane)
      : warp_(warp), in_(in), form_(FormOf(in)), lane_(lane) {}

  bool Run() {
    if (!ReadMap()) return false;
    const uint64_t address = AddressOf(warp_, in_, form_.to_global ? form_.source : form_.target, lane_);
    const bool is_late = warp_.worker->launch->checks.late_async;
    std::unique_ptr<BoxCopy> late;
    if (form_.to_global) {
      if (is_late) late = std::make_unique<BoxCopy>(form_, map_, row_bytes_);
      if (!Store(WindowAddress(address), late.get())) return false;
      if (is_late) DelayUntilWait(warp_, lane_, std::move(late));
      return true;
    }
    const uint64_t barrier = AddressOf(warp_, in_, form_.barrier, lane_);
    const std::vector<uint64_t> targets = TargetsOf(warp_, in_, lane_, WindowAddress(address));
    const std::vector<uint64_t> barriers = TargetsOf(warp_, in_, lane_, WindowAddress(barrier));
    for (size_t i = 0; i < targets.size(); ++i) {
      if (is_late) late = std::make_unique<BoxCopy>(form_, map_, row_bytes_);
      if (!Load(targets[i], late.get())) return false;
      if (!CompleteBytes(warp_, lane_, barriers[i], box_bytes_, std::move(late))) return false;
    }
    return true;
  }

 private:
  bool Fail(const std::string& what) {
    Raise(warp_, lane_, Reason::kIllegalAddress, what);
    return false;
  }

  bool ReadMap() {
    const uint8_t* bytes = Resolve(warp_, lane_, Space::kGeneric, AddressOf(warp_, in_, form_.map, lane_),
                                   kTensorMapBytes, kTensorMapAlign, false);
    if (bytes == nullptr) return false;
    map_ = TensorMap::Decode(bytes);
    const absl::Status status = map_.Check();
    if (!status.ok()) return Fail(std::string(status.message()));
    if (map_.rank != form_.rank) {
      return Fail(absl::StrCat("a tensor map of rank ", map_.rank, " in a copy of rank ", form_.rank));
    }
    if (map_.im2col != form_.im2col) return Fail("the tensor map's mode is not the copy's");
    if (form_.rows && (map_.rank != 2 || map_.BoxElements(1) != 1)) {
      return Fail("gather4 and scatter4 need a tensor map of rank 2 with boxes of one row");
    }
    row_bytes_ = map_.BoxElements(0) * BytesOf(map_.element);
    box_bytes_ = BoxBytesOf(form_, map_);
    place_ = TensorBox::Of(form_, warp_, in_, lane_);
    const std::array<int32_t, 5>& coordinates = place_.coordinates;
    // What the hardware refuses as an illegal instruction.
    if (static_cast<int64_t>(coordinates[0]) * BytesOf(map_.element) % 16 != 0) {
      Raise(warp_, lane_, Reason::kMisalignedAddress,
            absl::StrCat("a tensor copy that begins at element ", coordinates[0],
                         " of its first dimension: that has to be a multiple of 16 bytes"));
      return false;
    }
    for (uint32_t i = 0; form_.to_global && i < form_.coordinates; ++i) {
      if (coordinates[i] < 0 && !(form_.rows && i > 0)) {
        return Fail(absl::StrCat("a tensor store or reduction at the negative coordinate ", coordinates[i]));
      }
    }
    // PTX ISA, "im2col mode": the offsets of two and three spatial dimensions have 8 and 5 bits.
    const uint32_t most = form_.rank == 3 ? 0xffff : form_.rank == 4 ? 0xff : 0x1f;
    for (uint32_t i = 0; i < form_.offsets; ++i) {
      if (place_.offsets[i] > most) {
        return Fail(absl::StrCat("an im2col offset of ", place_.offsets[i], " in a copy of rank ", form_.rank,
                                 ": it is 0 to ", most));
      }
    }
    return true;
  }

  bool ForEachRow(const std::function<bool(const TensorRow&)>& visit) {
    return place_.ForEachRow(form_, map_, visit);
  }

  // The start of the CTA's shared memory; all that the box takes has been checked to lie within it.
  uint8_t* Window(uint64_t box, bool is_write) {
    const auto bytes = static_cast<uint32_t>(BoxSpanOf(form_, map_));
    uint8_t* start = Resolve(warp_, lane_, Space::kSharedCluster, box, bytes, 128, is_write);
    return start == nullptr ? nullptr : start - (box & (kMaxSharedBytes - 1));
  }

  // The row with its place in global memory, of which the span that it touches has been checked.
  bool Place(const TensorRow& row, bool is_write, RowPlace* place) {
    *place = {nullptr, row.first, row.last, row.shared_offset};
    const uint32_t count = row.last - row.first, element = BytesOf(map_.element);
    if (count == 0) return true;
    const uint32_t span = ((count - 1) * map_.element_stride[0] + 1) * element;
    place->global = Resolve(warp_, lane_, Space::kGlobal, row.address, span, 1, is_write);
    return place->global != nullptr;
  }

  // Makes the box's rows one by one, or collects them in `late`.
  bool Load(uint64_t target, BoxCopy* late) {
    uint8_t* window = Window(target, true);
    if (window == nullptr) return false;
    const uint64_t box = target & (kMaxSharedBytes - 1);
    if (late != nullptr) late->SetBox(window, box);
    row_.resize(row_bytes_);
    return ForEachRow([&](const TensorRow& row) {
      RowPlace place;
      if (!Place(row, false, &place)) return false;
      if (late != nullptr) {
        late->AddRow(place);
        return true;
      }
      ReadGlobalRow(map_, place, row_.data(), row_bytes_);
      WriteSharedRow(map_, place, window, box, row_.data(), row_bytes_);
      return true;
    });
  }

  bool Store(uint64_t source, BoxCopy* late) {
    uint8_t* window = Window(source, false);
    if (window == nullptr) return false;
    if (form_.reduce != ReduceOp::kNone &&
        !ReduceElements(form_.reduce, ElementTypeOf(map_.element), nullptr, nullptr, 0)) {
      return Fail("the element type of the tensor map does not have this reduction");
    }
    const uint64_t box = source & (kMaxSharedBytes - 1);
    if (late != nullptr) late->SetBox(window, box);
    row_.resize(row_bytes_);
    return ForEachRow([&](const TensorRow& row) {
      if (row.first == row.last) return true;
      RowPlace place;
      if (!Place(row, true, &place)) return false;
      if (late != nullptr) {
        late->AddRow(place);
        return true;
      }
      ReadSharedRow(map_, place, window, box, row_.data(), row_bytes_);
      return WriteGlobalRow(map_, place, form_.reduce, row_.data());
    });
  }

  Warp& warp_;
  const Instruction& in_;
  const CopyForm& form_;
  const uint32_t lane_;
  TensorMap map_;
  uint32_t row_bytes_ = 0;
  uint64_t box_bytes_ = 0;
  TensorBox place_;
  std::vector<uint8_t> row_;
};

}  // namespace

Step OpTensorCopy(Warp& warp, const Instruction& in, uint32_t mask) {
  return ForEachLane(mask, [&](uint32_t lane) { return TensorCopy(warp, in, lane).Run(); });
}

// --- groups, which have something to wait for only with copies that are made late

Step OpBulkCommitGroup(Warp& warp, const Instruction&, uint32_t mask) {
  if (warp.bulk_copies != nullptr) CommitLateCopies(warp, mask);
  return Step::kNext;
}

Step OpBulkWaitGroup(Warp& warp, const Instruction& in, uint32_t mask) {
  const BulkWaitForm& f = *static_cast<const BulkWaitForm*>(in.data);
  if (warp.bulk_copies != nullptr) MakeLateCopies(warp, mask, f.groups, f.reads_only);
  return Step::kNext;
}

}  // namespace trun::device
