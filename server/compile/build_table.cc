#include "server/compile/build_table.h"

#include <utility>

namespace trun {

std::shared_ptr<const KernelBuild> BuildTable::Find(const Name& name,
                                                    const std::shared_ptr<const CacheEntry>& entry) {
  MutexLock lock(&mu_);
  const auto found = rows_.find(name);
  if (found == rows_.end()) return nullptr;
  const auto row = found->second;
  if (row->has_entry != (entry != nullptr) || row->entry.lock() != entry) return nullptr;
  order_.splice(order_.begin(), order_, row);
  return row->build;
}

void BuildTable::Insert(const Name& name, const std::shared_ptr<const CacheEntry>& entry,
                        std::shared_ptr<const KernelBuild> build) {
  uint64_t bytes = 4096 + 2 * build->kernel.metadata.raw_json.size() + build->log.size();
  for (const auto& [level, artifact] : build->kernel.artifacts) bytes += artifact.bytes.size();
  if (bytes > limit_bytes_) return;
  MutexLock lock(&mu_);
  const auto found = rows_.find(name);
  if (found != rows_.end()) Drop(found->second);
  order_.push_front(Row{name, entry, entry != nullptr, std::move(build), bytes});
  rows_.emplace(name, order_.begin());
  bytes_ += bytes;
  while (bytes_ > limit_bytes_) Drop(std::prev(order_.end()));
}

void BuildTable::Drop(std::list<Row>::iterator row) {
  bytes_ -= row->bytes;
  rows_.erase(row->name);
  order_.erase(row);
}

}  // namespace trun
