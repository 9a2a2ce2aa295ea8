#include "server/session/tensor_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "common/base/status.h"

namespace trun {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

class TensorTableTest : public ::testing::Test {
 protected:
  static TensorSpec Bytes(uint64_t bytes) { return {ScalarType::kU8, {bytes}}; }
  std::shared_ptr<const Tensor> New(uint64_t bytes) {
    auto infos = table_.Allocate({Bytes(bytes)});
    EXPECT_TRUE(infos.ok()) << infos.status();
    return *table_.Find(infos->at(0).handle);
  }
  void Free(std::shared_ptr<const Tensor> tensor, uint64_t last_launch = 0) {
    const std::string handle = tensor->info.handle;
    tensor.reset();
    ASSERT_TRUE(table_.Free({handle}, last_launch).ok());
  }

  AddressSpace addresses_;
  MemoryAccount session_{200 * kMiB};
  MemoryAccount tenant_{300 * kMiB};
  TensorTable table_{&session_, &tenant_, &addresses_};
};

TEST_F(TensorTableTest, ATensorWithoutAnElementTypeIsMadeOfBytes) {
  const auto made = table_.Allocate({TensorSpec{ScalarType::kUnspecified, {40}}});
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(made->front().bytes, 40u);
}

TEST_F(TensorTableTest, NoElementsAndAbsurdSizesAreRefused) {
  for (const TensorSpec& spec :
       {TensorSpec{ScalarType::kUnspecified, {0}}, TensorSpec{ScalarType::kF32, {4, 0}},
        TensorSpec{ScalarType::kF32, {uint64_t{1} << 62, uint64_t{1} << 62}},
        TensorSpec{ScalarType::kF64, {~uint64_t{0}}},
        TensorSpec{ScalarType::kU8, std::vector<uint64_t>(33, 1)}}) {
    const absl::Status status = table_.Allocate({spec}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(GetReason(status), Reason::kArgument);
  }
}

TEST_F(TensorTableTest, AllOrNone) {
  EXPECT_EQ(GetReason(table_.Allocate({Bytes(10), Bytes(0)}).status()), Reason::kArgument);
  EXPECT_EQ(GetReason(table_.Allocate({Bytes(100 * kMiB), Bytes(101 * kMiB)}).status()), Reason::kQuota);
  EXPECT_EQ(table_.count(), 0u);
  EXPECT_EQ(session_.used(), 0u);
  EXPECT_EQ(tenant_.used(), 0u);
  EXPECT_TRUE(table_.Allocate({Bytes(200 * kMiB)}).ok());
}

TEST_F(TensorTableTest, TheTenantsLimitHoldsAcrossSessions) {
  MemoryAccount other_session(200 * kMiB);
  TensorTable other(&other_session, &tenant_, &addresses_);
  EXPECT_TRUE(table_.Allocate({Bytes(200 * kMiB)}).ok());
  EXPECT_EQ(GetReason(other.Allocate({Bytes(101 * kMiB)}).status()), Reason::kQuota);
  EXPECT_TRUE(other.Allocate({Bytes(100 * kMiB)}).ok());
}

TEST_F(TensorTableTest, HandlesThatAreFreedForeignOrTwiceNamedAreRefusedAndNothingIsFreed) {
  const std::string handle = New(100)->info.handle;
  EXPECT_EQ(GetReason(table_.Free({handle, "t-nothing"}, 0)), Reason::kHandle);
  EXPECT_EQ(GetReason(table_.Free({handle, handle}, 0)), Reason::kArgument);
  EXPECT_TRUE(table_.Find(handle).ok());
  EXPECT_TRUE(table_.Free({handle}, 0).ok());
  EXPECT_EQ(GetReason(table_.Free({handle}, 0)), Reason::kHandle);
}

TEST_F(TensorTableTest, TensorsAreAlignedZeroAndApart) {
  std::vector<std::shared_ptr<const Tensor>> tensors;
  for (const uint64_t bytes : {1, 255, 256, 257, 5000, 100000, 3000000}) tensors.push_back(New(bytes));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const Tensor& tensor = *tensors[i];
    EXPECT_EQ(tensor.info.device_address % 256, 0u);
    EXPECT_EQ(std::count(tensor.memory(), tensor.memory() + tensor.info.bytes, '\0'),
              static_cast<int64_t>(tensor.info.bytes));
    for (size_t j = 0; j < i; ++j) {
      const TensorInfo& a = tensor.info;
      const TensorInfo& b = tensors[j]->info;
      EXPECT_TRUE(a.device_address + a.bytes + 256 <= b.device_address ||
                  b.device_address + b.bytes + 256 <= a.device_address);
    }
  }
}

TEST_F(TensorTableTest, FreedMemoryIsNotUsedAgainAtOnceAndIsZeroWhenItIs) {
  std::set<uint64_t> seen;
  for (int i = 0; i < 40; ++i) {
    std::shared_ptr<const Tensor> tensor = New(4 * kMiB);
    if (i < 10) EXPECT_TRUE(seen.insert(tensor->info.device_address).second);
    EXPECT_EQ(std::count(tensor->memory(), tensor->memory() + 4 * kMiB, '\0'),
              static_cast<int64_t>(4 * kMiB));
    std::memset(tensor->memory(), 'x', 4 * kMiB);
    Free(std::move(tensor));
    table_.Reclaim(0);
  }
  EXPECT_EQ(session_.used(), 0u);
}

TEST_F(TensorTableTest, MemoryOfALaunchThatStillRunsOrACallerThatStillHoldsItIsKept) {
  std::shared_ptr<const Tensor> held = New(kMiB);
  Free(New(kMiB), 5);
  EXPECT_TRUE(table_.Reclaim(4));
  EXPECT_EQ(session_.used(), 2 * kMiB);
  EXPECT_FALSE(table_.Reclaim(5));
  EXPECT_EQ(session_.used(), kMiB);
  std::memset(held->memory(), 'x', kMiB);
  ASSERT_TRUE(table_.Free({held->info.handle}, 0).ok());
  EXPECT_TRUE(table_.Reclaim(5));
  EXPECT_EQ(held->memory()[0], 'x');
  held.reset();
  EXPECT_FALSE(table_.Reclaim(5));
  EXPECT_EQ(session_.used(), 0u);
}

TEST_F(TensorTableTest, ChangesComeInOrderAndASnapshotHasWhatIsLive) {
  const std::shared_ptr<const Tensor> first = New(100);
  Free(New(100));
  const std::vector<MemoryChange> changes = table_.TakeChanges();
  using Kind = MemoryChange::Kind;
  ASSERT_EQ(changes.size(), 4u);
  EXPECT_EQ(changes[0].kind, Kind::kMapArena);
  EXPECT_EQ(changes[1].kind, Kind::kAdd);
  EXPECT_EQ(changes[1].address, first->info.device_address);
  EXPECT_EQ(changes[3].kind, Kind::kRemove);
  EXPECT_EQ(changes[3].id, changes[2].id);
  EXPECT_TRUE(table_.TakeChanges().empty());
  const std::vector<MemoryChange> all = table_.Snapshot();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[1].id, first->id);
}

TEST_F(TensorTableTest, AFreedTensorIsStillKnownByItsNumber) {
  std::shared_ptr<const Tensor> tensor = New(100);
  const uint64_t id = tensor->id;
  const std::string handle = tensor->info.handle;
  Free(std::move(tensor));
  EXPECT_EQ(table_.HandleOf(id), handle);
  EXPECT_EQ(table_.HandleOf(id + 1000), "");
}

TEST(AddressSpaceTest, AddressesAreUsedAgainAsLateAsPossible) {
  AddressSpace addresses(0, 5 * AddressSpace::kGranule);
  const uint64_t first = *addresses.Reserve(AddressSpace::kGranule);
  addresses.Release(first, AddressSpace::kGranule);
  const uint64_t second = *addresses.Reserve(AddressSpace::kGranule);
  EXPECT_NE(first, second);
  EXPECT_EQ(addresses.Reserve(AddressSpace::kGranule), first);
  EXPECT_FALSE(addresses.Reserve(AddressSpace::kGranule).has_value());
}

}  // namespace
}  // namespace trun
