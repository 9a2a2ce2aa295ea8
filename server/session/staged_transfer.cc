#include "server/session/staged_transfer.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>

#include "common/base/mutex.h"
#include "common/base/status.h"

namespace trun {
namespace {

// The pieces that are under way; outlives the transfer where an executor still holds a callback.
class PiecesUnderWay {
 public:
  std::function<void(absl::Status)> Begin(uint64_t piece) {
    MutexLock lock(&state_->mu);
    state_->busy[piece] = true;
    return [state = state_, piece](absl::Status status) {
      MutexLock lock(&state->mu);
      state->busy[piece] = false;
      if (state->status.ok()) state->status = std::move(status);
      state->changed.SignalAll();
    };
  }
  // Waits until the piece is free; the first error of any piece.
  absl::Status Wait(uint64_t piece) {
    MutexLock lock(&state_->mu);
    while (state_->busy[piece]) state_->changed.Wait(&state_->mu);
    return state_->status;
  }
  absl::Status WaitForAll() {
    absl::Status status;
    for (uint64_t piece = 0; piece < StagedTransfer::kPieces; ++piece) status = Wait(piece);
    return status;
  }

 private:
  struct State {
    Mutex mu;
    CondVar changed;
    std::array<bool, StagedTransfer::kPieces> busy ABSL_GUARDED_BY(mu) = {};
    absl::Status status ABSL_GUARDED_BY(mu);
  };
  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

// The answer to MapStaging, waited for.
struct Attached {
  Mutex mu;
  CondVar changed;
  bool done ABSL_GUARDED_BY(mu) = false;
  absl::Status status ABSL_GUARDED_BY(mu);
};

}  // namespace

absl::Status StagedTransfer::Attach(ExecutorControl* executor) {
  constexpr uint64_t kBytes = kPieces * kPieceBytes;
  if (mapping_.data() == nullptr) {
    TRUN_ASSIGN_OR_RETURN(memory_, device::CreateSealedMemory(kBytes));
    TRUN_ASSIGN_OR_RETURN(mapping_, device::MappedMemory::Map(memory_, kBytes));
  }
  if (attached_to_ == current_) return absl::OkStatus();
  const auto waited = std::make_shared<Attached>();
  executor->MapStaging(kArea, memory_, kBytes, [waited](const absl::StatusOr<std::string>& unregistered) {
    MutexLock lock(&waited->mu);
    waited->status = unregistered.status();
    waited->done = true;
    waited->changed.SignalAll();
  });
  MutexLock lock(&waited->mu);
  while (!waited->done) waited->changed.Wait(&waited->mu);
  if (waited->status.ok()) attached_to_ = current_;
  return waited->status;
}

absl::Status StagedTransfer::Write(ExecutorControl* executor, uint64_t address, absl::Span<const char> from) {
  TRUN_RETURN_IF_ERROR(Attach(executor));
  PiecesUnderWay under_way;
  uint64_t piece = 0;
  for (uint64_t done = 0; done < from.size(); piece = (piece + 1) % kPieces) {
    const uint64_t bytes = std::min<uint64_t>(from.size() - done, kPieceBytes);
    if (!under_way.Wait(piece).ok()) break;
    const uint64_t at = piece * kPieceBytes;
    std::memcpy(mapping_.data() + at, from.data() + done, bytes);
    executor->Transfer({kArea, at, bytes}, address + done, /*to_device=*/true, under_way.Begin(piece));
    done += bytes;
  }
  return under_way.WaitForAll();
}

absl::Status StagedTransfer::Read(ExecutorControl* executor, uint64_t address, absl::Span<char> to) {
  TRUN_RETURN_IF_ERROR(Attach(executor));
  PiecesUnderWay under_way;
  const uint64_t pieces = (to.size() + kPieceBytes - 1) / kPieceBytes;
  const auto bytes_of = [&](uint64_t i) {
    return std::min<uint64_t>(to.size() - i * kPieceBytes, kPieceBytes);
  };
  const auto ask = [&](uint64_t i) {
    executor->Transfer({kArea, i % kPieces * kPieceBytes, bytes_of(i)}, address + i * kPieceBytes,
                       /*to_device=*/false, under_way.Begin(i % kPieces));
  };
  for (uint64_t i = 0; i < std::min(pieces, kPieces); ++i) ask(i);
  for (uint64_t i = 0; i < pieces; ++i) {
    if (!under_way.Wait(i % kPieces).ok()) break;
    std::memcpy(to.data() + i * kPieceBytes, mapping_.data() + i % kPieces * kPieceBytes, bytes_of(i));
    if (i + kPieces < pieces) ask(i + kPieces);
  }
  return under_way.WaitForAll();
}

}  // namespace trun
