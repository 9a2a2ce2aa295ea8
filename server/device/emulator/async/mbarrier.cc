#include "server/device/emulator/async/mbarrier.h"

namespace trun::device {
namespace {

constexpr int64_t kMaxTransactions = (1 << 20) - 1;

MbarrierResult AddTransactions(uint64_t* word, int64_t bytes, bool complete) {
  if (!Mbarrier::IsValid(*word)) return MbarrierResult::kNotInitialised;
  Mbarrier b = Mbarrier::Decode(*word);
  const int64_t sum = b.transactions + bytes;
  if (sum > kMaxTransactions || sum < -kMaxTransactions) return MbarrierResult::kTransactionRange;
  b.transactions = static_cast<int32_t>(sum);
  if (complete) b.CompleteIfDone();
  *word = b.Encode();
  return MbarrierResult::kOk;
}

}  // namespace

MbarrierResult MbarrierExpectTransactions(uint64_t* word, int64_t bytes) {
  return AddTransactions(word, bytes, false);
}

MbarrierResult MbarrierCompleteTransactions(uint64_t* word, int64_t bytes) {
  return AddTransactions(word, -bytes, true);
}

MbarrierResult MbarrierArrive(uint64_t* word, uint32_t count, bool drop) {
  if (!Mbarrier::IsValid(*word)) return MbarrierResult::kNotInitialised;
  Mbarrier b = Mbarrier::Decode(*word);
  if (count > b.pending || (drop && count > b.expected)) return MbarrierResult::kTooManyArrivals;
  b.pending -= count;
  if (drop) b.expected -= count;
  b.CompleteIfDone();
  *word = b.Encode();
  return MbarrierResult::kOk;
}

MbarrierResult MbarrierExpectOneMore(uint64_t* word) {
  if (!Mbarrier::IsValid(*word)) return MbarrierResult::kNotInitialised;
  Mbarrier b = Mbarrier::Decode(*word);
  if (b.pending == kMbarrierMaxCount) return MbarrierResult::kTooManyArrivals;
  ++b.pending;
  *word = b.Encode();
  return MbarrierResult::kOk;
}

}  // namespace trun::device
