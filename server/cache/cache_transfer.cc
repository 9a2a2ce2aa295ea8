#include "server/cache/cache_transfer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "server/cache/entry_codec.h"

namespace trun {
namespace {

constexpr absl::string_view kMagic = "TRUNKCX1";
constexpr char kEntryRecord = 'E';
constexpr char kEndRecord = 'Z';
constexpr size_t kHead = 9;  // type, then the payload's length
constexpr size_t kChunk = size_t{1} << 20;

std::string LittleEndian(uint64_t value) {
  std::string out(8, '\0');
  for (int i = 0; i < 8; ++i) out[i] = static_cast<char>(value >> (8 * i));
  return out;
}

uint64_t FromLittleEndian(absl::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < 8; ++i) value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  return value;
}

absl::Status Damaged(absl::string_view what) {
  return InvalidArgument(Reason::kCorrupt,
                         absl::StrCat("the exported cache is damaged: ", what, "; nothing of it was taken"));
}

absl::Status SendRecord(char type, absl::string_view payload,
                        const std::function<absl::Status(absl::string_view)>& sink) {
  TRUN_RETURN_IF_ERROR(sink(absl::StrCat(std::string(1, type), LittleEndian(payload.size()))));
  for (; !payload.empty(); payload.remove_prefix(std::min(kChunk, payload.size()))) {
    TRUN_RETURN_IF_ERROR(sink(payload.substr(0, kChunk)));
  }
  return absl::OkStatus();
}

// Key, length of the record, the record, then each blob in its order.
std::string EncodeEntry(const CacheKey& key, const CacheEntry& entry) {
  const std::string record =
      EncodeEntryRecord(MakeEntryRecord(entry, absl::UnixEpoch(), absl::InfiniteFuture()));
  std::string payload(key.bytes());
  absl::StrAppend(&payload, LittleEndian(record.size()), record);
  for (const auto& [level, bytes] : entry.artifacts) payload.append(bytes);
  return payload;
}

absl::StatusOr<std::pair<CacheKey, CacheEntry>> DecodeEntry(absl::string_view payload) {
  if (payload.size() < Digest::kBytes + 8) return Damaged("an entry is too short");
  TRUN_ASSIGN_OR_RETURN(const CacheKey key, CacheKey::FromBytes(payload.substr(0, Digest::kBytes)));
  payload.remove_prefix(Digest::kBytes);
  const uint64_t record_bytes = FromLittleEndian(payload);
  payload.remove_prefix(8);
  if (record_bytes > payload.size()) return Damaged("an entry's record passes its end");
  absl::StatusOr<EntryRecord> record = DecodeEntryRecord(payload.substr(0, record_bytes));
  if (!record.ok()) return Damaged(record.status().message());
  payload.remove_prefix(record_bytes);
  CacheEntry entry = std::move(record->entry);
  if (entry.error.has_value()) return Damaged("an entry is a remembered error");
  for (const CacheBlobInfo& blob : record->blobs) {
    if (blob.bytes > payload.size()) return Damaged("a blob passes its entry's end");
    const absl::string_view bytes = payload.substr(0, blob.bytes);
    if (Digest::Of(bytes) != blob.digest) return Damaged("a blob does not match its digest");
    entry.artifacts[blob.level] = std::string(bytes);
    payload.remove_prefix(blob.bytes);
  }
  if (!payload.empty()) return Damaged("an entry is longer than its blobs");
  return std::make_pair(key, std::move(entry));
}

}  // namespace

absl::Status ExportCache(KernelCache& cache, const std::vector<CacheKey>& keys,
                         const std::function<absl::Status(absl::string_view)>& sink) {
  std::vector<CacheKey> wanted = keys;
  if (keys.empty()) {
    TRUN_RETURN_IF_ERROR(cache.List([&](const CacheEntryInfo& info) {
      wanted.push_back(info.key);
      return true;
    }));
  }
  TRUN_RETURN_IF_ERROR(sink(kMagic));
  Hasher hasher;
  uint64_t count = 0;
  for (const CacheKey& key : wanted) {
    absl::StatusOr<CacheEntry> entry = cache.Read(key);
    if (!entry.ok()) {
      if (!keys.empty()) return entry.status();
      continue;
    }
    if (entry->error.has_value()) continue;
    const std::string payload = EncodeEntry(key, *entry);
    hasher.Add(Digest::Of(payload).bytes());
    TRUN_RETURN_IF_ERROR(SendRecord(kEntryRecord, payload, sink));
    ++count;
  }
  const Digest digest = hasher.Finish();
  return SendRecord(kEndRecord, absl::StrCat(LittleEndian(count), digest.bytes()), sink);
}

absl::StatusOr<std::unique_ptr<CacheImporter>> CacheImporter::Create(const std::string& spool_folder,
                                                                     uint64_t max_bytes) {
  std::string path = spool_folder + "/import.XXXXXX";
  UniqueFd spool(mkostemp(path.data(), O_CLOEXEC));
  if (!spool.valid()) {
    return FromErrno(errno, absl::StrCat("cannot make a file in ", spool_folder), Reason::kUnavailable);
  }
  unlink(path.c_str());
  return std::unique_ptr<CacheImporter>(new CacheImporter(std::move(spool), max_bytes));
}

absl::Status CacheImporter::Append(absl::string_view data) {
  if (data.size() > max_bytes_ - bytes_) {
    return ResourceExhausted(Reason::kTooLarge,
                             absl::StrCat("an imported cache may have ", max_bytes_, " bytes"),
                             {{"limit", absl::StrCat(max_bytes_)}});
  }
  while (!data.empty()) {
    const ssize_t written = pwrite(spool_.get(), data.data(), data.size(), static_cast<off_t>(bytes_));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FromErrno(errno, "cannot store the imported cache", Reason::kUnavailable);
    bytes_ += written;
    data.remove_prefix(written);
  }
  return absl::OkStatus();
}

absl::Status CacheImporter::ReadAt(uint64_t offset, uint64_t bytes, std::string* out) const {
  if (offset > bytes_ || bytes > bytes_ - offset) return Damaged("it is cut short");
  out->resize(bytes);
  for (uint64_t done = 0; done < bytes;) {
    const ssize_t got =
        pread(spool_.get(), out->data() + done, bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      return FromErrno(got < 0 ? errno : EIO, "cannot read the imported cache back", Reason::kUnavailable);
    done += got;
  }
  return absl::OkStatus();
}

absl::Status CacheImporter::Walk(
    const std::function<absl::Status(const CacheKey&, const CacheEntry&)>& visit) const {
  std::string bytes;
  TRUN_RETURN_IF_ERROR(ReadAt(0, kMagic.size(), &bytes));
  if (bytes != kMagic) return Damaged("it does not begin as an export does");
  Hasher hasher;
  uint64_t count = 0;
  uint64_t offset = kMagic.size();
  while (true) {
    TRUN_RETURN_IF_ERROR(ReadAt(offset, kHead, &bytes));
    const char type = bytes[0];
    const uint64_t payload_bytes = FromLittleEndian(absl::string_view(bytes).substr(1));
    offset += kHead;
    TRUN_RETURN_IF_ERROR(ReadAt(offset, payload_bytes, &bytes));
    offset += payload_bytes;
    if (type == kEntryRecord) {
      hasher.Add(Digest::Of(bytes).bytes());
      TRUN_ASSIGN_OR_RETURN(auto entry, DecodeEntry(bytes));
      TRUN_RETURN_IF_ERROR(visit(entry.first, entry.second));
      ++count;
      continue;
    }
    if (type != kEndRecord) return Damaged("a record of an unknown type");
    const Digest digest = hasher.Finish();
    if (bytes != absl::StrCat(LittleEndian(count), digest.bytes())) return Damaged("its checksum is wrong");
    if (offset != bytes_) return Damaged("something follows its end");
    return absl::OkStatus();
  }
}

absl::StatusOr<CacheImport> CacheImporter::Finish(KernelCache& cache) {
  TRUN_RETURN_IF_ERROR(Walk([](const CacheKey&, const CacheEntry&) { return absl::OkStatus(); }));
  CacheImport result;
  TRUN_RETURN_IF_ERROR(Walk([&](const CacheKey& key, const CacheEntry& entry) {
    if (cache.Info(key).ok()) {
      ++result.already_there;
      return absl::OkStatus();
    }
    TRUN_RETURN_IF_ERROR(cache.Put(key, entry));
    ++result.imported;
    return absl::OkStatus();
  }));
  return result;
}

}  // namespace trun
