// Tensors of one session: their memory, their handles, and what an executor has to be told of them.
#ifndef TRUN_SERVER_SESSION_TENSOR_TABLE_H_
#define TRUN_SERVER_SESSION_TENSOR_TABLE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "server/session/arena.h"
#include "server/session/memory_account.h"
#include "server/session/session.h"

namespace trun {

// One tensor. Its memory stays its own as long as somebody holds it, also after it was freed. Immutable, but
// for `written`.
struct Tensor {
  TensorInfo info;
  uint64_t id = 0;  // what the executor calls it; never used again
  std::shared_ptr<Arena> arena;
  uint64_t offset = 0;                       // in the arena
  uint64_t reserved = 0;                     // bytes of the arena, guard included
  uint64_t charged = 0;                      // against the quotas
  mutable std::atomic<bool> written{false};  // the session has written into it for its client

  char* memory() const { return arena->memory() + offset; }
};

// What changed since an executor was told last, in order.
struct MemoryChange {
  enum class Kind { kMapArena, kUnmapArena, kAdd, kRemove };
  Kind kind = Kind::kAdd;
  std::shared_ptr<Arena> arena;  // kMapArena, kUnmapArena
  uint64_t id = 0;               // kAdd, kRemove
  uint64_t address = 0;          // kAdd
  uint64_t bytes = 0;            // kAdd
};

// Thread-compatible. Tensors lie at least kGuardBytes apart, so that a store past the end hits none; freed
// memory is kept aside for a while, so that a use after free does too, and goes back to the system at once.
class TensorTable {
 public:
  static constexpr uint64_t kAlignBytes = 256;
  static constexpr uint64_t kGuardBytes = 256;
  static constexpr uint64_t kQuarantineBytes = uint64_t{64} << 20;

  // What is charged goes to both accounts, which must outlive the table. With `host_memory` the table makes
  // arenas itself; else its owner does (see wanted_arena).
  TensorTable(MemoryAccount* session, MemoryAccount* tenant, AddressSpace* addresses, bool host_memory = true)
      : session_(session), tenant_(tenant), addresses_(addresses), host_memory_(host_memory) {}
  ~TensorTable();

  // Bytes of a spec; without an element type its elements are bytes. INVALID_ARGUMENT kArgument.
  static absl::StatusOr<uint64_t> BytesOf(const TensorSpec& spec);

  // As Session::Allocate.
  absl::StatusOr<std::vector<TensorInfo>> Allocate(absl::Span<const TensorSpec> specs);
  // Of device memory: the size of an arena without which the last Allocate failed with kOutOfMemory, 0 where
  // that was not the reason. The owner adds one of that size, whose executor has it mapped, and allocates
  // again.
  uint64_t wanted_arena() const { return wanted_arena_; }
  uint64_t TakeArenaId() { return next_arena_++; }
  void AddArena(std::shared_ptr<Arena> arena) { arenas_.push_back(std::move(arena)); }
  // Of device memory: ranges of tensors made since the last call whose memory was used before. The owner
  // zeroes them before anybody sees the tensors.
  std::vector<std::pair<uint64_t, uint64_t>> TakeZeroing() { return std::exchange(zeroing_, {}); }

  static constexpr size_t kMaxImports = 1024;  // each keeps a descriptor
  // Charges an import and reserves its address; its owner has an executor map it and then ends the import, or
  // drops it. INVALID_ARGUMENT kArgument: another import lies there. RESOURCE_EXHAUSTED kQuota.
  absl::StatusOr<std::shared_ptr<Tensor>> BeginImport(MemoryImport memory);
  TensorInfo EndImport(const std::shared_ptr<Tensor>& tensor);
  void DropImport(const std::shared_ptr<Tensor>& tensor);
  // Whether a live import, or a freed one that was not reclaimed yet, lies there.
  bool IsImported(uint64_t address, uint64_t bytes) const;

  // As Session::Free. The memory is used again only after Reclaim with a `completed` of at least
  // `last_launch`.
  absl::Status Free(absl::Span<const std::string> handles, uint64_t last_launch);
  // Takes back freed memory that no launch after `completed` and no caller uses. True when something is left
  // to wait for. Imports only while `idle`: no launch runs, for which the driver would wait before it lets go
  // of one, and the executor with it.
  bool Reclaim(uint64_t completed, bool idle = true);

  // NOT_FOUND kHandle.
  absl::StatusOr<std::shared_ptr<const Tensor>> Find(absl::string_view handle) const;
  std::vector<TensorInfo> List() const;
  // The handle of a live or lately freed tensor; empty when it is none.
  std::string HandleOf(uint64_t id) const;
  uint64_t count() const { return by_handle_.size(); }
  uint64_t bytes() const { return bytes_; }

  // Changes since the last call of this or of Snapshot.
  std::vector<MemoryChange> TakeChanges();
  // Everything there is, for a new executor.
  std::vector<MemoryChange> Snapshot();
  bool has_changes() const { return !changes_.empty(); }
  // Whether imports that are gone are among them.
  bool has_unmaps() const;

 private:
  struct Freed {
    std::shared_ptr<const Tensor> tensor;
    uint64_t last_launch = 0;
  };
  struct Quarantined {
    std::shared_ptr<Arena> arena;
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };

  absl::StatusOr<std::shared_ptr<Tensor>> AllocateOne(const TensorSpec& spec, uint64_t bytes);
  absl::Status Charge(uint64_t bytes);
  absl::Status Place(uint64_t bytes, Tensor* tensor);
  bool PlaceIn(const std::shared_ptr<Arena>& arena, uint64_t bytes, uint64_t align, Tensor* tensor);
  void EndQuarantine(uint64_t keep_bytes);

  MemoryAccount* const session_;
  MemoryAccount* const tenant_;
  AddressSpace* const addresses_;
  const bool host_memory_;
  uint64_t wanted_arena_ = 0;
  std::vector<std::pair<uint64_t, uint64_t>> zeroing_;  // address, bytes
  std::vector<std::shared_ptr<Arena>> arenas_;
  std::vector<std::shared_ptr<Tensor>> imports_;  // from BeginImport until they are reclaimed
  uint64_t next_arena_ = 1;
  std::unordered_map<std::string, std::shared_ptr<Tensor>> by_handle_;
  std::map<uint64_t, std::string> handle_by_id_;  // live ones
  std::deque<std::pair<uint64_t, std::string>> lately_freed_;
  std::deque<Freed> freed_;
  std::deque<Quarantined> quarantine_;
  uint64_t quarantined_bytes_ = 0;
  uint64_t bytes_ = 0;
  uint64_t next_id_ = 1;
  std::vector<MemoryChange> changes_;
};

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_TENSOR_TABLE_H_
