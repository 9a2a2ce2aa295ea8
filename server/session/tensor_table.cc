#include "server/session/tensor_table.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "server/device/shared_memory.h"
#include "server/session/handle.h"

namespace trun {
namespace {

constexpr uint64_t kMaxTensorBytes = uint64_t{1} << 42;
constexpr size_t kMaxDimensions = 32;
constexpr uint64_t kFirstArenaBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxGrowthBytes = uint64_t{1} << 30;
constexpr size_t kRememberedFrees = 1024;
using device::kPageBytes;

absl::Status UnknownTensor(absl::string_view handle) {
  return NotFound(Reason::kHandle, absl::StrCat("no tensor '", handle,
                                                "' in this session: it was freed, or belongs to another"));
}

absl::Status OverQuota(const MemoryAccount& account, absl::string_view whose, uint64_t bytes) {
  return ResourceExhausted(
      Reason::kQuota,
      absl::StrCat(bytes, " bytes more would pass the ", whose, "'s memory limit of ", account.limit(), " (",
                   account.used(), " are in use): free tensors first"),
      {{"limit", absl::StrCat(account.limit())}});
}

uint64_t RoundUp(uint64_t value, uint64_t to) { return (value + to - 1) / to * to; }

}  // namespace

TensorTable::~TensorTable() {
  for (const auto& [handle, tensor] : by_handle_) {
    session_->Return(tensor->charged);
    tenant_->Return(tensor->charged);
  }
  for (const Freed& freed : freed_) {
    session_->Return(freed.tensor->charged);
    tenant_->Return(freed.tensor->charged);
  }
  for (const std::shared_ptr<Tensor>& tensor : imports_) {
    if (tensor->id != 0) continue;  // among those above
    session_->Return(tensor->charged);
    tenant_->Return(tensor->charged);
  }
}

absl::StatusOr<uint64_t> TensorTable::BytesOf(const TensorSpec& spec) {
  uint64_t bytes = spec.dtype == ScalarType::kUnspecified ? 1 : ScalarTypeBytes(spec.dtype);
  if (spec.shape.size() > kMaxDimensions) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("a tensor of ", spec.shape.size(),
                                                           " dimensions; the limit is ", kMaxDimensions));
  }
  for (const uint64_t extent : spec.shape) {
    if (extent == 0 || extent > kMaxTensorBytes || bytes > kMaxTensorBytes / extent) {
      return InvalidArgument(Reason::kArgument,
                             absl::StrCat("a tensor of shape [", absl::StrJoin(spec.shape, ", "), "] has ",
                                          extent == 0 ? "no elements" : "more than 4 TiB"));
    }
    bytes *= extent;
  }
  return bytes;
}

absl::StatusOr<std::vector<TensorInfo>> TensorTable::Allocate(absl::Span<const TensorSpec> specs) {
  wanted_arena_ = 0;
  const size_t zeroing_before = zeroing_.size();
  std::vector<std::shared_ptr<Tensor>> made;
  made.reserve(specs.size());
  absl::Status failed = absl::OkStatus();
  for (size_t i = 0; i < specs.size() && failed.ok(); ++i) {
    const absl::StatusOr<uint64_t> bytes = BytesOf(specs[i]);
    if (!bytes.ok()) {
      failed = specs.size() == 1 ? bytes.status() : Annotate(bytes.status(), absl::StrCat("tensor ", i));
      break;
    }
    absl::StatusOr<std::shared_ptr<Tensor>> tensor = AllocateOne(specs[i], *bytes);
    if (tensor.ok()) {
      made.push_back(*std::move(tensor));
    } else {
      failed = tensor.status();
    }
  }
  if (!failed.ok()) {
    zeroing_.resize(zeroing_before);
    for (const std::shared_ptr<Tensor>& tensor : made) {
      tensor->arena->ranges()->Free(tensor->offset, tensor->reserved);
      session_->Return(tensor->charged);
      tenant_->Return(tensor->charged);
    }
    return failed;
  }
  std::vector<TensorInfo> infos;
  infos.reserve(made.size());
  for (std::shared_ptr<Tensor>& tensor : made) {
    infos.push_back(tensor->info);
    changes_.push_back(
        {MemoryChange::Kind::kAdd, nullptr, tensor->id, tensor->info.device_address, tensor->info.bytes});
    bytes_ += tensor->info.bytes;
    handle_by_id_[tensor->id] = tensor->info.handle;
    by_handle_.emplace(tensor->info.handle, std::move(tensor));
  }
  return infos;
}

absl::StatusOr<std::shared_ptr<Tensor>> TensorTable::AllocateOne(const TensorSpec& spec, uint64_t bytes) {
  auto tensor = std::make_shared<Tensor>();
  tensor->charged = RoundUp(bytes, kAlignBytes);
  TRUN_RETURN_IF_ERROR(Charge(tensor->charged));
  const absl::Status placed = Place(bytes, tensor.get());
  if (!placed.ok()) {
    session_->Return(tensor->charged);
    tenant_->Return(tensor->charged);
    return placed;
  }
  tensor->id = next_id_++;
  tensor->info = {MintHandle('t'), spec.dtype, spec.shape, bytes, tensor->arena->address() + tensor->offset};
  return tensor;
}

absl::Status TensorTable::Charge(uint64_t bytes) {
  if (!session_->TryCharge(bytes)) return OverQuota(*session_, "session", bytes);
  if (tenant_->TryCharge(bytes)) return absl::OkStatus();
  session_->Return(bytes);
  return OverQuota(*tenant_, "tenant", bytes);
}

absl::StatusOr<std::shared_ptr<Tensor>> TensorTable::BeginImport(MemoryImport memory) {
  if (imports_.size() >= kMaxImports) {
    return ResourceExhausted(
        Reason::kQuota, absl::StrCat("the session has ", kMaxImports, " imports, its limit: free some first"),
        {{"limit", absl::StrCat(kMaxImports)}});
  }
  if (memory.descriptor.valid() && IsImported(memory.address, memory.bytes)) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("another import of the session lies at 0x",
                                                           absl::Hex(memory.address)));
  }
  auto tensor = std::make_shared<Tensor>();
  TRUN_RETURN_IF_ERROR(Charge(memory.bytes));
  tensor->charged = memory.bytes;
  tensor->written.store(true, std::memory_order_relaxed);
  tensor->arena = Arena::Import(TakeArenaId(), memory.address, memory.bytes, std::move(memory.descriptor));
  imports_.push_back(tensor);
  return tensor;
}

TensorInfo TensorTable::EndImport(const std::shared_ptr<Tensor>& tensor) {
  const Arena& arena = *tensor->arena;
  tensor->id = next_id_++;
  tensor->info = {MintHandle('t'), ScalarType::kUnspecified, {arena.bytes()}, arena.bytes(), arena.address()};
  // Where a handle's memory lies is the executor's alone: none is told of it, nor the next one.
  if (arena.foreign_in() == 0) {
    changes_.push_back(
        {MemoryChange::Kind::kAdd, nullptr, tensor->id, tensor->info.device_address, tensor->info.bytes});
  }
  bytes_ += tensor->info.bytes;
  handle_by_id_[tensor->id] = tensor->info.handle;
  by_handle_.emplace(tensor->info.handle, tensor);
  return tensor->info;
}

void TensorTable::DropImport(const std::shared_ptr<Tensor>& tensor) {
  session_->Return(tensor->charged);
  tenant_->Return(tensor->charged);
  std::erase(imports_, tensor);
}

bool TensorTable::IsImported(uint64_t address, uint64_t bytes) const {
  return std::any_of(imports_.begin(), imports_.end(), [&](const std::shared_ptr<Tensor>& tensor) {
    const Arena& arena = *tensor->arena;
    return arena.foreign_in() == 0 && address < arena.address() + arena.bytes() &&
           arena.address() < address + bytes;
  });
}

bool TensorTable::has_unmaps() const {
  return std::any_of(changes_.begin(), changes_.end(), [](const MemoryChange& change) {
    return change.kind == MemoryChange::Kind::kUnmapArena;
  });
}

absl::Status TensorTable::Place(uint64_t bytes, Tensor* tensor) {
  // Large ones begin a page of their own, so that a client that maps one sees nothing of the others.
  const uint64_t align = bytes >= AddressSpace::kGranule ? AddressSpace::kGranule
                         : bytes >= kPageBytes           ? kPageBytes
                                                         : kAlignBytes;
  for (const bool recycle : {false, true}) {
    if (recycle && quarantine_.empty()) break;
    if (recycle) EndQuarantine(0);
    for (const std::shared_ptr<Arena>& arena : arenas_) {
      if (PlaceIn(arena, bytes, align, tensor)) return absl::OkStatus();
    }
  }
  const uint64_t last = arenas_.empty() ? kFirstArenaBytes / 2 : arenas_.back()->bytes();
  const uint64_t wanted =
      std::max(RoundUp(bytes, kAlignBytes) + kGuardBytes, std::min(2 * last, kMaxGrowthBytes));
  if (!host_memory_) {
    wanted_arena_ = wanted;
    return ResourceExhausted(Reason::kOutOfMemory, "the session's device memory has no room for the tensor");
  }
  TRUN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> grown, Arena::Create(TakeArenaId(), wanted, addresses_));
  std::shared_ptr<Arena> arena = std::move(grown);
  arenas_.push_back(arena);
  changes_.push_back({MemoryChange::Kind::kMapArena, arena, 0, 0, 0});
  if (!PlaceIn(arena, bytes, align, tensor))
    return Internal("a fresh arena has no room for its first tensor");
  return absl::OkStatus();
}

bool TensorTable::PlaceIn(const std::shared_ptr<Arena>& arena, uint64_t bytes, uint64_t align,
                          Tensor* tensor) {
  const uint64_t reserved = RoundUp(bytes, kAlignBytes) + kGuardBytes;
  const uint64_t touched = arena->ranges()->touched();
  const std::optional<uint64_t> offset = arena->ranges()->Allocate(reserved, align);
  if (!offset.has_value()) return false;
  // It was zeroed when it was freed, but whoever still maps it may have written since.
  if (*offset < touched && !host_memory_) {
    zeroing_.emplace_back(arena->address() + *offset, bytes);
  } else if (*offset < touched && !arena->Zero(*offset, bytes).ok()) {
    arena->ranges()->Free(*offset, reserved);
    return false;
  }
  tensor->arena = arena;
  tensor->offset = *offset;
  tensor->reserved = reserved;
  return true;
}

absl::Status TensorTable::Free(absl::Span<const std::string> handles, uint64_t last_launch) {
  for (size_t i = 0; i < handles.size(); ++i) {
    if (by_handle_.count(handles[i]) == 0) return UnknownTensor(handles[i]);
    for (size_t j = 0; j < i; ++j) {
      if (handles[j] == handles[i]) {
        return InvalidArgument(Reason::kArgument, absl::StrCat("tensor '", handles[i], "' is named twice"));
      }
    }
  }
  for (const std::string& handle : handles) {
    const auto it = by_handle_.find(handle);
    std::shared_ptr<Tensor> tensor = std::move(it->second);
    by_handle_.erase(it);
    handle_by_id_.erase(tensor->id);
    bytes_ -= tensor->info.bytes;
    if (tensor->arena->foreign_in() == 0) {
      changes_.push_back({MemoryChange::Kind::kRemove, nullptr, tensor->id, 0, 0});
    }
    lately_freed_.emplace_back(tensor->id, handle);
    if (lately_freed_.size() > kRememberedFrees) lately_freed_.pop_front();
    freed_.push_back({std::move(tensor), last_launch});
  }
  return absl::OkStatus();
}

bool TensorTable::Reclaim(uint64_t completed, bool idle) {
  for (auto it = freed_.begin(); it != freed_.end();) {
    const Tensor& tensor = *it->tensor;
    // An import is among the imports, too.
    const bool imported = tensor.arena->imported();
    if (it->last_launch > completed || it->tensor.use_count() > (imported ? 2 : 1) || (imported && !idle)) {
      ++it;
      continue;
    }
    session_->Return(tensor.charged);
    tenant_->Return(tensor.charged);
    if (imported) {
      changes_.push_back({MemoryChange::Kind::kUnmapArena, tensor.arena, 0, 0, 0});
      std::erase(imports_, it->tensor);
      it = freed_.erase(it);
      continue;
    }
    // A range that could not be zeroed is never handed out again. Memory of a device is zeroed when it is
    // used again.
    if (!host_memory_ || tensor.arena->Zero(tensor.offset, tensor.info.bytes).ok()) {
      quarantine_.push_back({tensor.arena, tensor.offset, tensor.reserved});
      quarantined_bytes_ += tensor.reserved;
    }
    it = freed_.erase(it);
  }
  EndQuarantine(kQuarantineBytes);
  return !freed_.empty();
}

void TensorTable::EndQuarantine(uint64_t keep_bytes) {
  while (quarantined_bytes_ > keep_bytes) {
    const Quarantined& oldest = quarantine_.front();
    oldest.arena->ranges()->Free(oldest.offset, oldest.bytes);
    quarantined_bytes_ -= oldest.bytes;
    quarantine_.pop_front();
  }
}

absl::StatusOr<std::shared_ptr<const Tensor>> TensorTable::Find(absl::string_view handle) const {
  const auto it = by_handle_.find(std::string(handle));
  if (it == by_handle_.end()) return UnknownTensor(handle);
  return std::shared_ptr<const Tensor>(it->second);
}

std::vector<TensorInfo> TensorTable::List() const {
  std::vector<TensorInfo> infos;
  infos.reserve(handle_by_id_.size());
  for (const auto& [id, handle] : handle_by_id_) infos.push_back(by_handle_.at(handle)->info);
  return infos;
}

std::string TensorTable::HandleOf(uint64_t id) const {
  const auto live = handle_by_id_.find(id);
  if (live != handle_by_id_.end()) return live->second;
  for (const auto& [freed, handle] : lately_freed_) {
    if (freed == id) return handle;
  }
  return "";
}

std::vector<MemoryChange> TensorTable::TakeChanges() { return std::exchange(changes_, {}); }

std::vector<MemoryChange> TensorTable::Snapshot() {
  changes_.clear();
  std::vector<MemoryChange> all;
  all.reserve(arenas_.size() + handle_by_id_.size());
  for (const std::shared_ptr<Arena>& arena : arenas_)
    all.push_back({MemoryChange::Kind::kMapArena, arena, 0, 0, 0});
  for (const auto& [id, handle] : handle_by_id_) {
    const Tensor& tensor = *by_handle_.at(handle);
    if (tensor.arena->foreign_in() != 0) continue;
    if (tensor.arena->imported()) all.push_back({MemoryChange::Kind::kMapArena, tensor.arena, 0, 0, 0});
    all.push_back({MemoryChange::Kind::kAdd, nullptr, id, tensor.info.device_address, tensor.info.bytes});
  }
  return all;
}

}  // namespace trun
