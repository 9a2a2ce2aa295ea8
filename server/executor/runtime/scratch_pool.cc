#include "server/executor/runtime/scratch_pool.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

constexpr uint64_t kGuardBytes = 256;
constexpr uint64_t kMaxAlign = 1 << 20;
constexpr uint64_t kGranule = uint64_t{2} << 20;

}  // namespace

absl::Status ScratchPool::Grow(uint64_t reserved, uint64_t align) {
  uint64_t bytes = limit_;
  if (!device_->info().host_memory) {
    const uint64_t needed = (reserved + align + kGranule - 1) / kGranule * kGranule;
    bytes = std::min(std::max(needed, mapped_), limit_ - mapped_);
    if (needed > bytes) bytes = 0;
  }
  if (bytes == 0 || mapped_ + bytes > limit_) {
    return ResourceExhausted(Reason::kOutOfMemory,
                             absl::StrCat("no room for ", reserved, " bytes of scratch; the executor has ",
                                          limit_, ": launch a smaller grid"));
  }
  auto chunk = std::make_unique<Chunk>(address_ + mapped_, bytes);
  TRUN_ASSIGN_OR_RETURN(chunk->memory, device_->CreateMemory(bytes));
  if (device_->info().host_memory) {
    TRUN_ASSIGN_OR_RETURN(chunk->mapping, device::MappedMemory::Map(chunk->memory, bytes));
  }
  TRUN_ASSIGN_OR_RETURN(chunk->arena, device_->MapArena(chunk->memory, bytes, chunk->address));
  mapped_ += bytes;
  chunks_.push_back(std::move(chunk));
  return absl::OkStatus();
}

absl::Status ScratchPool::Zero(const Chunk& chunk, uint64_t address, uint64_t bytes) {
  if (chunk.mapping.data() == nullptr) return device_->FillMemory(address, bytes, absl::string_view("\0", 1));
  return device::ZeroRange(chunk.memory, chunk.mapping, address - chunk.address, bytes);
}

absl::StatusOr<ScratchPool::Block> ScratchPool::Acquire(uint64_t bytes, uint64_t align) {
  if (bytes == 0) return Block();
  align = std::max<uint64_t>(align, kGuardBytes);
  if ((align & (align - 1)) != 0 || align > kMaxAlign) {
    return InvalidArgument(Reason::kMetadata, absl::StrCat("scratch aligned to ", align, " bytes"));
  }
  Block block;
  block.bytes = bytes;
  block.reserved =
      bytes > limit_ ? bytes : (bytes + kGuardBytes - 1) / kGuardBytes * kGuardBytes + kGuardBytes;
  Chunk* chunk = nullptr;
  bool used_before = false;
  for (size_t i = 0; block.address == 0; ++i) {
    if (i == chunks_.size()) TRUN_RETURN_IF_ERROR(Grow(block.reserved, align));
    chunk = chunks_[i].get();
    const uint64_t touched = chunk->ranges.touched();
    const std::optional<uint64_t> address = chunk->ranges.Allocate(block.reserved, align);
    if (!address.has_value()) continue;
    block.address = *address;
    used_before = *address < touched;
  }
  block.id = ++next_id_;
  absl::Status ready = absl::OkStatus();
  if (used_before) ready = Zero(*chunk, block.address, bytes);
  if (ready.ok()) ready = device_->AddAllocation(block.id, block.address, bytes);
  if (!ready.ok()) {
    chunk->ranges.Free(block.address, block.reserved);
    return ready;
  }
  return block;
}

void ScratchPool::Release(const Block& block) {
  if (block.address == 0) return;
  device_->RemoveAllocation(block.id).IgnoreError();  // added by Acquire: it is there
  for (const std::unique_ptr<Chunk>& chunk : chunks_) {
    if (block.address < chunk->address || block.address >= chunk->ranges.end()) continue;
    chunk->ranges.Free(block.address, block.reserved);
  }
}

}  // namespace trun
