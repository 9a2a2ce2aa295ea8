#include "server/device/emulator/memory/allocation_table.h"

#include <sys/mman.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun::device {
namespace {

constexpr size_t kFreedRemembered = 1024;

}  // namespace

HostMapping::~HostMapping() {
  if (owned_by_mmap) munmap(host, bytes);
}

const AllocationRange* AllocationSnapshot::Find(uint64_t begin, uint64_t end) const {
  auto it =
      std::upper_bound(ranges.begin(), ranges.end(), begin,
                       [](uint64_t address, const AllocationRange& range) { return address < range.begin; });
  if (it == ranges.begin()) return nullptr;
  --it;
  return end <= it->end && begin <= end ? &*it : nullptr;
}

const AllocationRange* AllocationSnapshot::Nearest(uint64_t address) const {
  const AllocationRange* best = nullptr;
  uint64_t best_distance = ~uint64_t{0};
  for (const AllocationRange& range : ranges) {
    const uint64_t distance = address < range.begin ? range.begin - address
                              : address < range.end ? 0
                                                    : address - range.end;
    if (distance < best_distance) {
      best_distance = distance;
      best = &range;
    }
  }
  return best;
}

const AllocationRange* AllocationSnapshot::Freed(uint64_t address) const {
  for (auto it = freed.rbegin(); it != freed.rend(); ++it) {
    if (address >= it->begin && address < it->end) return &*it;
  }
  return nullptr;
}

const AllocationSnapshot& AllocationSnapshot::Empty() {
  static const AllocationSnapshot empty;
  return empty;
}

absl::Status AllocationTable::AddMapping(std::shared_ptr<const HostMapping> mapping) {
  MutexLock lock(&mu_);
  auto next = mappings_.lower_bound(mapping->address);
  const bool overlaps_next = next != mappings_.end() && next->first < mapping->address + mapping->bytes;
  const bool overlaps_previous =
      next != mappings_.begin() && std::prev(next)->first + std::prev(next)->second->bytes > mapping->address;
  if (overlaps_next || overlaps_previous) {
    return MakeError(absl::StatusCode::kAlreadyExists, Reason::kArgument,
                     absl::StrCat("something is mapped at 0x", absl::Hex(mapping->address), " already"));
  }
  const uint64_t address = mapping->address;
  mappings_[address] = std::move(mapping);
  snapshot_.reset();
  return absl::OkStatus();
}

void AllocationTable::RemoveMapping(uint64_t address) {
  MutexLock lock(&mu_);
  auto it = mappings_.find(address);
  if (it == mappings_.end()) return;
  const uint64_t end = address + it->second->bytes;
  for (auto range = ranges_.lower_bound(address); range != ranges_.end() && range->first < end;) {
    begin_of_id_.erase(range->second.id);
    range = ranges_.erase(range);
  }
  mappings_.erase(it);
  snapshot_.reset();
}

std::shared_ptr<const HostMapping> AllocationTable::MappingOf(uint64_t address, uint64_t bytes) const {
  auto it = mappings_.upper_bound(address);
  if (it == mappings_.begin()) return nullptr;
  --it;
  const HostMapping& mapping = *it->second;
  const uint64_t offset = address - mapping.address;
  if (offset > mapping.bytes || bytes > mapping.bytes - offset) return nullptr;
  return it->second;
}

std::shared_ptr<const HostMapping> AllocationTable::FindMapping(uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  return MappingOf(address, bytes);
}

absl::Status AllocationTable::Add(uint64_t id, uint64_t address, uint64_t bytes) {
  MutexLock lock(&mu_);
  if (id == 0) return InvalidArgument(Reason::kArgument, "allocation id 0 is reserved");
  if (bytes == 0) return InvalidArgument(Reason::kArgument, "an allocation of no bytes");
  if (begin_of_id_.count(id) != 0) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("allocation id ", id, " is live already"));
  }
  const std::shared_ptr<const HostMapping> mapping = MappingOf(address, bytes);
  if (mapping == nullptr) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("0x", absl::Hex(address), " + ", bytes,
                                                           " bytes do not lie in one arena"));
  }
  auto next = ranges_.lower_bound(address);
  const bool overlaps_next = next != ranges_.end() && next->first < address + bytes;
  const bool overlaps_previous = next != ranges_.begin() && std::prev(next)->second.end > address;
  if (overlaps_next || overlaps_previous) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("0x", absl::Hex(address), " + ", bytes,
                                                           " bytes overlap a live allocation"));
  }
  ranges_[address] = {address, address + bytes, mapping->host + (address - mapping->address), id, false};
  begin_of_id_[id] = address;
  snapshot_.reset();
  return absl::OkStatus();
}

absl::Status AllocationTable::Remove(uint64_t id) {
  MutexLock lock(&mu_);
  auto it = begin_of_id_.find(id);
  if (it == begin_of_id_.end()) {
    return NotFound(Reason::kHandle, absl::StrCat("allocation ", id, " is not live"));
  }
  auto range = ranges_.find(it->second);
  AllocationRange freed = range->second;
  freed.host = nullptr;
  freed_.push_back(freed);
  if (freed_.size() > kFreedRemembered) freed_.pop_front();
  ranges_.erase(range);
  begin_of_id_.erase(it);
  snapshot_.reset();
  return absl::OkStatus();
}

void AllocationTable::AddModuleRange(uint64_t address, uint64_t bytes, bool read_only) {
  MutexLock lock(&mu_);
  const std::shared_ptr<const HostMapping> mapping = MappingOf(address, bytes);
  if (mapping == nullptr) return;
  ranges_[address] = {address, address + bytes, mapping->host + (address - mapping->address), 0, read_only};
  snapshot_.reset();
}

void AllocationTable::RemoveModuleRange(uint64_t address) {
  MutexLock lock(&mu_);
  ranges_.erase(address);
  snapshot_.reset();
}

std::shared_ptr<const AllocationSnapshot> AllocationTable::Snapshot() {
  MutexLock lock(&mu_);
  if (snapshot_ == nullptr) {
    auto snapshot = std::make_shared<AllocationSnapshot>();
    snapshot->ranges.reserve(ranges_.size());
    for (const auto& [begin, range] : ranges_) snapshot->ranges.push_back(range);
    snapshot->freed.assign(freed_.begin(), freed_.end());
    for (const auto& [address, mapping] : mappings_) snapshot->mappings.push_back(mapping);
    snapshot_ = std::move(snapshot);
  }
  return snapshot_;
}

}  // namespace trun::device
