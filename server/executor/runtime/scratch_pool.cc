#include "server/executor/runtime/scratch_pool.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

constexpr uint64_t kGuardBytes = 256;
constexpr uint64_t kMaxAlign = 1 << 20;

}  // namespace

absl::Status ScratchPool::Open() {
  TRUN_ASSIGN_OR_RETURN(memory_, device::CreateSealedMemory(limit_));
  TRUN_ASSIGN_OR_RETURN(mapping_, device::MappedMemory::Map(memory_, limit_));
  TRUN_ASSIGN_OR_RETURN(arena_, device_->MapArena(memory_, limit_, address_));
  return absl::OkStatus();
}

absl::StatusOr<ScratchPool::Block> ScratchPool::Acquire(uint64_t bytes, uint64_t align) {
  if (bytes == 0) return Block();
  align = std::max<uint64_t>(align, kGuardBytes);
  if ((align & (align - 1)) != 0 || align > kMaxAlign) {
    return InvalidArgument(Reason::kMetadata, absl::StrCat("scratch aligned to ", align, " bytes"));
  }
  if (arena_ == nullptr) TRUN_RETURN_IF_ERROR(Open());
  Block block;
  const uint64_t touched = ranges_.touched();
  std::optional<uint64_t> offset;
  if (bytes <= limit_ - kGuardBytes) {
    block.reserved = (bytes + kGuardBytes - 1) / kGuardBytes * kGuardBytes + kGuardBytes;
    offset = ranges_.Allocate(block.reserved, align);
  }
  if (!offset.has_value()) {
    return ResourceExhausted(Reason::kOutOfMemory,
                             absl::StrCat("no room for ", bytes, " bytes of scratch; the executor has ",
                                          limit_, ": launch a smaller grid"));
  }
  block.address = address_ + *offset;
  block.bytes = bytes;
  block.id = ++next_id_;
  absl::Status ready = absl::OkStatus();
  if (*offset < touched) ready = device::ZeroRange(memory_, mapping_, *offset, bytes);
  if (ready.ok()) ready = device_->AddAllocation(block.id, block.address, bytes);
  if (!ready.ok()) {
    ranges_.Free(*offset, block.reserved);
    return ready;
  }
  return block;
}

void ScratchPool::Release(const Block& block) {
  if (block.address == 0) return;
  device_->RemoveAllocation(block.id).IgnoreError();  // added by Acquire: it is there
  ranges_.Free(block.address - address_, block.reserved);
}

}  // namespace trun
